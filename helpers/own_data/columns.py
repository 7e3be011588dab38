"""Assigns a column to each role: the one that the learner named, else one guessed by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helpers.own_data.chats import PAIR, QUESTION, is_derived
from helpers.own_data.request import Request
from helpers.runtime import UserError, nearest

# The most likely name first: if a file has the columns "text" and "title", the role text takes "text".
NAMES = {
    "text": (
        "text", "review", "sentence", "content", "body", "review_text", "review_body", "comment", "message", "document",
        "tweet", "post", "article", "description", "utterance", "headline", "title", "query", "question",
    ),
    "label": (
        "label", "labels", "sentiment", "class", "target", "category", "rating", "stars", "score", "topic", "intent",
        "emotion", "polarity", "tag", "label_text", "y",
    ),
    "prompt": (
        "prompt", "instruction_+_input", "instruction_+_context", "messages:_question", "conversations:_question",
        "instruction", "question", "query", "input", "user", "chosen:_question",
    ),
    "completion": (
        "completion", "response", "answer", "output", "reply", "assistant", "messages", "conversations",
    ),
    "chosen": ("chosen", "preferred", "preferred_output", "accepted", "better", "response_chosen"),
    "rejected": ("rejected", "dispreferred", "non_preferred_output", "worse", "response_rejected"),
}  # fmt: skip
# Kinds of data, by the roles that a file's columns fill; the most specific kind first.
KINDS = {
    "preferences": ("prompt", "chosen", "rejected"),
    "labelled texts": ("text", "label"),
    "instructions": ("prompt", "completion"),
    "plain texts": ("text",),
}
# The lessons that accept each kind as their `data`.
LESSONS = {
    "preferences": ("05", "06"),
    "labelled texts": ("00", "02", "03", "07", "08", "09", "10", "11", "01"),  # lesson 01 ignores the labels
    "instructions": ("04",),
    "plain texts": ("01",),
}
CHATS = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns", "contents")
CONVERSATIONS = ("preferences", "instructions")
SHOWN = 8  # maximum number of column names in a message
REMARK = re.compile(r"\s*[(\[].*[)\]]\s*$")  # a remark in a column's name, as in "label (0=bad, 1=good)"


@dataclass(frozen=True)
class Choice:
    """The column of each role; `guessed` maps the roles that the learner did not name to other matching columns."""

    columns: Mapping[str, str]
    guessed: Mapping[str, Sequence[str]]

    def __str__(self) -> str:
        """Format the choice as in 'text from "Body" (guessed; "title" would fit too), label from "Stars"'."""
        return ", ".join(f'{role} from "{column}"{self._guess(role)}' for role, column in self.columns.items())

    def understood(self) -> str:
        """Return a sentence on how prompts were taken from conversations or joined columns; "" if they were not.

        'A row of "messages" is a conversation: the last message is the answer, what comes before it is the prompt.'
        """
        prompt = self.columns.get("prompt", "")
        if prompt.endswith(QUESTION):
            name = prompt.removesuffix(QUESTION)
            if name in PAIR:
                return "The prompt is what chosen and rejected both begin with."
            return (
                f'A row of "{name}" is a conversation: the last message is the answer, what comes before it the prompt.'
            )
        if is_derived(prompt):
            parts = " + ".join(f'"{part}"' for part in prompt.split(" + "))
            return f"The prompt is {parts}, with a line end between them."
        return ""

    def _guess(self, role: str) -> str:
        others = " and ".join(f'"{name}"' for name in self.guessed.get(role, ()))
        if role not in self.guessed or (self.columns[role] == role and not others):
            return ""
        return f" (guessed; {others} would fit too)" if others else " (guessed)"


def choose_columns(columns: Sequence[str], roles: Sequence[str], request: Request) -> Choice:
    """Return the column for every role. Without `roles`, take the first of `KINDS` whose roles all have a column.

    Raises:
        UserError: when no column matches a role, or the learner named a column that does not exist.
    """
    given, file = request.columns, request.path.name
    own = [name for name in columns if not is_derived(name)]
    for role, column in given.items():
        if column not in columns:
            raise UserError(
                f'data: {file} has no column "{column}" to take as {role}; its columns are {name_list(own)}.'
                + nearest(column, own)
            )
    fits = {role: [given[role]] if role in given else _fitting(columns, role) for role in NAMES}
    if not roles:
        complete = (kind for kind in KINDS.values() if set(given) <= set(kind) and all(map(fits.get, kind)))
        roles = next(complete, ("text",))
    chosen = {role: given[role] for role in roles if role in given}
    for role in roles:
        free = [name for name in fits[role] if name not in chosen.values()]
        if role not in chosen and not free:
            raise UserError(_missing(role, roles, columns, request))
        chosen.setdefault(role, next(iter(free), ""))
    guessed = {
        role: [name for name in fits[role] if name in own and name not in chosen.values()]
        if chosen[role] in own
        else []
        for role in roles
        if role not in given
    }
    return Choice({role: chosen[role] for role in roles}, guessed)


def _missing(role: str, roles: Sequence[str], columns: Sequence[str], request: Request) -> str:
    """Return the message for a role without a column: why, and whether to name it, change lessons or fix the file."""
    file, own = request.path.name, [name for name in columns if not is_derived(name)]
    wanted = " and ".join(roles)
    for kind in CONVERSATIONS:
        if set(KINDS[kind]) != set(roles) and all(_fitting(columns, name) for name in KINDS[kind]):
            lessons = LESSONS[kind]
            take = f"lessons {' and '.join(lessons)} take" if len(lessons) > 1 else f"lesson {lessons[0]} takes"
            return f"data: {file} holds {kind} ({', '.join(KINDS[kind])}), which {take}; this needs {wanted}."
    chats = [name for name in own if name.lower() in CHATS]
    if chats:
        return (
            f'data: the column "{chats[0]}" of {file} holds no conversation that a lesson reads; each row needs a list '
            'like [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}].'
        )
    if not _fitting(columns, "prompt") and all(_fitting(columns, name) for name in ("chosen", "rejected")):
        return (
            f"data: {file} has chosen and rejected and no prompt; give each row a prompt, or begin both answers "
            'with the same question, as messages or as "Human: ... Assistant: ...".'
        )
    return (
        f"data: {file} has no column {role}, nor one with a name like it; its columns are {name_list(own)}. "
        f"Say which it is: {request.suggestion(**{role: 'NAME'})}.{_first_line(columns, request)}"
    )


def _first_line(columns: Sequence[str], request: Request) -> str:
    """Return the other possible reason for unknown names in a CSV file: its first line names no columns."""
    if request.path.suffix.lower() not in (".csv", ".tsv"):
        return ""
    if len(columns) == 1:
        return " If it has more columns, separate them by a comma, semicolon, tab or vertical bar."
    return " If these are a row and not names, write a first line with names, such as text,label."


def name_list(names: Sequence[str]) -> str:
    """Format the first few names and the number of the others for a message."""
    more = len(names) - SHOWN
    shown = ", ".join(f'"{name[:40]}"' for name in list(names)[:SHOWN])
    return f"{shown} and {more:,} more" if more > 0 else shown


def _fitting(columns: Sequence[str], role: str) -> list[str]:
    plain = {name: re.sub(r"[\s-]", "_", REMARK.sub("", name).strip().lower()) for name in columns}
    found = [name for wanted in NAMES[role] for name in plain if plain[name] == wanted]
    # A conversation's column may have any name. Its question is the prompt; the column itself now holds the answer.
    asked = [name for name in columns if name.endswith(QUESTION) and name.removesuffix(QUESTION) not in PAIR]
    others = {"prompt": asked, "completion": [name.removesuffix(QUESTION) for name in asked]}.get(role, [])
    return [*found, *(name for name in others if name not in found)]
