"""Conversations as people have them: each becomes a question and an answer, or is refused in a sentence."""

from __future__ import annotations

import json

import pytest

from helpers.own_data import load_columns, load_labelled
from helpers.own_data.columns import KINDS
from helpers.runtime import UserError

ASK, PAIR = KINDS["instructions"], KINDS["preferences"]


def turn(text, role="user", who="role", said="content"):
    return {who: role, said: text}


SHARE = ("from", "value")
Q, A, B = turn("Where?"), turn("Here.", "assistant"), turn("No.", "assistant")
ANSWERED = {"prompt": "Where?", "completion": "Here."}
PREFERRED = {"prompt": "Where?", "chosen": "Here.", "rejected": "No."}
HH = "\n\nHuman: Where?\n\nAssistant: {}"


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [Q, A]}, ANSWERED),
        ({"conversations": [turn("Where?", "human", *SHARE), turn("Here.", "gpt", *SHARE)]}, ANSWERED),
        ({"conversation": [Q, A]}, ANSWERED),
        ({"dialogue": [turn("Where?", "User"), turn("Here.", "Assistant")]}, ANSWERED),
        ({"messages": [turn("Where?", "prompter"), turn("Here.", "bot")]}, ANSWERED),
        ({"messages": [turn("Short!", "system"), Q, A]}, ANSWERED | {"prompt": "Short!\nWhere?"}),
        ({"messages": [turn([{"type": "text", "text": "Where?"}]), A]}, ANSWERED),
        ({"messages": [turn([{"type": "text", "text": "Look."}, {"type": "text", "text": "Where?"}]), A]},
         ANSWERED | {"prompt": "Look.\nWhere?"}),
        ({"messages": json.dumps([Q, A])}, ANSWERED),
        ({"id": 7, "messages": [Q, A], "score": 1}, ANSWERED),
        ({"prompt": [Q], "completion": [A]}, ANSWERED),
        ({"instruction": "Where?", "input": "", "output": "Here."}, ANSWERED),
        ({"instruction": "Answer.", "input": "Where?", "output": "Here."}, ANSWERED | {"prompt": "Answer.\nWhere?"}),
        ({"instruction": "Do.", "context": "Where?", "response": "Here."}, ANSWERED | {"prompt": "Do.\nWhere?"}),
        ({"instruction": "Where?", "output": "Here."}, ANSWERED),
        ({"prompt": "[{not a list}]", "completion": "Here."}, {"prompt": "[{not a list}]", "completion": "Here."}),
    ],
)  # fmt: skip
def test_instructions(tmp_path, row, expected):
    assert load_columns(lines(tmp_path / "mine.jsonl", row), ASK)[0] == expected


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Where?", "chosen": "Here.", "rejected": "No."},
        {"prompt": "Where?", "chosen": [A], "rejected": [B]},
        {"prompt": [Q], "chosen": [A], "rejected": [B]},
        {"prompt": "Where?", "chosen": [Q, A], "rejected": [Q, B]},
        {"chosen": [Q, A], "rejected": [Q, B]},
        {"chosen": HH.format("Here."), "rejected": HH.format("No.")},
        {"prompt": "Where?", "chosen": [A], "rejected": "No."},
        {"question": "Where?", "response_chosen": "Here.", "response_rejected": "No."},
    ],
)
def test_preferences(tmp_path, row):
    assert load_columns(lines(tmp_path / "mine.jsonl", row), PAIR)[0] == PREFERRED


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([Q, A, Q, A], "has 4 messages, where a lesson reads one question and one answer"),
        ([Q, A, B], "has 3 messages, where a lesson reads one question and one answer"),
        ([A, Q], "has its answer before its question"),
        ([Q, turn("{}", "tool"), A],
         'has a message of "tool", where a lesson reads those of system, user and assistant'),
        ([Q, turn(None, "assistant")],
         'has a message of "assistant" that is no text, such as an image or the call of a tool'),
        ([turn([{"type": "image"}]), A],
         'has a message of "user" that is no text, such as an image or the call of a tool'),
    ],
)  # fmt: skip
def test_conversations_that_no_lesson_reads(tmp_path, turns, why):
    path = lines(tmp_path / "mine.jsonl", {"messages": [Q, A]}, {"messages": turns})
    with pytest.raises(UserError) as problem:
        load_columns(path, ASK)
    assert str(problem.value) == (
        f"data: in mine.jsonl 1 cannot be read (the first: line 2, its prompt {why}); correct or remove them, or leave "
        f'them out: data="{path}?bad=skip".'
    )
    assert len(load_columns(f"{path}?bad=skip", ASK)) == 1


def test_a_question_without_an_answer_has_no_prompt(tmp_path):
    path = lines(tmp_path / "mine.jsonl", {"messages": [Q, A]}, {"messages": [Q]})
    with pytest.raises(UserError, match=r"1 of 2 rows has no prompt \(the first: line 2\)"):
        load_columns(path, ASK)


def test_pairs_about_two_questions(tmp_path):
    path = lines(tmp_path / "mine.jsonl", {"chosen": [Q, A], "rejected": [turn("When?"), B]})
    with pytest.raises(UserError, match="line 1, its prompt has one question in chosen and another in rejected"):
        load_columns(path, PAIR)


NO_CHAT = (
    'data: the column "messages" of mine.jsonl holds no conversation that a lesson reads; each row needs a list like '
    '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}].'
)
NO_PROMPT = (
    "data: mine.jsonl has chosen and rejected and no prompt; give each row a prompt, or begin both answers with the "
    'same question, as messages or as "Human: ... Assistant: ...".'
)
HOLDS = "data: mine.jsonl holds {}; this needs {}."
INSTRUCTIONS = "instructions (prompt, completion), which lesson 04 takes"
PREFERENCES = "preferences (prompt, chosen, rejected), which lessons 05 and 06 take"


@pytest.mark.parametrize(
    ("row", "roles", "sentence"),
    [
        ({"messages": [Q, A]}, ("text", "label"), HOLDS.format(INSTRUCTIONS, "text and label")),
        ({"messages": [Q, A]}, ("text",), HOLDS.format(INSTRUCTIONS, "text")),
        ({"messages": [Q, A]}, PAIR, HOLDS.format(INSTRUCTIONS, "prompt and chosen and rejected")),
        ({"conversations": [Q, A]}, ("text", "label"), HOLDS.format(INSTRUCTIONS, "text and label")),
        ({"instruction": "a", "output": "c"}, ("text", "label"), HOLDS.format(INSTRUCTIONS, "text and label")),
        ({"chosen": [Q, A], "rejected": [Q, B]}, ("text", "label"), HOLDS.format(PREFERENCES, "text and label")),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, ASK, HOLDS.format(PREFERENCES, "prompt and completion")),
        ({"messages": ["Where?", "Here."]}, ASK, NO_CHAT),
        ({"messages": []}, ASK, NO_CHAT),
        ({"messages": [{"a": 1}]}, ASK, NO_CHAT),
        ({"messages": "Where?"}, ("text", "label"), NO_CHAT),
        ({"chosen": "Where? Here.", "rejected": "Where? No."}, PAIR, NO_PROMPT),
    ],
)  # fmt: skip
def test_no_chat_file_is_told_to_name_its_text(tmp_path, row, roles, sentence):
    path = lines(tmp_path / "mine.jsonl", row)
    load = load_labelled if "label" in roles else load_columns
    with pytest.raises(UserError) as problem:
        load(path, 0 if "label" in roles else roles)
    assert str(problem.value) == sentence
