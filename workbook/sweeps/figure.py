"""A sweep's figure: a parameter on the x axis, means with their 95 % intervals as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from helpers.intervals import Interval
from helpers.plotting import PALETTE, axes
from workbook.sweeps.results import STAR, cells, cells_by_ending, has_endings

Points = list[tuple[Any, Interval]]


def lines_of(path: Path, drawing: dict) -> dict[str, Points]:
    """Line's name -> its points (x, mean with interval), from the runs' table."""
    metrics, apart = drawing["metrics"], [drawing["lines"]] if drawing.get("lines") else []
    # The value on the x axis is the last of each cell's values.
    if has_endings(metrics):
        found = cells_by_ending(path, apart, metrics)
    else:
        found = cells(path, [*apart, drawing["x"]], metrics)
    made: dict[str, Points] = {}
    for cell in found:
        for metric, interval in cell.means.items():
            if interval is not None:
                line = [f"{name} {value}" for name, value in zip(apart, cell.values, strict=False)]
                made.setdefault(_name(metric, line, list(cell.means)), []).append((cell.values[-1], interval))
    return made


def draw(lines: dict[str, Points], x: str, quantity: str, log: bool, title: str) -> Figure:
    """Draw lines with error bars for their intervals; x values that are not numbers are spaced evenly."""
    figure, plot = axes(7.4, 4.2)
    values = list(dict.fromkeys(value for points in lines.values() for value, _ in points))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    for place, (name, points) in enumerate(lines.items()):
        where = [value if numeric else values.index(value) for value, _ in points]
        means = [interval.value for _, interval in points]
        half = [0.0 if math.isnan(interval.low) else interval.value - interval.low for _, interval in points]
        colour = list(PALETTE.values())[place % len(PALETTE)]
        style = "-" if place < len(PALETTE) else "--"
        plot.errorbar(where, means, yerr=half, label=name, color=colour, linestyle=style, marker="o", capsize=4)
    if numeric and log:
        plot.set_xscale("log")
    ticks = values if numeric else range(len(values))
    plot.set_xticks(list(ticks), [f"{value:g}" if numeric else str(value) for value in values], minor=False)
    plot.set_xticks([], minor=True)
    plot.set(xlabel=x.replace("_", " "), ylabel=quantity, title=title)
    plot.title.set_wrap(True)
    plot.legend(frameon=False)
    return figure


def description(lines: dict[str, Points], x: str) -> str:
    """The figure's alternative text."""
    parts = [
        f"{name}: " + ", ".join(f"{interval.value:.3g} at {value}" for value, interval in points)
        for name, points in lines.items()
    ]
    return f"Means by {x.replace('_', ' ')}. " + "; ".join(parts) + "."


def quantity_of(metrics: Sequence[str]) -> str:
    """The words that all metrics begin with, such as accuracy or win rate."""
    return " ".join(_common(metrics)) or "value"


def _common(metrics: Sequence[str]) -> list[str]:
    places = zip(*(metric.removesuffix(STAR).split("_") for metric in metrics), strict=False)
    return [words[0] for words in takewhile(lambda words: len(set(words)) == 1, places)]


def _name(metric: str, line: list[str], metrics: Sequence[str]) -> str:
    """A line's name: the words of its metric that the metrics do not share, and the value of `lines`."""
    words = metric.split("_")[len(_common(metrics)) :] or metric.split("_")
    return ", ".join(([" ".join(words)] if len(metrics) > 1 or not line else []) + line)
