"""Conversations as plain text: chat messages, ShareGPT turns and Alpaca's input become a question and an answer."""

from __future__ import annotations

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant"}
INPUTS = ("input", "context")  # what an instruction is about, in Alpaca's and Dolly's files


def as_text(values: dict[str, object]) -> tuple[dict[str, object], str]:
    """A row with a text in place of every list of messages, and why it cannot be one ("" if it can).

    A column "messages" keeps the answer, and "messages: question" is added; "instruction + input" joins two columns.
    """
    found, problem = dict(values), ""
    for name, value in values.items():
        if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
            questions, answers = _said(value, "user"), _said(value, "assistant")
            if len(questions) > 1 or len(answers) > 1:
                problem = f'its "{name}" has {len(value)} messages, where a lesson reads one question and one answer'
            found[name] = answers[0] if answers else next(iter(questions), None)
            if answers and questions:
                found[f"{name}: question"] = "\n".join([*_said(value, "system"), *questions])
    for name in INPUTS:
        if isinstance(values.get("instruction"), str) and name in values and "prompt" not in values:
            more = values[name] if isinstance(values[name], str) else ""
            found[f"instruction + {name}"] = f"{values['instruction']}\n{more}".strip()
    return found, problem


def _said(turns: list[dict], speaker: str) -> list[str]:
    texts = []
    for turn in turns:
        role, text = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if SPEAKERS.get(str(role), role) == speaker and isinstance(text, str):
            texts.append(text)
    return texts
