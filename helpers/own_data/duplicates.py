"""Texts that are nearly the same, and splits that keep them, or whatever belongs together, on one side.

Lesson 03 writes `shingles`, `near_duplicates` and `grouped_split` out; `workbook data check` calls the ones here.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

WORD = re.compile(r"\w+")
SIZE = 3  # words in a shingle
THRESHOLD = 0.5  # one word changed of twenty leaves 0.71; two texts about one thing mostly share less than 0.2
Shingles = frozenset[tuple[str, ...]]


class NearPair(NamedTuple):
    """Two rows whose texts are nearly the same, the smaller number first, and how similar they are."""

    first: int
    second: int
    similarity: float


def shingles(text: object, size: int = SIZE) -> Shingles:
    """All runs of `size` words in small letters, without punctuation; of a shorter text all its words as one run.

    A text without spaces (Chinese, say) is one long word: there the runs are of characters.
    """
    words: Sequence[str] = WORD.findall(str(text).lower())
    if len(words) < size and len("".join(words)) > 4 * size:
        words = "".join(words)
    return frozenset(tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1)))


def jaccard(one: Shingles, other: Shingles) -> float:
    """What two sets have in common, as a share of what either has (Jaccard 1901)."""
    return len(one & other) / max(1, len(one | other))


def near_duplicates(texts: Sequence[object], threshold: float = THRESHOLD, size: int = SIZE) -> list[NearPair]:
    """All pairs of rows whose shingles have at least this Jaccard similarity, identical texts among them.

    No pair is missed: with n shingles, two sets that similar share one of the n - ceil(threshold * n) + 1 rarest
    (prefix filtering: Bayardo et al. 2007, "Scaling up all pairs similarity search"). So only rows that share a rare
    shingle are compared.
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
    """Two splits -> for each row of the second that has a near-duplicate in the first: (row there, row here, how near).

    The nearest one is given.
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
    """A group number for each row: rows that a pair joins, directly or over others, have the same."""
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
    """Row numbers for training and for the test; no group has rows in both.

    Whole groups go to the test, in an order drawn by the seed, until it has at least `share` of the rows.
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
