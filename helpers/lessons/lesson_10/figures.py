"""Figures of lesson 10: floats bit by bit, levels under a histogram, quality against bytes, accuracy when pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, PERCENT, Figure, axes, listing, note, panels, spans

COLOURS = ("blue", "orange", "green", "purple", "red", "sky", "grey")
MARKERS = "osD^vPX<>p"
NEAR = 45.0  # pixels
FIELDS = {"sign": PALETTE["red"], "exponent": PALETTE["sky"], "fraction": PALETTE["yellow"]}


@dataclass(frozen=True)
class Point:
    """A model read back from a file: the file's bytes, its quality, and a short label such as "4"."""

    bytes: int
    value: float
    label: str = ""

    @property
    def place(self) -> tuple[float, float]:
        """Megabytes and quality."""
        return self.bytes / 1e6, self.value

    def __str__(self) -> str:
        return f"{self.value:.3g} in {self.bytes / 1e6:.2f} MB"


def levels(weights: Tensor, codes: Mapping[str, Tensor]) -> Figure:
    """A histogram of weights, and under it one line of ticks per code book.

    weights: any shape. codes: name -> its levels, in the weights' units.
    """
    figure, (upper, lower) = panels(7.4, 3.0 + 0.3 * len(codes), rows=2)
    figure.set_layout_engine("constrained", hspace=0.02)
    upper.hist(weights.flatten().numpy(), bins=120, color=PALETTE["sky"])
    upper.set(ylabel="weights", yticks=[])
    spread = weights.float().std().item()
    said = []
    for row, (name, places) in enumerate(codes.items()):
        places = places.unique()  # two codes can stand for one level, +0 and -0
        colour = PALETTE[COLOURS[row % len(COLOURS)]]
        lower.vlines(places.tolist(), row - 0.35, row + 0.35, color=colour, linewidth=2)
        near = int((places.abs() <= spread).sum())
        said.append(f"{name} has {near} of its {len(places)} levels within one standard deviation of zero")
    lower.set_yticks(range(len(codes)), list(codes))
    lower.invert_yaxis()
    lower.set(xlim=upper.get_xlim(), xlabel="value")
    heading = f"A bell of weights (standard deviation {spread:.3g}) over the levels of the code books"
    figure.alt = f"{heading}: {'; '.join(said)}."
    return figure


def bit_fields(formats: Mapping[str, tuple[str, int, float, float]], number: float) -> Figure:
    """One row of bits for each float format, coloured by sign, exponent and fraction.

    formats: name -> its bits as text, how many of them are exponent, the value that they stand for, the largest value.
    number: what was to be stored.
    """
    figure, plot = axes(9.0, 0.9 + 0.42 * len(formats))
    said = []
    for row, (name, (pattern, exponent, value, largest)) in enumerate(formats.items()):
        fields = {"sign": pattern[:1], "exponent": pattern[1 : 1 + exponent], "fraction": pattern[1 + exponent :]}
        kinds = [kind for kind, bits in fields.items() for _ in bits]
        for place, (bit, kind) in enumerate(zip(pattern, kinds, strict=True)):
            plot.barh(row, 0.92, left=place, height=0.75, color=FIELDS[kind], alpha=0.55)
            plot.text(place + 0.46, row, bit, ha="center", va="center", fontsize=8, color=INK)
        off = abs(value / number - 1)
        written = f"{value:.6g} (off by {off:.2%}); largest {largest:.3g}"
        plot.text(32.8, row, written, va="center", fontsize=9, color=INK)
        said.append(f"{name}: {' '.join(bits for bits in fields.values())} is {written}")
    plot.set_yticks(range(len(formats)), list(formats))
    plot.invert_yaxis()
    plot.set(xlim=(0, 50), xticks=[])
    plot.spines[["left", "bottom"]].set_visible(False)
    plot.legend([Patch(color=FIELDS[kind], alpha=0.55) for kind in FIELDS], list(FIELDS), loc="upper center",
                bbox_to_anchor=(0.3, 0.0), ncols=3, frameon=False, fontsize=9)  # fmt: skip
    figure.alt = f"How each format stores {number:g}, as sign, exponent and fraction. {'; '.join(said)}."
    return figure


