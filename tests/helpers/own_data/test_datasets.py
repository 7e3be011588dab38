"""A learner's own files: every form, every split, and every way of being wrong."""

import json

import pandas
import pytest

from helpers import catalog
from helpers.own_data import load_columns, load_labelled, notes
from helpers.runtime import UserError

ROWS = [{"text": f"Review number {row}, it was fine.", "label": "good" if row % 3 else "bad"} for row in range(60)]


def write(path, rows):
    frame = pandas.DataFrame(rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


def said(path):
    with pytest.raises(UserError) as problem:
        load_labelled(path, seed=0)
    assert "\n" not in str(problem.value)
    return str(problem.value)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".parquet"])
def test_each_form_gives_the_same_splits(tmp_path, ending):
    found = load_labelled(write(tmp_path / f"mine{ending}", ROWS), seed=0)
    assert {part: len(rows) for part, rows in found.items()} == {"train": 48, "validation": 6, "test": 6}
    assert found["train"].features["label"].names == ["bad", "good"]
    texts = [text for rows in found.values() for text in rows["text"]]
    assert sorted(texts) == sorted(row["text"] for row in ROWS)
    assert all(set(rows["label"]) == {0, 1} for rows in found.values())


def test_json_lines_may_be_called_json(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert len(load_labelled(path, seed=0)["train"]) == 48


def test_the_seed_decides_the_split(tmp_path):
    path = write(tmp_path / "mine.csv", ROWS)
    assert load_labelled(path, 1)["test"]["text"] == load_labelled(path, 1)["test"]["text"]
    assert load_labelled(path, 1)["test"]["text"] != load_labelled(path, 2)["test"]["text"]


def test_numbers_as_labels_keep_their_order(tmp_path):
    rows = [{"text": f"a b {row}", "label": (2, 10, 1)[row % 3]} for row in range(30)]
    found = load_labelled(write(tmp_path / "mine.csv", rows), 0)
    assert found["train"].features["label"].names == ["1", "2", "10"]


def test_missing_file(tmp_path):
    assert "there is no file" in said(tmp_path / "nowhere.csv")


def test_unsupported_ending(tmp_path):
    (tmp_path / "mine.xlsx").write_text("x")
    assert ".xlsx" in said(tmp_path / "mine.xlsx") and ".parquet" in said(tmp_path / "mine.xlsx")


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_empty_file(tmp_path, ending):
    path = tmp_path / f"mine{ending}"
    path.write_text("")
    assert "is empty" in said(path)


def test_header_alone(tmp_path):
    (tmp_path / "mine.csv").write_text("text,label\n")
    assert "is empty" in said(tmp_path / "mine.csv")


@pytest.mark.parametrize("missing", ["text", "label"])
def test_missing_column(tmp_path, missing):
    rows = [{("other" if name == missing else name): value for name, value in row.items()} for row in ROWS]
    found = said(write(tmp_path / "mine.csv", rows))
    assert f"no column {missing}" in found and "other" in found


def test_a_row_without_text(tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[4]["text"] = "  "
    assert "1 of 60 rows has no text (the first: line 5)" in said(write(tmp_path / "mine.jsonl", rows))


def test_one_class_only(tmp_path):
    rows = [dict(row, label="good") for row in ROWS]
    assert "at least two classes" in said(write(tmp_path / "mine.csv", rows))


def test_a_class_with_too_few_rows(tmp_path):
    rows = [*ROWS, {"text": "odd one out", "label": "strange"}]
    assert "'strange'" in said(write(tmp_path / "mine.csv", rows))


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_unreadable_file(tmp_path, ending):
    path = tmp_path / f"mine{ending}"
    path.write_bytes(b'{"text": \xff\xfe"')
    assert "mine" in said(path)


def test_rows_of_keeps_text_in_order(tmp_path):
    rows = load_columns(write(tmp_path / "mine.csv", ROWS), ("text",))
    assert rows.column_names == ["text"] and rows["text"][1] == ROWS[1]["text"]


def test_a_lesson_says_once_what_it_read(tmp_path, capsys):
    rows = [{"Body": row["text"], "Stars": row["label"]} for row in ROWS]
    data = f"{write(tmp_path / 'told.csv', rows)}?text=Body"
    for _ in range(2):
        found = catalog.dataset("reviews", "pocket", data, seed=0)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said == notes(found) + "\n"
    assert 'text from "Body", label from "Stars" (guessed); 60 rows, 2 classes (bad 20, good 40)' in said
    assert "48 for train, 6 for validation, 6 for test" in said
