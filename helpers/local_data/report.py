"""What a learner's data hold, before anything is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from helpers.local_data.datasets import check_classes, class_names
from helpers.local_data.labels import alike
from helpers.local_data.splitting import PARTS, plain, split
from helpers.local_data.table import Table
from helpers.runtime import UserError

TEXTS = ("text", "prompt", "completion", "chosen", "rejected")
MISSING_WORDS = ("nan", "null", "none", "n/a", "na", "unknown", "?")


@dataclass
class Report:
    """Everything that `workbook data check` says.

    classes: part -> class -> rows. repeated: part -> rows that stand there before. shared: two parts -> rows of the
    second that the first has too. contradictions: texts that have more than one label. notes: what looks odd.
    trouble: why the data cannot be used; empty when they can.
    """

    tables: Mapping[str, Table]
    kind: str
    classes: dict[str, Counter] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    shared: dict[tuple[str, str], int] = field(default_factory=dict)
    contradictions: int = 0
    notes: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)


def report_on(tables: Mapping[str, Table], kind: str, skip_bad: bool = False) -> Report:
    """Look at the tables of all parts together; nothing is raised for what they hold, `trouble` says it."""
    report = Report(tables, kind)
    keys = {part: _keys(table) for part, table in tables.items()}
    report.repeated = {part: len(found) - len(set(found)) for part, found in keys.items()}
    for first, second in _pairs(tables):
        seen = set(keys[first])
        report.shared[first, second] = sum(key in seen for key in keys[second])
    trouble = [_rows_trouble(table, skip_bad) for table in tables.values()]
    if kind == "labelled texts" and all(table.places for table in tables.values()):
        trouble.append(_look_at_labels(report))
    if kind == "preferences":
        report.notes += _without_choice(tables)
    report.trouble = list(filter(None, trouble))
    return report


def _keys(table: Table) -> list[tuple[str, ...]]:
    roles = [role for role in table.rows if role in TEXTS]
    return list(zip(*([plain(value) for value in table.rows[role]] for role in roles), strict=True))


def _pairs(tables: Mapping[str, Table]) -> list[tuple[str, str]]:
    parts = [part for part in PARTS if part in tables]
    return [(first, second) for index, first in enumerate(parts) for second in parts[index + 1 :]]


def _rows_trouble(table: Table, skip_bad: bool) -> str:
    if not table.places:
        return f"{table.path.name} has no row that can be used."
    if table.bad and not skip_bad:
        return (
            f"{len(table.bad):,} of {table.total:,} rows of {table.path.name} cannot be used; mend or remove them, or "
            f'leave them out: data="{table.path.name}?bad=skip".'
        )
    return ""


def _look_at_labels(report: Report) -> str:
    """Fill in what is said about labels; returns the trouble with them, or ""."""
    tables = report.tables
    names = class_names(tables)
    report.classes = {part: Counter(found) for part, found in names.items()}
    labels: dict[str, set[str]] = {}
    for part, table in tables.items():
        for text, name in zip(table.rows["text"], names[part], strict=True):
            labels.setdefault(plain(text), set()).add(name)
    report.contradictions = sum(len(found) > 1 for found in labels.values())
    report.notes += _odd(sorted({name for found in names.values() for name in found}))
    try:
        files = {part: table.path.name for part, table in tables.items()}
        classes = check_classes(names, files)
        cut = ("train", *(part for part in PARTS[1:] if part not in tables))
        if len(cut) > 1:
            split(tables["train"].rows["text"], names["train"], classes, 0, cut, files["train"])
    except UserError as error:
        return str(error).removeprefix("data: ")
    return ""


def _odd(classes: Sequence[str]) -> list[str]:
    found = [
        f"the classes {' and '.join(map(repr, group))} may be one, written in two ways" for group in alike(classes)
    ]
    words = [name for name in classes if name.casefold() in MISSING_WORDS]
    return found + [f"the label {name!r} counts as a class; is it a missing value?" for name in words]


def _without_choice(tables: Mapping[str, Table]) -> list[str]:
    both = [
        pair for table in tables.values() for pair in zip(table.rows["chosen"], table.rows["rejected"], strict=True)
    ]
    same = sum(plain(chosen) == plain(rejected) for chosen, rejected in both)
    return [f"{same:,} rows have the same text as chosen and as rejected: nothing to learn there"] if same else []
