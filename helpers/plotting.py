"""Shared plotting: one style, plots of intervals, and the display of figures with alternative text.

A function that draws a figure takes data and returns a `Figure` with alternative text, unless only the lesson knows
what the figure shows. Plots of a single lesson are in `helpers.lessons.lesson_NN.figures`.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.figure
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from helpers.intervals import Interval

# Okabe and Ito's colours, which people with any common kind of colour blindness can distinguish.
PALETTE = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "grey": "#7F7F7F",
}
INK = "#333333"
COLOURS = ("grey", "blue", "orange", "green", "purple")  # the colours of a plot's series, in order
DOTS_PER_INCH = 110
PERCENT = "{x:.0%}"  # tick format of an axis from 0 to 1


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure with `alt`, its alternative text for people who cannot see it."""

    alt: str = ""


def axes(width: float = 7.0, height: float = 3.6) -> tuple[Figure, Axes]:
    """Return a figure of `width` by `height` inches and its single plain `Axes`.

    The figure is not registered with pyplot, so a notebook displays it only when `show` is called.
    """
    figure, (plot,) = panels(width, height)
    return figure, plot


def panels(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with a grid of `rows` x `columns` plain `Axes`, and the list of these, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    found = list(figure.subplots(rows, columns, squeeze=False).flat)
    for plot in found:
        plot.spines[["top", "right"]].set_visible(False)
        plot.spines[["left", "bottom"]].set_color(INK)
        plot.tick_params(colors=INK)
    return figure, found


def png(figure: matplotlib.figure.Figure) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    # The file leaves out matplotlib's version, so that the same figure always gives the same bytes.
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def alternative(figure: matplotlib.figure.Figure, alt: str = "") -> str:
    """Return the alternative text: `alt`, or the figure's own if `alt` is "".

    Raises:
        ValueError: when both are empty.
    """
    text = alt or getattr(figure, "alt", "")
    if not text.strip():
        raise ValueError("a figure needs alternative text: what would you tell someone by phone?")
    return text


def show(figure: matplotlib.figure.Figure, alt: str = "") -> None:
    """Display the figure with its own alternative text, or with `alt` if given.

    Raises:
        ValueError: when both are empty.
    """
    from IPython.display import display  # imported here because only notebooks have it

    text = alternative(figure, alt)
    display({"image/png": png(figure), "text/plain": text}, metadata={"image/png": {"alt": text}}, raw=True)


def picture(figure: matplotlib.figure.Figure, alt: str = "") -> str:
    """Return the figure as an HTML `<img>` with its alternative text, for a widget."""
    data = base64.b64encode(png(figure)).decode()
    text = html.escape(alternative(figure, alt))
    return f'<img alt="{text}" style="max-width: 100%" src="data:image/png;base64,{data}">'


def note(plot: Axes, text: str, place: tuple[float, float], offset: tuple[float, float] = (0, 0), **style: Any) -> None:
    """Write `text` at `place`, shifted by `offset` points; `style` is passed to `Axes.annotate`."""
    plot.annotate(text, place, offset, textcoords="offset points", **{"color": INK} | style)


def listing(series: Mapping[str, Mapping[Any, Any]], form: str) -> str:
    """Return a figure's series as text, such as "one: 3 at 1, 4 at 2; other: ..." for form="{value} at {key}"."""
    lists = {
        name: ", ".join(form.format(key=key, value=values[key]) for key in values) for name, values in series.items()
    }
    return "; ".join(f"{name}: {said}" for name, said in lists.items())


def spans(scores: Iterable[Interval]) -> list[list[float]]:
    """Return the lengths of the intervals below and above their values, as `Axes.errorbar` takes them."""
    below, above = zip(*((score.value - score.low, score.high - score.value) for score in scores), strict=True)
    return [[max(0.0, length) for length in below], [max(0.0, length) for length in above]]


def band(plot: Axes, scores: Mapping[int, Interval], colour: str, **line: Any) -> None:
    """Draw a line through the values, and a pale band over their intervals."""
    plot.plot(list(scores), [score.value for score in scores.values()], color=colour, **line)
    ends = ([score.low for score in scores.values()], [score.high for score in scores.values()])
    plot.fill_between(list(scores), *ends, color=colour, alpha=0.18, linewidth=0)


def log_ticks(plot: Axes, places: Iterable[float], base: int = 10) -> None:
    """Make the x axis logarithmic, with ticks only at `places`."""
    plot.set_xscale("log", base=base)
    plot.xaxis.set_major_locator(FixedLocator(sorted(places)))
    plot.xaxis.set_minor_locator(NullLocator())
    plot.xaxis.set_major_formatter("{x:,.0f}")


def interval_rows(
    plot: Axes,
    series: Mapping[str, Mapping[str, Interval]],
    spread: float,
    colours: Sequence[str] = COLOURS,
    linewidth: float = 3,
) -> None:
    """Draw one row per name, the first at the top; each row has one interval per series, slightly shifted.

    series: label -> name -> value with its interval; the names are in the first series' order.
    """
    names = list(next(iter(series.values())))
    for index, (label, scores) in enumerate(series.items()):
        colour, shift = PALETTE[colours[index % len(colours)]], (index - (len(series) - 1) / 2) * spread
        rows = [len(names) - 1 - row - shift for row in range(len(names))]
        found = [scores[name] for name in names]
        low, high = [score.low for score in found], [score.high for score in found]
        plot.hlines(rows, low, high, color=colour, linewidth=linewidth, alpha=0.4)
        plot.plot([score.value for score in found], rows, "osD^v"[index % 5], color=colour, label=label)
    plot.set_yticks(range(len(names)), list(reversed(names)))


def dot_plot(
    scores: Mapping[str, Interval],
    notes: Mapping[str, str] | None = None,
    *,
    quantity: str = "accuracy on the test rows",
    digits: int = 1,
    floor: float | None = None,
    title: str = "",
    low: float | None = None,
) -> Figure:
    """Return a figure with one row per method: its share, a bar for the interval, and a note at the right.

    scores: name -> share from 0 to 1, drawn in the given order, the first at the bottom.
    notes: name -> a short note, such as the method's cost. floor: a share to draw as a dotted line.
    low: the start of the x axis; None leaves a little room below the lowest score.
    """
    figure, plot = axes(8.0, 0.9 + 0.5 * len(scores))
    for row, (name, score) in enumerate(scores.items()):
        plot.plot([score.low, score.high], [row, row], color=PALETTE["blue"], linewidth=4, alpha=0.35)
        plot.plot(score.value, row, "o", color=PALETTE["blue"], markersize=8)
        note(plot, f"{score.value:.{digits}%}", (score.value, row), (0, 9), ha="center")
        side = (notes or {}).get(name, "")
        note(plot, side, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    lowest = min(score.low for score in scores.values())
    if floor is not None:
        plot.axvline(floor, color=PALETTE["grey"], linestyle=":")
        note(plot, "majority class", (floor, len(scores) - 0.45), (4, 0), fontsize=9)
        lowest = min(lowest, floor)
    plot.set_yticks(range(len(scores)), list(scores))
    plot.set(xlabel=f"{quantity}, with 95 % interval", ylim=(-0.5, len(scores) - 0.2))
    plot.set_xlim(max(0.0, lowest - 0.05) if low is None else low, 1.0)
    plot.xaxis.set_major_formatter(PERCENT)
    plot.set_title(title, loc="left", color=INK)
    said = "; ".join(
        f"{name} {score.value:.{digits}%} ({score.low:.{digits}%} to {score.high:.{digits}%})"
        for name, score in sorted(scores.items(), key=lambda item: item[1].value)
    )
    figure.alt = f"{quantity[0].upper()}{quantity[1:]} with 95 % interval, lowest first: {said}."
    return figure


def by_slice(
    series: Mapping[str, Mapping[str, Interval]], counts: Mapping[str, int], quantity: str = "accuracy"
) -> Figure:
    """Return a figure with the accuracy on each slice of the test rows, for a few methods side by side.

    series: method -> slice -> accuracy; the slices are in the first method's order, the first at the top.
    counts: slice -> its number of test rows.
    """
    names = list(next(iter(series.values())))
    figure, plot = axes(8.0, 1.2 + 0.42 * len(names))
    interval_rows(plot, series, spread=0.26)
    plot.set_yticks(range(len(names)), [f"{name}  ({counts[name]:,} rows)" for name in reversed(names)])
    plot.xaxis.set_major_formatter(PERCENT)
    plot.set_xlim(right=1.0)
    plot.grid(axis="y", color="#eeeeee")
    plot.set_axisbelow(True)
    plot.set_xlabel(f"{quantity}, with 95 % interval")
    figure.legend(loc="outside upper center", ncols=len(series), frameon=False)
    turned = {name: {method: scores[name] for method, scores in series.items()} for name in names}
    said = listing(turned, "{key} {value.value:.0%}")
    figure.alt = f"{quantity[0].upper()}{quantity[1:]} by kind of row. {said}."
    return figure
