"""Answers to the exercises of lesson 00: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import torch
from torch.nn import functional


def accuracy(predictions, labels):
    return sum(guess == truth for guess, truth in zip(predictions, labels, strict=True)) / len(labels)


def log_probabilities(logits, labels):
    return logits.log_softmax(dim=-1)[torch.arange(len(labels)), labels]


def over_batches(batches):
    return sum(sum(p == y for p, y in zip(*batch, strict=True)) for batch in batches) / sum(len(b[1]) for b in batches)


def mean_of_shares(batches):
    shares = [accuracy(*batch) for batch in batches]
    return sum(shares) / len(shares)


RIGHT = {"00.1": accuracy, "00.2": functional.cross_entropy, "00.3": over_batches}

MISTAKES = [
    ("00.1", lambda predictions, labels: accuracy(predictions, labels) * len(labels), "not which share"),
    ("00.1", lambda predictions, labels: 1 - accuracy(predictions, labels), "should be 1, not 0"),
    ("00.1", lambda predictions, labels: 1.0, "should be 0.5"),
    ("00.1", lambda predictions, labels: None, "is a return missing"),
    ("00.2", lambda logits, labels: log_probabilities(logits, labels).mean(), "the sign is the other way round"),
    ("00.2", lambda logits, labels: -log_probabilities(logits, labels).sum(), "not the mean"),
    ("00.2", lambda logits, labels: -log_probabilities(logits, labels), "take their mean"),
    ("00.2", lambda logits, labels: -logits.log_softmax(dim=-1).mean(), "take the right one of each row"),
    ("00.2", lambda logits, labels: functional.nll_loss(logits.softmax(dim=-1).log(), labels), "use log_softmax"),
    ("00.2", lambda logits, labels: 1 - log_probabilities(logits, labels).exp().mean(), "take the logarithm"),
    ("00.2", lambda logits, labels: None, "it returns None"),
    ("00.3", mean_of_shares, "each batch counts the same"),
    ("00.3", lambda batches: over_batches(batches) * 5, "not which share"),
    ("00.3", lambda batches: accuracy(*batches[0]), "should be 0.6"),
]
