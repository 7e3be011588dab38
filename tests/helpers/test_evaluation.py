"""Predictions in the rows' own order, accuracy, and the baselines: what they learn and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.batches import TokenizedReviews, length_batches, pad
from helpers.evaluation import accuracy, bag_of_words, counts_words, majority, predict
from helpers.runtime import UserError
from tests.helpers.test_training import Padding, toy

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


class LengthTeller(nn.Module):
    """Scores that are each row's own length, so that a mixed-up order shows."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, attention_mask, labels=None):
        length = attention_mask.sum(dim=1).float()
        return type("Output", (), {"logits": torch.stack([length, -length], dim=1) + self.anchor})


def test_predictions_come_in_the_order_of_the_rows():
    lengths = [5, 1, 9, 3, 3, 7, 2]
    rows = TokenizedReviews([[4] * length for length in lengths], list(range(7)))
    for shuffle in (False, True):
        logits, labels = predict(LengthTeller(), length_batches(rows, pad(Padding()), 2, shuffle=shuffle))
        assert logits[:, 0].tolist() == lengths
        assert labels.tolist() == list(range(7))


def test_prediction_leaves_training_mode_and_gradients_alone():
    model, batches = toy()
    model.train()
    logits, _ = predict(model, batches)
    assert logits.shape == (40, 2) and not logits.requires_grad and not model.training


def test_accuracy_counts_the_largest_score():
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 2.0]])
    assert accuracy(logits, torch.tensor([0, 1, 1, 0])) == 0.5
    with pytest.raises(UserError, match="no rows"):
        accuracy(torch.empty(0, 2), torch.empty(0))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a good film", "a bad film"], True),
        (["这部电影很好", "我不喜欢"], False),
        (["映画はとても良かった", "つまらない"], False),
        (["ภาพยนตร์ดี", "ไม่ดี"], False),
        (["이 영화는 좋다", "나쁘다"], True),  # Korean puts spaces between words
        (["!", "?"], False),
        (["a", "b"], False),
    ],
)
def test_a_bag_of_words_takes_characters_where_there_are_no_words(texts, words):
    assert counts_words(texts) == words
    assert bag_of_words(texts, [0, 1], strength=100.0).predict(texts).tolist() == [0, 1]
