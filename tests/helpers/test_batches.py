"""Batches: every row once, little padding, the same for the same seed; splits that keep groups apart."""

from __future__ import annotations

import random

import pytest
import torch
from datasets import Dataset

from helpers.batches import (
    FeatureBatches,
    LengthGroupedSampler,
    TokenizedReviews,
    full_rows,
    length_batches,
    pad,
    sample_rows,
    tokenize,
)
from helpers.runtime import UserError


class ToyTokenizer:
    """A token per letter; number 0 pads."""

    pad_token_id = 0

    def __call__(self, texts, truncation=False, max_length=None):
        return {"input_ids": [[ord(letter) for letter in text][:max_length] for text in texts]}


def rows(count: int = 50) -> TokenizedReviews:
    return TokenizedReviews([[7] * (1 + row * 13 % 29) for row in range(count)], [row % 2 for row in range(count)])


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_every_row_comes_exactly_once(seed, shuffle):
    draw = random.Random(seed)
    lengths, size = [draw.randint(1, 99) for _ in range(draw.randint(0, 80))], draw.randint(1, 9)
    sampler = LengthGroupedSampler(lengths, size, shuffle=shuffle, seed=seed, pool=3)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert all(len(batch) == size for batch in batches[:-1]), "only the last may be incomplete"
    assert sampler.order == [row for batch in batches for row in batch]


def test_the_same_seed_gives_the_same_batches_and_each_pass_new_ones():
    lengths = [1 + row * 13 % 29 for row in range(64)]
    first, again, other = (LengthGroupedSampler(lengths, 8, shuffle=True, seed=seed) for seed in (3, 3, 4))
    passes = [list(first), list(first)]
    assert passes[0] != passes[1]
    assert passes == [list(again), list(again)]
    assert passes[0] != list(other)


def test_sorting_by_length_saves_padding():
    def padding(batches):
        return 1 - torch.cat([batch["attention_mask"].flatten() for batch in batches]).double().mean()

    collate, reviews = pad(ToyTokenizer()), rows(320)
    plain = torch.utils.data.DataLoader(reviews, batch_size=8, collate_fn=collate)
    assert padding(length_batches(reviews, collate, 8)) < 0.5 * padding(plain)


def test_loading_batches_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    list(length_batches(rows(), pad(ToyTokenizer()), 8, seed=5))
    assert torch.equal(torch.rand(1), wanted)


def test_padding_is_marked_and_on_the_right():
    batch = pad(ToyTokenizer())([{"input_ids": [5, 6, 7], "labels": 1}, {"input_ids": [8], "labels": 0}])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]


def test_a_tokenizer_without_padding_token_is_refused_in_words():
    class NoPad(ToyTokenizer):
        pad_token_id = None

    with pytest.raises(UserError, match="no padding token"):
        pad(NoPad())


def test_rows_and_labels_must_be_as_many():
    with pytest.raises(ValueError, match="2 texts, but 1 labels"):
        TokenizedReviews([[1], [2]], [0])


def test_tokenize_adds_a_column_and_cuts_long_texts(capsys):
    dataset = Dataset.from_dict({"text": ["abcdef", "ab"], "label": [1, 0]})
    found = tokenize(dataset, ToyTokenizer(), max_length=4)
    assert [len(ids) for ids in found["input_ids"]] == [4, 2]
    assert capsys.readouterr().out == "1 of 2 texts (50.0 %) is longer than 4 tokens; what comes after is not read.\n"
    reviews = TokenizedReviews.from_dataset(found)
    assert reviews.lengths == [4, 2] and reviews[1] == {"input_ids": [97, 98], "labels": 0}
    assert reviews.select([1]).labels == [0]


class Letters:
    """A tokenizer with a token for each letter."""

    model_max_length = 64

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def test_full_rows_are_the_first_long_texts_cut(capsys):
    rows = full_rows(Letters(), ["ab", "abcd", "wxyz12", "efgh"], 2, 4)
    assert ["".join(map(chr, row)) for row in rows.tolist()] == ["abcd", "wxyz"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("texts", "expected"), [(["ab", "c"], ["abca", "bcab"]), (["abcd", "e"], ["abcd", "eabc"])])
