"""Parses a lesson's `data`: a path, and after a "?" the columns to read and how to read them."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from helpers.paths import exists, expanded
from helpers.runtime import UserError, choose, nearest

ROLES = ("text", "label", "prompt", "completion", "chosen", "rejected")
OPTIONS = (*ROLES, "encoding", "sep", "bad")
START = re.compile(rf"\?(?=(?:{'|'.join(OPTIONS)})=)")  # a column's name may hold a "?" too, and so may a path
SEPARATORS = {",": ",", ";": ";", "|": "|", "tab": "\t"}


@dataclass(frozen=True)
class Request:
    """A file or folder, and the learner's options for it.

    columns: role ("text", "label", "prompt"...) -> column, for the roles that the learner named.
    encoding: encoding of a text file; "" takes that of the file's byte-order mark, else UTF-8.
    separator: separator of a CSV file; "" takes the one for which most rows have as many fields as the header.
    skip_bad: leave out and count unusable rows, instead of refusing the file.
    typed: the path as the learner wrote it; if `path` is a file in a folder, the folder that the learner wrote.
    """

    path: Path
    columns: dict[str, str] = field(default_factory=dict)
    encoding: str = ""
    separator: str = ""
    skip_bad: bool = False
    typed: str = ""

    @classmethod
    def of(cls, data: Request | str | Path) -> Request:
        """Parse `"reviews.csv?text=Body&label=Stars&encoding=cp1252&bad=skip"`; the part after "?" is optional.

        In a column's name, write a space as it is or as %20, "&" as %26, "+" as %2B.

        Raises:
            UserError: when an option is unknown or its value is invalid.
        """
        if isinstance(data, Request):
            return data
        name, *rest = START.split(str(data), maxsplit=1)
        name, options = (name, rest[0]) if rest else (str(data).rpartition("?")[::2])
        if "?" not in str(data) or exists(expanded(data)):
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
        """Return this request with `more` options as Python code to paste: `data="reviews.csv?text=Body&bad=skip"`."""
        separators = {sign: name for name, sign in SEPARATORS.items()}
        options = {**self.columns, "encoding": self.encoding, "sep": separators.get(self.separator, "")}
        options |= {"bad": "skip" if self.skip_bad else "", **more}
        said = "&".join(f"{name}={_escaped(value)}" for name, value in options.items() if value)
        path = self.typed or str(self.path)
        return f"data={quoted(f'{path}?{said}' if said else path)}"


def quoted(text: str) -> str:
    """Return a text as a Python literal, in double quotes unless that would need a backslash."""
    return repr(text) if any(mark in text for mark in '"\\') or not text.isprintable() else f'"{text}"'


def _escaped(value: str) -> str:
    return value.replace("%", "%25").replace("&", "%26").replace("+", "%2B")


def _pairs(options: str) -> dict[str, str]:
    pairs = parse_qsl(options, keep_blank_values=True)
    for name, value in pairs:
        if name not in OPTIONS:
            hint = "" if value else ' (in the name of a column, write "&" as %26)'
            raise UserError(
                f'data: after "?" comes one of {", ".join(OPTIONS)}, not "{name}"{hint}.{nearest(name, OPTIONS)}'
            )
        if not value:
            raise UserError(f'data: "{name}" has no value; write {name}=..., as in data="file.csv?text=Body".')
    if not pairs or len(dict(pairs)) < len(pairs):
        raise UserError(f'data: "?{options}" is not understood; write it as in "file.csv?text=Body&label=Stars".')
    return dict(pairs)


def _encoding(name: str) -> str:
    try:
        "".encode(name or "utf-8")  # raises LookupError for codecs without text, such as rot13 or zip
        return codecs.lookup(name).name if name else ""
    except LookupError:
        raise UserError(f'data: there is no encoding "{name}"; try utf-8, cp1252, latin-1 or utf-16.') from None
