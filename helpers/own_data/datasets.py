"""A learner's file or folder as what the lessons train on."""

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
from helpers.own_data.splits import SPLITS, cut, normalized, read_splits
from helpers.own_data.table import Table, check_usable
from helpers.runtime import UserError

Rows = dict[str, tuple[list[str], list[str]]]  # split -> texts, and the name of each one's class
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_printed: set[str] = set()


def load_labelled(data: Path | str | Request, seed: int) -> DatasetDict:
    """Texts with labels as train, validation and test.

    One file is split per class by `seed`: 80 %, 10 % and 10 %, and repeated texts stay on one side. In a folder with
    files for several splits, a split that is missing takes a tenth of train. `label` becomes a `ClassLabel`, its
    classes in alphabetical (for numbers: numerical) order.

    Args:
        data: a file, a folder, or either with "?text=Body&label=Stars" after it; see `Request.of`.

    Raises:
        UserError: when a file cannot be read or rows of it cannot be used, there is one class only, a class has too
            few rows, or validation or test holds a class that train lacks.
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
    """A file's `columns`, as text, in the file's order; of a folder with several splits, those of train.

    Args:
        data: as for `load_labelled`.
        columns: roles, such as prompt and completion.
        tokenizer: with a chat template, which refuses conversations that are longer than a model of the lessons reads.

    Raises:
        UserError: when a file cannot be read or rows of it cannot be used.
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
    """Split -> texts and their classes, as given or cut from train where a split is missing; and all classes in order.

    Raises:
        UserError: when the labels are no classes, or too few rows have one of them.
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
    """The classes of train, in order.

    Raises:
        UserError: when there are not two, they are no classes but numbers to predict, or another split has one more.
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
    """The class of every row: text as it is, but for white space around it; a typed number without a needless ".0"."""
    return [
        str(int(label)) if isinstance(label, float) and label.is_integer() else str(label).strip()
        for label in table.rows["label"]
    ]


def texts_with_several_labels(tables: Mapping[str, Table]) -> int:
    """How many different texts stand there with more than one label."""
    labels: dict[str, set[str]] = {}
    for table in tables.values():
        for text, name in zip(table.rows["text"], class_names(table), strict=True):
            labels.setdefault(normalized(text), set()).add(name)
    return sum(len(found) > 1 for found in labels.values())


def shared_texts(tables: Mapping[str, Table], roles: Sequence[str] = ("text",)) -> dict[tuple[str, str], int]:
    """Two splits -> rows of the second whose texts the first has too."""
    keys = {split: text_keys(table, roles) for split, table in tables.items()} if len(tables) > 1 else {}
    pairs = itertools.combinations(keys, 2)
    return {(one, two): sum(map(set(keys[one]).__contains__, keys[two])) for one, two in pairs}


def text_keys(table: Table, roles: Sequence[str] = ("text",)) -> list[tuple[str, ...]]:
    """What each row is compared by with others: its texts, normalized."""
    return [tuple(map(normalized, row)) for row in table.rows[list(roles)].itertuples(index=False)]


def notes(dataset: Dataset | DatasetDict) -> str:
    """What became of a learner's file: columns, rows, classes, splits, and what was left out."""
    return (dataset["train"] if isinstance(dataset, DatasetDict) else dataset).info.description


def print_notes(dataset: Dataset | DatasetDict) -> Dataset | DatasetDict:
    """Print the notes, once in a process (a lesson may load the same data in several cells); returns the dataset."""
    if notes(dataset) not in _printed:
        _printed.add(notes(dataset))
        print(notes(dataset))
    return dataset


def _in_order(names: list[str]) -> list[str]:
    """The names in alphabetical order, or numerical if all are numbers."""
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
