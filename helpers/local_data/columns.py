"""Which column plays which role: as the learner said, else guessed by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helpers.runtime import UserError, nearest

# The likeliest first: a file with "text" and "title" is about the text.
NAMES = {
    "text": (
        "text", "review", "sentence", "content", "body", "review_text", "review_body", "comment", "message", "document",
        "tweet", "post", "article", "description", "utterance", "headline", "title", "query", "question",
    ),
    "label": (
        "label", "labels", "sentiment", "class", "target", "category", "rating", "stars", "score", "topic", "intent",
        "emotion", "polarity", "tag", "label_text", "y",
    ),
    "prompt": ("prompt", "instruction", "question", "query", "input", "user"),
    "completion": ("completion", "response", "answer", "output", "reply", "assistant"),
    "chosen": ("chosen", "preferred", "accepted", "better", "response_chosen"),
    "rejected": ("rejected", "dispreferred", "worse", "response_rejected"),
}  # fmt: skip
# What a file can be used for, by the roles that it fills; the most particular first.
KINDS = {
    "preferences": ("prompt", "chosen", "rejected"),
    "labelled texts": ("text", "label"),
    "instructions": ("prompt", "completion"),
    "plain texts": ("text",),
}
SHOWN = 8  # of a file's columns, in a sentence


@dataclass(frozen=True)
class Choice:
    """Role -> column; `guessed` holds the roles that nobody named, `rivals` other columns that would have fitted."""

    columns: Mapping[str, str]
    guessed: tuple[str, ...]
    rivals: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        """'text from "Body" (guessed; "title" would fit too), label from "Stars"'."""
        return ", ".join(self._one(role, column) for role, column in self.columns.items())

    def _one(self, role: str, column: str) -> str:
        if role not in self.guessed or (column == role and role not in self.rivals):
            return f'{role} from "{column}"'
        others = " and ".join(f'"{name}"' for name in self.rivals.get(role, ()))
        return f'{role} from "{column}" (guessed{f"; {others} would fit too" if others else ""})'


def choose_columns(columns: Sequence[str], roles: Sequence[str], given: Mapping[str, str], file: str) -> Choice:
    """The column for every role.

    Raises:
        UserError: when a role finds no column, a named column is not there, or its name stands twice.
    """
    fits = {role: _fitting(columns, role) for role in roles}
    chosen: dict[str, str] = {}
    for role in roles:
        if role in given:
            chosen[role] = _named(columns, role, given[role], file)
    for role in roles:
        free = [name for name in fits[role] if name not in chosen.values()]
        if role not in chosen and not free:
            raise UserError(_nothing_fits(columns, role, file))
        chosen.setdefault(role, free[0] if free else "")
    for role, column in chosen.items():
        if list(columns).count(column) > 1:
            raise UserError(
                f'data: {file} has the column "{column}" more than once; rename all but the one for {role}.'
            )
    guessed = tuple(role for role in roles if role not in given)
    rivals = {role: tuple(name for name in fits[role] if name not in chosen.values()) for role in guessed}
    return Choice(
        {role: chosen[role] for role in roles}, guessed, {role: found for role, found in rivals.items() if found}
    )


def kind_of(columns: Sequence[str], given: Mapping[str, str], file: str) -> str:
    """What the file can be used for: the first of `KINDS` whose roles all find a column.

    Raises:
        UserError: when not even the text is found, or the learner named a column that is not there.
    """
    for kind, roles in KINDS.items():
        if set(given) <= set(roles) and all(role in given or _fitting(columns, role) for role in roles):
            choose_columns(columns, roles, given, file)
            return kind
    for role, column in given.items():
        _named(columns, role, column, file)
    raise UserError(_nothing_fits(columns, "text", file))


def listed(names: Sequence[str]) -> str:
    """A few of the names, and how many more there are."""
    more = len(names) - SHOWN
    shown = ", ".join(f'"{name[:40]}"' for name in list(names)[:SHOWN])
    return f"{shown} and {more:,} more" if more > 0 else shown


def _fitting(columns: Sequence[str], role: str) -> list[str]:
    plain = {name: name.strip().lower().replace(" ", "_").replace("-", "_") for name in columns}
    return [name for wanted in NAMES[role] for name in plain if plain[name] == wanted]


def _named(columns: Sequence[str], role: str, column: str, file: str) -> str:
    if column in columns:
        return column
    said = f'data: {file} has no column "{column}" to take as {role}; its columns are {listed(columns)}.'
    raise UserError(said + nearest(column, columns))


def _nothing_fits(columns: Sequence[str], role: str, file: str) -> str:
    return (
        f"data: {file} has no column {role}, nor one with a name like it; its columns are {listed(columns)}. "
        f'Say which it is: data="{file}?{role}=NAME".'
    )
