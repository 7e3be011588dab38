"""The figure of lesson 04: how sure a model is of its answers, on films it was told of and on films it was not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from helpers.plotting import INK, PALETTE, axes

COLOURS = ("blue", "orange", "green", "purple")
BINS = np.linspace(0.0, 1.0, 26)


def confidences(groups: Mapping[str, Tensor], threshold: float) -> Figure:
    """One histogram per group over the probability of the answers, the threshold as a line through all.

    groups: name -> probabilities from 0 to 1, (rows,).
    """
    figure, plots = axes(7.4, 1.6 * len(groups) + 0.7, rows=len(groups))
    for index, (plot, (name, values)) in enumerate(zip(np.atleast_1d(plots), groups.items(), strict=True)):
        colour = PALETTE[COLOURS[index % len(COLOURS)]]
        weights = np.full(len(values), 1 / max(1, len(values)))
        plot.hist(values.numpy(), BINS, weights=weights, color=colour)
        plot.axvline(threshold, color=INK, linestyle="--")
        plot.set(xlim=(0, 1), ylabel="share of answers")
        plot.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
        plot.set_title(f"{name}: {spoken(values, threshold):.0%} at or above {threshold:.2f}", loc="left", color=INK)
    np.atleast_1d(plots)[-1].set_xlabel("the model's own probability of its whole answer")
    return figure


def confidences_in_words(groups: Mapping[str, Tensor], threshold: float) -> str:
    """The same figure for whoever cannot see it."""
    said = "; ".join(
        f"{name}: {spoken(values, threshold):.0%} at or above, half of the answers above {values.median():.2f}"
        for name, values in groups.items()
    )
    return f"The model's probability of its own answers, against a threshold of {threshold:.2f}. {said}."


def spoken(values: Tensor, threshold: float) -> float:
    """The share of answers that are at least as sure as the threshold."""
    return (values >= threshold).double().mean().item()
