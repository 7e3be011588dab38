"""Answers to the exercises of lesson 01: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import math

import torch
from torch import nn


def causal(scores):
    return (scores + torch.full_like(scores, -math.inf).triu(1)).softmax(dim=-1)


def block(hidden, heads):
    return nn.TransformerEncoderLayer(hidden, heads, 4 * hidden, 0.0, batch_first=True)


def perplexity(losses, attention_mask):
    return losses[attention_mask.bool()].mean().exp()


RIGHT = {"01.1": causal, "01.2": block, "01.3": perplexity}

MISTAKES = [
    ("01.1", lambda scores: scores.softmax(dim=-1), "looks ahead"),
    ("01.1", lambda scores: scores.softmax(dim=-1).tril(), "row 0 does not sum to 1: mask before the softmax"),
    ("01.1", lambda scores: scores[:2], r"should have shape \(5, 5\), not \(2, 5\)"),
    ("01.2", lambda hidden, heads: nn.TransformerEncoderLayer(hidden, heads), "look at each other"),
    ("01.2", lambda hidden, heads: nn.Linear(hidden, hidden), "words do not look"),
    ("01.2", lambda hidden, heads: nn.Linear(hidden, 2), r"should return shape \(3, 6, 32\), not \(3, 6, 2\)"),
    ("01.2", lambda hidden, heads: 3, "a module, not int"),
    ("01.3", lambda losses, mask: math.exp(losses.mean()), "padding is still counted"),
    ("01.3", lambda losses, mask: losses.exp()[mask.bool()].mean().item(), "mean first"),
    ("01.3", lambda losses, mask: (losses * mask).sum() / mask.sum(), "perplexity should be 5.07842, not 1.625"),
]
