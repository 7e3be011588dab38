"""Figures of lesson 02: learning rates over steps. Its accuracies are drawn by `helpers.plotting`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from helpers.plotting import PALETTE, Figure, axes

COLOURS = ("blue", "orange", "green", "purple")


def learning_rates(rates: Mapping[str, Sequence[float]]) -> Figure:
    """The learning rate at every step; rates: name -> one value per step."""
    figure, plot = axes(7.0, 2.8)
    for index, (name, values) in enumerate(rates.items()):
        colour, style = PALETTE[COLOURS[index % 4]], "-" if index % 2 == 0 else "--"
        plot.plot(range(1, len(values) + 1), values, style, color=colour, linewidth=2, label=name)
    plot.set(xlabel="step", ylabel="learning rate")
    plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    plot.set_ylim(bottom=0)
    plot.legend(frameon=False)
    return figure
