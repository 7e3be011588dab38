"""One look for every figure, and the way in which a figure reaches the page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.intervals import Interval

# Okabe and Ito's eight colours, told apart with every common kind of colour blindness.
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
DOTS_PER_INCH = 110


def axes(width: float = 7.0, height: float = 3.6, rows: int = 1, columns: int = 1) -> tuple[Figure, Axes]:
    """A figure of `width` by `height` inches with plain axes; several come as an array.

    The figure is not registered with pyplot, so it is shown only by `show`, and once.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    made = figure.subplots(rows, columns)
    for one in [made] if isinstance(made, Axes) else made.ravel():
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(INK)
        one.tick_params(colors=INK)
    return figure, made


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    # Without the software's version the same figure gives the same bytes.
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Display `figure` with `alt`, the text for whoever cannot see it, then close it.

    Raises:
        ValueError: when `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("a figure needs alternative text: what would you tell someone by phone?")
    from IPython.display import display

    bundle = {"image/png": png(figure), "text/plain": alt}
    display(bundle, metadata={"image/png": {"alt": alt}}, raw=True)
    pyplot.close(figure)


def top_words_figure(words: Sequence[tuple[str, float]], sentence: str) -> Figure:
    """The likeliest words for a blank; words: (word, probability), likeliest first."""
    figure, plot = axes(6.4, 0.36 * len(words) + 1.1)
    names = [word for word, _ in words]
    shares = [share for _, share in words]
    bars = plot.barh(range(len(words)), shares, color=PALETTE["blue"])
    plot.bar_label(bars, [f"{share:.0%}" for share in shares], padding=3, color=INK)
    plot.set_yticks(range(len(words)), names)
    plot.invert_yaxis()
    plot.set(xlim=(0, 1.15 * max(shares)), xlabel="probability", title=sentence)
    plot.title.set_wrap(True)
    return figure


def before_after(before: Mapping[str, float], after: Mapping[str, float], quantity: str) -> Figure:
    """Two bars for each name, on a logarithmic scale with each value written on its bar."""
    figure, plot = axes(7.4, 3.8)
    names = list(before)
    for shift, values, label, colour in (
        (-0.2, before, "before", PALETTE["grey"]),
        (0.2, after, "after", PALETTE["orange"]),
    ):
        heights = [values[name] for name in names]
        bars = plot.bar([place + shift for place in range(len(names))], heights, 0.38, label=label, color=colour)
        plot.bar_label(bars, [f"{height:.3g}" for height in heights], padding=2, fontsize=8, color=INK)
    plot.set_xticks(range(len(names)), names)
    plot.set_yscale("log")
    plot.set_ylabel(quantity)
    plot.margins(y=0.15)
    plot.legend(frameon=False)
    return figure


def shares(intervals: Mapping[str, Interval], quantity: str) -> Figure:
    """One bar for each share, with its interval as a line across its end."""
    figure, plot = axes(7.0, 0.55 * len(intervals) + 1.2)
    values = [interval.value for interval in intervals.values()]
    low = [max(0.0, interval.value - interval.low) for interval in intervals.values()]
    high = [max(0.0, interval.high - interval.value) for interval in intervals.values()]
    places = range(len(values))
    plot.barh(places, values, xerr=[low, high], color=PALETTE["sky"], ecolor=INK, capsize=4, height=0.6)
    plot.set_yticks(places, list(intervals))
    plot.invert_yaxis()
    plot.set(xlim=(0, 1), xlabel=quantity)
    return figure
