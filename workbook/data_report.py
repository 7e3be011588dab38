"""The report of `workbook data check` on a learner's files: rows, columns, classes, lengths and possible problems.

`helpers.own_data` reads, checks and splits the files as in a lesson; this module turns its findings into lines.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import pandas

from helpers import catalog
from helpers.evaluation import counts_words, without_spaces
from helpers.language_model import blocks_of_text
from helpers.own_data.columns import KINDS, LESSONS, name_list
from helpers.own_data.conversations import without_unfit
from helpers.own_data.datasets import class_names, shared_texts, split_labelled, text_keys, texts_with_several_labels
from helpers.own_data.duplicates import near_duplicates, similar_across
from helpers.own_data.request import Request, quoted
from helpers.own_data.splits import read_splits
from helpers.own_data.table import Table, check_usable, normalized
from helpers.runtime import UserError
from helpers.truncation import mostly_unknown
from workbook.model_report import refusals

MISSING_WORDS = ("nan", "null", "none", "n/a", "na", "unknown", "?")
CLASSES = 12  # most classes listed
UNREADABLE = 10
SAMPLE = 20_000  # most texts tokenized per role: enough to estimate a share, in seconds
NEAR = 5_000  # most rows searched for near-duplicates: takes seconds, even if all texts follow one template
AT_ONCE = 500  # texts per call of the tokenizer
BLOCK = 64  # tokens per row in lesson 01
READER = {"labelled texts": "encoder", "plain texts": "encoder", "instructions": "decoder", "preferences": "instruct"}
CONVERSATIONS = ("instructions", "preferences")


@dataclass
class Report:
    """The lines to print and, in `trouble`, why no lesson can use the data; `trouble` is empty if a lesson can."""

    lines: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    lessons: Sequence[str] = ()

    @classmethod
    def on(cls, files: Sequence[str], model: str = "", max_tokens: int = 256) -> Report:
        """Check all files together; problems with their content go into `trouble` and are not raised.

        Args:
            files: paths, with options such as "?text=Body"; one folder stands for the files in it.
            model: a folder whose tokenizer counts the tokens; "" for the pocket model of this kind of data.
            max_tokens: the number of tokens after which the lessons truncate a text.

        Raises:
            UserError: a file cannot be read at all.
        """
        report = cls()
        requests = [Request.of(file) for file in files]
        tables, aside = read_splits(requests)
        kind = _kind(tables["train"])
        tokenizer = catalog.tokenizer(READER[kind], "pocket", model)
        max_tokens = min(max_tokens, tokenizer.model_max_length)
        if kind in CONVERSATIONS:
            tables = {split: without_unfit(table, tokenizer, max_tokens) for split, table in tables.items()}
        for split, table in tables.items():
            report.lines.append(f"{table.path}" + (f"  ({split})" if len(tables) > 1 else ""))
            report._add(_of_table(table))
            for role in _texts(table):
                looked_at = _sample(table.rows[role])
                ids = _ids(tokenizer, looked_at)
                report._add(_lengths(role, looked_at, ids, None if kind in CONVERSATIONS else max_tokens))
                report._add(_hard_to_read(role, looked_at, ids, tokenizer))
            report.lines.append("")
            report._try(check_usable, table)
        report._add(_of_all(tables))
        if "label" in tables["train"].rows and not any(table.rows.empty for table in tables.values()):
            report._try(split_labelled, tables, 0)
            if not report.trouble:
                report._add(_similar_after_split(tables))
        report.lessons = LESSONS[kind]
        if "01" in report.lessons and not tables["train"].rows.empty:
            report._add(report._without_lesson_01(tables["train"]))
        if model:
            report._add(report._without_refusals(model))
        report._add(("note", f"not read: {name}") for name in aside)
        return report

    def verdict(self, files: Sequence[str]) -> list[str]:
        """The last lines: whether a lesson can use the data, and either how to pass them or what prevents it."""
        if self.trouble:
            return ["These data cannot be used yet:", *(f"- {trouble}" for trouble in self.trouble)]
        if len(files) > 1:
            folder = "put the files in one folder, and give that folder as data to"
            return [f"These data can be used: {folder} {self._of_lessons()}."]
        return [f"These data can be used: in the parameters of {self._of_lessons()}, write data = {quoted(files[0])}."]

    def _of_lessons(self) -> str:
        return _numbered(self.lessons, "or")

    def _add(self, found: Iterator[tuple[str, str]]) -> None:
        self.lines += [f"  {name:12}{said}" for name, said in found]

    def _without_lesson_01(self, table: Table) -> Iterator[tuple[str, str]]:
        try:
            _blocks(table, catalog.tokenizer("decoder", "pocket"))
        except UserError as error:
            self.lessons = [lesson for lesson in self.lessons if lesson != "01"]
            if self.lessons:
                yield "note", f"lesson 01 does not take them: {error}"
            else:
                self.trouble.append(str(error))

    def _without_refusals(self, model: str) -> Iterator[tuple[str, str]]:
        refused = refusals(model)
        sentences: dict[str, list[str]] = {}
        for lesson in sorted(self.lessons):
            if refused[lesson]:
                sentences.setdefault(refused[lesson], []).append(lesson)
        self.lessons = [lesson for lesson in self.lessons if not refused[lesson]]
        for sentence, lessons in sentences.items():
            if self.lessons:
                yield "model", f"not for {_numbered(lessons, 'and')}: {sentence.removeprefix('model: ')}"
            else:
                self.trouble.append(f"{_numbered(lessons, 'and')}: {sentence.removeprefix('model: ')}")

    def _try(self, function: Any, *arguments: object) -> None:
        try:
            function(*arguments)
        except UserError as error:
            self.trouble.append(str(error).removeprefix("data: "))


def _numbered(lessons: Sequence[str], word: str) -> str:
    """'lessons 02, 03 or 08'."""
    *numbers, last = sorted(lessons)
    return f"lessons {', '.join(numbers)} {word} {last}" if numbers else f"lesson {last}"


def _kind(table: Table) -> str:
    return next(name for name, roles in KINDS.items() if roles == tuple(table.rows))


def _sample(values: pandas.Series) -> pandas.Series:
    """The texts of a role, or a random sample of SAMPLE texts if tokenizing all would take too long."""
    if len(values) > SAMPLE:
        values = values.iloc[sorted(random.Random(0).sample(range(len(values)), SAMPLE))]
    return values.map(str)


def _ids(tokenizer: Any, texts: pandas.Series) -> list[list[int]]:
    """The token ids of every text."""
    pieces = (texts.iloc[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE))
    return [ids for piece in pieces for ids in tokenizer(list(piece), verbose=False)["input_ids"]]


def _hard_to_read(role: str, texts: pandas.Series, ids: list[list[int]], tokenizer: Any) -> Iterator[tuple[str, str]]:
    """Notes on texts that a model handles poorly: texts without spaces, or texts of mostly unknown tokens."""
    spaceless = [place for place, text in texts.items() if without_spaces(text)]
    if spaceless:
        where = f"{len(spaceless):,} (the first: {spaceless[0]}) have no spaces between words"
        instead = "" if counts_words(list(texts), 2) else ", so the bag of words counts characters"
        yield "note", f"{role}: of {len(texts):,} looked at, {where}{instead}"
    unknown = mostly_unknown(ids, tokenizer)
    if unknown:
        said = f"{len(unknown):,} (the first: {texts.index[unknown[0]]}) consist mostly of tokens"
        yield "note", f"{role}: of {len(texts):,} looked at, {said} that the model does not know"


def _blocks(table: Table, tokenizer: Any) -> None:
    """Raise the UserError of lesson 01, which evaluates on the first fifth of the texts and trains on the rest."""
    texts = [str(text) for text in table.rows["text"]]
    held_out = max(1, len(texts) // 5)
    for part in (texts[held_out:], texts[:held_out]):
        blocks_of_text(tokenizer, part[:BLOCK], BLOCK)  # a text has at least one token, so BLOCK texts are enough


def _of_table(table: Table) -> Iterator[tuple[str, str]]:
    yield "rows", f"{table.total:,}, of which {len(table.problems):,} cannot be used{table.on_lines()}"
    for problem in table.summary():
        yield "", problem
    for place, reason in list(table.problems.items())[1:UNREADABLE]:
        yield "", f"- also {place}: {reason}"
    if table.suspicion():
        yield "", table.suspicion()
    roles = table.choice.columns
    yield "columns", f"{len(table.columns):,}: {name_list(table.columns)}"
    yield "read as", f"{_kind(table)}: {table.choice}"
    if table.choice.understood():
        yield "understood", table.choice.understood()
    unread = [name for name in table.columns if name not in roles.values()]
    if unread:
        yield "not read", name_list(unread)
    keys = text_keys(table, _texts(table))
    repeated = len(keys) - len(set(keys))
    yield (
        "repeated",
        f"{repeated:,} (rows whose texts stood there before; capital letters and white space do not count)",
    )
    yield from _similar(table)
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


def _joined(table: Table, most: int) -> list[str]:
    """The texts of each of the first `most` rows, joined into one string."""
    return [" ".join(map(str, row)) for row in table.rows[_texts(table)].head(most).itertuples(index=False)]


def _similar(table: Table) -> Iterator[tuple[str, str]]:
    """The number of rows that are near-duplicates of an earlier row, and where the first one is."""
    texts = _joined(table, NEAR)
    later = {pair.second: pair for pair in reversed(near_duplicates(texts)) if texts[pair.first] != texts[pair.second]}
    first = later[min(later)] if later else None
    places = table.rows.index
    where = f", the first: {places[first.second]}, like {places[first.first]}" if first else ""
    most = f" of the first {NEAR:,}" if len(table.rows) > NEAR else ""
    yield "similar", f"{len(later):,}{most} (rows whose words are nearly those of an earlier row{where})"


def _similar_after_split(tables: dict[str, Table]) -> Iterator[tuple[str, str]]:
    """The number of validation and test rows that nearly equal a training row, split as a lesson would split."""
    rows, _ = split_labelled(tables, 0)
    tenth = NEAR // 10  # as many rows of each as a split has of NEAR rows
    texts = {split: rows[split][0][: NEAR - 2 * tenth if split == "train" else tenth] for split in rows}
    similar = similar_across(texts)
    for split in ("validation", "test"):
        near = similar["train", split]
        advice = ": a score there is too good; split by what they have in common" if near else ""
        yield "split", f"{len(near):,} of {len(texts[split]):,} rows of {split} are nearly a row of train{advice}"


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


def _lengths(role: str, texts: pandas.Series, ids: list[list[int]], limit: int | None) -> Iterator[tuple[str, str]]:
    """Token counts: '3 to 900, median 80, 95 of 100 up to 210; 4.1 % have more than 256, and are cut there'.

    limit: the length at which texts are truncated; None if they are not.
    """
    counts = list(map(len, ids))
    shortest, median, high, longest = numpy.percentile(counts, (0, 50, 95, 100), method="lower")
    said = f"{role}: {shortest:,} to {longest:,}, median {median:,}, 95 of 100 up to {high:,}"
    if limit is not None:
        long = [place for place, count in zip(texts.index, counts, strict=True) if count > limit]
        where = f" (such as {long[0]})" if long else ""
        said += f"; {100 * len(long) / len(counts):.1f} % have more than {limit}, and are cut there{where}"
    yield "tokens", said
