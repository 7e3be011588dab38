"""The one exercise of lesson 00: what an accuracy is."""

from __future__ import annotations

from collections.abc import Callable

from helpers.checks import exercise, expect


@exercise(
    "00.1",
    hints=[
        "Go through both lists side by side: zip(predictions, labels) gives the pairs.",
        "Count the pairs whose two members are equal, then divide by how many pairs there are.",
        "return sum(guess == truth for guess, truth in zip(predictions, labels)) / len(labels)",
    ],
)
def accuracy(answer: Callable) -> None:
    """answer(predictions, labels): two lists of equal length; the share that agrees."""
    for predictions, labels in (([1, 0, 1, 1], [1, 1, 1, 0]), ([2], [2]), ([0, 1], [1, 0])):
        right = sum(guess == truth for guess, truth in zip(predictions, labels, strict=True))
        got = answer(list(predictions), list(labels))
        mistakes = {"that is how many are right, not which share": right}
        expect(f"the accuracy of {predictions} against {labels}", got, right / len(labels), mistakes=mistakes)
