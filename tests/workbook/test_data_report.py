"""`workbook data check`: everything is counted, and the exit status says whether a lesson can use the data."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from workbook.cli import main

GOOD = [(f"the film number {row} was good", "yes" if row % 2 else "no") for row in range(40)]


@pytest.fixture
def check(monkeypatch):
    def run(*files, **options):
        result = CliRunner().invoke(main, ["data", "check", *map(str, files)], **options)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return run


def write(path, rows, header="Body,Stars"):
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def test_a_file_that_can_be_used(tmp_path, check):
    path = write(tmp_path / "mine.csv", [*GOOD, GOOD[0]])
    status, said = check(f"{path}?label=Stars")
    assert status == 0
    for words in (
        "41, of which 0 cannot be used",
        '2: "Body", "Stars"',
        'labelled texts: text from "Body" (guessed), label from "Stars"',
        "1 (rows whose texts stood there before",
        "2: no 21 (51.2 %), yes 20 (48.8 %)",
        "text: 8 to ",
        f'write data = "{path}?label=Stars"',
    ):
        assert words in said, said


def test_unusable_rows_fail_and_are_named(tmp_path, check):
    path = write(tmp_path / "mine.csv", [*GOOD, ("", "yes"), ("a", "b", "c"), ("Yes it was", "Yes")])
    status, said = check(path)
    assert status == 1 and "These data cannot be used yet" in said
    assert "1 of 43 rows has no text (the first: line 42)" in said and "line 43, 3 fields" in said
    assert "'Yes' and 'yes' may be one, written in two ways" in said
    assert "1 different text(s) with the label 'Yes'" in said


def test_rows_that_two_parts_share(tmp_path, check):
    train, test = write(tmp_path / "train.csv", GOOD), write(tmp_path / "test.csv", [GOOD[3], ("new", "yes")])
    for files in ([train, test], [tmp_path]):
        status, said = check(*files)
        assert status == 0 and "1 (rows of test that train has too): a score there" in said


def test_one_class_only(tmp_path, check):
    status, said = check(write(tmp_path / "mine.csv", [(text, "yes") for text, _ in GOOD]))
    assert status == 1 and "needs at least two classes" in said


def test_pairs_with_nothing_to_choose(tmp_path, check):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "b"}) + "\n")
    status, said = check(path)
    assert status == 0 and "preferences: prompt from" in said and "1 rows have the same text as chosen" in said


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n"], ids=["missing", "empty", "other columns"])
def test_what_cannot_be_read_at_all_is_one_sentence(tmp_path, check, content):
    if content is not None:
        (tmp_path / "mine.csv").write_text(content)
    status, said = check(tmp_path / "mine.csv")
    assert status == 1 and said.startswith("Error: data: ") and said.count("\n") == 1


def test_help_shows_how(check):
    status, said = check("--help")
    assert status == 0 and "workbook data check reviews.csv" in said and "--model" in said
