"""Finds near-duplicate texts, and splits rows so that a group, such as near-duplicates, stays in one split.

Lesson 03 writes out `shingles`, `near_duplicates` and `grouped_split`; `workbook data check` uses the versions here.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

WORD = re.compile(r"\w+")
SIZE = 3  # number of words in a shingle
THRESHOLD = 0.5  # one changed word of twenty gives 0.71; different texts on one topic mostly have less than 0.2
Shingles = frozenset[tuple[str, ...]]


class NearPair(NamedTuple):
    """Two row numbers with nearly the same text, the smaller one first, and their similarity."""

    first: int
    second: int
    similarity: float


def shingles(text: object, size: int = SIZE) -> Shingles:
    """Return all runs of `size` consecutive lower-case words, without punctuation; a shorter text is one run.

    In a text without spaces (such as Chinese), which would be one long word, the runs consist of characters.
    """
    words: Sequence[str] = WORD.findall(str(text).lower())
    if len(words) < size and len("".join(words)) > 4 * size:
        words = "".join(words)
    return frozenset(tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1)))


def jaccard(one: Shingles, other: Shingles) -> float:
    """Return the size of the intersection divided by the size of the union (Jaccard 1901)."""
    return len(one & other) / max(1, len(one | other))


def near_duplicates(texts: Sequence[object], threshold: float = THRESHOLD, size: int = SIZE) -> list[NearPair]:
    """Return all pairs of rows whose shingles have at least this Jaccard similarity, including identical texts.

    Only rows that share a rare shingle are compared. This misses no pair: two sets of n shingles with this similarity
    share one of their n - ceil(threshold * n) + 1 rarest ones (prefix filtering: Bayardo et al. 2007, "Scaling up all
    pairs similarity search").
    """
    found = [shingles(text, size) for text in texts]
    count = Counter(shingle for one in found for shingle in one)
    rows_with: dict[tuple[str, ...], list[int]] = defaultdict(list)
    pairs = []
    for row, one in enumerate(found):
        rarest = sorted(one, key=lambda shingle: (count[shingle], shingle))
        prefix = rarest[: len(one) - math.ceil(threshold * len(one)) + 1]
        for other in sorted({other for shingle in prefix for other in rows_with[shingle]}):
            similarity = jaccard(one, found[other])
            if similarity >= threshold:
                pairs.append(NearPair(other, row, similarity))
        for shingle in prefix:
            rows_with[shingle].append(row)
    return sorted(pairs)


def similar_across(splits: Mapping[str, Sequence[object]], threshold: float = THRESHOLD) -> dict[tuple[str, str], list]:
    """Return (split, other split) -> near-duplicates as pairs (row of the first, row of the second, similarity).

    Each row of the second split occurs once, with its most similar row of the first.
    """
    names = list(splits)
    side = [name for name in names for _ in splits[name]]
    start = {name: side.index(name) if name in side else 0 for name in names}
    nearest: dict[tuple[str, str], dict[int, NearPair]] = {
        (one, two): {} for place, one in enumerate(names) for two in names[place + 1 :]
    }
    for pair in near_duplicates([text for name in names for text in splits[name]], threshold):
        one, two = side[pair.first], side[pair.second]
        if one != two:
            here = NearPair(pair.first - start[one], pair.second - start[two], pair.similarity)
            best = nearest[one, two].get(here.second)
            if best is None or here.similarity > best.similarity:
                nearest[one, two][here.second] = here
    return {sides: sorted(found.values(), key=lambda pair: pair.second) for sides, found in nearest.items()}


def connected(rows: int, pairs: Sequence[tuple[int, int] | NearPair]) -> list[int]:
    """Return a group number for each row; rows that pairs connect, directly or through other rows, share a group."""
    leader = list(range(rows))

    def find(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    for pair in pairs:
        one, other = find(pair[0]), find(pair[1])
        leader[max(one, other)] = min(one, other)
    return [find(row) for row in range(rows)]


def grouped_split(groups: Sequence[Hashable], share: float = 0.2, seed: int = 0) -> tuple[list[int], list[int]]:
    """Return the row numbers for training and for the test; no group has rows in both.

    In a random order, whole groups go to the test until it has at least `share` of the rows.
    """
    rows_of: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows_of[group].append(row)
    names, test = list(rows_of), set[int]()
    for place in np.random.default_rng(seed).permutation(len(names)):
        if len(test) >= share * len(groups):
            break
        test.update(rows_of[names[place]])
    return [row for row in range(len(groups)) if row not in test], sorted(test)
