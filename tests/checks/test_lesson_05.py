"""The exercises of lesson 05: the answer passes, a planted mistake is named, a blank says so."""

from __future__ import annotations

import math
import re

import pytest
import torch

from helpers.checks.registry import names, verdict


def prefers(a, b):
    return 1 / (1 + math.exp(b - a))


def leave_one_out(rewards):
    return rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def rewards_of(place="last", sign=1.0):
    """The token rewards of exercise 05.3 with one thing done wrongly."""

    def mended(scores, log_probs, reference, mask, kl_weight):
        rewards = -sign * kl_weight * (log_probs - reference) * mask
        last = mask.sum(dim=1) - 1 if place == "last" else torch.full((len(scores),), mask.shape[1] - 1)
        rewards[torch.arange(len(scores)), last] += scores
        return rewards

    return mended


ANSWERS = {"05.1": prefers, "05.2": leave_one_out, "05.3": rewards_of()}


@pytest.mark.parametrize("name", list(ANSWERS))
def test_the_right_answer_passes(name):
    assert verdict(name, ANSWERS[name]).passed, verdict(name, ANSWERS[name]).text


def test_every_exercise_is_known():
    assert names("05") == list(ANSWERS)


@pytest.mark.parametrize("name", list(ANSWERS))
@pytest.mark.parametrize("blank", [..., lambda *_: ...], ids=["dots", "a function that returns dots"])
def test_a_blank_is_not_attempted(name, blank):
    assert verdict(name, blank).state == "not attempted"


@pytest.mark.parametrize("name", list(ANSWERS))
@pytest.mark.parametrize("answer", [None, 3, "text", lambda: 1, lambda *_: 1 / 0, lambda *_: None])
def test_nonsense_is_wrong_and_raises_nothing(name, answer):
    assert verdict(name, answer).state == "wrong"


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("05.1", lambda a, b: prefers(b, a), "how often B is preferred"),
        ("05.1", lambda a, b: -math.log(prefers(a, b)) if a != b else 0.5, "that is the loss"),
        ("05.1", lambda a, b: a - b, r"prefers_a\(0.0, 0.0\) should be 0.5, not 0"),
        ("05.2", lambda r: r - r.mean(dim=1, keepdim=True), "the answer itself included"),
        ("05.2", lambda r: r - r.mean(), "other wishes too"),
        ("05.2", lambda r: leave_one_out(r).flatten(), r"shape \(3, 4\)"),
        ("05.3", rewards_of(place="column"), "still a reward in the padding"),
        ("05.3", rewards_of(sign=-1.0), "the wrong sign"),
        ("05.3", rewards_of(sign=0.0), "the KL penalty is gone"),
    ],
)
def test_a_planted_mistake_is_named(name, answer, said):
    found = verdict(name, answer)
    assert found.state == "wrong"
    assert re.search(said, found.text), found.text
