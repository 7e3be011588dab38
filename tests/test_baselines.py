"""The baselines: what they learn, what they cannot, and what they refuse."""

from __future__ import annotations

import pytest

from helpers.baselines import bag_of_words, majority
from helpers.runtime import UserError

TEXTS = ["a fine film", "a dull film", "fine acting", "dull acting"]
LABELS = [1, 0, 1, 0]


def test_the_majority_is_the_commonest_label_and_the_smallest_of_equals():
    assert majority([1, 0, 1]) == 1
    assert majority([2, 1, 2, 1]) == 1
    with pytest.raises(UserError, match="no training rows"):
        majority([])


def test_words_that_decide_are_learned():
    words = bag_of_words(TEXTS, LABELS)
    assert words.predict(["a fine story", "a dull story"]).tolist() == [1, 0]


def test_word_pairs_are_seen_and_longer_order_is_not():
    features = bag_of_words(TEXTS, LABELS)[0].get_feature_names_out()
    assert "dull film" in features
    assert all(len(feature.split()) <= 2 for feature in features)


def test_more_than_two_classes_work():
    words = bag_of_words(["red apple", "green leaf", "blue sea"] * 5, [0, 1, 2] * 5)
    assert words.predict(["blue", "red"]).tolist() == [2, 0]


def test_one_class_is_refused_in_words():
    with pytest.raises(UserError, match="single class"):
        bag_of_words(["a", "b"], [1, 1])
