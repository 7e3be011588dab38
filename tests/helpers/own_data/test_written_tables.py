"""Random tables, written by Python's `csv` and by pandas: every row is read back as it was, or refused by its place."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pandas
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.own_data.datasets import class_names
from helpers.own_data.request import Request
from helpers.own_data.table import read
from helpers.runtime import UserError

SEPARATORS = {",": ",", ";": ";", "\t": "tab", "|": "|"}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252")
LABELS = ("good", "bad", "Good", " bad ", "1", "1.0", "01", "1.10", "NaN", "None", "yes, no", 'a "b"', "ü")
# Signs that a table can trip over, words, and what Windows' encoding holds too.
PIECES = st.sampled_from(
    ["good", "a film", '"', '""', "'", ",", ";", "\t", "|", "\n", "\r\n", " ", "\\", "é", "ü", "NA", "0", "#", "=1"]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)
ROWS = st.lists(st.tuples(TEXTS, st.one_of(st.sampled_from(LABELS), st.just(""))), min_size=1, max_size=12)


def normal(text: str) -> str:
    """A text whose line ends do not count: Windows has others."""
    return text.replace("\r\n", "\n")


def check_read_back(content: bytes, suffix: str, options: str, rows: list[tuple[str, str]]) -> None:
    """Every row that has text and label comes back; every other one is refused, none is lost."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mine{suffix}"
        path.write_bytes(content)
        table = read(Request.of(f"{path}{options}"), ("text", "label"))
    whole = [(normal(text), label.strip()) for text, label in rows if text.strip() and label.strip()]
    assert [(normal(text), name) for text, name in zip(table.rows["text"], class_names(table), strict=True)] == whole
    # A line without anything is no row: csv writes none, since two empty fields leave their separator.
    assert table.total == len(rows) and len(table.problems) == len(rows) - len(whole)
    assert set(table.problems.values()) <= {"no text", "no label"}
    places = [int(place.removeprefix("line ").removeprefix("row ")) for place in [*table.rows.index, *table.problems]]
    assert len(set(places)) == len(rows)


@settings(max_examples=150, deadline=None)
@given(
    rows=ROWS,
    separator=st.sampled_from(list(SEPARATORS)),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_pythons_csv_writes(rows, separator, encoding, end, quoting):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerows([("text", "label"), *rows])
    options = f"?sep={SEPARATORS[separator]}&encoding={encoding}"
    check_read_back(file.getvalue().encode(encoding), ".csv", options, rows)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, separator=st.sampled_from(list(SEPARATORS)), encoding=st.sampled_from(ENCODINGS[:3]))
def test_what_pandas_writes(rows, separator, encoding):
    frame = pandas.DataFrame(rows, columns=["text", "label"])
    content = frame.to_csv(index=False, sep=separator).encode(encoding)
    # A byte-order mark says which encoding it is.
    check_read_back(content, ".csv", f"?sep={SEPARATORS[separator]}", rows)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, form=st.sampled_from([".jsonl", ".json", ".parquet"]))
def test_what_pandas_writes_in_other_formats(rows, form):
    frame = pandas.DataFrame(rows, columns=["text", "label"])
    if form == ".parquet":
        content = frame.to_parquet(index=False)
    else:
        content = frame.to_json(orient="records", lines=form == ".jsonl", force_ascii=False).encode()
    check_read_back(content, form, "", rows)


PLAIN = st.lists(st.tuples(st.sampled_from(["good", "a film", "é"]), st.sampled_from(["1", "2"])), max_size=12)


@settings(max_examples=150, deadline=None)
@given(before=PLAIN, raw=TEXTS, after=PLAIN, separator=st.sampled_from(list(SEPARATORS)))
def test_a_line_that_nobody_quoted_is_never_lost_in_silence(before, raw, after, separator):
    """One line of raw text, with quotes and separators as they come, among rows that need no quotes."""
    raw = raw.replace("\r", " ").replace("\n", " ").strip() or '"'
    lines = [f"text{separator}label", *(separator.join(row) for row in [*before, (raw, "1"), *after])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.csv"
        path.write_text("\n".join(lines) + "\n")
        try:
            table = read(Request.of(f"{path}?sep={SEPARATORS[separator]}"), ("text", "label"))
        except UserError as error:
            assert f"line {len(before) + 2} opens a quote" in str(error)
            return
    assert table.total == len(lines) - 1
    assert set(table.problems) <= {f"line {len(before) + 2}"}


def test_a_refused_row_names_the_lines_that_a_quote_glued_to_it(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text('text,label\n",good,good\n",good",\n')
    table = read(Request.of(path), ("text", "label"))
    wanted = "3 fields, where the first line names 2; it runs on to line 3, so check its quotes"
    assert table.problems == {"line 2": wanted}
