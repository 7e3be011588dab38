"""Conversations as plain text: chat messages, ShareGPT turns and Alpaca's input become a question and an answer."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

SPEAKERS = {
    "system": "system", "developer": "system",
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "assistant": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
}  # fmt: skip
TRANSCRIPT = re.compile(r"\s*Human:(.*?)Assistant:(.*)", re.DOTALL)
QUESTION = ": question"  # the ending of a column's name that holds the question of its conversation
JOINED = "instruction + "  # the beginning of one that joins what an instruction is about
PAIR = ("chosen", "rejected")  # columns that may hold a transcript
INPUTS = ("input", "context")  # as Alpaca and Dolly call that
Turns = list[tuple[str, Any]]  # who speaks, and what: a text, or what no lesson can read


def is_derived(column: str) -> bool:
    """Whether `as_text` made this column."""
    return column.endswith(QUESTION) or column.startswith(JOINED)


class Conversation(NamedTuple):
    """One that a lesson cannot read, and why: "4 messages, where a lesson reads one question and one answer"."""

    problem: str


def as_text(values: dict[str, object]) -> dict[str, object]:
    """A row with the answer in place of every conversation, or a `Conversation` if no lesson can read it.

    The question becomes a column "messages: question"; "instruction + input" joins two columns.
    """
    found = dict(values)
    for name, value in values.items():
        if isinstance(value, str) and name not in PAIR and not value.lstrip().startswith("[{"):
            continue  # nearly every value of nearly every file
        turns = _transcript(value) if name in PAIR and isinstance(value, str) else _turns(value)
        problem = _problem(turns)
        if problem:
            found[name] = found[name + QUESTION] = Conversation(problem)
        elif turns and turns[-1][0] == "assistant":
            found[name] = turns[-1][1]
            if len(turns) > 1:
                found[name + QUESTION] = "\n".join(text for _, text in turns[:-1])
        elif turns:  # a question alone, as `prompt` may hold it
            found[name] = "\n".join(text for _, text in turns)
    for name in INPUTS:
        if isinstance(values.get("instruction"), str) and name in values:
            found[JOINED + name] = f"{values['instruction']}\n{values[name] or ''}".strip()
    questions = [found.get(name + QUESTION) for name in PAIR]
    if all(isinstance(question, str) for question in questions) and questions[0] != questions[1]:
        found[PAIR[0] + QUESTION] = found[PAIR[1]] = Conversation("one question in chosen and another in rejected")
    return found


def _problem(turns: Turns) -> str:
    """Why a lesson cannot read a conversation as one question and one answer; "" if it can, or there is none."""
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
    """(speaker, text) of a list of messages, in JSON as well; empty for any other value.

    What is no text stays as it is.
    """
    if isinstance(value, str) and value.lstrip().startswith("[{") and value.rstrip().endswith("}]"):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return []
    pairs = [(turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))) for turn in value]
    if all(who is None for who, _ in pairs):
        return []  # a list of other things
    return [(SPEAKERS.get(str(who).lower(), str(who)), _joined(content)) for who, content in pairs]


def _joined(content: Any) -> Any:
    """The text of a message; of one in parts, as some interfaces write it, their texts together."""
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        texts = [part.get("text") for part in content]
        if all(part.get("type") == "text" for part in content) and all(isinstance(text, str) for text in texts):
            return "\n".join(texts)
    return content


def _transcript(text: str) -> Turns:
    """(speaker, text) of "Human: ... Assistant: ..."; empty for any other text."""
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
