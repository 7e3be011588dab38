"""The exercises of lesson 03: labels enough, when to stop, and a report that concludes too much."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.checks import Wrong, attempted, called, exercise, expect, expect_calls, parts_of

Right = dict[str, Tensor]


@exercise(
    "03.1",
    hints=[
        "Which sizes reach the target? And which of them is the smallest?",
        "curve.items() gives pairs (labels, accuracy). Collect the labels of those with accuracy >= target; the list "
        "may be empty, and then min() would fail.",
        "return min((size for size, accuracy in curve.items() if accuracy >= target), default=None)",
    ],
)
def labels_for(answer: Callable) -> None:
    """answer(curve, target): the fewest labels whose accuracy reaches the target, or None."""
    cases = (
        (({25: 0.6, 100: 0.8, 50: 0.7}, 0.7), 50),
        (({200: 0.9, 25: 0.6, 100: 0.85}, 0.8), 100),
        (({25: 0.6, 50: 0.8, 100: 0.75}, 0.78), 50),
    )
    expect_calls(answer, "labels_for", cases)
    expect_calls(answer, "labels_for", [(({25: 0.6, 50: 0.7}, 0.9), None)], note=", as no size reaches it")


@exercise(
    "03.2",
    hints=[
        "Walk through the losses and remember where the lowest so far stands.",
        "After each loss: is it below the best so far? Then it is the new best. Else: how many passes ago was the "
        "best? If that is `patience`, stop here. Python counts from 0, the answer from 1.",
        "best = 0; for at, loss in enumerate(losses): if loss < losses[best]: best = at; "
        "if at - best >= patience: return at + 1, best + 1. After the loop: return len(losses), best + 1",
    ],
)
def stop_and_keep(answer: Callable) -> None:
    """answer(losses, patience): the pass after which training stops, and the pass that is kept, from 1."""
    cases = (
        (([0.6, 0.5, 0.55, 0.52, 0.4], 2), (4, 2)),
        (([0.6, 0.5, 0.4, 0.3], 2), (4, 4)),
        (([0.5, 0.6, 0.4, 0.7, 0.6, 0.5, 0.1], 3), (6, 3)),
        (([0.5, 0.6], 1), (2, 1)),
        (([0.5, 0.5, 0.5, 0.4], 2), (3, 1)),
    )
    for (losses, patience), wanted in cases:
        name = called("stop_and_keep", (losses, patience))
        got = parts_of(answer(list(losses), patience), 2, f"{name} should be two numbers")
        mistakes = {"that counts from 0; count from 1": [number - 1 for number in wanted]}
        expect(name, list(got), list(wanted), mistakes=mistakes, note=" (stop after the first, keep the second)")


@exercise(
    "03.3",
    hints=[
        "On which rows is the score computed? And what would another three hundred rows have said?",
        "Use the test rows. The two models answered the same rows, so draw them in pairs: paired_bootstrap gives an "
        "interval of the difference. If 0 lies inside it, the data do not say which is better.",
        'gap = paired_bootstrap(first["test"], second["test"]); "first" if gap.low > 0, "second" if gap.high < 0, '
        'else "neither"',
    ],
)
def careful_report(answer: Callable) -> None:
    """answer(first, second): split -> (rows,) of 0/1; "first", "second" or "neither"."""
    by_heart, poor, good = _right(300, 300), _right(200, 300), _right(270, 300)
    close, closer = _right(255, 300), _right(256, 300, shift=7)
    for first, second, wanted, why in (
        (
            {"train": by_heart, "test": poor},
            {"train": poor, "test": good},
            "second",
            "the first knows its training rows by heart, and is far worse on the test rows",
        ),
        ({"train": poor, "test": good}, {"train": good, "test": poor}, "first", "it is far better on the test rows"),
        (
            {"train": good, "test": close},
            {"train": good, "test": closer},
            "neither",
            "255 against 256 of 300 right is no difference that other rows would show again",
        ),
        (
            {"train": good, "test": closer},
            {"train": by_heart, "test": close},
            "neither",
            "256 against 255 of 300 right is no difference that other rows would show again",
        ),
    ):
        got = attempted(answer(first, second))
        if got not in ("first", "second", "neither"):
            raise Wrong(f'it should return "first", "second" or "neither", not {got!r}')
        if got != wanted:
            raise Wrong(f'it says "{got}" where it should say "{wanted}": {why}')


def _right(count: int, rows: int, shift: int = 0) -> Tensor:
    """`count` of `rows` right, spread evenly, so that models err on different rows."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(shift))
    right = torch.zeros(rows, dtype=torch.double)
    right[order[:count]] = 1.0
    return right
