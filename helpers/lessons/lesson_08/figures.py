"""Figures of lesson 08: spectra, accuracy by rank, paths of forgetting, and a change of a weight drawn as a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, PERCENT, Figure, axes, listing, log_ticks, note, panels

COLOURS = ("blue", "orange", "green", "purple", "red", "sky")
SAID_RANKS = (1, 4, 8, 16)  # the ranks of a spectrum that the alternative text names


def energies(series: Mapping[str, Sequence[float]], marked: int | None = None) -> Figure:
    """How much of a matrix its first directions hold; series: name -> share of energy at rank 1, 2, ...

    A series whose name starts with "random" is drawn dotted, as what no structure looks like.
    """
    figure, plot = axes(7.0, 3.6)
    for index, (name, shares) in enumerate(series.items()):
        dotted = name.startswith("random")
        colour = PALETTE["grey"] if dotted else PALETTE[COLOURS[index % len(COLOURS)]]
        plot.plot(range(1, len(shares) + 1), shares, ":" if dotted else "-", color=colour, linewidth=2, label=name)
    if marked is not None:
        plot.axvline(marked, color=PALETTE["grey"], linewidth=1)
        note(plot, f"rank {marked}", (marked, 0.03), (4, 0), fontsize=9)
    plot.set(xlabel="rank: how many directions are kept", ylabel="share of the change's energy", ylim=(0, 1.02))
    plot.yaxis.set_major_formatter(PERCENT)
    plot.legend(frameon=False, loc="lower right")
    some = {
        name: {rank: shares[rank - 1] for rank in SAID_RANKS if rank <= len(shares)} for name, shares in series.items()
    }
    said = listing(some, "{value:.0%} at rank {key}")
    figure.alt = f"Share of a change's energy that the largest directions hold. {said}."
    return figure


def accuracy_by_rank(series: Mapping[str, Mapping[int, Interval]], lines: Mapping[str, float]) -> Figure:
    """Accuracy against rank; series: name -> rank -> accuracy; lines: name -> an accuracy to compare with."""
    figure, plot = axes(7.0, 3.8)
    series = {name: dict(sorted(scores.items())) for name, scores in series.items()}
    said = [listing(series, "rank {key} {value.value:.1%}")]
    for index, (name, scores) in enumerate(series.items()):
        colour = PALETTE[COLOURS[index]]
        low, high = [score.low for score in scores.values()], [score.high for score in scores.values()]
        values = [score.value for score in scores.values()]
        plot.vlines(list(scores), low, high, color=colour, linewidth=3, alpha=0.35)
        plot.plot(list(scores), values, "-" + "osD"[index % 3], color=colour, label=name)
    for index, (name, value) in enumerate(lines.items()):
        said.append(f"{name} {value:.1%}")
        plot.axhline(value, color=INK, linestyle=("--", ":", "-.")[index % 3], linewidth=1.2, label=said[-1])
    log_ticks(plot, {rank for scores in series.values() for rank in scores}, base=2)
    plot.set(xlabel="rank", ylabel="accuracy, with 95 % interval")
    plot.yaxis.set_major_formatter(PERCENT)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.alt = f"Accuracy against rank. {'; '.join(said)}."
    return figure


def forgetting_paths(paths: Mapping[str, Sequence[tuple[float, float]]], chance: float | None = None) -> Figure:
    """What is learned against what is kept, along training; paths: method -> (new, old) accuracies in order."""
    figure, plot = axes(6.4, 4.4)
    said = []
    for colour, (name, path) in zip(COLOURS, paths.items(), strict=False):
        new, old = zip(*path, strict=True)
        plot.plot(new, old, "-o", color=PALETTE[colour], markersize=4, label=name)
        plot.plot(new[-1], old[-1], "o", color=PALETTE[colour], markersize=11)
        said.append(
            f"{name} goes from {new[0]:.0%} new and {old[0]:.0%} old to {new[-1]:.0%} new and {old[-1]:.0%} old "
            f"(lowest {min(old):.0%})"
        )
    if chance is not None:
        plot.axhline(chance, color=PALETTE["grey"], linestyle=":")
        note(plot, "chance", (0.01, chance), (0, 3), xycoords=("axes fraction", "data"), fontsize=9)
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_major_formatter(PERCENT)
    plot.set(xlabel="accuracy on the new task (reviews)", ylabel="accuracy on the old task (topics)")
    figure.legend(loc="outside lower center", ncols=len(paths), frameon=False)
    figure.alt = f"Accuracy on the old task against the new one along training. {'; '.join(said)}."
    return figure


def change_maps(change: np.ndarray, kept: np.ndarray, rank: int) -> Figure:
    """A change of a weight, what a truncation keeps of it, and what is left over: three maps on one scale."""
    figure, plots = panels(9.0, 3.2, columns=3)
    limit = float(np.abs(change).max()) or 1.0
    parts = {"the whole change": change, f"rank {rank}": kept, "left over": change - kept}
    for plot, (title, values) in zip(plots, parts.items(), strict=True):
        drawn = plot.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        plot.set_title(title, loc="left", color=INK, fontsize=10)
        plot.set(xlabel="inputs", yticks=[])
    plots[0].set_ylabel("outputs")
    figure.colorbar(drawn, ax=plots, shrink=0.8)
    share = 1 - float(((change - kept) ** 2).sum() / (change**2).sum())
    figure.alt = (
        f"Three maps of a {change.shape[0]} by {change.shape[1]} change: whole, its closest matrix of rank {rank}, and "
        f"the rest. Rank {rank} holds {share:.0%} of the energy in {rank * sum(change.shape):,} of {change.size:,} "
        "numbers."
    )
    return figure


def sizes_by_rank(series: Mapping[str, Mapping[int, float]], what: str) -> Figure:
    """A size against rank on two logarithmic axes; series: name -> rank -> size."""
    figure, plot = axes(6.4, 3.4)
    for index, (name, sizes) in enumerate(series.items()):
        plot.plot(list(sizes), list(sizes.values()), "-" + "os"[index % 2], color=PALETTE[COLOURS[index]], label=name)
    log_ticks(plot, {rank for sizes in series.values() for rank in sizes}, base=2)
    plot.set_yscale("log")
    plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plot.yaxis.set_major_formatter("{x:g}")
    plot.yaxis.set_minor_formatter(NullFormatter())
    plot.set(xlabel="rank", ylabel=what)
    plot.legend(frameon=False)
    figure.alt = f"{what[0].upper()}{what[1:]} against rank. {listing(series, 'rank {key} {value:.3g}')}."
    return figure