def test_full_rows_of_short_texts_hold_them_end_to_end(capsys, texts, expected):
    assert ["".join(map(chr, row)) for row in full_rows(Letters(), texts, 2, 4).tolist()] == expected
    assert capsys.readouterr().out == ("Fewer than 2 texts have 4 tokens, so texts stand end to end in these rows.\n")


def test_full_rows_longer_than_the_model_reads():
    with pytest.raises(UserError, match="model: it reads 64 tokens at most, and this needs rows of 65"):
        full_rows(Letters(), ["ab"], 2, 65)


def test_feature_batches_keep_rows_and_labels_together():
    features, labels = torch.arange(10.0).unsqueeze(1), torch.arange(10)
    batches = FeatureBatches(features, labels, 4, seed=1)
    seen = [list(batches), list(batches)]
    assert len(batches) == 3 == len(seen[0])
    for one_pass in seen:
        assert all(torch.equal(batch["features"][:, 0].long(), batch["labels"]) for batch in one_pass)
        assert sorted(torch.cat([batch["labels"] for batch in one_pass]).tolist()) == list(range(10))
    assert not torch.equal(seen[0][0]["labels"], seen[1][0]["labels"])


def many() -> Dataset:
    return Dataset.from_dict({"text": [str(row) for row in range(40)], "film": [f"f{row % 7}" for row in range(40)]})


def test_a_sample_is_drawn_by_its_seed():
    drawn = [sample_rows(many(), 10, seed)["text"] for seed in (0, 0, 1)]
    assert list(drawn[0]) == list(drawn[1]) != list(drawn[2])
    assert len(set(drawn[0])) == 10


@pytest.mark.parametrize("count", [41, 1, 0, -3])
def test_too_many_or_too_few_labels_are_refused_with_the_range(count):
    with pytest.raises(UserError, match=f"labels is {count}; choose a number from 2 to 40"):
        sample_rows(many(), count, 0)


def labelled(*labels: int) -> Dataset:
    return Dataset.from_dict({"text": [f"text {row}" for row in range(len(labels))], "label": labels})


@pytest.mark.parametrize(("labels", "count"), [([0] * 90 + [1] * 2, 4), ([0] * 60 + [1] * 60 + [2], 3), ([0, 1], 2)])
def test_a_sample_has_every_class(labels, count):
    for seed in range(5):
        drawn = sample_rows(labelled(*labels), count, seed)
        assert len(set(drawn["text"])) == count and set(drawn["label"]) == set(labels)


def test_a_sample_with_every_class_by_chance_is_the_plain_one():
    rows = labelled(*range(4), *[0, 1, 2, 3] * 30)
    plain = rows.shuffle(seed=3).select(range(60))
    assert list(sample_rows(rows, 60, 3)["text"]) == list(plain["text"])


def test_a_sample_of_fewer_rows_than_classes_has_as_many_classes_as_rows():
    drawn = sample_rows(labelled(*[0] * 50, *range(1, 30)), 5, 0)
    assert len(set(drawn["label"])) == 5 == len(drawn)


def test_a_learners_own_file_gives_all_that_it_has(capsys):
    rows = labelled(0, 1, 0, 1)
    rows.info.description = "mine.csv"
    assert sorted(sample_rows(rows, 2000, 0)["text"]) == [f"text {row}" for row in range(4)]
    assert capsys.readouterr().out == (
        "labels: 2,000 are asked for and your data have 4 to train on, so all are used.\n"
    )
    with pytest.raises(UserError, match="labels is 1; choose a number from 2 to 4"):
        sample_rows(rows, 1, 0)


@pytest.mark.parametrize("count", [2.5, "20", None, True])
def test_labels_must_be_a_whole_number(count):
    with pytest.raises(UserError, match="whole number"):
        sample_rows(many(), count, 0)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_holds_at_least_one_row(size):
    with pytest.raises(UserError, match="at least 1"):
        LengthGroupedSampler([1, 2], size, shuffle=True)
