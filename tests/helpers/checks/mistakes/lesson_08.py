"""Answers to the exercises of lesson 08: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from helpers.lessons.lesson_08.experiment import factors


def last_saving_rank(inputs, outputs):
    return (inputs * outputs - 1) // (inputs + outputs)


def branch(scale):
    def forward(x, base, lora_A, lora_B, alpha):
        return base(x) + linear(linear(x, lora_A), lora_B) * scale(alpha, len(lora_A))

    return forward


def random_factors(change, rank):
    return torch.randn(len(change), rank), torch.randn(rank, change.shape[1])


RIGHT = {"08.1": factors, "08.2": last_saving_rank, "08.3": branch(lambda alpha, rank: alpha / rank)}


MISTAKES = [
    ("08.2", lambda i, o: i * o // (i + o), r"last_saving_rank\(128, 128\) should be 63, not 64"),
    ("08.2", lambda i, o: min(i, o), r"should be 63, not 128"),
    ("08.1", random_factors, r"B @ A for a \(6, 4\) change at rank 1"),
    ("08.1", lambda change, rank: factors(change, rank)[::-1], r"B should have shape \(6, 1\)"),
    ("08.1", lambda change, rank: change, "should return two matrices"),
    ("08.3", branch(lambda alpha, rank: alpha), "output at rank 2"),
    ("08.3", branch(lambda alpha, rank: alpha / rank**0.5), "output at rank 2"),
    ("08.3", lambda x, base, *_: base(x), "output at rank 1"),
]
