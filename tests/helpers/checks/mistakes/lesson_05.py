"""Answers to the exercises of lesson 05: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import math

import torch


def prefers(a, b):
    return 1 / (1 + math.exp(b - a))


def leave_one_out(rewards):
    return rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def rewards_of(place="last", sign=1.0):
    """The token rewards of exercise 05.3 with one thing done wrongly."""

    def mended(scores, log_probs, reference, mask, kl_coef):
        rewards = -sign * kl_coef * (log_probs - reference) * mask
        last = mask.sum(dim=1) - 1 if place == "last" else torch.full((len(scores),), mask.shape[1] - 1)
        rewards[torch.arange(len(scores)), last] += scores
        return rewards

    return mended


RIGHT = {"05.1": prefers, "05.2": leave_one_out, "05.3": rewards_of()}


MISTAKES = [
    ("05.1", lambda a, b: prefers(b, a), "how often B is preferred"),
    ("05.1", lambda a, b: -math.log(prefers(a, b)) if a != b else 0.5, "that is the loss"),
    ("05.1", lambda a, b: a - b, r"prefers_a\(0.0, 0.0\) should be 0.5, not 0"),
    ("05.2", lambda r: r - r.mean(dim=1, keepdim=True), "the answer itself included"),
    ("05.2", lambda r: r - r.mean(), "other wishes too"),
    ("05.2", lambda r: leave_one_out(r).flatten(), r"shape \(3, 4\)"),
    ("05.3", rewards_of(place="column"), "still a reward in the padding"),
    ("05.3", rewards_of(sign=-1.0), "the wrong sign"),
    ("05.3", rewards_of(sign=0.0), "the KL penalty is gone"),
]
