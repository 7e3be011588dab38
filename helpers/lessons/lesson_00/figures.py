"""Figures of lesson 00: sentences before and after training, words for a blank, an interval against its test rows."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import ipywidgets as widgets

from helpers.intervals import wilson
from helpers.plotting import INK, PALETTE, Figure, axes, note, picture

ROWS = (10, 30, 100, 300, 1000, 3000, 10000)


def before_and_after(sentences: Sequence[str], before: Sequence[float], after: Sequence[float], name: str) -> Figure:
    """The probability of the class `name` for each sentence, before and after training, joined by a line."""
    figure, plot = axes(7.2, 0.42 * len(sentences) + 1.1)
    places = range(len(sentences))
    plot.hlines(places, before, after, color=PALETTE["grey"], linewidth=1.5)
    plot.plot(before, places, "o", color=PALETTE["grey"], label="before training")
    plot.plot(after, places, "o", color=PALETTE["blue"], label="after")
    plot.axvline(0.5, color=INK, linewidth=0.6, linestyle=":")
    plot.set_yticks(places, [fill(sentence, 44) for sentence in sentences])
    plot.invert_yaxis()
    plot.set(xlim=(-0.02, 1.02), xlabel=f'probability of "{name}"')
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    rows = zip(sentences, before, after, strict=True)
    said = "; ".join(f'"{sentence}" {old:.0%} before, {new:.0%} after' for sentence, old, new in rows)
    figure.alt = f'The probability of "{name}" for each sentence: {said}.'
    return figure


def interval_against_rows(score: float, rows: Sequence[int] = ROWS, marked: int = 300) -> Figure:
    """The 95 % interval of one score for different numbers of test rows; the one of `marked` rows is orange."""
    figure, plot = axes(7.0, 3.4)
    for count in sorted({*rows, marked}):
        interval = wilson(round(score * count), count)
        colour = PALETTE["orange"] if count == marked else PALETTE["blue"]
        plot.vlines(count, interval.low, interval.high, color=colour, linewidth=4)
        plot.plot(count, interval.value, "o", color=INK, markersize=4)
        if count == marked:
            note(plot, f"{count} rows", (count, interval.low), (0, -14), ha="center", color="black")
    plot.set(xscale="log", xlabel="test rows (logarithmic)", ylabel="accuracy, 95 % interval", ylim=(0.5, 1))
    figure.alt = (
        f"The 95 % interval of an accuracy of {score:g}: wide for {min(rows)} test rows, narrow for {max(rows):,}; "
        f"{marked} rows are marked."
    )
    return figure


def certainty(score: float = 0.9) -> widgets.VBox:
    """Move the number of test rows and the score: the interval around it."""
    share = widgets.FloatSlider(value=score, min=0.5, max=0.99, step=0.01, description="accuracy")
    rows = widgets.IntSlider(value=300, min=10, max=5000, step=10, description="test rows")
    page = widgets.HTML()

    def draw(_change=None) -> None:
        interval = wilson(round(share.value * rows.value), rows.value)
        alt = f"With {rows.value} test rows the accuracy is {interval}."
        page.value = f"<p>{alt}</p>" + picture(interval_against_rows(share.value, marked=rows.value), alt)

    for control in (share, rows):
        control.observe(draw, names="value")
    draw()
    return widgets.VBox([widgets.HBox([share, rows]), page])
