"""How many texts lost their end: exactly, without tokenizing everything twice."""

import pytest
from datasets import Dataset

from helpers.truncation import count_truncated, tell_truncated


class Words:
    """One token a word; counts how many texts it was asked for."""

    asked = 0

    def __call__(self, texts, **_):
        self.asked += len(texts)
        return {"input_ids": [list(range(len(text.split()))) for text in texts]}


def test_only_longer_texts_count_and_only_full_ones_are_read_again(capsys):
    tokenizer, texts = Words(), ["a b", "a b c", "a b c d", "a b c d e"]
    ids = [row[:3] for row in tokenizer(texts)["input_ids"]]
    tokenizer.asked = 0
    assert (count_truncated(texts, ids, tokenizer, max_length=3), tokenizer.asked) == (2, 3)
    tell_truncated(Dataset.from_dict({"text": texts, "input_ids": ids}), tokenizer, max_length=3)
    said = capsys.readouterr().out
    assert said == "2 of 4 texts (50.0 %) are longer than 3 tokens; what comes after is not read.\n"


@pytest.mark.parametrize(("positions", "offered"), [(512, "up to 512 reads more"), (3, ""), (10**30, "")])
def test_more_is_offered_where_the_model_has_positions_for_it(positions, offered, capsys):
    tokenizer = Words()
    tokenizer.model_max_length = positions
    tell_truncated(Dataset.from_dict({"text": ["a b c d"], "input_ids": [[0, 1, 2]]}), tokenizer, max_length=3)
    said = capsys.readouterr().out
    assert offered in said and said.endswith(", and takes longer.\n" if offered else "is not read.\n")


def test_no_rows_and_unequal_rows():
    assert count_truncated([], [], Words()) == 0
    with pytest.raises(ValueError, match="shorter"):
        count_truncated(["a", "b"], [[1]], Words())
