"""Conversations as plain text: chat messages, ShareGPT turns and Alpaca's input become a question and an answer."""

from __future__ import annotations

import re
from typing import NamedTuple

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant"}
TRANSCRIPT = re.compile(r"\s*Human:(.*?)Assistant:(.*)", re.DOTALL)
QUESTION = ": question"  # the ending of a column's name that holds the question of its conversation
JOINED = "instruction + "  # the beginning of one that joins what an instruction is about
PAIR = ("chosen", "rejected")  # columns that may hold a transcript
INPUTS = ("input", "context")  # as Alpaca and Dolly call that


def is_derived(column: str) -> bool:
    """Whether `as_text` made this column."""
    return column.endswith(QUESTION) or column.startswith(JOINED)


class Conversation(NamedTuple):
    """One with more than a question and an answer, by its number of messages: a lesson cannot read it."""

    messages: int


def as_text(values: dict[str, object]) -> dict[str, object]:
    """A row with the answer in place of every conversation, or a `Conversation` if it is longer.

    The question becomes a column "messages: question"; "instruction + input" joins two columns.
    """
    found = dict(values)
    for name, value in values.items():
        turns = _transcript(value) if name in PAIR and isinstance(value, str) else _messages(value)
        questions, answers = ([text for speaker, text in turns if speaker == who] for who in ("user", "assistant"))
        if len(questions) > 1 or len(answers) > 1:
            found[name] = found[name + QUESTION] = Conversation(len(turns))
        elif turns:
            found[name] = answers[0] if answers else "\n".join(questions)
        if len(questions) == len(answers) == 1:
            found[name + QUESTION] = "\n".join(text for speaker, text in turns if speaker != "assistant")
    for name in INPUTS:
        if isinstance(values.get("instruction"), str) and name in values:
            found[JOINED + name] = f"{values['instruction']}\n{values[name] or ''}".strip()
    return found


def _messages(value: object) -> list[tuple[str, str]]:
    """(speaker, text) of a list of messages; empty for any other value."""
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return []
    pairs = [(turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))) for turn in value]
    return [(SPEAKERS.get(str(role), str(role)), text) for role, text in pairs if isinstance(text, str)]


def _transcript(text: str) -> list[tuple[str, str]]:
    """(speaker, text) of "Human: ... Assistant: ..."; empty for any other text."""
    said = TRANSCRIPT.fullmatch(text)
    if not said:
        return []
    answers = re.split(r"\n\s*(?:Human|Assistant):", said[2])
    return [("user", said[1].strip()), *(("assistant", answer.strip()) for answer in answers)]
