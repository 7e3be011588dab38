"""Figures of lesson 08: spectra, accuracy by rank, paths of forgetting, and a change of a weight drawn as a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

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


def spanned(drawn: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """What 3 x 3 matrices return, and the vectors that span it; drawn: title -> points and vectors, (3, n) each."""
    view = np.array([[0.87, -0.5, 0.0], [0.25, 0.43, 0.87]])  # how a point of the space lies on the page
    figure, plots = panels(9.0, 3.2, columns=len(drawn))
    for plot, (title, (points, vectors)) in zip(plots, drawn.items(), strict=True):
        x, y = view @ points.numpy()
        plot.plot(x, y, ".", color=PALETTE["sky"], markersize=3)
        for vector in (view @ vectors.numpy()).T:
            plot.annotate("", vector, (0, 0), arrowprops={"arrowstyle": "->", "color": PALETTE["red"], "linewidth": 2})
        plot.set_title(title, loc="left", color=INK, fontsize=10)
        plot.set(xticks=[], yticks=[], xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    said = ", ".join(f"{title} with {vectors.shape[1]} spanning vectors" for title, (_, vectors) in drawn.items())
    figure.alt = f"Outputs of one matrix cut to several ranks: a line, then a plane, then the space. {said}."
    return figure


def first_steps(drops: Mapping[str, Mapping[int, float]], sizes: Mapping[str, Mapping[int, float]]) -> Figure:
    """How much the loss drops, and how large the change gets, against rank; convention -> rank -> value."""
    figure, plots = panels(9.0, 3.6, columns=2)
    titles = ("how much the loss drops", "size of the change (Frobenius norm)")
    for plot, what, series in zip(plots, titles, (drops, sizes), strict=True):
        for index, (name, values) in enumerate(series.items()):
            mark = "-" + "osD"[index % 3]
            plot.plot(list(values), list(values.values()), mark, color=PALETTE[COLOURS[index]], label=name)
        log_ticks(plot, {rank for values in series.values() for rank in values}, base=2)
        plot.set(yscale="log", xlabel="rank", ylabel=what)
        plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        plot.yaxis.set_major_formatter("{x:g}")
        plot.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    form = "rank {key} {value:.3g}"
    figure.alt = f"Two panels against rank. Loss drop: {listing(drops, form)}. Size: {listing(sizes, form)}."
    return figure
