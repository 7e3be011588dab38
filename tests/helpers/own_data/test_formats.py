"""What can be wrong with a file: one sentence each that says what and where, and no row is lost in silence."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pandas
import pytest

from helpers.own_data import load_columns, load_labelled, notes
from helpers.own_data.request import Request
from helpers.own_data.table import read
from helpers.runtime import UserError

ROWS = [(f"Review number {row}, it was fine.", "good" if row % 3 else "bad") for row in range(60)]


def csv(*rows: str, header: str = "text,label") -> str:
    return "\n".join([header, *(f"{text},{label}".replace(", it", " it") for text, label in ROWS), *rows]) + "\n"


def said(data: object) -> str:
    return refused(load_labelled, data, 0)


def one_sentence(error: UserError) -> str:
    assert "\n" not in str(error) and str(error).endswith((".", "?"))
    return str(error)


def refused(function, *arguments: object) -> str:
    with pytest.raises(UserError) as problem:
        function(*arguments)
    return one_sentence(problem.value)


def texts_of(data: object) -> list[str]:
    return sorted(text for rows in load_labelled(data, seed=0).values() for text in rows["text"])


def test_another_encoding_is_named_with_its_line_and_its_fix(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(csv("Un café noir,good").encode("latin-1"))
    found = said(path)
    assert "line 62 is not UTF-8 (byte 0xe9)" in found and f'data="{path}?encoding=cp1252"' in found
    for encoding in ("latin-1", "cp1252"):
        assert "Un café noir" in texts_of(f"{path}?encoding={encoding}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, encoding):
    path = tmp_path / "mine.csv"
    path.write_text(csv("Un café noir,good"), encoding=encoding)
    assert "Un café noir" in texts_of(path)
    lines = tmp_path / "mine.jsonl"
    lines.write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in ROWS), encoding=encoding)
    assert texts_of(lines) == sorted(text for text, _ in ROWS)


def test_windows_line_ends_are_no_part_of_a_label(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(csv().replace("\n", "\r\n").encode())
    assert load_labelled(path, 0)["train"].features["label"].names == ["bad", "good"]


def test_quotes_commas_and_new_lines_inside_a_field(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(csv('"He said ""no"", twice,\r\n\nand left.",good'), newline="")
    assert 'He said "no", twice,\r\n\nand left.' in texts_of(path)
    assert len(texts_of(path)) == 61


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_seen(tmp_path, separator):
    path = tmp_path / "mine.csv"
    path.write_text(csv().replace(",", separator))
    assert len(texts_of(path)) == 60


def test_a_quote_that_is_never_closed_would_swallow_the_rest(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(csv('"no end,good', *["more,bad"] * 50))
    assert "line 62 opens a quote that is never closed" in said(f"{path}?bad=skip")


def test_rows_with_too_many_or_few_fields_are_counted(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(csv("one, two,good", "three", ",good", "four,"))
    found = said(path)
    assert "1 of 64 rows has no text (the first: line 64)" in found
    assert "1 of 64 rows has no label (the first: line 65)" in found
    assert "2 cannot be read (the first: line 62, 3 fields, where the first line names 2; a text" in found
    kept = load_labelled(f"{path}?bad=skip", 0)
    assert sum(map(len, kept.values())) == 60 and "left out: 4 of mine.csv" in notes(kept)


def test_lines_that_are_no_json_are_counted(tmp_path):
    path = tmp_path / "mine.jsonl"
    good = [json.dumps({"text": text, "label": name}) for text, name in ROWS]
    bad = ["{", "[1]", '{"text": ["a"], "label": "good"}', '{"text": "\\ud800", "label": "bad"}', '{"label": "bad"}']
    path.write_text("\n".join([*good, *bad]))
    found = said(path)
    assert "4 cannot be read (the first: line 61" in found and "1 of 65 rows has no text (the first: line 65)" in found
    table = read(Request.of(f"{path}?bad=skip"), ("text", "label"))
    assert (len(table.rows), len(table.problems), table.total) == (60, 5, 65)


@pytest.mark.parametrize("nothing", [None, float("nan"), "", " "])
def test_null_labels_are_counted_and_never_a_class(tmp_path, nothing):
    rows = [{"text": text, "label": name} for text, name in ROWS] + [{"text": "what?", "label": nothing}] * 2
    frame = pandas.DataFrame(rows, dtype=object)
    for path in (tmp_path / "mine.jsonl", tmp_path / "mine.json", tmp_path / "mine.parquet", tmp_path / "mine.csv"):
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
        elif path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            path.write_text(json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)))
        assert "2 of 62 rows have no label" in said(path)
        assert load_labelled(f"{path}?bad=skip", 0)["train"].features["label"].names == ["bad", "good"]


def test_words_that_mean_nothing_elsewhere_are_labels_here(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(csv("a,NA", "b,NA", "c,NA"))
    assert load_labelled(path, 0)["train"].features["label"].names == ["NA", "bad", "good"]


def test_ten_thousand_columns(tmp_path):
    names = [f"feature_{number}" for number in range(10_000)]
    path = tmp_path / "wide.csv"
    rows = [",".join([*("0" * 10_000), text.replace(",", " "), name]) for text, name in ROWS]
    path.write_text("\n".join([",".join([*names, "Review", "Sentiment"]), *rows]))
    assert len(texts_of(path)) == 60
    path.write_text(",".join(names) + "\n" + ",".join("0" * 10_000))
    found = said(path)
    assert "no column text" in found and "and 9,992 more" in found and len(found) < 500


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_line_of_200_megabytes_is_refused_before_it_fills_the_memory(tmp_path, ending):
    path = tmp_path / f"mine{ending}"
    start = {".csv": b'text,label\nshort,good\n"', ".jsonl": b'{"text": "short", "label": "good"}\n{"text": "'}[ending]
    with path.open("wb") as file:
        file.write(start)
        for _ in range(200):
            file.write(b"word " * 200_000)
    tracemalloc.start()
    found = said(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    path.unlink()
    line = 3 if ending == ".csv" else 2
    assert f"line {line} is longer than 10 million characters" in found and peak < 50_000_000


def test_a_field_of_many_lines_is_bounded_too(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text('text,label\n"' + "many short lines\n" * 700_000)
    assert "line 2 opens a quote that is never closed" in said(path)


def test_a_spreadsheet_under_another_name(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(b"PK\x03\x04\x14\0\x06\0\xff\xfe" * 50)
    assert "mine.csv is no text file, whatever its ending says" in said(path)


def test_a_column_that_stands_twice(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("text,text,label\na,b,good\n")
    assert 'the column "text" more than once' in said(path)


def test_numbers_to_predict_are_no_classes(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("text,price\n" + "\n".join(f"a house {n},{n}.5" for n in range(100)))
    assert "100 different values in 100 rows" in said(f"{path}?label=price")


def test_a_label_that_train_never_saw(tmp_path):
    (tmp_path / "train.csv").write_text(csv())
    (tmp_path / "test.csv").write_text("text,label\na,good\nb,strange\nc,strange\n")
    found = said(tmp_path)
    assert "test.csv has 2 row(s) with the label 'strange', which no row of train.csv has" in found


@pytest.mark.parametrize("denied", ["the file", "the folder"])
def test_a_path_out_of_reach(tmp_path, monkeypatch, denied):
    """The tests may run as a user to whom nothing is forbidden, so the system's answer is played."""
    path = tmp_path / "mine.csv"
    path.write_text(csv())

    def refuse(*_, **__):
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "open" if denied == "the file" else "stat", refuse)
    assert f"{path} cannot be read (permission denied)" in said(path)


