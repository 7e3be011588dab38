"""Figures of lesson 12: a learner's confidence against how often their predictions were right."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.intervals import Interval, wilson
from helpers.plotting import INK, PALETTE, Figure, axes, note, spans

NONE_YET = "No prediction of yours has been scored yet. Answer some in the lessons, then run this cell again."
WIDTH = 20  # per cent of confidence in one group


def groups(pairs: Sequence[tuple[float, bool]]) -> dict[float, Interval]:
    """Mean confidence of each fifth of the scale that has predictions -> the share that was right."""
    found: dict[int, list[tuple[float, bool]]] = {}
    for sure, right in pairs:
        found.setdefault(min(int(sure) // WIDTH, 100 // WIDTH - 1), []).append((sure, right))
    return {
        sum(sure for sure, _ in part) / len(part): wilson(sum(right for _, right in part), len(part))
        for _, part in sorted(found.items())
    }


def calibration(pairs: Sequence[tuple[float, bool]]) -> Figure:
    """Share of right predictions for each level of confidence; pairs: (confidence in per cent, right)."""
    figure, plot = axes(6.0, 4.2)
    shares = groups(pairs)
    plot.plot([0, 100], [0, 1], color=PALETTE["grey"], linestyle="--", linewidth=1)
    note(plot, "as sure as right", (72, 0.72), (-6, 8), ha="right", color=PALETTE["grey"])
    values = [share.value for share in shares.values()]
    plot.errorbar(list(shares), values, spans(shares.values()), fmt="o", color=PALETTE["blue"], ecolor=INK, capsize=3)
    plot.set(xlim=(0, 100), ylim=(-0.02, 1.02), xlabel="confidence (per cent)", ylabel="share right, 95 % interval")
    said = "; ".join(f"{sure:.0f} % sure, {share.value:.0%} right" for sure, share in shares.items())
    figure.alt = f"{len(pairs)} predictions, confidence against the share that was right: {said}."
    return figure


def in_words(pairs: Sequence[tuple[float, bool]]) -> str:
    """The learner's calibration in two sentences, or that there is none yet."""
    if not pairs:
        return NONE_YET
    sure, right = sum(pair[0] for pair in pairs) / len(pairs), sum(pair[1] for pair in pairs)
    gap = sure - 100 * right / len(pairs)
    said = (
        "as sure as you were right"
        if abs(gap) < 0.5
        else f"{abs(gap):.0f} points {'more' if gap > 0 else 'less'} sure than right"
    )
    return (
        f"{right} of your {len(pairs)} scored predictions were right ({right / len(pairs):.0%}). You were {sure:.0f} % "
        f"sure on average: {said}."
    )
