"""Rows into train, validation and test: per class, by a seed, and repeated rows never on two sides."""

from __future__ import annotations

import random
from collections.abc import Sequence

from helpers.runtime import UserError

PARTS = ("train", "validation", "test")


def plain(text: object) -> str:
    """A text as it is compared with others: capital letters and white space do not count."""
    return " ".join(str(text).split()).casefold()


def split(
    texts: Sequence[str], labels: Sequence[str], classes: Sequence[str], seed: int, parts: Sequence[str], name: str
) -> dict[str, list[int]]:
    """Row numbers for each part: a tenth of every class to all `parts` but the first, which gets the rest.

    Raises:
        UserError: when a class has fewer different texts than there are parts.
    """
    places: dict[str, list[int]] = {part: [] for part in parts}
    shuffle = random.Random(seed).shuffle
    for label in classes:
        groups = _same_texts(texts, [row for row, value in enumerate(labels) if value == label])
        if len(groups) < len(parts):
            raise UserError(
                f"data: {name} has {len(groups)} different text(s) with the label {label!r}; each class needs "
                f"at least {len(parts)}, one each for {', '.join(parts)}."
            )
        shuffle(groups)
        groups.sort(key=len)  # texts that stand there often go where most rows are: to train
        _deal(groups, parts, places)
    for rows in places.values():
        shuffle(rows)
    return places


def _same_texts(texts: Sequence[str], rows: Sequence[int]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(plain(texts[row]), []).append(row)
    return list(groups.values())


def _deal(groups: list[list[int]], parts: Sequence[str], places: dict[str, list[int]]) -> None:
    tenth = max(1, sum(map(len, groups)) // 10)
    left = list(groups)
    for already, part in enumerate(reversed(parts[1:])):
        found: list[int] = []
        while len(found) < tenth and len(left) > len(parts) - 1 - already:
            found += left.pop(0)
        places[part] += found
    places[parts[0]] += [row for group in left for row in group]