def test_what_comes_after_the_question_mark(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(csv(header="Body of it,Stars"))
    assert "no column text" in said(path)
    assert len(texts_of(f"{path}?text=Body of it&label=Stars")) == 60
    assert len(texts_of(f"{path}?text=Body%20of%20it&label=Stars")) == 60
    assert 'Did you mean "Stars"' in said(f"{path}?text=Body of it&label=Star")
    assert 'not "labels". Did you mean "label"?' in refused(Request.of, "a.csv?labels=b")
    for wrong, word in (("?", "understood"), ("?text=", "no value"), ("?bad=ok", "skip"), ("?encoding=x", "latin-1")):
        assert word in refused(Request.of, f"a.csv{wrong}")


ASK = ("prompt", "completion")


def test_prompts_and_pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"Instruction": "Hi?", "chosen": "Hello.", "rejected": "No."}) + "\n")
    found = load_columns(path, ("prompt", "chosen", "rejected"))
    assert found[0] == {"prompt": "Hi?", "chosen": "Hello.", "rejected": "No."}
    assert 'prompt from "Instruction" (guessed)' in notes(found)
    assert "lessons 05 and 06 take; this needs prompt and completion" in refused(load_columns, path, ASK)


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("plain.csv", csv().encode(), "?encoding=utf-16", "is not UTF-16"),
        ("plain.csv", csv().encode(), "?encoding=rot13", 'there is no encoding "rot13"'),
        ("list.jsonl", json.dumps([{"text": "a", "label": 1}], indent=1).encode(), "", "line 1: not valid JSON"),
        ("~$open.csv", None, "", "there is no file"),
        ("~nobody-of-that-name/open.csv", None, "", "there is no file"),
    ],
)
def test_files_that_are_something_else(tmp_path, monkeypatch, name, content, options, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    assert words in said(f"{name}{options}")


def test_an_encoding_that_was_said_may_have_a_mark(tmp_path):
    path = tmp_path / "marked.csv"
    path.write_text(csv(), encoding="utf-8-sig")
    assert load_labelled(f"{path}?encoding=utf-8", 0)["train"].column_names[0] == "text"
