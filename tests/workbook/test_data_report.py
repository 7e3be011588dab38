"""`workbook data check`: everything is counted, and the exit status says whether a lesson can use the data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers import catalog
from helpers.own_data import load_columns, notes
from helpers.own_data.columns import KINDS, LESSONS
from helpers.reward_model import preference_rows
from helpers.runtime import UserError
from helpers.sft import encode_rows
from workbook.cli import main

ROOT = Path(__file__).resolve().parents[2]
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


STORY = "the {} walked to the mill in the fog and came home late with two {} and a {}"


def test_rows_that_are_nearly_the_same(tmp_path, check):
    names = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet"]
    others = [(f"{name} has nothing in common {row} with {name}{row} at all", "yes") for row, name in enumerate(names)]
    near = [(STORY.format("baker", "loaves", word), "no") for word in ("bear", "bird", "boat")]
    train = write(tmp_path / "train.csv", [*near, *others])
    test = write(tmp_path / "test.csv", [(STORY.format("baker", "loaves", "bell"), "no"), ("new words here", "yes")])
    status, said = check(train, test)
    assert (
        status == 0 and "similar     2 (rows whose words are nearly those of an earlier row, the first: line 3" in said
    )
    assert "1 of 2 rows of test are nearly a row of train: a score there is too good" in said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
            '"messages" is a',
        ),
        (
            {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
            '"conversations" is',
        ),
        ({"instruction": "Answer.", "input": "Why?", "output": "So."}, '"instruction" + "input", with a line end'),
    ],
)
def test_the_report_says_how_conversations_were_understood(tmp_path, check, row, said):
    path = tmp_path / "talk.jsonl"
    path.write_text("\n".join(json.dumps(row) for _ in range(3)))
    status, report = check(path)
    assert status == 0 and "understood  " in report and said in report
    found = load_columns(path, ("prompt", "completion"))
    assert said in notes(found)


def test_one_class_only(tmp_path, check):
    status, said = check(write(tmp_path / "mine.csv", [(text, "yes") for text, _ in GOOD]))
    assert status == 1 and "needs at least two classes" in said


def test_pairs_with_nothing_to_choose(tmp_path, check):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "b"}) + "\n")
    status, said = check(path)
    assert status == 1 and "preferences: prompt from" in said
    assert "1 of 1 rows has the same chosen and rejected answer (the first: line 1)" in said


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n"], ids=["missing", "empty", "other columns"])
def test_what_cannot_be_read_at_all_is_one_sentence(tmp_path, check, content):
    if content is not None:
        (tmp_path / "mine.csv").write_text(content)
    status, said = check(tmp_path / "mine.csv")
    assert status == 1 and said.startswith("Error: data: ") and said.count("\n") == 1


def test_help_shows_how(check):
    status, said = check("--help")
    assert status == 0 and "workbook data check reviews.csv" in said and "--model" in said


PAIR = {"prompt": "Be kind.", "chosen": "A good film.", "rejected": "A bad film."}
ASK = {"prompt": "Who made it?", "completion": "Ann Lee."}
LONG = "a good film " * 300


@pytest.mark.parametrize(
    ("rows", "problem", "columns"),
    [
        (
            [ASK, ASK | {"prompt": LONG}],
            "1 of 2 rows is too long (the first: line 2, its prompt takes",
            ("prompt", "completion"),
        ),
        (
            [ASK, ASK, ASK | {"completion": LONG}],
            "1 of 3 rows is too long (the first: line 3, prompt and completion take",
            ("prompt", "completion"),
        ),
        (
            [PAIR, PAIR | {"rejected": LONG}, PAIR | {"prompt": LONG}],
            "2 of 3 rows are too long (the first: line 2, prompt and rejected take",
            ("prompt", "chosen", "rejected"),
        ),
        (
            [PAIR, PAIR | {"rejected": " A good film. "}],
            "1 of 2 rows has the same chosen and rejected answer (the first: line 2)",
            ("prompt", "chosen", "rejected"),
        ),
    ],
)
def test_check_and_lesson_refuse_and_skip_the_same_rows(tmp_path, check, rows, problem, columns):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = catalog.tokenizer("instruct", "pocket")
    status, said = check(path)
    assert status == 1 and problem in said
    with pytest.raises(UserError) as error:
        load_columns(path, columns, tokenizer)
    assert problem in str(error.value) and f'leave them out: data="{path}?bad=skip"' in str(error.value)
    assert str(error.value).removeprefix("data: ") in said
    status, said = check(f"{path}?bad=skip")
    assert status == 0 and problem in said
    kept = load_columns(f"{path}?bad=skip", columns, tokenizer)
    assert problem in notes(kept)
    if "chosen" in columns:
        assert len(preference_rows(tokenizer, kept)) == len(kept) >= 1
    else:
        assert len(encode_rows(tokenizer, kept)) == len(kept) >= 1


@pytest.mark.parametrize(
    ("content", "status", "expected"),
    [
        ('{"text": "short"}\n' * 3, 1, "tokens are too few: one row takes 64 tokens. Use more texts, or longer ones."),
        ('{"text": "short"}\n', 1, "0 texts with 0 tokens are too few"),
        (json.dumps({"text": LONG}) + "\n" + json.dumps({"text": LONG}) + "\n", 0, "in the parameters of lesson 01"),
        (
            json.dumps({"text": LONG}) + "\n" + json.dumps({"text": LONG}) + "\n",
            0,
            "and are cut there (such as line 1)",
        ),
        (json.dumps(ASK) + "\n", 0, "in the parameters of lesson 04, write"),
        (json.dumps(PAIR) + "\n", 0, "in the parameters of lessons 05 or 06, write"),
    ],
)
def test_which_lessons_take_a_file(tmp_path, check, content, status, expected):
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    found, said = check(path)
    assert found == status and expected in said, said


def test_texts_in_a_script_without_spaces(tmp_path, check):
    rows = [
        (f"这部电影第{row}部非常好看", "好") if row % 2 else (f"我不喜欢这第{row}个故事", "坏") for row in range(40)
    ]
    path = write(tmp_path / "mine.csv", rows, "text,label")
    status, said = check(path)
    assert status == 0
    assert "40 (the first: line 2) have no spaces between words, so the bag of words counts characters" in said
    assert "40 (the first: line 2) consist mostly of tokens that the model does not know" in said


def test_the_lessons_named_are_those_that_take_such_data():
    sources = sorted((ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py"))
    taking = {path.name[:2] for path in sources if re.search(r'^data = ""', path.read_text(), re.MULTILINE)}
    assert set().union(*LESSONS.values()) == taking and list(LESSONS) == list(KINDS)
