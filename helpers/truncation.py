"""What a model does not get to read of a text: an end that is too long, and tokens that it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

MAX_LENGTH = 256  # tokens of a text that a lesson reads, where nobody asks for more


def count_truncated(
    texts: Sequence[str], input_ids: Sequence[Sequence[int]], tokenizer: Any, max_length: int = MAX_LENGTH
) -> int:
    """How many of the texts `helpers.batches.tokenize` cut at `max_length`.

    Only a text whose tokens fill all positions can have been cut, so only those are tokenized once more.

    Raises:
        ValueError: when texts and tokens are not of the same rows.
    """
    full = [text for text, ids in zip(texts, input_ids, strict=True) if len(ids) >= max_length]
    whole = tokenizer(full)["input_ids"] if full else []
    return sum(len(ids) > max_length for ids in whole)


def tell_truncated(dataset: Dataset, tokenizer: Any, max_length: int = MAX_LENGTH) -> Dataset:
    """Print how many texts of a tokenized dataset (`text`, `input_ids`) lost their end, if any did; returns it.

    Where the model has positions for more tokens, that is said too.
    """
    said = tell_unknown(dataset["input_ids"], tokenizer)
    if said:
        print(said)
    count = count_truncated(dataset["text"], dataset["input_ids"], tokenizer, max_length)
    if count:
        share, verb = 100 * count / len(dataset), "is" if count == 1 else "are"
        said = f"{count:,} of {len(dataset):,} texts ({share:.1f} %) {verb} longer than {max_length} tokens"
        limit = getattr(tokenizer, "model_max_length", max_length)
        more = f" A max_length of up to {limit:,} reads more, and takes longer." if max_length < limit < 10**6 else ""
        print(f"{said}; what comes after is not read.{more}")
    return dataset


def mostly_unknown(input_ids: Sequence[Sequence[int]], tokenizer: Any) -> list[int]:
    """The rows of which more than half of the tokens are unknown to the tokenizer: its model reads nothing there."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:  # of bytes every text can be made
        return []
    special = set(tokenizer.all_special_ids)
    found = []
    for row, ids in enumerate(input_ids):
        missed = list(ids).count(unknown)
        if missed and 2 * missed > missed + sum(token not in special for token in ids):
            found.append(row)
    return found


def tell_unknown(input_ids: Sequence[Sequence[int]], tokenizer: Any) -> str:
    """One sentence when more than a tenth of the texts consist mostly of unknown tokens, else ""."""
    count = len(mostly_unknown(input_ids, tokenizer))
    if 10 * count <= len(input_ids):
        return ""
    said = f"{count:,} of {len(input_ids):,} texts consist mostly of tokens that the model does not know"
    return f"{said}; choose a model that was trained on this language."
