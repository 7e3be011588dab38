"""Figures of lesson 09: differences between variants of LoRA with their intervals, and losses over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.ticker import FuncFormatter

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, Figure, axes, interval_rows, listing, note

COLOURS = ("blue", "orange", "green", "purple")


def differences(series: Mapping[str, Mapping[str, Interval]], against: str) -> Figure:
    """Differences of accuracy with their intervals; series: whose figures -> variant -> difference, in one order.

    against: the title of what is subtracted. A bar that crosses the line at zero tells nothing apart.
    """
    names = list(next(iter(series.values())))
    figure, plot = axes(7.6, 1.3 + 0.55 * len(names))
    interval_rows(plot, series, spread=0.28, colours=COLOURS, linewidth=4)
    plot.axvline(0.0, color=INK, linewidth=1)
    plot.set_ylim(-0.5, len(names) - 0.5)
    plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}" if abs(value) > 1e-9 else "0"))
    plot.set_xlabel(f"points of accuracy against {against}, with 95 % interval")
    figure.legend(loc="outside lower center", ncols=len(series), frameon=False)
    said = listing(series, "{key} {value:+.3f}")
    figure.alt = f"Difference of accuracy against {against}, with 95 % interval. {said}."
    return figure


def losses(curves: Mapping[str, Sequence[float]], lines: Mapping[str, float], window: int = 9) -> Figure:
    """Training losses over steps, pale as they are and bold as a running mean; lines: name -> a loss to compare."""
    figure, plot = axes(7.0, 3.4)
    said = []
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        steps, means = range(1, len(values) + 1), running_mean(values, window)
        plot.plot(steps, values, color=PALETTE[colour], alpha=0.25, linewidth=1)
        plot.plot(steps, means, color=PALETTE[colour], linewidth=2, label=name)
        said.append(f"{name} from {values[0]:.2f} to {fmean(values[-9:]):.2f} (mean of the last steps)")
    for name, value in lines.items():
        plot.axhline(value, color=PALETTE["grey"], linestyle="--", linewidth=1.2)
        note(plot, name, (1.0, value), (-4, 22), xycoords=("axes fraction", "data"), ha="right", fontsize=9)
        said.append(f"{name} is {value:.2f}")
    plot.set(xlabel="step", ylabel="training loss")
    plot.set_ylim(bottom=0)
    plot.legend(frameon=False, loc="lower left")
    figure.alt = f"Training loss over steps: {'; '.join(said)}."
    return figure


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of up to `window` values around each place, fewer at the two ends."""
    half = window // 2
    return [fmean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
