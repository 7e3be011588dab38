"""Curves: how a loss went, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from helpers.plots.style import PALETTE, axes


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of the last `window` values at each place, of fewer at the start."""
    if window < 1:
        raise ValueError(f"a window has at least one value, not {window}")
    means = []
    for end in range(1, len(values) + 1):
        tail = values[max(0, end - window) : end]
        means.append(sum(tail) / len(tail))
    return means


def loss_curve(losses: Sequence[float], window: int = 10) -> Figure:
    """Each step's loss as a thin line, its running mean as a thick one."""
    figure, plot = axes(7.0, 3.2)
    steps = range(1, len(losses) + 1)
    plot.plot(steps, losses, color=PALETTE["sky"], linewidth=0.8, label="each step")
    plot.plot(steps, running_mean(losses, window), color=PALETTE["blue"], linewidth=2, label=f"mean of {window}")
    plot.set(xlabel="step", ylabel="loss (nats per token)")
    plot.legend(frameon=False)
    return figure
