"""Secrets taken out of a text before it is written anywhere."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

# The last letter decides: a TOKEN or an API_KEY is meant, TOKENIZERS_PARALLELISM or a KEYMAP is not.
NAME = re.compile(r"(token|key|secret|password)s?(?![a-z])", re.IGNORECASE)
HUGGING_FACE = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
SHORTEST = 6  # a shorter value would also hide ordinary words
MARK = "[redacted]"
Value = TypeVar("Value")


def secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the variables whose names say token, key, secret or password, longest first."""
    found = {value for name, value in environment.items() if NAME.search(name) and len(value) >= SHORTEST}
    # A value with quotes or backslashes looks different inside a literal or a JSON text.
    found |= {json.dumps(value)[1:-1] for value in found} | {repr(value)[1:-1] for value in found}
    return tuple(sorted(found, key=len, reverse=True))


def redacted(value: Value) -> Value:
    """`value` with every secret in its texts replaced, through lists and dictionaries; a tuple becomes a list."""
    return _redacted(value)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        hidden = _pattern(secrets(os.environ)).sub(MARK, value)
        return HUGGING_FACE.sub(MARK, hidden)
    if isinstance(value, dict):
        return {_redacted(key): _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value


@lru_cache(maxsize=8)
def _pattern(hidden: tuple[str, ...]) -> re.Pattern:
    return re.compile("|".join(map(re.escape, hidden)) if hidden else r"(?!)")
