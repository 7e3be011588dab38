"""The figures of lesson 10: levels over a histogram of weights, quality against bytes, accuracy against sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from torch import Tensor

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, axes

COLOURS = ("blue", "orange", "green", "purple", "red", "sky", "grey")
MARKERS = "osD^vPX<>p"
NEAR = 45.0  # pixels


@dataclass(frozen=True)
class Point:
    """A model read back from a file: the file's bytes, its quality, and a short label such as "4"."""

    bytes: int
    value: float
    label: str = ""


def levels(weights: Tensor, codes: Mapping[str, Tensor]) -> Figure:
    """A histogram of weights, and under it one line of ticks per code book.

    weights: any shape. codes: name -> its levels, in the weights' units.
    """
    figure, plots = axes(7.4, 3.0 + 0.3 * len(codes), rows=2)
    figure.get_layout_engine().set(hspace=0.02)
    plots[0].hist(weights.flatten().numpy(), bins=120, color=PALETTE["sky"])
    plots[0].set(ylabel="weights", yticks=[])
    for row, places in enumerate(codes.values()):
        colour = PALETTE[COLOURS[row % len(COLOURS)]]
        plots[1].vlines(places.tolist(), row - 0.35, row + 0.35, color=colour, linewidth=2)
    plots[1].set_yticks(range(len(codes)), list(codes))
    plots[1].invert_yaxis()
    plots[1].set(xlim=plots[0].get_xlim(), xlabel="value")
    return figure


def levels_in_words(weights: Tensor, codes: Mapping[str, Tensor]) -> str:
    """The same figure for whoever cannot see it."""
    spread = weights.float().std().item()
    said = []
    for name, places in codes.items():
        near = int((places.abs() <= spread).sum())
        said.append(f"{name} has {near} of its {len(places)} levels within one standard deviation of zero")
    return f"A bell of weights (standard deviation {spread:.3g}) over the levels of the code books: {'; '.join(said)}."


def weights_and_errors(weights: Tensor, restored: Tensor, title: str = "") -> Figure:
    """Two histograms: the weights with what came back of them, and the errors."""
    figure, plots = axes(8.0, 2.9, columns=2)
    before, after = weights.flatten().numpy(), restored.flatten().numpy()
    bins = 160
    plots[0].hist(before, bins=bins, color=PALETTE["sky"], label="weights")
    plots[0].hist(after, bins=bins, color=PALETTE["orange"], alpha=0.7, label="after quantization")
    plots[0].set(xlabel="value", ylabel="how many", yscale="log")
    plots[0].legend(frameon=False, fontsize=8)
    plots[1].hist(after - before, bins=bins, color=PALETTE["red"])
    plots[1].set(xlabel="error", ylabel="how many", yscale="log")  # one large error must not vanish beside thousands
    plots[1].xaxis.set_major_locator(MaxNLocator(5))
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, color=INK)
    return figure


def against_bytes(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    whole: Mapping[str, Point],
    limits: Mapping[str, tuple[float, float]],
) -> Figure:
    """One panel per quantity, one line per technique over the bytes of the files (logarithmic).

    panels: quantity -> technique -> its points. whole: quantity -> the model as it was, drawn as a dotted line.
    limits: quantity -> the lowest and highest value shown; a line to a point beyond them leaves the panel.
    """
    figure, plots = axes(9.0, 1.2 + 3.7 * len(panels), rows=len(panels))
    styles = {name: index for families in panels.values() for index, name in enumerate(families)}
    for plot, (quantity, families) in zip([plots] if len(panels) == 1 else plots, panels.items(), strict=True):
        low, high = limits[quantity]
        for family, points in families.items():
            _draw_family(plot, points, styles[family], family)
        start = whole[quantity]
        plot.axhline(start.value, color=INK, linestyle=":", linewidth=1)
        plot.plot(start.bytes / 1e6, start.value, "k*", markersize=11, label="float32")
        plot.set(xscale="log", xlabel="file (MB)", ylabel=quantity, ylim=(low, high))
        for which in (plot.xaxis.set_major_formatter, plot.xaxis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else ""))
        _name_points(plot, [point for points in families.values() for point in points if low <= point.value <= high])
    handles = dict(zip(*reversed((plots if len(panels) == 1 else plots[0]).get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _draw_family(plot: Axes, points: Sequence[Point], index: int, label: str) -> None:
    ordered = sorted(points, key=lambda point: point.bytes)
    look = {"color": PALETTE[COLOURS[index % len(COLOURS)]], "linestyle": "-" if index < len(COLOURS) else "--"}
    sizes, values = [point.bytes / 1e6 for point in ordered], [point.value for point in ordered]
    plot.plot(sizes, values, marker=MARKERS[index % len(MARKERS)], markersize=6, linewidth=1.2, label=label, **look)


def _name_points(plot: Axes, points: Sequence[Point]) -> None:
    """Write each point's label beside it, but once for points with the same label that lie close together."""
    named: list[tuple[str, float, float]] = []
    for point in points:
        x, y = plot.transData.transform((point.bytes / 1e6, point.value))
        if any(
            abs(x - other_x) < NEAR and abs(y - other_y) < NEAR
            for label, other_x, other_y in named
            if label == point.label
        ):
            continue
        named.append((point.label, x, y))
        place = (point.bytes / 1e6, point.value)
        plot.annotate(point.label, place, (5, 5), textcoords="offset points", fontsize=9, color=INK)


def against_bytes_in_words(panels: Mapping[str, Mapping[str, Sequence[Point]]], whole: Mapping[str, Point]) -> str:
    """The same figure for whoever cannot see it."""
    said = []
    for quantity, families in panels.items():
        start = whole[quantity]
        said.append(f"{quantity}, {start.value:.3g} in {start.bytes / 1e6:.2f} MB at full size")
        for family, points in families.items():
            listed = ", ".join(f"{point.value:.3g} in {point.bytes / 1e6:.2f} MB" for point in points)
            said.append(f"{family}: {listed}")
    return "Quality against the size of the file. " + "; ".join(said) + "."


def against_sparsity(curves: Mapping[str, Mapping[float, Interval]], whole: float) -> Figure:
    """Accuracy over the share of weights taken away.

    curves: technique -> share -> accuracy with its interval. whole: the accuracy with all weights.
    """
    figure, plot = axes(7.4, 3.8)
    for index, (name, points) in enumerate(curves.items()):
        colour = PALETTE[COLOURS[index % len(COLOURS)]]
        shares = sorted(points)
        values = [points[share] for share in shares]
        apart = [[v.value - v.low for v in values], [v.high - v.value for v in values]]
        style = "--" if "again" in name else "-"
        plot.errorbar(
            shares, [v.value for v in values], apart, color=colour, marker=MARKERS[index], linestyle=style,
            capsize=3, label=name,
        )  # fmt: skip
    plot.axhline(whole, color=PALETTE["grey"], linestyle=":", label="all weights")
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    plot.set(xlabel="weights taken away (of the matrices that are pruned)", ylabel="accuracy, with 95 % interval")
    plot.legend(frameon=False, fontsize=9)
    return figure


def against_sparsity_in_words(curves: Mapping[str, Mapping[float, Interval]], whole: float) -> str:
    """The same figure for whoever cannot see it."""
    said = []
    for name, points in curves.items():
        listed = ", ".join(f"{points[share].value:.1%} at {share:.0%}" for share in sorted(points))
        said.append(f"{name}: {listed}")
    return f"Accuracy by share of weights taken away; with all of them {whole:.1%}. {'; '.join(said)}."
