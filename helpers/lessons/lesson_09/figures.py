"""The figures of lesson 09: differences between variants with their intervals, and losses over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, axes

COLOURS = ("blue", "orange", "green", "purple")


def differences(series: Mapping[str, Mapping[str, Interval]], against: str) -> Figure:
    """Differences of accuracy with their intervals; series: whose figures -> variant -> difference, in one order.

    against: the title of what is subtracted. A bar that crosses the line at zero tells nothing apart.
    """
    names = list(next(iter(series.values())))
    figure, ax = axes(7.6, 1.3 + 0.55 * len(names))
    for index, (whose, gaps) in enumerate(series.items()):
        colour, shift = PALETTE[COLOURS[index]], 0.14 - 0.28 * index if len(series) > 1 else 0.0
        rows = [len(names) - 1 - row + shift for row in range(len(names))]
        ax.hlines(
            rows, [gaps[n].low for n in names], [gaps[n].high for n in names], color=colour, linewidth=4, alpha=0.35
        )
        ax.plot([gaps[n].value for n in names], rows, "os"[index % 2], color=colour, label=whose)
    ax.axvline(0.0, color=INK, linewidth=1)
    ax.set_yticks(range(len(names)), list(reversed(names)))
    ax.set_ylim(-0.5, len(names) - 0.5)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}" if abs(value) > 1e-9 else "0"))
    ax.set_xlabel(f"points of accuracy against {against}, with 95 % interval")
    figure.legend(loc="outside lower center", ncols=len(series), frameon=False)
    return figure


def differences_in_words(series: Mapping[str, Mapping[str, Interval]], against: str) -> str:
    """The same figure for whoever cannot see it."""
    said = [
        f"{whose}: " + ", ".join(f"{name} {gap:+.3f}" for name, gap in gaps.items()) for whose, gaps in series.items()
    ]
    return f"Difference of accuracy against {against}, with 95 % interval. " + "; ".join(said) + "."


def losses(curves: Mapping[str, Sequence[float]], lines: Mapping[str, float], window: int = 9) -> Figure:
    """Training losses over steps, pale as they are and bold as a running mean; lines: name -> a loss to compare."""
    figure, ax = axes(7.0, 3.4)
    for index, (name, values) in enumerate(curves.items()):
        colour = PALETTE[COLOURS[index]]
        ax.plot(range(1, len(values) + 1), values, color=colour, alpha=0.25, linewidth=1)
        ax.plot(range(1, len(values) + 1), running_mean(values, window), color=colour, linewidth=2, label=name)
    for name, value in lines.items():
        ax.axhline(value, color=PALETTE["grey"], linestyle="--", linewidth=1.2)
        ax.annotate(name, (1.0, value), (-4, 22), xycoords=("axes fraction", "data"), textcoords="offset points",
                    ha="right", color=INK, fontsize=9)  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_xlabel("step")
    ax.set_ylabel("training loss")
    ax.legend(frameon=False, loc="lower left")
    return figure


def losses_in_words(curves: Mapping[str, Sequence[float]], lines: Mapping[str, float]) -> str:
    """The same figure for whoever cannot see it."""
    said = [
        f"{name} from {values[0]:.2f} to {np.mean(values[-9:]):.2f} (mean of the last steps)"
        for name, values in curves.items()
    ]
    said += [f"{name} is {value:.2f}" for name, value in lines.items()]
    return "Training loss over steps: " + "; ".join(said) + "."


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of up to `window` values around each place, fewer at the two ends."""
    half = window // 2
    return [float(np.mean(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]
