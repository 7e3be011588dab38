"""The exercises of lesson 00: accuracy, cross-entropy, and an accuracy over batches of different sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from helpers.checks import Wrong, exercise, expect, returned


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


@exercise(
    "00.2",
    hints=[
        "softmax over the last dimension makes probabilities of the logits; log_softmax also takes their logarithm.",
        "Row i needs the entry in column labels[i]: index with [torch.arange(len(labels)), labels].",
        "return -logits.log_softmax(dim=-1)[torch.arange(len(labels)), labels].mean()",
    ],
)
def cross_entropy(answer: Callable) -> None:
    """answer(logits, labels): (batch, classes) and (batch,); the mean cross-entropy as PyTorch computes it."""
    draws = torch.Generator().manual_seed(0)
    cases = [
        ("logits [[2, 0]] and label 0", torch.tensor([[2.0, 0.0]]), torch.tensor([0])),
        ("logits [[2, 0], [1, 3]] and labels 1, 1", torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([1, 1])),
        ("five random rows of three classes", torch.randn(5, 3, generator=draws), torch.tensor([2, 0, 1, 1, 2])),
        ("logits [[200, 0]] and label 1", torch.tensor([[200.0, 0.0]]), torch.tensor([1])),
    ]
    for title, logits, labels in cases:
        got = returned(answer(logits.clone(), labels.clone()), "a tensor with one number")
        right = logits.log_softmax(dim=-1)[torch.arange(len(labels)), labels]
        mistakes = {
            "the sign is the other way round: a loss is large when the model is wrong": right.mean(),
            "that is the sum over the batch, not the mean": -right.sum(),
            "that is the loss of each row: take their mean": -right,
            "take the logarithm of the right class's probability": 1 - right.exp().mean(),
            "that is the mean over all classes: take the right one of each row": -logits.log_softmax(dim=-1).mean(),
        }
        if title.startswith("logits [[200") and not torch.isfinite(torch.as_tensor(got)).all():
            raise Wrong(f"your loss of {title} is {got}: softmax gives 0, and log(0) is -inf; use log_softmax")
        expect(f"your loss of {title}", got, nn.functional.cross_entropy(logits, labels), 1e-4, mistakes=mistakes)


@exercise(
    "00.3",
    hints=[
        "The last batch can be smaller than the others, and its reviews then count for more.",
        "Add up the right answers of all batches, add up the rows of all batches, and divide once.",
        "return sum(p == y for b in batches for p, y in zip(*b)) / sum(len(y) for _, y in batches)",
    ],
)
def accuracy_over_batches(answer: Callable) -> None:
    """answer(batches): (predictions, labels) for each batch; the accuracy over all rows."""
    for predictions, labels in (([1, 1, 1, 0, 0], [1, 1, 1, 1, 1]), ([0, 1, 0, 1, 1], [0, 1, 1, 0, 0])):
        right = sum(guess == truth for guess, truth in zip(predictions, labels, strict=True))
        for size in (5, 4, 3, 2):
            batches = [(predictions[at : at + size], labels[at : at + size]) for at in range(0, 5, size)]
            mistakes = {
                "each batch counts the same there, however few rows it has": _mean_of_shares(batches),
                "that is how many are right, not which share": right,
            }
            expect(f"the accuracy over {batches}", answer(list(batches)), right / 5, mistakes=mistakes)


def _mean_of_shares(batches: Sequence[tuple[list[int], list[int]]]) -> float:
    shares = [sum(p == y for p, y in zip(*batch, strict=True)) / len(batch[1]) for batch in batches]
    return sum(shares) / len(shares)
