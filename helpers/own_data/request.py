"""What a lesson's `data` says: a path, and after a "?" which columns to read and how."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from helpers.paths import exists, expanded
from helpers.runtime import UserError, choose, nearest

ROLES = ("text", "label", "prompt", "completion", "chosen", "rejected")
OPTIONS = (*ROLES, "encoding", "sep", "bad")
SEPARATORS = {",": ",", ";": ";", "|": "|", "tab": "\t"}


@dataclass(frozen=True)
class Request:
    """A file or folder, and what the learner said about it.

    columns: role ("text", "label", "prompt"...) -> the column that plays it, where the learner named one.
    encoding: of a text file; "" takes UTF-8, or what the file's byte-order mark says.
    separator: between the fields of a CSV file; "" takes the one under which most rows agree with the header.
    skip_bad: leave out rows that cannot be used, and count them, instead of refusing the file.
    typed: the path as the learner wrote it, of a folder also where `path` is a file in it.
    """

    path: Path
    columns: dict[str, str] = field(default_factory=dict)
    encoding: str = ""
    separator: str = ""
    skip_bad: bool = False
    typed: str = ""

    @classmethod
    def of(cls, data: Request | str | Path) -> Request:
        """From `"reviews.csv?text=Body&label=Stars&encoding=cp1252&bad=skip"`; the part after "?" may be missing.

        In a column's name, write a space as it is or as %20, "&" as %26, "+" as %2B.

        Raises:
            UserError: for an unknown option, or a value that it cannot have.
        """
        if isinstance(data, Request):
            return data
        name, mark, options = str(data).rpartition("?")
        if not mark or exists(expanded(data)):
            return cls(expanded(data), typed=str(data))
        given = _pairs(options)
        return cls(
            expanded(name),
            {role: given[role] for role in ROLES if role in given},
            _encoding(given.get("encoding", "")),
            SEPARATORS[choose("data: sep", given["sep"], SEPARATORS)] if "sep" in given else "",
            "bad" in given and choose("data: bad", given["bad"], ("skip",)) == "skip",
            name,
        )

    def suggestion(self, **more: str) -> str:
        """`data="reviews.csv?text=Body&bad=skip"`: what was said, with `more` options, as Python that can be pasted."""
        separators = {sign: name for name, sign in SEPARATORS.items()}
        options = {**self.columns, "encoding": self.encoding, "sep": separators.get(self.separator, "")}
        options |= {"bad": "skip" if self.skip_bad else "", **more}
        said = "&".join(f"{name}={_escaped(value)}" for name, value in options.items() if value)
        path = self.typed or str(self.path)
        return f"data={quoted(f'{path}?{said}' if said else path)}"


def quoted(text: str) -> str:
    """A text as a Python literal, in double quotes where those need no backslash."""
    return repr(text) if any(mark in text for mark in '"\\') or not text.isprintable() else f'"{text}"'


def _escaped(value: str) -> str:
    return value.replace("%", "%25").replace("&", "%26").replace("+", "%2B")


def _pairs(options: str) -> dict[str, str]:
    pairs = parse_qsl(options, keep_blank_values=True)
    for name, value in pairs:
        if name not in OPTIONS:
            raise UserError(f'data: after "?" comes one of {", ".join(OPTIONS)}, not "{name}".{nearest(name, OPTIONS)}')
        if not value:
            raise UserError(f'data: "{name}" has no value; write {name}=..., as in data="file.csv?text=Body".')
    if not pairs or len(dict(pairs)) < len(pairs):
        raise UserError(f'data: "?{options}" is not understood; write it as in "file.csv?text=Body&label=Stars".')
    return dict(pairs)


def _encoding(name: str) -> str:
    try:
        "".encode(name or "utf-8")  # refuses what is no text encoding, such as rot13 or zip
        return codecs.lookup(name).name if name else ""
    except LookupError:
        raise UserError(f'data: there is no encoding "{name}"; try utf-8, cp1252, latin-1 or utf-16.') from None
