"""Figures of lesson 04: how sure a model is of its answers, on films that it read about and on others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from helpers.plotting import INK, PALETTE, PERCENT, Figure, panels

COLOURS = ("blue", "orange", "green", "purple")
BINS = np.linspace(0.0, 1.0, 26).tolist()


def confidences(groups: Mapping[str, Tensor], threshold: float) -> Figure:
    """One histogram per group over the probability of the answers, the threshold as a line through all.

    groups: name -> probabilities from 0 to 1, (rows,).
    """
    figure, plots = panels(7.4, 1.6 * len(groups) + 0.7, rows=len(groups))
    said = []
    for index, (plot, (name, values)) in enumerate(zip(plots, groups.items(), strict=True)):
        weights = np.full(len(values), 1 / max(1, len(values)))
        plot.hist(values.numpy(), BINS, weights=weights, color=PALETTE[COLOURS[index % len(COLOURS)]])
        plot.axvline(threshold, color=INK, linestyle="--")
        plot.set(xlim=(0, 1), ylabel="share of answers")
        plot.yaxis.set_major_formatter(PERCENT)
        share = f"{name}: {(values >= threshold).double().mean():.0%} at or above"
        plot.set_title(f"{share} {threshold:.2f}", loc="left", color=INK)
        said.append(f"{share}, half of the answers above {values.median():.2f}")
    plots[-1].set_xlabel("the model's own probability of its whole answer")
    heading = f"The model's probability of its own answers, against a threshold of {threshold:.2f}."
    figure.alt = f"{heading} {'; '.join(said)}."
    return figure
