"""Finds train, validation and test by the names of a folder's files, or cuts them from one file by seed."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from helpers.own_data.formats import FORMATS
from helpers.own_data.request import Request
from helpers.own_data.table import Table, normalized, read
from helpers.paths import exists, unreachable
from helpers.runtime import UserError

SPLITS = ("train", "validation", "test")
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
PIECE = re.compile(r"-\d+-of-\d+$")


def read_splits(
    requests: Sequence[Request], roles: Sequence[str] = (), wanted: Sequence[str] = SPLITS
) -> tuple[dict[str, Table], list[str]]:
    """Return split -> table, and the names of files in the folder that belong to no split and are not read.

    A single file becomes "train", to be split later. Of several files, the file and folder names give the splits:
    train.csv, dev.jsonl, data/test-00000-of-00002.parquet. The other splits must have the roles found in train.

    Raises:
        UserError: when the folder is missing or has no data, its file names are ambiguous, or a file cannot be read.
    """
    first, folder, aside = requests[0], None, []
    if len(requests) == 1 and exists(first.path) and first.path.is_dir():
        folder = first.path
        files = _files(folder)
        aside = [path for path in files if len(files) > 1 and not _split_of(path.relative_to(folder))]
        requests = [replace(first, path=path) for path in files if path not in aside]
        if len(requests) < 2 and aside:
            raise _unclear(aside[0])
    found = _by_split(requests, folder)
    tables: dict[str, Table] = {}
    for split in (split for split in wanted if split in found):
        one, *more = found[split]
        tables[split] = read(one, roles, [piece.path for piece in more])
        roles = list(tables[split].rows)
    return tables, [path.name for path in aside]


def cut(
    texts: Sequence[str], labels: Sequence[str], classes: Sequence[str], seed: int, splits: Sequence[str], name: str
) -> dict[str, list[int]]:
    """Return the row numbers of each split. All but the first get a tenth of every class; the first gets the rest.

    Rows with the same text stay together. If a text has several labels, its rows all go to the first split.

    Raises:
        UserError: when a class has fewer different texts than there are splits.
    """
    places: dict[str, list[int]] = {split: [] for split in splits}
    shuffle = random.Random(seed).shuffle
    by_text: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        by_text[normalized(text)].append(row)
    clear = [rows for rows in by_text.values() if len({labels[row] for row in rows}) == 1]
    doubtful = [rows for rows in by_text.values() if len({labels[row] for row in rows}) > 1]
    for label in classes:
        groups = [rows for rows in clear if labels[rows[0]] == label]
        if len(groups) < len(splits):
            others = f" (beside {len(doubtful):,} that have several: give each text one)" if doubtful else ""
            raise UserError(
                f"data: {name} has {len(groups)} different text(s) with the label {label!r}{others}; each class needs "
                f"at least {len(splits)}, one each for {', '.join(splits)}."
            )
        shuffle(groups)
        groups.sort(key=len)  # often repeated texts come last, so they go to train
        _deal(groups, splits, places)
    places[splits[0]] += [row for rows in doubtful for row in rows]
    for rows in places.values():
        shuffle(rows)
    return places


def _deal(groups: list[list[int]], splits: Sequence[str], places: dict[str, list[int]]) -> None:
    tenth = max(1, sum(map(len, groups)) // 10)
    left = list(groups)
    for already, split in enumerate(reversed(splits[1:])):
        found: list[int] = []
        while len(found) < tenth and len(left) > len(splits) - 1 - already:
            found += left.pop(0)
        places[split] += found
    places[splits[0]] += [row for group in left for row in group]


def _files(folder: Path) -> list[Path]:
    """Return the data files in a folder, without those in hidden folders such as .ipynb_checkpoints/."""
    try:
        files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in FORMATS and path.is_file()]
    except OSError as error:
        raise unreachable(folder, error) from None
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise UserError(f"data: the folder {folder} holds no file that ends in one of {', '.join(FORMATS)}.")
    return files


def _by_split(requests: Sequence[Request], folder: Path | None) -> dict[str, list[Request]]:
    """Return split -> its files by their names: a single file, or the numbered pieces of one file."""
    if len(requests) == 1:
        return {"train": list(requests)}
    found: dict[str, list[Request]] = {}
    for request in requests:
        path = request.path
        split = _split_of(path.relative_to(folder) if folder else Path(path.name))
        if not split:
            raise _unclear(path)
        if split in found and not _pieces_of_one(found[split][0].path, path):
            raise UserError(
                f"data: {found[split][0].path.name} and {path.name} would both be for {split}; join them into one file."
            )
        found.setdefault(split, []).append(request)
    if "train" not in found:
        raise UserError("data: none of the files is for training; call one train.csv (or .jsonl, .json, .parquet).")
    return found


def _pieces_of_one(one: Path, other: Path) -> bool:
    """Whether both are numbered pieces of the same file, as train-00000-of-00002 and train-00001-of-00002."""
    whole = [path.with_name(PIECE.sub("", path.stem)) for path in (one, other) if PIECE.search(path.stem)]
    return len(whole) == 2 and whole[0] == whole[1]


def _split_of(path: Path) -> str:
    words = re.split(r"[^a-z]+", str(path.with_suffix("")).lower())
    return next((split for split, names in WORDS.items() if any(name in words for name in names)), "")


def _unclear(path: Path) -> UserError:
    return UserError(
        f"data: it is not clear what {path.name} is for among several files; put train, validation or test into its "
        "name, or give one file alone."
    )
