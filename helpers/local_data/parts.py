"""One file or several: which holds the rows to train on, which those to choose by and to test on."""

from __future__ import annotations

import os
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


def parts_of(request: Request) -> dict[str, Request]:
    """Part -> what to read for it; one file alone is {"train": it}, still to be split.

    A folder's parts go by the names of its files: train.csv, dev.jsonl, test-2024.parquet.

    Raises:
        UserError: when the folder is missing or holds no data, or the names of its files leave a doubt.
    """
    if not exists(request.path) or not request.path.is_dir():
        return {"train": request}
    try:
        with os.scandir(request.path) as found:
            files = sorted(Path(entry.path) for entry in found if Path(entry.name).suffix.lower() in FORMATS)
    except OSError as error:
        raise unreachable(request.path, error) from None
    if not files:
        raise UserError(f"data: the folder {request.path} holds no file that ends in one of {', '.join(FORMATS)}.")
    return named_parts([replace(request, path=path) for path in files])


def named_parts(requests: Sequence[Request]) -> dict[str, Request]:
    """Part -> the one of several files whose name says so.

    Raises:
        UserError: when a name names no part, two name the same one, or none is for training.
    """
    if len(requests) == 1:
        return {"train": requests[0]}
    found: dict[str, Request] = {}
    for request in requests:
        part = _part(request.path)
        if part in found:
            names = f"{found[part].path.name} and {request.path.name}"
            raise UserError(f"data: {names} would both be for {part}; join them into one file.")
        found[part] = request
    if "train" not in found:
        raise UserError("data: none of the files is for training; call one train.csv (or .jsonl, .json, .parquet).")
    return {part: found[part] for part in PARTS if part in found}


def _part(path: Path) -> str:
    words = re.split(r"[^a-z]+", path.stem.lower())
    for part, names in WORDS.items():
        if any(name in words for name in names):
            return part
    raise UserError(
        f"data: it is not clear what {path.name} is for among several files; put train, validation or test into its "
        "name, or take it out of the folder."
    )
