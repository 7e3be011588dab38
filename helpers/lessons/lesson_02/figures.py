"""The figures of lesson 02: accuracies with their intervals, slice by slice, and learning rates over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, axes

COLOURS = ("grey", "blue", "orange", "green", "purple")


def ladder(
    scores: Mapping[str, Interval],
    notes: Mapping[str, str] | None = None,
    *,
    floor: float | None = None,
    title: str = "",
    low: float | None = None,
) -> Figure:
    """One line per way to train: its accuracy, a bar for the interval, and what it cost in words.

    scores: title -> accuracy from 0 to 1, drawn in the given order, the first at the bottom.
    notes: title -> a short text at the right. floor: an accuracy to draw as a dotted line.
    low: where the axis starts; None leaves a little room below the lowest score.
    """
    figure, ax = axes(8.0, 0.9 + 0.5 * len(scores))
    for row, (name, score) in enumerate(scores.items()):
        ax.plot([score.low, score.high], [row, row], color=PALETTE["blue"], linewidth=4, alpha=0.35)
        ax.plot(score.value, row, "o", color=PALETTE["blue"], markersize=8)
        ax.annotate(
            f"{score.value:.1%}", (score.value, row), (0, 9), textcoords="offset points", ha="center", color=INK
        )
        note = (notes or {}).get(name, "")
        ax.annotate(note, (1.02, row), xycoords=("axes fraction", "data"), va="center", color=INK, fontsize=9)
    lowest = min(score.low for score in scores.values())
    if floor is not None:
        ax.axvline(floor, color=PALETTE["grey"], linestyle=":")
        ax.annotate(
            "majority class", (floor, len(scores) - 0.45), (4, 0), textcoords="offset points", color=INK, fontsize=9
        )
        lowest = min(lowest, floor)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.set_ylim(-0.5, len(scores) - 0.2)
    ax.set_xlim(max(0.0, lowest - 0.05) if low is None else low, 1.0)
    _percent(ax.xaxis)
    ax.set_xlabel("accuracy on the test rows, with 95 % interval")
    ax.set_title(title, loc="left", color=INK)
    return figure


def ladder_in_words(scores: Mapping[str, Interval]) -> str:
    """The same figure for whoever cannot see it."""
    ordered = sorted(scores.items(), key=lambda item: item[1].value)
    said = "; ".join(f"{name} {score.value:.1%} ({score.low:.1%} to {score.high:.1%})" for name, score in ordered)
    return f"Accuracy on the test rows with 95 % interval, lowest first: {said}."


def by_slice(series: Mapping[str, Mapping[str, Interval]], counts: Mapping[str, int]) -> Figure:
    """Accuracy on each kind of row, for a few methods side by side.

    series: method -> slice -> accuracy; slices come in the first method's order, the first at the top.
    counts: slice -> how many test rows it holds.
    """
    names = list(next(iter(series.values())))
    figure, ax = axes(8.0, 1.2 + 0.42 * len(names))
    spread = 0.26
    for index, (method, scores) in enumerate(series.items()):
        colour = PALETTE[COLOURS[index % len(COLOURS)]]
        shift = (index - (len(series) - 1) / 2) * spread
        rows = [len(names) - 1 - row - shift for row in range(len(names))]
        values = [scores[name] for name in names]
        ax.hlines(rows, [s.low for s in values], [s.high for s in values], color=colour, linewidth=3, alpha=0.4)
        ax.plot([s.value for s in values], rows, "osD^v"[index % 5], color=colour, label=method)
    labels = [f"{name}  ({counts[name]:,} rows)" for name in reversed(names)]
    ax.set_yticks(range(len(names)), labels)
    _percent(ax.xaxis)
    ax.set_xlim(right=1.0)
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)
    ax.set_xlabel("accuracy, with 95 % interval")
    figure.legend(loc="outside upper center", ncols=len(series), frameon=False)
    return figure


def by_slice_in_words(series: Mapping[str, Mapping[str, Interval]]) -> str:
    """The same figure for whoever cannot see it."""
    names = next(iter(series.values()))
    said = (
        f"{name}: " + ", ".join(f"{method} {scores[name].value:.0%}" for method, scores in series.items())
        for name in names
    )
    return "Accuracy by kind of row. " + "; ".join(said) + "."


def learning_rates(rates: Mapping[str, Sequence[float]]) -> Figure:
    """The learning rate at every step; rates: name -> one value per step."""
    figure, ax = axes(7.0, 2.8)
    for index, (name, values) in enumerate(rates.items()):
        style = "-" if index % 2 == 0 else "--"
        ax.plot(
            range(1, len(values) + 1), values, style, color=PALETTE[COLOURS[1:][index % 4]], linewidth=2, label=name
        )
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("learning rate")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return figure


def _percent(axis) -> None:
    axis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
