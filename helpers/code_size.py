"""Counts the lines of code in a module, class or function."""

from __future__ import annotations

import inspect
import io
import tokenize
from typing import Any

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(thing: Any) -> int:
    """Return the number of source lines with code, without blank lines, comments and docstrings."""
    lines: set[int] = set()
    alone = True  # whether the next token starts a statement; a string there is a docstring
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(thing)).readline):
        if token.type not in NO_CODE and not (alone and token.type == tokenize.STRING):
            lines.update(range(token.start[0], token.end[0] + 1))
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            alone = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return len(lines)
