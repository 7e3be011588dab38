"""A sweep's figure: a parameter below, means with their 95 % intervals as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from helpers.intervals import Interval
from helpers.plots.style import PALETTE, axes
from helpers.sweeps.results import Cell, cells


def lines_of(path: Path, drawing: dict) -> dict[str, list[tuple[object, Interval]]]:
    """Line's name -> its points (x, mean with interval), from the runs' table."""
    by = [drawing["x"], *([drawing["lines"]] if drawing.get("lines") else [])]
    metrics = drawing["metrics"]
    made: dict[str, list[tuple[object, Interval]]] = {}
    for cell in cells(path, by, metrics):
        for metric in metrics:
            if cell.means[metric] is not None:
                made.setdefault(_name(metric, cell, by, metrics), []).append((cell.values[0], cell.means[metric]))
    return made


def draw(lines: dict[str, list[tuple[object, Interval]]], x: str, quantity: str, log: bool, title: str) -> Figure:
    """Lines with bars for their intervals; text values stand side by side."""
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


def told(lines: dict[str, list[tuple[object, Interval]]], x: str) -> str:
    """The figure in words, for whoever cannot see it."""
    parts = [
        f"{name}: " + ", ".join(f"{interval.value:.3g} at {value}" for value, interval in points)
        for name, points in lines.items()
    ]
    return f"Means by {x.replace('_', ' ')}. " + "; ".join(parts) + "."


def quantity_of(metrics: Sequence[str]) -> str:
    """The word that all metrics begin with, such as accuracy."""
    first = {metric.partition("_")[0] for metric in metrics}
    return first.pop() if len(first) == 1 else "value"


def _name(metric: str, cell: Cell, by: Sequence[str], metrics: Sequence[str]) -> str:
    words = metric.partition("_")[2] or metric if quantity_of(metrics) != "value" else metric
    line = [f"{by[1]} {cell.values[1]}"] if len(by) > 1 else []
    return ", ".join(([words.replace("_", " ")] if len(metrics) > 1 or not line else []) + line)
