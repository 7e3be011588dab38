"""Figures of lesson 03: accuracy against labels, losses over epochs, what was forgotten, luck in choosing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.ticker import MaxNLocator, NullLocator

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, PERCENT, Figure, axes, band, listing, log_ticks, note, panels, spans

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
    reference = reference or {}
    figure, plot = axes(8.0, 4.0)
    for index, (name, scores) in enumerate(series.items()):
        colour, values = PALETTE[COLOURS[index]], [score.value for score in scores.values()]
        ends, label = spans(scores.values()), f"{name}, this run"
        plot.errorbar(list(scores), values, ends, fmt=MARKS[index], color=colour, capsize=3, label=label)
        if reference.get(name):
            band(plot, reference[name], colour, linewidth=1.5, label=f"{name}, reference")
    if floor is not None:
        plot.axhline(floor, color=PALETTE["grey"], linestyle=":", label="majority class")
    log_ticks(plot, {size for group in (series, reference) for scores in group.values() for size in scores})
    plot.set(xlabel="labelled reviews to learn from (logarithmic)", ylabel="accuracy, 95 % interval")
    plot.yaxis.set_major_formatter(PERCENT)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    groups = {"Accuracy by number of labels, this run": series, "Reference": reference}
    said = {title: listing(group, "{value.value:.0%} with {key}") for title, group in groups.items() if group}
    figure.alt = " ".join(f"{title}: {one}." for title, one in said.items())
    return figure


def losses(curves: Mapping[str, Mapping[str, Sequence[float]]], guess: float, best: Mapping[str, int]) -> Figure:
    """One panel for each run: its training and validation loss after each epoch.

    curves: run -> "train" or "validation" -> one loss per epoch. guess: the loss of a constant guess, dotted.
    best: run -> the epoch (from 1) of the lowest validation loss, marked with a ring.
    """
    figure, plots = panels(9.0, 3.3, columns=len(curves))
    top = max(value for parts in curves.values() for values in parts.values() for value in values)
    said = []
    for plot, (name, parts) in zip(plots, curves.items(), strict=True):
        for (split, values), colour, mark in zip(parts.items(), ("orange", "blue"), "so", strict=True):
            plot.plot(range(1, len(values) + 1), values, f"{mark}-", markersize=4, color=PALETTE[colour], label=split)
        lowest = parts["validation"][best[name] - 1]
        plot.plot(best[name], lowest, "o", markersize=13, fillstyle="none", color=INK)
        plot.axhline(guess, color=PALETTE["grey"], linestyle=":")
        plot.set_title(name, fontsize=10, color=INK)
        plot.set(xlabel="epoch", ylim=(0, 1.08 * max(top, guess)))
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        ends = ", ".join(f"{split} loss from {values[0]:.2f} to {values[-1]:.2f}" for split, values in parts.items())
        said.append(f"{name}: {ends}, validation lowest after epoch {best[name]}")
    plots[0].set_ylabel("loss (nats)")
    plots[0].legend(frameon=False)
    figure.alt = f"Losses over epochs. {'; '.join(said)}."
    return figure


def forgetting(before: Mapping[str, float], after: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much the masked-word loss of each domain rose, one row of marks for each way to fine-tune.

    before: domain -> loss; after: method -> domain -> loss, the first method at the top. A line joins a method's
    smallest and largest rise.
    """
    figure, plot = axes(8.4, 1.3 + 0.5 * len(after))
    rises = {name: {domain: losses[domain] - before[domain] for domain in before} for name, losses in after.items()}
    names = list(reversed(rises))
    for row, name in enumerate(names):
        found = rises[name].values()
        plot.hlines(row, min(found), max(found), color="#dddddd", linewidth=3, zorder=1)
    for index, domain in enumerate(before):
        places, colour = [rises[name][domain] for name in names], PALETTE[COLOURS[index % 6]]
        plot.plot(places, range(len(names)), MARKS[index % 6], color=colour, label=domain)
    plot.axvline(0, color=INK, linewidth=1)
    plot.set_yticks(range(len(names)), names)
    plot.set_ylim(-0.6, len(names) - 0.4)
    plot.set_xscale("symlog", linthresh=0.5)
    plot.set_xticks([0, 0.25, 0.5, 1, 2, 5], ["0", "0.25", "0.5", "1", "2", "5"])
    plot.xaxis.set_minor_locator(NullLocator())
    plot.set_xlabel("rise of the masked-word loss (nats per hidden token; logarithmic above 0.5)")
    figure.legend(loc="outside upper center", ncols=len(before), frameon=False)
    figure.alt = f"Rise of the masked-word loss by domain. {listing(rises, '{key} {value:+.2f}')}."
    return figure


def trade_offs(curves: Mapping[str, Mapping[str, tuple[Interval, Interval]]]) -> Figure:
    """Accuracy on the new task against the rise of the old loss, one line for each remedy, from the plain fine-tuning.

    curves: remedy -> setting -> (rise of the old loss, accuracy), the plain fine-tuning first. Bars are 95 % intervals.
    """
    figure, plot = axes(8.6, 4.4)
    for index, (name, points) in enumerate(curves.items()):
        colour = PALETTE[COLOURS[index % len(COLOURS)]]
        rises, scores = [rise.value for rise, _ in points.values()], [score.value for _, score in points.values()]
        ends = spans([score for _, score in points.values()])
        plot.errorbar(rises, scores, ends, fmt=f"{MARKS[index % len(MARKS)]}-", color=colour, label=name, capsize=2)
        for setting, rise, score in list(zip(points, rises, scores, strict=True))[1:]:
            note(plot, setting, (rise, score), (4, 4), fontsize=8, color=colour)
    plot.set_xscale("symlog", linthresh=0.5)
    plot.set_xticks([0, 0.25, 0.5, 1, 2, 5], ["0", "0.25", "0.5", "1", "2", "5"])
    plot.xaxis.set_minor_locator(NullLocator())
    plot.set(xlabel="rise of the masked-word loss (nats per hidden token; logarithmic above 0.5)", ylabel="accuracy")
    plot.yaxis.set_major_formatter(PERCENT)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    said = {
        name: {key: f"{r.value:+.2f} nats, {s.value:.0%}" for key, (r, s) in own.items()}
        for name, own in curves.items()
    }
    figure.alt = f"Accuracy against the rise of the old loss. {listing(said, '{key} {value}')}."
    return figure


def luck(chosen: Sequence[float], fresh: Sequence[float], rows: int, candidates: int) -> Figure:
    """Two histograms: the winner's score on the rows that chose it, and on rows that nobody had looked at.

    chosen, fresh: one accuracy of the winner among `candidates` for each draw of `rows` rows.
    """
    figure, plot = axes(7.6, 3.2)
    low, high = min(*chosen, *fresh), max(*chosen, *fresh)
    edges = [low + (high - low + 1e-9) * step / 24 for step in range(25)]
    shown = ((fresh, "on fresh rows", "blue"), (chosen, f"on the {rows} rows that chose", "orange"))
    for values, name, colour in shown:
        plot.hist(values, bins=edges, color=PALETTE[colour], alpha=0.6, label=name)
        plot.axvline(sum(values) / len(values), color=PALETTE[colour], linewidth=2)
    plot.set(xlabel="accuracy of the winner", ylabel="how often")
    plot.xaxis.set_major_formatter(PERCENT)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    there, elsewhere = fmean(chosen), fmean(fresh)
    said = f"{there:.3f} there, {elsewhere:.3f} on fresh rows"
    figure.alt = f"The winner of {candidates} variants on {rows} rows: {said}."
    return figure
