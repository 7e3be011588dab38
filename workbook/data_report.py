"""What `workbook data check` says of a learner's files: rows, columns, classes, lengths, and what is odd about them.

The files are read, checked and split by `helpers.own_data`, as in a lesson; here the findings become lines.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from helpers import catalog
from helpers.own_data.columns import KINDS, name_list
from helpers.own_data.datasets import class_names, shared_texts, split_labelled, text_keys, texts_with_several_labels
from helpers.own_data.request import Request
from helpers.own_data.splits import normalized, read_splits
from helpers.own_data.table import Table, check_usable
from helpers.runtime import UserError

MISSING_WORDS = ("nan", "null", "none", "n/a", "na", "unknown", "?")
CLASSES = 12  # shown of many
UNREADABLE = 10
SAMPLE = 20_000  # texts of a role: enough for a share, and done in seconds
AT_ONCE = 500  # texts tokenized together


@dataclass
class Report:
    """The lines to print, and why a lesson cannot use the data; `trouble` is empty when it can."""

    lines: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @classmethod
    def on(cls, files: Sequence[str], model: str = "", max_tokens: int = 256) -> Report:
        """Look at all files together; what they hold goes into `trouble` and is not raised.

        Args:
            files: paths, or requests with columns; one folder counts as the files in it.
            model: a folder whose tokenizer counts; "" takes the pocket encoder's.
            max_tokens: of a text, that the lessons read.

        Raises:
            UserError: for what keeps a file from being read at all.
        """
        report = cls()
        requests = [Request.of(file) for file in files]
        tables, aside = read_splits(requests)
        tokenizer = catalog.tokenizer("encoder", "pocket", model)
        for split, table in tables.items():
            report.lines.append(f"{table.path}" + (f"  ({split})" if len(tables) > 1 else ""))
            report._add(_of_table(table))
            report._add(("tokens", f"{role}: {_lengths(table, role, tokenizer, max_tokens)}") for role in _texts(table))
            report.lines.append("")
            report._try(check_usable, table, all(request.skip_bad for request in requests))
        report._add(_of_all(tables))
        if "label" in tables["train"].rows and not any(table.rows.empty for table in tables.values()):
            report._try(split_labelled, tables, 0)
        report._add(("note", f"not read: {name}") for name in aside)
        return report

    def verdict(self, files: Sequence[str]) -> list[str]:
        """The last lines: whether a lesson can use the data, and how to pass them or what is in the way."""
        if self.trouble:
            return ["These data cannot be used yet:", *(f"- {trouble}" for trouble in self.trouble)]
        if len(files) > 1:
            return ["These data can be used: put the files in one folder, and give a lesson that folder as its data."]
        return [f'These data can be used: in a lesson\'s parameters, write data = "{files[0]}".']

    def _add(self, found: Iterator[tuple[str, str]]) -> None:
        self.lines += [f"  {name:12}{said}" for name, said in found]

    def _try(self, function: Any, *arguments: object) -> None:
        try:
            function(*arguments)
        except UserError as error:
            self.trouble.append(str(error).removeprefix("data: "))


def _of_table(table: Table) -> Iterator[tuple[str, str]]:
    yield "rows", f"{table.total:,}, of which {len(table.problems):,} cannot be used"
    for problem in table.summary():
        yield "", problem
    for place, reason in list(table.problems.items())[1:UNREADABLE]:
        yield "", f"- also {place}: {reason}"
    if table.suspicion():
        yield "", table.suspicion()
    roles = table.choice.columns
    kind = next((name for name, wanted in KINDS.items() if wanted == tuple(roles)), "")
    yield "columns", f"{len(table.columns):,}: {name_list(table.columns)}"
    yield "read as", f"{kind}: {table.choice}"
    unread = [name for name in table.columns if name not in roles.values()]
    if unread:
        yield "not read", name_list(unread)
    keys = text_keys(table, _texts(table))
    repeated = len(keys) - len(set(keys))
    yield (
        "repeated",
        f"{repeated:,} (rows whose texts stood there before; capital letters and white space do not count)",
    )
    if "label" in roles:
        counts = Counter(class_names(table))
        shown = [f"{name} {n:,} ({100 * n / counts.total():.1f} %)" for name, n in counts.most_common(CLASSES)]
        more = f" and {len(counts) - CLASSES:,} more" if len(counts) > CLASSES else ""
        yield "classes", f"{len(counts):,}: {', '.join(shown)}{more}"


def _of_all(tables: dict[str, Table]) -> Iterator[tuple[str, str]]:
    train = tables["train"]
    for (first, second), count in shared_texts(tables, _texts(train)).items():
        advice = ": a score there shows what was memorized; remove them from one side" if count else ""
        yield "shared", f"{count:,} (rows of {second} that {first} has too){advice}"
    if "label" in train.rows:
        yield "conflicts", f"{texts_with_several_labels(tables):,} (texts that have more than one label)"
        yield from (("note", note) for note in _odd_classes({name for t in tables.values() for name in class_names(t)}))
    if "rejected" in train.rows:
        pairs = [pair for t in tables.values() for pair in zip(t.rows["chosen"], t.rows["rejected"], strict=True)]
        same = sum(normalized(chosen) == normalized(rejected) for chosen, rejected in pairs)
        if same:
            yield "note", f"{same:,} rows have the same text as chosen and as rejected: nothing to learn there"


def _odd_classes(classes: set[str]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for name in sorted(classes):
        groups.setdefault(normalized(name), []).append(name)
    for group in groups.values():
        if len(group) > 1:
            yield f"the classes {' and '.join(map(repr, group))} may be one, written in two ways"
    for name in sorted(classes):
        if name.casefold() in MISSING_WORDS:
            yield f"the label {name!r} counts as a class; is it a missing value?"


def _texts(table: Table) -> list[str]:
    return [role for role in table.rows if role != "label"] if len(table.rows) else []


def _lengths(table: Table, role: str, tokenizer: Any, limit: int) -> str:
    """'3 to 900, median 80, 95 of 100 up to 210; 4.1 % have more than 256, and are cut there'."""
    texts = [str(text) for text in table.rows[role]]
    if len(texts) > SAMPLE:
        texts = random.Random(0).sample(texts, SAMPLE)
    counts: list[int] = []
    for start in range(0, len(texts), AT_ONCE):
        counts += map(len, tokenizer(texts[start : start + AT_ONCE], verbose=False)["input_ids"])
    shortest, median, high, longest = numpy.percentile(counts, (0, 50, 95, 100), method="lower")
    cut = 100 * sum(count > limit for count in counts) / len(counts)
    return (
        f"{shortest:,} to {longest:,}, median {median:,}, 95 of 100 up to {high:,}; {cut:.1f} % have more than "
        f"{limit}, and are cut there"
    )
