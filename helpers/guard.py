"""Says in one sentence that a training learned nothing: in the lesson at once, and by `record` on the run's page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.intervals import Interval

STUCK = 0.98  # of the loss of a constant guess: a training that still loses so much has learned nothing
REMEDY = "Try a tenth of {rate}; if that changes nothing, try ten times as much, or train longer."
NOTICES: list[str] = []  # what this run has said, in order


def tell(sentence: str) -> str:
    """Print a sentence and keep it for the run's page; returns it. The same sentence is said once."""
    if sentence not in NOTICES:
        NOTICES.append(sentence)
        print(sentence)
    return sentence


def constant_loss(labels: Sequence[int]) -> float:
    """The loss in nats of the best guess that is the same for every row: the entropy of the labels' shares."""
    shares = [count / len(labels) for count in Counter(labels).values()]
    return -sum(share * math.log(share) for share in shares)


def tell_stuck(title: str, losses: Sequence[float], labels: Sequence[int], epochs: int, rate: float) -> str:
    """Say that the training loss never fell below that of a constant guess; "" if it did.

    Args:
        losses: one per step, of all epochs. The last epoch counts, of a single one its second half.
        labels: of the training rows.
        rate: the learning rate, for the remedy.
    """
    last = losses[-max(1, len(losses) // max(epochs, 2)) :]
    floor, reached = constant_loss(labels), sum(last) / len(last)
    if len(set(labels)) < 2 or reached < STUCK * floor:
        return ""
    said = f"{title}: the training loss ended at {reached:.3f}, no lower than the {floor:.3f} of a constant guess, so"
    return tell(f"{said} nothing was learned. {REMEDY.format(rate=f'the learning rate {rate:g}')}")


def tell_chance(title: str, accuracy: Interval, labels: Sequence[int]) -> str:
    """Say that an accuracy is not above the share of the most frequent class among these labels; "" if it is."""
    share = max(Counter(labels).values()) / len(labels)
    if accuracy.low > share or share == 1:
        return ""
    said = f"{title}: the accuracy {accuracy.value:.3f} is at chance: always answering the most frequent class gives"
    return tell(f"{said} {share:.3f}. {REMEDY.format(rate='the learning rate')}")
