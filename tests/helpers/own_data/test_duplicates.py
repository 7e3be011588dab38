"""Near-duplicates are found as a comparison of all pairs finds them, and groups stay on one side of a split."""

from __future__ import annotations

import itertools
import random

import pytest

from helpers.own_data.duplicates import (
    connected,
    grouped_split,
    jaccard,
    near_duplicates,
    shingles,
    similar_across,
)

TEXT = "the baker lost his bread in the fog and nobody in the town could find it again"


def test_shingles_and_their_similarity():
    assert shingles("One, two THREE four") == {("one", "two", "three"), ("two", "three", "four")}
    assert shingles("Two words") == {("two", "words")} and shingles("") == {()}
    assert jaccard(shingles("a b c d"), shingles("a b c e")) == pytest.approx(1 / 3)
    chinese = "这部电影非常好看我很喜欢它的音乐"
    assert len(shingles(chinese)) > 5 and jaccard(shingles(chinese), shingles(chinese[:-1])) > 0.8


def test_a_changed_word_is_near_and_another_text_is_not():
    texts = [TEXT, TEXT.replace("fog", "rain"), "quite another sentence about a mule and a kitchen", TEXT.upper() + "!"]
    found = near_duplicates(texts)
    assert [(pair.first, pair.second) for pair in found] == [(0, 1), (0, 3), (1, 3)]
    assert found[1].similarity == 1.0 and 0.5 < found[0].similarity < 1.0


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 1.0])
def test_no_pair_is_missed(threshold):
    draws = random.Random(0)
    texts = [" ".join(draws.choices("abcd", k=draws.randint(1, 9))) for _ in range(120)]
    sets = [shingles(text) for text in texts]
    wanted = [(i, j) for i, j in itertools.combinations(range(120), 2) if jaccard(sets[i], sets[j]) >= threshold]
    assert [(pair.first, pair.second) for pair in near_duplicates(texts, threshold)] == wanted


def test_across_two_splits_the_nearest_is_given():
    splits = {"train": ["something else", TEXT.replace("fog", "rain"), TEXT], "test": ["new words here", TEXT]}
    (pair,) = similar_across(splits)["train", "test"]
    assert (pair.first, pair.second, pair.similarity) == (2, 1, 1.0)
    assert similar_across({"train": [TEXT], "test": []}) == {("train", "test"): []}


def test_rows_that_are_joined_over_others_are_one_group():
    assert connected(5, [(0, 1), (3, 4), (1, 3)]) == [0, 0, 2, 0, 0]


@pytest.mark.parametrize("seed", range(4))
def test_no_group_is_on_both_sides(seed):
    groups = [random.Random(seed).choice("abcdefghij") for _ in range(200)]
    train, test = grouped_split(groups, 0.3, seed)
    assert sorted(train + test) == list(range(200)) and len(test) >= 60
    assert not {groups[row] for row in train} & {groups[row] for row in test}
    assert (train, test) == grouped_split(groups, 0.3, seed)
