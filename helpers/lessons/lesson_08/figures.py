"""The figures of lessons 08 and 09: spectra, accuracy by rank, paths of forgetting, and a change drawn as a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator, PercentFormatter

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, axes

COLOURS = ("blue", "orange", "green", "purple", "red", "sky")
Path = Sequence[tuple[float, float]]


def energies(series: Mapping[str, Sequence[float]], marked: int | None = None) -> Figure:
    """How much of a matrix its first directions hold; series: name -> share of energy at rank 1, 2, ...

    A series whose name starts with "random" is drawn dotted, as what no structure looks like.
    """
    figure, ax = axes(7.0, 3.6)
    for index, (name, shares) in enumerate(series.items()):
        dotted = name.startswith("random")
        colour = PALETTE["grey"] if dotted else PALETTE[COLOURS[index % len(COLOURS)]]
        ax.plot(range(1, len(shares) + 1), shares, ":" if dotted else "-", color=colour, linewidth=2, label=name)
    if marked is not None:
        ax.axvline(marked, color=PALETTE["grey"], linewidth=1)
        ax.annotate(f"rank {marked}", (marked, 0.03), (4, 0), textcoords="offset points", color=INK, fontsize=9)
    ax.set_xlabel("rank: how many directions are kept")
    ax.set_ylabel("share of the change's energy")
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    ax.legend(frameon=False, loc="lower right")
    return figure


def energies_in_words(series: Mapping[str, Sequence[float]], ranks: Sequence[int] = (1, 4, 8, 16)) -> str:
    """The same figure for whoever cannot see it."""
    said = []
    for name, shares in series.items():
        parts = [f"{shares[rank - 1]:.0%} at rank {rank}" for rank in ranks if rank <= len(shares)]
        said.append(f"{name}: {', '.join(parts)}")
    return "Share of a change's energy that the largest directions hold. " + "; ".join(said) + "."


def accuracy_by_rank(
    series: Mapping[str, Mapping[int, Interval]], lines: Mapping[str, float], *, title: str = ""
) -> Figure:
    """Accuracy against rank; series: name -> rank -> accuracy; lines: name -> an accuracy to compare with."""
    figure, ax = axes(7.0, 3.8)
    ranks = sorted({rank for scores in series.values() for rank in scores})
    for index, (name, scores) in enumerate(series.items()):
        colour, own = PALETTE[COLOURS[index]], sorted(scores)
        ax.vlines(
            own, [scores[r].low for r in own], [scores[r].high for r in own], color=colour, linewidth=3, alpha=0.35
        )
        ax.plot(own, [scores[r].value for r in own], "-" + "osD"[index % 3], color=colour, label=name)
    for index, (name, value) in enumerate(lines.items()):
        ax.axhline(value, color=INK, linestyle=("--", ":", "-.")[index % 3], linewidth=1.2, label=f"{name} {value:.1%}")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(ranks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([str(rank) for rank in ranks])
    ax.set_xlabel("rank")
    ax.set_ylabel("accuracy, with 95 % interval")
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    ax.set_title(title, loc="left", color=INK)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def accuracy_by_rank_in_words(series: Mapping[str, Mapping[int, Interval]], lines: Mapping[str, float]) -> str:
    """The same figure for whoever cannot see it."""
    said = [f"{name}: " + ", ".join(f"rank {r} {s[r].value:.1%}" for r in sorted(s)) for name, s in series.items()]
    said += [f"{name} {value:.1%}" for name, value in lines.items()]
    return "Accuracy against rank. " + "; ".join(said) + "."


def forgetting_paths(paths: Mapping[str, Path], chance: float | None = None) -> Figure:
    """What is learned against what is kept, along training; paths: method -> (new, old) accuracies in order."""
    figure, ax = axes(6.4, 4.4)
    for index, (name, path) in enumerate(paths.items()):
        colour = PALETTE[COLOURS[index]]
        new, old = zip(*path, strict=True)
        ax.plot(new, old, "-o", color=colour, markersize=4, label=name)
        ax.plot(new[-1], old[-1], "o", color=colour, markersize=11)
    if chance is not None:
        ax.axhline(chance, color=PALETTE["grey"], linestyle=":")
        ax.annotate("chance", (0.01, chance), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                    color=INK, fontsize=9)  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    ax.set_xlabel("accuracy on the new task (reviews)")
    ax.set_ylabel("accuracy on the old task (topics)")
    figure.legend(loc="outside lower center", ncols=len(paths), frameon=False)
    return figure


def forgetting_paths_in_words(paths: Mapping[str, Path]) -> str:
    """The same figure for whoever cannot see it."""
    said = [
        f"{name} goes from {path[0][0]:.0%} new and {path[0][1]:.0%} old to {path[-1][0]:.0%} new and "
        f"{path[-1][1]:.0%} old (lowest {min(old for _, old in path):.0%})"
        for name, path in paths.items()
    ]
    return "Accuracy on the old task against the new one along training. " + "; ".join(said) + "."


def change_maps(change: np.ndarray, kept: np.ndarray, rank: int) -> Figure:
    """A change of a weight, what a truncation keeps of it, and what is left over: three maps on one scale."""
    figure, panels = axes(9.0, 3.2, columns=3)
    limit = float(np.abs(change).max()) or 1.0
    parts = {"the whole change": change, f"rank {rank}": kept, "left over": change - kept}
    for ax, (title, values) in zip(panels, parts.items(), strict=True):
        drawn = ax.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        ax.set_title(title, loc="left", color=INK, fontsize=10)
        ax.set_xlabel("inputs")
        ax.set_yticks([])
    panels[0].set_ylabel("outputs")
    figure.colorbar(drawn, ax=panels, shrink=0.8)
    return figure


def change_maps_in_words(change: np.ndarray, kept: np.ndarray, rank: int) -> str:
    """The same figure for whoever cannot see it."""
    share = 1 - float(((change - kept) ** 2).sum() / (change**2).sum())
    numbers = rank * sum(change.shape)
    return (
        f"Three maps of a {change.shape[0]} by {change.shape[1]} change: whole, its closest matrix of rank {rank}, and "
        f"the rest. Rank {rank} holds {share:.0%} of the energy in {numbers:,} of {change.size:,} numbers."
    )


def sizes_by_rank(series: Mapping[str, Mapping[int, float]], what: str) -> Figure:
    """A size against rank on two logarithmic axes; series: name -> rank -> size."""
    figure, ax = axes(6.4, 3.4)
    for index, (name, sizes) in enumerate(series.items()):
        ax.plot(list(sizes), list(sizes.values()), "-" + "os"[index % 2], color=PALETTE[COLOURS[index]], label=name)
    ranks = sorted({rank for sizes in series.values() for rank in sizes})
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(FixedLocator(ranks))
    ax.set_xticklabels([str(rank) for rank in ranks])
    ax.set_xlabel("rank")
    ax.set_ylabel(what)
    ax.legend(frameon=False)
    return figure


def sizes_by_rank_in_words(series: Mapping[str, Mapping[int, float]], what: str) -> str:
    """The same figure for whoever cannot see it."""
    said = [f"{name}: " + ", ".join(f"rank {r} {v:.3g}" for r, v in sizes.items()) for name, sizes in series.items()]
    return f"{what[0].upper()}{what[1:]} against rank. " + "; ".join(said) + "."
