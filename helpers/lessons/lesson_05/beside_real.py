"""What the invented world and real text have in common: sentences whose words follow the signs of the intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helpers.intervals import Interval
from helpers.reference import Reference
from helpers.runtime import UserError

SAID = {1: "clearly above 0", 0: "not clearly different from 0", -1: "clearly below 0"}


@dataclass(frozen=True)
class Finding:
    """One difference that both worlds measured; each has its own unit."""

    question: str
    invented: Interval
    real: Interval
    invented_unit: str = ""
    real_unit: str = ""

    @property
    def agrees(self) -> bool:
        """Whether both intervals lie above 0, both below 0, or both hold 0."""
        return sign(self.invented) == sign(self.real)

    def __str__(self) -> str:
        invented, real = f"{self.invented:+.2f}{self.invented_unit}", f"{self.real:+.2f}{self.real_unit}"
        one, other = SAID[sign(self.invented)], SAID[sign(self.real)]
        said = f"both {one}" if self.agrees else f"the first is {one}, the second {other}"
        return f"{self.question}: invented world {invented}, real text {real}; {said}"


def sign(gap: Interval) -> int:
    """1 where the interval lies above 0, -1 where it lies below, 0 where it holds 0 or one run has none."""
    return int(gap.low > 0) - int(gap.high < 0)


def finding(
    question: str,
    invented: tuple[Reference, str, str],
    real: tuple[Reference, str, str],
    units: tuple[str, str] = ("", ""),
) -> Finding | None:
    """The difference of two metrics in both worlds; None where one of them was not measured.

    invented, real: the reference, a metric and the metric to subtract; "" subtracts nothing.
    """
    try:
        ours, theirs = (
            reference.gap(metric, minus) if minus else reference.interval(metric)
            for reference, metric, minus in (invented, real)
        )
    except UserError:
        return None
    return Finding(question, ours, theirs, *units)


def beside_invented(findings: Sequence[Finding | None], more: Sequence[str] = ()) -> str:
    """Markdown: what agrees with the invented world, and what does not; `more` adds sentences to the second list."""
    measured = [one for one in findings if one is not None]
    if not measured and not more:
        return "The two references have no measurement in common yet."
    lists = {
        "What agrees with the invented world": [str(one) for one in measured if one.agrees],
        "What does not": [str(one) for one in measured if not one.agrees] + list(more),
    }
    parts = [
        f"**{title}.** {'. '.join(said) if said else 'Nothing that both measured'}." for title, said in lists.items()
    ]
    return " ".join(parts)


def level(what: str, invented: Interval, real: Interval) -> str:
    """A sentence on two levels that no pairing connects: which interval lies higher, or that they overlap."""
    if invented.low > real.high:
        said = "higher in the invented world"
    elif invented.high < real.low:
        said = "higher on real text"
    else:
        said = "the intervals overlap, so neither level is clearly higher"
    return f"{what}: {invented:.2f} in the invented world, {real:.2f} on real text ({said})"


def scatter(what: str, invented: Sequence[float], real: Sequence[float]) -> str:
    """A sentence on how far the seeds lie apart in each world."""
    widths = [max(values) - min(values) for values in (invented, real)]
    said = "more in the invented world" if widths[0] > widths[1] else "at least as much on real text"
    ranges = [f"{min(values):.2f} to {max(values):.2f}" for values in (invented, real)]
    return f"{what}: {ranges[0]} over the seeds of the invented world, {ranges[1]} on real text (seeds scatter {said})"


def reward_models(pocket: Reference, real: Reference) -> str:
    """Markdown for lesson 05: the reward model of the invented world beside the one of sentences that people rated."""
    findings = [
        finding(
            "Share of pairs ranked right, reward model minus bag of words",
            (pocket, "reward_accuracy_held_out", "reward_accuracy_bag_of_words"),
            (real, "accuracy_model_all", "accuracy_words_all"),
        ),
        finding(
            "Best of 8 by the reward model, minus a random pick",
            (pocket, "true_reward_best_of_8", "true_reward_best_of_1"),
            (real, "rating_best_of_8_model", "rating_mean"),
            (" of requests satisfied", " points of rating"),
        ),
    ]
    name, other = "reward_accuracy_held_out", "accuracy_model_all"
    more = [
        level("Share of pairs ranked right", pocket.interval(name), real.interval(other)),
        scatter("The same share, lowest to highest", pocket.metrics[name], real.metrics[other]),
    ]
    return beside_invented(findings, more)