def against_bytes(
    quantities: Mapping[str, Mapping[str, Sequence[Point]]],
    whole: Mapping[str, Point],
    limits: Mapping[str, tuple[float, float]],
) -> Figure:
    """One panel per quantity, one line per technique over the bytes of the files (logarithmic).

    quantities: quantity -> technique -> its points. whole: quantity -> the model as it was, drawn as a dotted line.
    limits: quantity -> the lowest and highest value shown; a line to a point beyond them leaves the panel.
    """
    figure, plots = panels(9.0, 1.2 + 3.7 * len(quantities), rows=len(quantities))
    styles = {name: index for families in quantities.values() for index, name in enumerate(families)}
    said = []
    for plot, (quantity, families) in zip(plots, quantities.items(), strict=True):
        low, high = limits[quantity]
        start = whole[quantity]
        said.append(f"{quantity}, {start} at full size")
        for family, points in families.items():
            _draw_family(plot, points, styles[family], family)
            said.append(f"{family}: {', '.join(map(str, points))}")
        plot.axhline(start.value, color=INK, linestyle=":", linewidth=1)
        plot.plot(*start.place, "k*", markersize=11, label="float32")
        plot.set(xscale="log", xlabel="file (MB)", ylabel=quantity, ylim=(low, high))
        for which in (plot.xaxis.set_major_formatter, plot.xaxis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else ""))
        _name_points(plot, [point for points in families.values() for point in points if low <= point.value <= high])
    lines, names = plots[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.alt = f"Quality against the size of the file. {'; '.join(said)}."
    return figure


def _draw_family(plot: Axes, points: Sequence[Point], index: int, label: str) -> None:
    sizes, values = zip(*(point.place for point in sorted(points, key=lambda point: point.bytes)), strict=True)
    colour, style = PALETTE[COLOURS[index % len(COLOURS)]], "-" if index < len(COLOURS) else "--"
    marker = MARKERS[index % len(MARKERS)]
    plot.plot(sizes, values, style, marker=marker, markersize=6, linewidth=1.2, label=label, color=colour)


def _name_points(plot: Axes, points: Sequence[Point]) -> None:
    """Write each point's label beside it, but once for points with the same label that lie close together."""
    named: list[tuple[str, float, float]] = []
    for point in points:
        x, y = plot.transData.transform(point.place)
        if not any(abs(x - left) < NEAR and abs(y - up) < NEAR for label, left, up in named if label == point.label):
            named.append((point.label, x, y))
            note(plot, point.label, point.place, (5, 5), fontsize=9)


def against_sparsity(curves: Mapping[str, Mapping[float, Interval]], whole: float, control: float) -> Figure:
    """Accuracy over the share of the model's weights that is gone.

    curves: technique -> share -> accuracy with its interval. whole: the accuracy with all weights; control: the same
    after as much more training as the curves "trained again" had.
    """
    figure, plot = axes(7.4, 3.8)
    curves = {name: dict(sorted(points.items())) for name, points in curves.items()}
    for index, (name, points) in enumerate(curves.items()):
        style, colour = "--" if "again" in name else "-", PALETTE[COLOURS[index % len(COLOURS)]]
        values, ends = [point.value for point in points.values()], spans(points.values())
        plot.errorbar(
            list(points), values, ends, color=colour, marker=MARKERS[index], linestyle=style, capsize=3, label=name
        )
    plot.axhline(whole, color=PALETTE["grey"], linestyle=":", label="all weights")
    plot.axhline(control, color=INK, linestyle="--", linewidth=1, label="all weights, trained again")
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_major_formatter(PERCENT)
    plot.set(xlabel="weights gone, of all in the model", ylabel="accuracy, with 95 % interval")
    plot.legend(frameon=False, fontsize=9)
    said = listing(curves, "{value.value:.1%} at {key:.0%}")
    figure.alt = (
        f"Accuracy by share of all weights gone; with all of them {whole:.1%}, trained again {control:.1%}. {said}."
    )
    return figure
