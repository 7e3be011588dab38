"""Answers to the exercise of lesson 00: a right one, and mistakes with what the check says to them."""

from __future__ import annotations


def accuracy(predictions, labels):
    return sum(guess == truth for guess, truth in zip(predictions, labels, strict=True)) / len(labels)


RIGHT = {"00.1": accuracy}

MISTAKES = [
    ("00.1", lambda predictions, labels: accuracy(predictions, labels) * len(labels), "not which share"),
    ("00.1", lambda predictions, labels: 1 - accuracy(predictions, labels), "should be 1, not 0"),
    ("00.1", lambda predictions, labels: 1.0, "should be 0.5"),
    ("00.1", lambda predictions, labels: None, "is a return missing"),
]
