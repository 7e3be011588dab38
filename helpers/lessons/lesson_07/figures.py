"""Figures of lesson 07: accuracy against trained parameters, the two sweeps, and the same methods on larger models."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, PERCENT, Figure, axes, band, listing, log_ticks, note, panels, spans

COLOURS = {"selective": "blue", "additive": "orange", "reparameterised": "green", "all": "grey"}
MARKS = {"selective": "o", "additive": "s", "reparameterised": "D", "all": "^"}


def tradeoff(
    scores: Mapping[str, Interval],
    parameters: Mapping[str, int],
    families: Mapping[str, str],
    reference: Mapping[str, Interval] | None = None,
) -> Figure:
    """Accuracy against the number of trained parameters, one point for each method, one colour for each family.

    scores: method -> this run's accuracy; parameters: method -> how many are trained (logarithmic axis); families:
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
        note(plot, name, (count, score.high), (0, 5), ha="center", fontsize=9)
    for family, colour in COLOURS.items():
        plot.plot([], [], MARKS[family], color=PALETTE[colour], label=family)
    if reference:
        plot.plot([], [], color=PALETTE["grey"], linewidth=7, alpha=0.25, label="reference, over seeds")
    plot.set(xscale="log", xlabel="trained parameters (logarithmic)", ylabel="accuracy, 95 % interval")
    plot.margins(x=0.08, y=0.12)
    plot.yaxis.set_major_formatter(PERCENT)
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    said = "; ".join(
        f"{name}, {parameters[name]:,} trained: {scores[name].value:.1%}"
        for name in sorted(scores, key=parameters.__getitem__)
    )
    figure.alt = f"Accuracy on the test rows by number of trained parameters, fewest first. {said}."
    return figure


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
    figure, plots = panels(8.6, 3.8, columns=len(series))
    for plot, (name, scores), colour in zip(plots, series.items(), ("orange", "green", "blue"), strict=False):
        _sweep(plot, scores, (reference or {}).get(name, {}), PALETTE[colour])
        for title, height in (lines or {}).items():
            plot.axhline(height, color=PALETTE["grey"], linestyle=":")
            note(plot, title, (1, height), (-2, 3), xycoords=("axes fraction", "data"), ha="right", fontsize=8)
        plot.set_title(name, fontsize=10, color=INK)
        plot.set_xlabel(labels[name])
        plot.yaxis.set_major_formatter(PERCENT)
    low, high = min(plot.get_ylim()[0] for plot in plots), max(plot.get_ylim()[1] for plot in plots)
    for plot in plots:
        plot.set_ylim(low, high)
    plots[0].set_ylabel("accuracy, 95 % interval")
    plots[0].plot([], [], "o", color=PALETTE["grey"], label="this run")
    if any((reference or {}).values()):
        plots[0].plot([], [], color=PALETTE["grey"], label="reference over seeds, with its band")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    named = {f"{name} by {labels[name]}": scores for name, scores in series.items()}
    figure.alt = f"Accuracy by size. {listing(named, '{value.value:.1%} at {key}')}."
    return figure


def _sweep(plot: Axes, scores: Mapping[int, Interval], reference: Mapping[int, Interval], colour: str) -> None:
    values = [score.value for score in scores.values()]
    plot.errorbar(list(scores), values, spans(scores.values()), fmt="o", color=colour, capsize=3)
    if reference:
        band(plot, reference, colour)
    log_ticks(plot, {*scores, *reference}, base=2)


def trained_shares(counts: Mapping[str, int], families: Mapping[str, str], title: str = "") -> Figure:
    """One bar for each method: how much of the model it trains (logarithmic).

    counts: method -> trained parameters, with "everything" among them; the largest is drawn at the top.
    """
    ordered, total = dict(sorted(counts.items(), key=lambda item: item[1])), counts["everything"]
    figure, plot = axes(8.0, 3.6)
    for row, (name, count) in enumerate(ordered.items()):
        share = count / total
        plot.barh(row, share, color=PALETTE[COLOURS[families[name]]], height=0.62)
        text = f"{count:,}  ({100 * share:.2g} %)" if share < 1 else f"{count:,}"
        note(plot, text, (share, row), (4, 0), va="center", fontsize=9)
    plot.set_yticks(range(len(ordered)), list(ordered))
    plot.set(xscale="log", xlabel="share of all parameters that is trained (logarithmic)")
    plot.set_xlim(1e-7, 300)
    plot.set_xticks([10.0**power for power in range(-7, 1)])
    plot.set_title(title, loc="left", color=INK, fontsize=10)
    said = "; ".join(f"{name} {count:,}" for name, count in ordered.items())
    figure.alt = f"Trained parameters, {title}: {said}."
    return figure
