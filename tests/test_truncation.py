"""How many texts lost their end: exactly, without tokenizing everything twice."""

import pytest

from helpers.truncation import Truncation, truncated


class Words:
    """One token a word; counts how many texts it was asked for."""

    asked = 0

    def __call__(self, texts, **_):
        self.asked += len(texts)
        return {"input_ids": [list(range(len(text.split()))) for text in texts]}


def test_only_longer_texts_count_and_only_full_ones_are_read_again():
    tokenizer, texts = Words(), ["a b", "a b c", "a b c d", "a b c d e"]
    ids = [row[:3] for row in tokenizer(texts)["input_ids"]]
    tokenizer.asked = 0
    found = truncated(texts, ids, tokenizer, max_length=3)
    assert (found, tokenizer.asked, found.share) == (Truncation(4, 2, 3), 3, 0.5)
    assert str(found) == "2 of 4 texts (50.0 %) are longer than 3 tokens; what comes after is not read."


def test_no_rows_and_unequal_rows():
    assert truncated([], [], Words()).share == 0
    with pytest.raises(ValueError, match="shorter"):
        truncated(["a", "b"], [[1]], Words())
