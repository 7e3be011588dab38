"""How many texts were too long for the model, and lost their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset


def count_truncated(
    texts: Sequence[str], input_ids: Sequence[Sequence[int]], tokenizer: Any, max_length: int = 256
) -> int:
    """How many of the texts `helpers.batches.tokenize` cut at `max_length`.

    Only a text whose tokens fill all positions can have been cut, so only those are tokenized once more.

    Raises:
        ValueError: when texts and tokens are not of the same rows.
    """
    full = [text for text, ids in zip(texts, input_ids, strict=True) if len(ids) >= max_length]
    whole = tokenizer(full)["input_ids"] if full else []
    return sum(len(ids) > max_length for ids in whole)


def tell_truncated(dataset: Dataset, tokenizer: Any, max_length: int = 256) -> Dataset:
    """Print how many texts of a tokenized dataset (`text`, `input_ids`) lost their end, if any did; returns it."""
    count = count_truncated(dataset["text"], dataset["input_ids"], tokenizer, max_length)
    if count:
        share, verb = 100 * count / len(dataset), "is" if count == 1 else "are"
        said = f"{count:,} of {len(dataset):,} texts ({share:.1f} %) {verb} longer than {max_length} tokens"
        print(f"{said}; what comes after is not read.")
    return dataset
