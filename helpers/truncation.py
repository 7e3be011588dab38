"""How many texts were too long for the model, and lost their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

__all__ = ["Truncation", "tell_truncated", "truncated"]


@dataclass(frozen=True)
class Truncation:
    """Of `rows` texts, `cut` were longer than `max_length` tokens, and only their first ones are read."""

    rows: int
    cut: int
    max_length: int

    @property
    def share(self) -> float:
        """The share of texts that lost their end; 0 when there are none."""
        return self.cut / self.rows if self.rows else 0.0

    def __str__(self) -> str:
        """'3 of 500 texts (0.6 %) are longer than 256 tokens; what comes after is not read.'"""
        verb = "is" if self.cut == 1 else "are"
        return (
            f"{self.cut:,} of {self.rows:,} texts ({100 * self.share:.1f} %) {verb} longer than {self.max_length} "
            "tokens; what comes after is not read."
        )


def truncated(
    texts: Sequence[str], input_ids: Sequence[Sequence[int]], tokenizer: Any, max_length: int = 256
) -> Truncation:
    """Count the texts that `helpers.batches.tokenize` cut at `max_length`.

    Only a text whose tokens fill all places can have been cut, so only those are tokenized once more.

    Raises:
        ValueError: when texts and tokens are not of the same rows.
    """
    full = [text for text, ids in zip(texts, input_ids, strict=True) if len(ids) >= max_length]
    whole = tokenizer(full)["input_ids"] if full else []
    return Truncation(len(input_ids), sum(len(ids) > max_length for ids in whole), max_length)


def tell_truncated(dataset: Dataset, tokenizer: Any, max_length: int = 256) -> Dataset:
    """Print how many texts of a tokenized dataset (`text`, `input_ids`) lost their end, if any did; returns it."""
    found = truncated(dataset["text"], dataset["input_ids"], tokenizer, max_length)
    if found.cut:
        print(found)
    return dataset
