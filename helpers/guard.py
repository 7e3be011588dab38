"""Reports in one sentence that a training run learned nothing; `helpers.record` also adds it to the run's record."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.intervals import Interval

STUCK = 0.98  # if the loss stays above this share of a constant guess's loss, nothing was learned
REMEDY = "Try a tenth of {rate}; if that changes nothing, try ten times as much, or train longer."
NOTICES: list[str] = []  # the sentences that this run has printed, in order


def tell(sentence: str) -> str:
    """Print a sentence, unless it was printed before, and keep it for the run's page. Returns the sentence."""
    if sentence not in NOTICES:
        NOTICES.append(sentence)
        print(sentence)
    return sentence


def constant_loss(labels: Sequence[int]) -> float:
    """Return the loss in nats of the best constant guess, which is the entropy of the label distribution."""
    shares = [count / len(labels) for count in Counter(labels).values()]
    return -sum(share * math.log(share) for share in shares)


def tell_stuck(title: str, losses: Sequence[float], labels: Sequence[int], epochs: int, rate: float) -> str:
    """Print and return a sentence if the final training loss is no lower than a constant guess's; else return "".

    Args:
        losses: one per step, of all epochs. Uses the mean of the last epoch, or the second half of a single epoch.
        labels: the labels of the training rows.
        rate: the learning rate, which the suggested remedy names.
    """
    last = losses[-max(1, len(losses) // max(epochs, 2)) :]
    floor, reached = constant_loss(labels), sum(last) / len(last)
    if len(set(labels)) < 2 or reached < STUCK * floor:
        return ""
    said = f"{title}: the training loss ended at {reached:.3f}, no lower than the {floor:.3f} of a constant guess, so"
    return tell(f"{said} nothing was learned. {REMEDY.format(rate=f'the learning rate {rate:g}')}")


def tell_chance(title: str, accuracy: Interval, labels: Sequence[int]) -> str:
    """Print and return a sentence if the accuracy is not above the most frequent class's share; else return ""."""
    share = max(Counter(labels).values()) / len(labels)
    if accuracy.low > share or share == 1:
        return ""
    said = f"{title}: the accuracy {accuracy.value:.3f} is at chance: always answering the most frequent class gives"
    return tell(f"{said} {share:.3f}. {REMEDY.format(rate='the learning rate')}")
