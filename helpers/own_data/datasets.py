"""Loads a learner's file or folder as the `datasets` objects that the lessons train on."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from helpers.own_data.conversations import without_unfit
from helpers.own_data.request import Request
from helpers.own_data.splits import SPLITS, cut, read_splits
from helpers.own_data.table import Table, check_usable, normalized
from helpers.runtime import UserError

Rows = dict[str, tuple[list[str], list[str]]]  # split -> texts, and their class names
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_printed: set[str] = set()


def load_labelled(data: Path | str | Request, seed: int) -> DatasetDict:
    """Load texts with labels as train, validation and test.

    One file is split per class by `seed` into 80 %, 10 % and 10 %; rows with the same text stay in one split. If a
    folder has files for several splits, a missing split takes a tenth of train. `label` becomes a `ClassLabel`, with
    its classes in alphabetical order, or in numerical order if all are numbers.

    Args:
        data: a file or a folder, optionally followed by "?text=Body&label=Stars"; see `Request.of`.

    Raises:
        UserError: when a file cannot be read or has unusable rows, there is only one class, a class has too few
            rows, or validation or test has a class that train lacks.
    """
    request = Request.of(data)
    tables, aside = read_splits([request], ("text", "label"))
    for table in tables.values():
        check_usable(table)
    rows, classes = split_labelled(tables, seed)
    described = _description(tables, rows, classes) + _not_read(aside)
    numbers = {name: number for number, name in enumerate(classes)}
    features, found = Features({"text": Value("string"), "label": ClassLabel(names=classes)}), {}
    for split, (texts, names) in rows.items():
        found[split] = Dataset.from_dict({"text": texts, "label": [numbers[name] for name in names]}, features=features)
        found[split].info.description = described
    return DatasetDict(found)


def load_columns(data: Path | str | Request, columns: Sequence[str], tokenizer: Any = None) -> Dataset:
    """Load the columns for these roles as text, in the file's order. A folder with several splits gives its train rows.

    Args:
        data: as for `load_labelled`.
        columns: roles, such as prompt and completion.
        tokenizer: has a chat template; with it, conversations that `sft.encode` refuses count as unusable rows.

    Raises:
        UserError: when a file cannot be read or has unusable rows.
    """
    request = Request.of(data)
    tables, aside = read_splits([request], columns, ("train",))
    table = tables["train"] if tokenizer is None else without_unfit(tables["train"], tokenizer)
    check_usable(table)
    found = Dataset.from_dict({role: [str(value) for value in table.rows[role]] for role in columns})
    left_out = _left_out([table])
    understood = f" {table.choice.understood()}".rstrip()
    found.info.description = (
        f"{table.path.name}: {table.choice}; {len(found):,} rows{left_out}.{understood}{_not_read(aside)}"
    )
    return found


def split_labelled(tables: Mapping[str, Table], seed: int) -> tuple[Rows, list[str]]:
    """Return split -> (texts, class names), and all classes in order. Missing splits are cut from train.

    Raises:
        UserError: when the labels are not classes, or a class has too few rows.
    """
    names = {split: class_names(table) for split, table in tables.items()}
    classes = _check_classes(names, {split: table.path.name for split, table in tables.items()})
    rows = {split: ([str(text) for text in table.rows["text"]], names[split]) for split, table in tables.items()}
    missing = ("train", *(split for split in SPLITS[1:] if split not in tables))
    if len(missing) > 1:
        texts, labels = rows["train"]
        for split, places in cut(texts, labels, classes, seed, missing, tables["train"].path.name).items():
            rows[split] = [texts[row] for row in places], [labels[row] for row in places]
    return {split: rows[split] for split in SPLITS}, classes


def _check_classes(names: Mapping[str, Sequence[str]], files: Mapping[str, str]) -> list[str]:
    """Return the classes of train, in order.

    Raises:
        UserError: when train has only one class, nearly every row has its own label, or another split has a new class.
    """
    counts = Counter(names["train"])
    classes, rows = _in_order(list(counts)), counts.total()
    if len(classes) < 2:
        raise UserError(
            f"data: every row of {files['train']} has the label {classes[0]!r}; "
            "a classifier needs at least two classes."
        )
    if len(classes) > 20 and 2 * len(classes) > rows:
        raise UserError(
            f"data: the labels of {files['train']} are {len(classes):,} different values in {rows:,} rows, which are "
            "no classes; name the column that holds classes: ?label=NAME."
        )
    for split, found in names.items():
        unseen = Counter(name for name in found if name not in counts)
        if unseen:
            name, count = next(iter(unseen.items()))
            raise UserError(
                f"data: {files[split]} has {count:,} row(s) with the label {name!r}, which no row of {files['train']} "
                f"has (labels that train lacks: {len(unseen):,}); correct them, or add such rows to train."
            )
    return classes


def class_names(table: Table) -> list[str]:
    """Return the class name of every row: its label as stripped text; a float such as 2.0 becomes "2"."""
    return [
        str(int(label)) if isinstance(label, float) and label.is_integer() else str(label).strip()
        for label in table.rows["label"]
    ]


def texts_with_several_labels(tables: Mapping[str, Table]) -> int:
    """Return how many different texts occur with more than one label."""
    labels: dict[str, set[str]] = {}
    for table in tables.values():
        for text, name in zip(table.rows["text"], class_names(table), strict=True):
            labels.setdefault(normalized(text), set()).add(name)
    return sum(len(found) > 1 for found in labels.values())


def shared_texts(tables: Mapping[str, Table], roles: Sequence[str] = ("text",)) -> dict[tuple[str, str], int]:
    """Return (split, other split) -> the number of rows of the second one whose texts the first one also has."""
    keys = {split: text_keys(table, roles) for split, table in tables.items()} if len(tables) > 1 else {}
    pairs = itertools.combinations(keys, 2)
    return {(one, two): sum(map(set(keys[one]).__contains__, keys[two])) for one, two in pairs}


def text_keys(table: Table, roles: Sequence[str] = ("text",)) -> list[tuple[str, ...]]:
    """Return a key for each row, to compare it with others: its normalized texts."""
    return [tuple(map(normalized, row)) for row in table.rows[list(roles)].itertuples(index=False)]


def notes(dataset: Dataset | DatasetDict) -> str:
    """Return the summary of a learner's file: its columns, rows, classes and splits, and the rows left out."""
    return (dataset["train"] if isinstance(dataset, DatasetDict) else dataset).info.description


