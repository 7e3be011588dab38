"""How the interval around a score shrinks as more rows are tested."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from helpers.intervals import wilson
from helpers.plotting import INK, PALETTE, axes

ROWS = (10, 30, 100, 300, 1000, 3000, 10000)


def interval_against_rows(score: float, rows: Sequence[int] = ROWS, marked: int | None = None) -> Figure:
    """The 95 % interval of one score for different numbers of test rows; `marked` draws one in orange."""
    figure, plot = axes(7.0, 3.4)
    for count in sorted({*rows, *([marked] if marked else [])}):
        interval = wilson(round(score * count), count)
        colour = PALETTE["orange"] if count == marked else PALETTE["blue"]
        plot.vlines(count, interval.low, interval.high, color=colour, linewidth=4)
        plot.plot(count, interval.value, "o", color=INK, markersize=4)
        if count == marked:
            plot.annotate(f"{count} rows", (count, interval.low), (0, -14), textcoords="offset points", ha="center")
    plot.set(xscale="log", xlabel="test rows (logarithmic)", ylabel="accuracy, 95 % interval", ylim=(0, 1))
    return figure
