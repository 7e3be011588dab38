"""A learner's own file as a dataset: read, checked, split."""

from __future__ import annotations

import random
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict

from helpers.runtime import UserError

ENDINGS = (".csv", ".jsonl", ".json", ".parquet")
PARTS = ("train", "validation", "test")


def read_table(path: Path, columns: tuple[str, ...]):
    """The file as a pandas frame that has `columns`, each filled in every row.

    Raises:
        UserError: when the file is missing, empty, unreadable, or lacks a column or a value.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"data: {path.name} ends in {path.suffix or 'nothing'}; use one of {', '.join(ENDINGS)}.")
    if not path.is_file():
        raise UserError(f"data: there is no file {path}.")
    frame = _parse(path) if path.stat().st_size else None
    if frame is None or frame.empty:
        raise UserError(f"data: {path.name} is empty; it needs rows with {' and '.join(columns)}.")
    for column in columns:
        if column not in frame.columns:
            found = ", ".join(str(name) for name in frame.columns)
            raise UserError(f"data: {path.name} has no column {column}; its columns are {found}.")
        blank = frame[column].isna() | (frame[column].astype(str).str.strip() == "")
        if blank.any():
            row = int(blank.to_numpy().argmax()) + 1
            raise UserError(f"data: {path.name}, row {row} has no {column}; fill or remove it.")
    return frame


def _parse(path: Path):
    import pandas

    try:
        if path.suffix.lower() == ".csv":
            return pandas.read_csv(path)
        if path.suffix.lower() == ".parquet":
            return pandas.read_parquet(path)
        return pandas.read_json(path, lines=_is_lines(path))
    except pandas.errors.EmptyDataError:
        return None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"data: {path.name} cannot be read as {path.suffix}: {reason}.") from None


def _is_lines(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return path.suffix.lower() == ".jsonl" or not file.read(64).lstrip().startswith("[")


def labelled(path: Path, seed: int) -> DatasetDict:
    """A file with text and label as train (80 %), validation and test (10 % each).

    The split is made per class, shuffled by `seed`. `label` becomes a `ClassLabel`, its classes
    in alphabetical (for numbers: numerical) order.

    Raises:
        UserError: as `read_table`, or when there is one class only or a class has too few rows.
    """
    frame = read_table(path, ("text", "label"))
    classes = sorted(frame["label"].unique().tolist())
    if len(classes) < 2:
        raise UserError(
            f"data: every row of {path.name} has the label {classes[0]!r}; a classifier needs at least two classes."
        )
    places = _split(frame["label"].tolist(), classes, seed, path.name)
    numbers = {label: number for number, label in enumerate(classes)}
    columns = {
        "text": frame["text"].astype(str).tolist(),
        "label": [numbers[label] for label in frame["label"]],
    }
    names = [str(label) for label in classes]
    whole = Dataset.from_dict(columns).cast_column("label", ClassLabel(names=names))
    return DatasetDict({part: whole.select(places[part]) for part in PARTS})


def _split(labels: list, classes: list, seed: int, name: str) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {part: [] for part in PARTS}
    shuffle = random.Random(seed).shuffle
    for label in classes:
        rows = [row for row, value in enumerate(labels) if value == label]
        if len(rows) < len(PARTS):
            raise UserError(
                f"data: {name} has {len(rows)} row(s) with the label {label!r}; each class needs "
                f"at least {len(PARTS)}, one each for {', '.join(PARTS)}."
            )
        shuffle(rows)
        tenth = max(1, len(rows) // 10)
        places["test"] += rows[:tenth]
        places["validation"] += rows[tenth : 2 * tenth]
        places["train"] += rows[2 * tenth :]
    for part in places.values():
        shuffle(part)
    return places


def rows_of(path: Path, columns: tuple[str, ...]) -> Dataset:
    """A file's `columns`, as text, in the file's order."""
    frame = read_table(path, columns)
    return Dataset.from_dict({name: frame[name].astype(str).tolist() for name in columns})
