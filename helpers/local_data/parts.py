"""One file or several: which holds the rows to train on, which those to choose by and to test on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from helpers.local_data.formats import FORMATS
from helpers.local_data.request import Request
from helpers.local_data.splitting import PARTS
from helpers.reach import exists, unreachable
from helpers.runtime import UserError

WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
PIECE = re.compile(r"-\d+-of-\d+$")


def parts_of(request: Request) -> dict[str, Request]:
    """Part -> what to read for it; one file alone is {"train": it}, still to be split.

    A folder's parts go by the names of its files and folders: train.csv, dev.jsonl, data/test-00000-of-00002.parquet.
    Files that name no part stay aside where others do; the request for train says which.

    Raises:
        UserError: when the folder is missing or holds no data, or the names of its files leave a doubt.
    """
    if not exists(request.path) or not request.path.is_dir():
        return {"train": request}
    try:
        files = sorted(path for path in request.path.rglob("*") if _is_data(path, request.path))
    except OSError as error:
        raise unreachable(request.path, error) from None
    if not files:
        raise UserError(f"data: the folder {request.path} holds no file that ends in one of {', '.join(FORMATS)}.")
    aside = [path for path in files if _part(path.relative_to(request.path)) is None] if len(files) > 1 else []
    kept = [replace(request, path=path) for path in files if path not in aside]
    if len(kept) < 2 and aside:
        raise _unclear(aside[0])
    parts = named_parts(kept, request.path)
    return parts | {"train": replace(parts["train"], aside=tuple(path.name for path in aside))}


def named_parts(requests: Sequence[Request], folder: Path | None = None) -> dict[str, Request]:
    """Part -> the one of several files whose name says so; the numbered pieces of one file belong together.

    Raises:
        UserError: when a name names no part, two name the same one, or none is for training.
    """
    if len(requests) == 1:
        return {"train": requests[0]}
    found: dict[str, Request] = {}
    for request in requests:
        part = _part(request.path.relative_to(folder) if folder else Path(request.path.name))
        if part is None:
            raise _unclear(request.path)
        first = found.setdefault(part, request)
        if first is not request:
            if not _pieces_of_one(first.path, request.path):
                names = f"{first.path.name} and {request.path.name}"
                raise UserError(f"data: {names} would both be for {part}; join them into one file.")
            found[part] = replace(first, pieces=(*first.pieces, request.path))
    if "train" not in found:
        raise UserError("data: none of the files is for training; call one train.csv (or .jsonl, .json, .parquet).")
    return {part: found[part] for part in PARTS if part in found}


def _is_data(path: Path, folder: Path) -> bool:
    """Whether this is a table; not one that a program keeps beside it, such as .ipynb_checkpoints/."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in FORMATS and not hidden and path.is_file()


def _pieces_of_one(one: Path, other: Path) -> bool:
    """Whether both are numbered pieces of the same file, as train-00000-of-00002 and train-00001-of-00002."""
    whole = [path.with_name(PIECE.sub("", path.stem)) for path in (one, other) if PIECE.search(path.stem)]
    return len(whole) == 2 and whole[0] == whole[1]


def _part(path: Path) -> str | None:
    words = re.split(r"[^a-z]+", str(path.with_suffix("")).lower())
    return next((part for part, names in WORDS.items() if any(name in words for name in names)), None)


def _unclear(path: Path) -> UserError:
    return UserError(
        f"data: it is not clear what {path.name} is for among several files; put train, validation or test into its "
        "name, or name one file alone."
    )
