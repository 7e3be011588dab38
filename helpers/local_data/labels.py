"""Labels as classes: their names in order, whatever type they had in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def as_names(values: Sequence[object]) -> list[str]:
    """Each label as the name of its class: white space around it gone, and 1, 1.0 and "1" one and the same."""
    texts = [str(value).strip() for value in values]
    if all(NUMBER.fullmatch(text) for text in set(texts)):
        return [_number(text) for text in texts]
    return texts


def in_order(names: Iterable[str]) -> list[str]:
    """The different names, in alphabetical order, or numerical if all are numbers."""
    different = sorted(set(names))
    return sorted(different, key=float) if all(NUMBER.fullmatch(name) for name in different) else different


def alike(classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of classes that differ only in capital letters or white space: one class written twice, most likely."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(" ".join(name.split()).casefold(), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _number(text: str) -> str:
    value = float(text)
    return str(int(text)) if text.lstrip("+-").isdigit() else str(int(value)) if value.is_integer() else str(value)
