"""The figures of lesson 03: accuracy against labels, losses over epochs, what was forgotten, luck in choosing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, axes

COLOURS = ("blue", "orange", "green", "purple", "red", "grey")
MARKS = "osD^vP"


def labels_curve(
    series: Mapping[str, Mapping[int, Interval]],
    reference: Mapping[str, Mapping[int, Interval]] | None = None,
    floor: float | None = None,
) -> Figure:
    """Accuracy against the number of labels, on a logarithmic axis, one colour for each way to start.

    series: name -> labels -> this run's accuracy (points with bars); reference: the same names, as bands.
    """
    figure, plot = axes(8.0, 4.0)
    for index, (name, scores) in enumerate(series.items()):
        colour = PALETTE[COLOURS[index]]
        low = [score.value - score.low for score in scores.values()]
        high = [score.high - score.value for score in scores.values()]
        values = [score.value for score in scores.values()]
        plot.errorbar(
            list(scores), values, [low, high], fmt=MARKS[index], color=colour, capsize=3, label=f"{name}, this run"
        )
        band = (reference or {}).get(name, {})
        if band:
            means = [score.value for score in band.values()]
            plot.plot(list(band), means, "-", color=colour, linewidth=1.5, label=f"{name}, reference")
            ends = ([score.low for score in band.values()], [score.high for score in band.values()])
            plot.fill_between(list(band), *ends, color=colour, alpha=0.18, linewidth=0)
    if floor is not None:
        plot.axhline(floor, color=PALETTE["grey"], linestyle=":", label="majority class")
    sizes = sorted({size for group in (series, reference or {}) for scores in group.values() for size in scores})
    plot.set(xscale="log", xlabel="labelled reviews to learn from (logarithmic)", ylabel="accuracy, 95 % interval")
    plot.xaxis.set_major_locator(FixedLocator(sizes))
    plot.xaxis.set_minor_locator(NullLocator())
    plot.set_xticks(sizes, [f"{size:,}" for size in sizes])
    plot.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def labels_curve_in_words(series: Mapping[str, Mapping[int, Interval]]) -> str:
    """The same figure for whoever cannot see it."""
    said = (
        f"{name}: " + ", ".join(f"{score.value:.0%} with {size}" for size, score in scores.items())
        for name, scores in series.items()
    )
    return "Accuracy by number of labels. " + "; ".join(said) + "."


def losses(curves: Mapping[str, Mapping[str, Sequence[float]]], guess: float, best: Mapping[str, int]) -> Figure:
    """One panel for each run: its training and validation loss after each epoch.

    curves: run -> "train" or "validation" -> one loss per epoch. guess: the loss of a guess at random, dotted.
    best: run -> the epoch (from 1) of the lowest validation loss, marked with a ring.
    """
    figure, plots = axes(9.0, 3.3, columns=len(curves))
    panels = [plots] if len(curves) == 1 else list(plots)
    for panel, (name, parts) in zip(panels, curves.items(), strict=True):
        for (split, values), colour, mark in zip(parts.items(), ("orange", "blue"), "so", strict=True):
            epochs = range(1, len(values) + 1)
            panel.plot(epochs, values, mark + "-", markersize=4, color=PALETTE[colour], label=split)
        chosen = best[name]
        panel.plot(chosen, parts["validation"][chosen - 1], "o", markersize=13, fillstyle="none", color=INK)
        panel.axhline(guess, color=PALETTE["grey"], linestyle=":")
        panel.set_title(name, fontsize=10, color=INK)
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    top = max(value for parts in curves.values() for values in parts.values() for value in values)
    for panel in panels:
        panel.set_ylim(0, 1.08 * max(top, guess))
    panels[0].set_ylabel("loss (nats)")
    panels[0].legend(frameon=False)
    return figure


def losses_in_words(curves: Mapping[str, Mapping[str, Sequence[float]]], best: Mapping[str, int]) -> str:
    """The same figure for whoever cannot see it."""
    said = []
    for name, parts in curves.items():
        ends = ", ".join(f"{split} loss from {values[0]:.2f} to {values[-1]:.2f}" for split, values in parts.items())
        said.append(f"{name}: {ends}, validation lowest after epoch {best[name]}")
    return "Losses over epochs. " + "; ".join(said) + "."


def forgetting(before: Mapping[str, float], after: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much the masked-word loss of each domain rose, one row of marks for each way to fine-tune.

    before: domain -> loss; after: method -> domain -> loss, the first method at the top. A line joins a method's
    smallest and largest rise.
    """
    figure, plot = axes(8.4, 1.3 + 0.5 * len(after))
    names = list(after)
    for row, name in enumerate(reversed(names)):
        rises = [after[name][domain] - before[domain] for domain in before]
        plot.hlines(row, min(rises), max(rises), color="#dddddd", linewidth=3, zorder=1)
    for index, domain in enumerate(before):
        rises = [after[name][domain] - before[domain] for name in reversed(names)]
        plot.plot(rises, range(len(names)), MARKS[index % 6], color=PALETTE[COLOURS[index % 6]], label=domain)
    plot.axvline(0, color=INK, linewidth=1)
    plot.set_yticks(range(len(names)), list(reversed(names)))
    plot.set_ylim(-0.6, len(names) - 0.4)
    plot.set_xscale("symlog", linthresh=0.5)
    plot.set_xticks([0, 0.25, 0.5, 1, 2, 5], ["0", "0.25", "0.5", "1", "2", "5"])
    plot.xaxis.set_minor_locator(NullLocator())
    plot.set_xlabel("rise of the masked-word loss (nats per hidden word; logarithmic above 0.5)")
    figure.legend(loc="outside upper center", ncols=len(before), frameon=False)
    return figure


def forgetting_in_words(before: Mapping[str, float], after: Mapping[str, Mapping[str, float]]) -> str:
    """The same figure for whoever cannot see it."""
    said = (
        f"{name}: " + ", ".join(f"{domain} {losses[domain] - before[domain]:+.2f}" for domain in before)
        for name, losses in after.items()
    )
    return "Rise of the masked-word loss by domain. " + "; ".join(said) + "."


def luck(chosen: Sequence[float], fresh: Sequence[float], rows: int) -> Figure:
    """Two histograms: the winner's score on the rows that chose it, and on rows that nobody had looked at."""
    figure, plot = axes(7.6, 3.2)
    low, high = min(*chosen, *fresh), max(*chosen, *fresh)
    edges = [low + (high - low + 1e-9) * step / 24 for step in range(25)]
    for values, name, colour in (
        (fresh, "on fresh rows", "blue"),
        (chosen, f"on the {rows} rows that chose", "orange"),
    ):
        plot.hist(values, bins=edges, color=PALETTE[colour], alpha=0.6, label=name)
        plot.axvline(sum(values) / len(values), color=PALETTE[colour], linewidth=2)
    plot.set(xlabel="accuracy of the winner", ylabel="how often")
    plot.xaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
