"""The figures of lesson 07: accuracy against what moves, the two sweeps, and the same methods on larger models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, axes

COLOURS = {"selective": "blue", "additive": "orange", "reparameterised": "green", "all": "grey"}
MARKS = {"selective": "o", "additive": "s", "reparameterised": "D", "all": "^"}


def tradeoff(
    scores: Mapping[str, Interval],
    parameters: Mapping[str, int],
    families: Mapping[str, str],
    reference: Mapping[str, Interval] | None = None,
) -> Figure:
    """Accuracy against the number of trained parameters, one point for each method, one colour for each family.

    scores: method -> this run's accuracy; parameters: method -> how many may move (logarithmic axis); families:
    method -> "selective", "additive", "reparameterised" or "all"; reference: method -> accuracy over several seeds,
    drawn as a pale band beside the point.
    """
    figure, plot = axes(8.6, 4.6)
    for name, score in scores.items():
        colour, count = PALETTE[COLOURS[families[name]]], parameters[name]
        plot.plot([count, count], [score.low, score.high], color=colour, linewidth=2)
        plot.plot(count, score.value, MARKS[families[name]], color=colour, markersize=8)
        there = (reference or {}).get(name)
        if there:
            plot.plot([1.12 * count] * 2, [there.low, there.high], color=colour, linewidth=7, alpha=0.25)
        plot.annotate(name, (count, score.high), (0, 5), textcoords="offset points", ha="center", color=INK, fontsize=9)
    for family, colour in COLOURS.items():
        plot.plot([], [], MARKS[family], color=PALETTE[colour], label=family)
    if reference:
        plot.plot([], [], color=PALETTE["grey"], linewidth=7, alpha=0.25, label="reference, over seeds")
    plot.set(xscale="log", xlabel="trained parameters (logarithmic)", ylabel="accuracy, 95 % interval")
    plot.margins(x=0.08, y=0.12)
    plot.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    return figure


def tradeoff_in_words(scores: Mapping[str, Interval], parameters: Mapping[str, int]) -> str:
    """The same figure for whoever cannot see it."""
    ordered = sorted(scores, key=parameters.get)
    said = "; ".join(f"{name}, {parameters[name]:,} trained: {scores[name].value:.1%}" for name in ordered)
    return f"Accuracy on the test rows by number of trained parameters, fewest first. {said}."


def sweeps(
    series: Mapping[str, Mapping[int, Interval]],
    labels: Mapping[str, str],
    reference: Mapping[str, Mapping[int, Interval]] | None = None,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """One panel for each method: accuracy against its size, on common axes.

    series: method -> size -> this run's accuracy; labels: method -> what its size is; reference: the same, over
    several seeds, as bands; lines: name -> an accuracy to draw across all panels.
    """
    figure, plots = axes(8.6, 3.8, columns=len(series))
    panels = [plots] if len(series) == 1 else list(plots)
    for panel, (name, scores), colour in zip(panels, series.items(), ("orange", "green", "blue"), strict=False):
        _sweep(panel, scores, (reference or {}).get(name, {}), PALETTE[colour])
        for title, height in (lines or {}).items():
            panel.axhline(height, color=PALETTE["grey"], linestyle=":")
            panel.annotate(
                title, (1, height), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                ha="right", color=INK, fontsize=8,
            )  # fmt: skip
        panel.set_title(name, fontsize=10, color=INK)
        panel.set_xlabel(labels[name])
        panel.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    low, high = min(panel.get_ylim()[0] for panel in panels), max(panel.get_ylim()[1] for panel in panels)
    for panel in panels:
        panel.set_ylim(low, high)
    panels[0].set_ylabel("accuracy, 95 % interval")
    panels[0].plot([], [], "o", color=PALETTE["grey"], label="this run")
    if any((reference or {}).values()):
        panels[0].plot([], [], color=PALETTE["grey"], label="reference over seeds, with its band")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def _sweep(panel, scores: Mapping[int, Interval], band: Mapping[int, Interval], colour: str) -> None:
    low = [score.value - score.low for score in scores.values()]
    high = [score.high - score.value for score in scores.values()]
    values = [score.value for score in scores.values()]
    panel.errorbar(list(scores), values, [low, high], fmt="o", color=colour, capsize=3)
    if band:
        panel.plot(list(band), [score.value for score in band.values()], color=colour)
        ends = ([score.low for score in band.values()], [score.high for score in band.values()])
        panel.fill_between(list(band), *ends, color=colour, alpha=0.18, linewidth=0)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_locator(FixedLocator(sorted({*scores, *band})))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter("{x:.0f}")


def sweeps_in_words(series: Mapping[str, Mapping[int, Interval]], labels: Mapping[str, str]) -> str:
    """The same figure for whoever cannot see it."""
    said = (
        f"{name} by {labels[name]}: " + ", ".join(f"{score.value:.1%} at {size}" for size, score in scores.items())
        for name, scores in series.items()
    )
    return "Accuracy by size. " + "; ".join(said) + "."


def trained_shares(counts: Mapping[str, int], families: Mapping[str, str], title: str = "") -> Figure:
    """One bar for each method: how much of the model it trains (logarithmic).

    counts: method -> trained parameters, with "everything" among them; the largest is drawn at the top.
    """
    ordered, total = sorted(counts, key=counts.get), counts["everything"]
    figure, plot = axes(8.0, 3.6)
    for row, name in enumerate(ordered):
        share = counts[name] / total
        plot.barh(row, share, color=PALETTE[COLOURS[families[name]]], height=0.62)
        plot.annotate(
            f"{counts[name]:,}  ({100 * share:.2g} %)" if share < 1 else f"{counts[name]:,}",
            (share, row), (4, 0), textcoords="offset points", va="center", color=INK, fontsize=9,
        )  # fmt: skip
    plot.set_yticks(range(len(ordered)), ordered)
    plot.set(xscale="log", xlabel="share of all parameters that is trained (logarithmic)")
    plot.set_xlim(1e-7, 300)
    plot.set_xticks([10.0**power for power in range(-7, 1)])
    plot.set_title(title, loc="left", color=INK, fontsize=10)
    return figure


def trained_shares_in_words(counts: Mapping[str, int], title: str = "") -> str:
    """The same figure for whoever cannot see it."""
    ordered: Sequence[str] = sorted(counts, key=counts.get)
    return f"Trained parameters, {title}: " + "; ".join(f"{name} {counts[name]:,}" for name in ordered) + "."
