"""What a lesson's `data` says: a path, and after a "?" which columns to read and how."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from helpers.reach import exists, expanded
from helpers.runtime import UserError, nearest

ROLES = ("text", "label", "prompt", "completion", "chosen", "rejected")
OPTIONS = (*ROLES, "encoding", "bad")


@dataclass(frozen=True)
class Request:
    """A file or folder, and what the learner said about it.

    columns: role ("text", "label", "prompt"...) -> the column that plays it, where it was said.
    encoding: of a text file; "" takes UTF-8, or UTF-16 where the file begins with its mark.
    skip_bad: leave out rows that cannot be used, and count them, in place of refusing the file.
    pieces: more files whose rows follow. aside: names of files in the same folder that are not read.
    """

    path: Path
    columns: dict[str, str] = field(default_factory=dict)
    encoding: str = ""
    skip_bad: bool = False
    pieces: tuple[Path, ...] = ()
    aside: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Request | str | Path) -> Request:
        """From `"reviews.csv?text=Body&label=Stars&encoding=latin-1&bad=skip"`; the part after "?" may be missing.

        In a column's name, write a space as it is or as %20, "&" as %26, "+" as %2B.

        Raises:
            UserError: for an option that there is not, or a value that it cannot have.
        """
        if isinstance(data, cls):
            return data
        name, mark, options = str(data).rpartition("?")
        if not mark or exists(expanded(data)):
            return cls(expanded(data))
        given = dict(_pairs(options))
        return cls(
            expanded(name),
            {role: given[role] for role in ROLES if role in given},
            _encoding(given.get("encoding", "")),
            _skips(given.get("bad", "")),
        )


def _pairs(options: str) -> list[tuple[str, str]]:
    pairs = parse_qsl(options, keep_blank_values=True)
    for name, value in pairs:
        if name not in OPTIONS:
            raise UserError(f'data: after "?" comes one of {", ".join(OPTIONS)}, not "{name}".{nearest(name, OPTIONS)}')
        if not value:
            raise UserError(f'data: "{name}" has no value; write {name}=..., as in data="file.csv?text=Body".')
    if not pairs or len(dict(pairs)) < len(pairs):
        raise UserError(f'data: "?{options}" is not understood; write it as in "file.csv?text=Body&label=Stars".')
    return pairs


def _encoding(name: str) -> str:
    try:
        found = codecs.lookup(name) if name else None
        if found is not None and not found._is_text_encoding:  # such as rot13 or zip, which `open` refuses too
            raise LookupError
        return found.name if found else ""
    except LookupError:
        raise UserError(f'data: there is no encoding "{name}"; try utf-8, latin-1, cp1252 or utf-16.') from None


def _skips(value: str) -> bool:
    if value not in ("", "skip"):
        raise UserError(f'data: bad is "{value}"; the one thing it can be is "skip": leave unusable rows out.')
    return value == "skip"
