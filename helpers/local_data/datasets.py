"""A learner's file or folder as what the lessons train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from helpers.local_data.labels import as_names, in_order
from helpers.local_data.parts import parts_of
from helpers.local_data.request import Request
from helpers.local_data.splitting import PARTS, split
from helpers.local_data.table import Table, usable
from helpers.runtime import UserError

LABELLED = ("text", "label")
_told: set[str] = set()


def labelled(path: Path | str | Request, seed: int) -> DatasetDict:
    """Texts with labels as train, validation and test.

    One file is split per class by `seed`: 80 %, 10 % and 10 %, and repeated rows stay on one side. In a folder with
    files for several parts, a part that is missing takes a tenth of train. `label` becomes a `ClassLabel`, its
    classes in alphabetical (for numbers: numerical) order.

    Args:
        path: a file, a folder, or either with "?text=Body&label=Stars" after it; see `Request.of`.

    Raises:
        UserError: as `helpers.local_data.table.usable`; or when there is one class only, a class has too few rows, or
            a part holds a class that train lacks.
    """
    request = Request.of(path)
    parts = parts_of(request)
    tables = {part: usable(one, LABELLED) for part, one in parts.items()}
    names = class_names(tables)
    classes = check_classes(names, {part: table.path.name for part, table in tables.items()})
    texts = {part: [str(text) for text in table.rows["text"]] for part, table in tables.items()}
    found = _rows(texts, names, classes, seed, tables["train"].path.name)
    said = _description(tables, found, classes) + not_read(parts["train"])
    numbers = {name: number for number, name in enumerate(classes)}
    features, made = Features({"text": Value("string"), "label": ClassLabel(names=classes)}), {}
    for part in PARTS:
        rows = {"text": found[part][0], "label": [numbers[name] for name in found[part][1]]}
        made[part] = Dataset.from_dict(rows, features=features)
        made[part].info.description = said
    return DatasetDict(made)


def rows_of(path: Path | str | Request, columns: Sequence[str]) -> Dataset:
    """A file's `columns`, as text, in the file's order; of a folder with several parts, those of train."""
    request = parts_of(Request.of(path))["train"]
    table = usable(request, columns)
    found = Dataset.from_dict({role: [str(value) for value in table.rows[role]] for role in columns})
    found.info.description = (
        f"{table.path.name}: {table.choice}; {len(found):,} rows{_left_out([table])}.{not_read(request)}"
    )
    return found


def notes(dataset: Dataset | DatasetDict) -> str:
    """What was made of a learner's file, in one sentence: columns, rows, classes, parts, and what was left out."""
    return (dataset["train"] if isinstance(dataset, DatasetDict) else dataset).info.description


def told(dataset: Dataset | DatasetDict) -> Dataset | DatasetDict:
    """Print the notes, once in a process (a lesson may ask for the same data in several cells); returns the dataset."""
    if notes(dataset) not in _told:
        _told.add(notes(dataset))
        print(notes(dataset))
    return dataset


def check_classes(names: Mapping[str, Sequence[str]], files: Mapping[str, str]) -> list[str]:
    """The classes of train, in order.

    Raises:
        UserError: when there are not two, they are no classes but numbers to predict, or another part has one more.
    """
    counts = Counter(names["train"])
    classes, rows = in_order(counts), counts.total()
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
    for part, found in names.items():
        unseen = Counter(found)
        for name in classes:
            del unseen[name]
        if unseen:
            name, count = next(iter(unseen.items()))
            raise UserError(
                f"data: {files[part]} has {count:,} row(s) with the label {name!r}, which no row of {files['train']} "
                f"has (labels that train lacks: {len(unseen):,}); correct them, or add such rows to train."
            )
    return classes


def class_names(tables: Mapping[str, Table]) -> dict[str, list[str]]:
    """The class of every row; all parts together decide whether labels are numbers."""
    together = as_names([label for table in tables.values() for label in table.rows["label"]])
    found, start = {}, 0
    for part, table in tables.items():
        found[part] = together[start : start + len(table.places)]
        start += len(table.places)
    return found


def _rows(texts: dict, names: dict, classes: list[str], seed: int, file: str) -> dict[str, tuple[list, list]]:
    """Part -> its texts and classes: as given, and the parts that are missing cut from train."""
    cut = ("train", *(part for part in PARTS[1:] if part not in texts))
    places = split(texts["train"], names["train"], classes, seed, cut, file) if len(cut) > 1 else {}
    found = {part: (texts[part], names[part]) for part in texts}
    for part, rows in places.items():
        found[part] = [texts["train"][row] for row in rows], [names["train"][row] for row in rows]
    return found


def _description(tables: Mapping[str, Table], rows: Mapping[str, tuple[list, list]], classes: list[str]) -> str:
    files = " and ".join(table.path.name for table in tables.values())
    counts = Counter(name for _, names in rows.values() for name in names)
    shown = ", ".join(f"{name} {counts[name]:,}" for name in classes[:8]) + (", ..." if len(classes) > 8 else "")
    sizes = ", ".join(f"{len(rows[part][0]):,} for {part}" for part in PARTS)
    total = sum(len(table.places) for table in tables.values())
    return (
        f"{files}: {tables['train'].choice}; {total:,} rows, {len(classes):,} classes ({shown}); {sizes}"
        f"{_left_out(tables.values())}."
    )


def not_read(request: Request) -> str:
    """' Not read: extra.csv.' for the files of a folder that name no part, or ''."""
    return f" Not read: {', '.join(request.aside)}." if request.aside else ""


def _left_out(tables) -> str:
    left = [(table, len(table.bad)) for table in tables if table.bad]
    said = [f"{count:,} of {table.path.name} ({' and '.join(table.problems())})" for table, count in left]
    return f"; left out: {', '.join(said)}" if said else ""
