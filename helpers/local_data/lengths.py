"""How many tokens a learner's texts have."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

LOOKED_AT = 20_000  # texts of a role: enough for a share, and done in seconds
AT_ONCE = 500


@dataclass(frozen=True)
class Lengths:
    """Tokens of some texts: of the shortest, the middle one, the 95th of a hundred, the longest.

    cut: the share of texts longer than `limit`. texts: how many were looked at.
    """

    shortest: int
    median: int
    high: int
    longest: int
    cut: float
    limit: int
    texts: int

    @classmethod
    def of(cls, counts: Iterable[int], limit: int) -> Lengths:
        """From the number of tokens of each text, one at least."""
        found = sorted(counts)
        at = [found[min(len(found) - 1, len(found) * share // 100)] for share in (0, 50, 95, 100)]
        return cls(*at, cut=sum(count > limit for count in found) / len(found), limit=limit, texts=len(found))

    def __str__(self) -> str:
        """'3 to 900, half of them up to 80, 95 of 100 up to 210; 4.1 % have more than 256, and are cut there'."""
        cut = f"{100 * self.cut:.1f} % have more than {self.limit}, and are cut there"
        return f"{self.shortest:,} to {self.longest:,}, median {self.median:,}, 95 of 100 up to {self.high:,}; {cut}"


def lengths_of(texts: Sequence[object], tokenizer: Any, limit: int) -> Lengths:
    """Tokens of each text, its special ones included; of many texts, a sample."""
    if len(texts) > LOOKED_AT:
        texts = random.Random(0).sample(texts, LOOKED_AT)
    counts: list[int] = []
    for start in range(0, len(texts), AT_ONCE):
        some = [str(text) for text in texts[start : start + AT_ONCE]]
        counts += map(len, tokenizer(some, verbose=False)["input_ids"])
    return Lengths.of(counts, limit)