def print_notes(dataset: Dataset | DatasetDict) -> Dataset | DatasetDict:
    """Print the notes once per process, because several cells may load the same data; return the dataset."""
    if notes(dataset) not in _printed:
        _printed.add(notes(dataset))
        print(notes(dataset))
    return dataset


def _in_order(names: list[str]) -> list[str]:
    """Return the names in alphabetical order, or in numerical order if all are numbers."""
    numbers = all(NUMBER.fullmatch(name) for name in names)
    return sorted(names, key=lambda name: (float(name) if numbers else 0, name))


def _description(tables: Mapping[str, Table], rows: Rows, classes: list[str]) -> str:
    files = " and ".join(table.path.name for table in tables.values())
    counts = Counter(name for _, names in rows.values() for name in names)
    shown = ", ".join(f"{name} {counts[name]:,}" for name in classes[:8]) + (", ..." if len(classes) > 8 else "")
    sizes = ", ".join(f"{len(rows[split][0]):,} for {split}" for split in SPLITS)
    shared = [f"{n:,} rows of {two} are in {one} too" for (one, two), n in shared_texts(tables).items() if n]
    several = texts_with_several_labels(tables)
    return (
        f"{files}: {tables['train'].choice}; {counts.total():,} rows, {len(classes):,} classes ({shown}); {sizes}"
        + "".join(f"; {said}" for said in shared)
        + (f"; {several:,} texts have several labels" if several else "")
        + f"{_left_out(list(tables.values()))}."
    )


def _not_read(aside: Sequence[str]) -> str:
    return f" Not read: {', '.join(aside)}." if aside else ""


def _also(said: str) -> str:
    return f"; {said}" if said else ""


def _left_out(tables: Sequence[Table]) -> str:
    left = [f"{len(t.problems):,} of {t.path.name} ({' and '.join(t.summary())})" for t in tables if t.problems]
    left = [f"; left out: {', '.join(left)}"] if left else []
    return "".join([*left, *(f"{table.on_lines()}{_also(table.suspicion())}" for table in tables)])
