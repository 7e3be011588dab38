"""Redacts secrets in texts before they are written anywhere."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

# No letter may follow the word: TOKEN and API_KEY match, TOKENIZERS_PARALLELISM and KEYMAP do not.
NAME = re.compile(r"(token|key|secret|password)s?(?![a-z])", re.IGNORECASE)
HUGGING_FACE = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
SHORTEST = 6  # redacting shorter values would also hide ordinary words
MARK = "[redacted]"
Value = TypeVar("Value")


def secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of variables whose names contain token, key, secret or password, longest first."""
    found = {value for name, value in environment.items() if NAME.search(name) and len(value) >= SHORTEST}
    # In JSON and in Python literals, quotes and backslashes of a value are escaped.
    found |= {json.dumps(value)[1:-1] for value in found} | {repr(value)[1:-1] for value in found}
    return tuple(sorted(found, key=len, reverse=True))


def redacted(value: Value) -> Value:
    """Return `value` with all secrets in its texts redacted, also in lists and dictionaries; tuples become lists."""
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
