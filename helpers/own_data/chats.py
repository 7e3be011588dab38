"""Converts chat messages, ShareGPT turns and Alpaca's inputs to a question and an answer in plain text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

SPEAKERS = {
    "system": "system", "developer": "system",
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "assistant": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "ai": "assistant", "chatbot": "assistant",
}  # fmt: skip
WHO = ("role", "from", "speaker", "type")  # the keys of a message, the usual ones first
WHAT = ("content", "value", "text", "parts", "message")
NO_JSON = "a list of messages that is not written as JSON (in Python: json.dumps)"
TRANSCRIPT = re.compile(r"\s*Human:(.*?)Assistant:(.*)", re.DOTALL)
QUESTION = ": question"  # suffix of the added column with a conversation's question
JOINED = "instruction + "  # prefix of the added column that joins an instruction and its input
PAIR = ("chosen", "rejected")  # columns that may hold a transcript
INPUTS = ("input", "context")  # the names of an instruction's input in Alpaca and Dolly
Turns = list[tuple[str, Any]]  # (speaker, content); content that is not text cannot be used


def is_derived(column: str) -> bool:
    """Whether `as_text` added this column."""
    return column.endswith(QUESTION) or column.startswith(JOINED)


def is_conversation(value: object) -> bool:
    """Whether a value is a list of messages, whether or not a lesson can use them."""
    return bool(_turns(value))


class Conversation(NamedTuple):
    """A conversation that no lesson can use, with the reason, as in "its answer before its question"."""

    problem: str


def as_text(values: dict[str, object]) -> dict[str, object]:
    """Return the row with every conversation replaced by its answer, or by a `Conversation` if no lesson can use it.

    Adds the question as a column such as "messages: question", and joins columns as "instruction + input".
    """
    found = dict(values)
    for name, value in values.items():
        if isinstance(value, str) and name not in PAIR and not value.lstrip().startswith("[{"):
            continue  # most values are ordinary text
        turns, problem = _conversation(value, name in PAIR)
        if problem:
            found[name] = found[name + QUESTION] = Conversation(problem)
        elif turns and turns[-1][0] == "assistant":
            found[name] = turns[-1][1]
            if len(turns) > 1:
                found[name + QUESTION] = "\n".join(text for _, text in turns[:-1])
        elif turns:  # only a question, as a column `prompt` may have
            found[name] = "\n".join(text for _, text in turns)
    for name in INPUTS:
        if isinstance(values.get("instruction"), str) and name in values:
            found[JOINED + name] = f"{values['instruction']}\n{values[name] or ''}".strip()
    questions = [found.get(name + QUESTION) for name in PAIR]
    if all(isinstance(question, str) for question in questions) and questions[0] != questions[1]:
        found[PAIR[0] + QUESTION] = found[PAIR[1]] = Conversation("one question in chosen and another in rejected")
    return found


def _conversation(value: object, may_be_transcript: bool) -> tuple[Turns, str]:
    """Return the turns of a conversation, and why no lesson can use it or ""; no turns for any other value."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        value = _parsed(value)
    if isinstance(value, Conversation):
        return [], value.problem
    turns = _transcript(value) if may_be_transcript and isinstance(value, str) else _turns(value)
    return turns, _problem(turns)


def _problem(turns: Turns) -> str:
    """Return why a conversation is not one question and one answer; "" if it is, or if there are no turns."""
    strange = [who for who, _ in turns if who not in ("system", "user", "assistant")]
    if strange:
        return f'a message of "{strange[0][:20]}", where a lesson reads those of system, user and assistant'
    wordless = [who for who, text in turns if not isinstance(text, str)]
    if wordless:
        return f'a message of "{wordless[0]}" that is no text, such as an image or the call of a tool'
    speakers = [who for who, _ in turns if who != "system"]
    if speakers.count("user") > 1 or speakers.count("assistant") > 1:
        return f"{len(turns)} messages, where a lesson reads one question and one answer"
    return "its answer before its question" if speakers == ["assistant", "user"] else ""


def _turns(value: object) -> Turns:
    """Return the (speaker, text) pairs of a list of messages; empty for any other value.

    Content that is not text is returned unchanged.
    """
    if isinstance(value, dict):
        value = value.get("messages")
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return []
    pairs = [(_first(turn, WHO), _first(turn, WHAT)) for turn in value]
    if all(who is None for who, _ in pairs):
        return []  # the list does not hold messages
    return [(SPEAKERS.get(str(who).lower(), str(who)), _joined(content)) for who, content in pairs]


def _first(turn: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((turn[key] for key in keys if key in turn), None)


def _parsed(text: str) -> object:
    """Return the messages that a text holds in JSON or as pandas writes them to CSV; any other text unchanged."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return read(text.strip())
    return Conversation(NO_JSON) if re.match(r"\s*\[\{\s*[\"'](role|from|content|value)[\"']\s*:", text) else text


def _joined(content: Any) -> Any:
    """Return the text of a message, joined if it consists of text parts; any other content is returned unchanged."""
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        texts = [part.get("text") for part in content]
        if all(part.get("type", "text") == "text" for part in content) and all(isinstance(text, str) for text in texts):
            return "\n".join(texts)
    return content


def _transcript(text: str) -> Turns:
    """Return the (speaker, text) pairs of "Human: ... Assistant: ..."; empty for any other text."""
    said = TRANSCRIPT.fullmatch(text)
    if not said:
        return []
    turns = [("user", said[1].strip())]
    who = "assistant"
    for part in re.split(r"\n\s*(Human|Assistant):", said[2]):
        if part in ("Human", "Assistant"):
            who = SPEAKERS[part.lower()]
        else:
            turns.append((who, part.strip()))
    return turns
