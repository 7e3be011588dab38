"""Counts what a model cannot read of texts: truncated ends, and tokens that its tokenizer does not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

MAX_LENGTH = 256  # default maximum number of tokens per text


def count_truncated(
    texts: Sequence[str], input_ids: Sequence[Sequence[int]], tokenizer: Any, max_length: int = MAX_LENGTH
) -> int:
    """Return the number of texts that `helpers.batches.tokenize` truncated to `max_length`.

    Only texts with `max_length` tokens can be truncated, so only those are tokenized again.

    Raises:
        ValueError: when `texts` and `input_ids` have different lengths.
    """
    full = [text for text, ids in zip(texts, input_ids, strict=True) if len(ids) >= max_length]
    whole = tokenizer(full)["input_ids"] if full else []
    return sum(len(ids) > max_length for ids in whole)


def tell_truncated(dataset: Dataset, tokenizer: Any, max_length: int = MAX_LENGTH) -> Dataset:
    """Print how many texts of a tokenized dataset (`text`, `input_ids`) were truncated, if any; return the dataset.

    The message also says if the model could read more tokens. A second one reports texts of mostly unknown tokens.
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
    """Return the rows in which more than half of the tokens are unknown, so that the model cannot read them."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:  # a byte-level tokenizer can encode every text
        return []
    special = set(tokenizer.all_special_ids)
    found = []
    for row, ids in enumerate(input_ids):
        missed = list(ids).count(unknown)
        if missed and 2 * missed > missed + sum(token not in special for token in ids):
            found.append(row)
    return found


def tell_unknown(input_ids: Sequence[Sequence[int]], tokenizer: Any) -> str:
    """Return a sentence if more than a tenth of the texts consist mostly of unknown tokens, else ""."""
    count = len(mostly_unknown(input_ids, tokenizer))
    if 10 * count <= len(input_ids):
        return ""
    said = f"{count:,} of {len(input_ids):,} texts consist mostly of tokens that the model does not know"
    return f"{said}; choose a model that was trained on this language."
