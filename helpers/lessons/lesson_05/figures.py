"""The figures of lesson 05: what the clip does, rewards over the updates, and what a leash of each length gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, axes

COLOURS = ("blue", "orange", "green", "purple", "red")


def clipped_objective(ratios: Sequence[float], gains: Mapping[str, Sequence[float]], clip: float) -> Figure:
    """What an update may gain from one token against how far it moved the token; gains: title -> one per ratio."""
    figure, plot = axes(6.4, 3.0)
    for (name, values), colour in zip(gains.items(), COLOURS, strict=False):
        plot.plot(ratios, values, color=PALETTE[colour], linewidth=2, label=name)
    for edge in (1 - clip, 1 + clip):
        plot.axvline(edge, color=PALETTE["grey"], linestyle=":")
    plot.set(xlabel="probability now / probability when it was written", ylabel="objective")
    plot.legend(frameon=False)
    return figure


def proxy_and_truth(
    proxies: Mapping[str, Sequence[float]], truths: Mapping[str, Sequence[float]], window: int = 5
) -> Figure:
    """Two panels over the updates: the reward model's mean score, and the share of wishes granted.

    Both: run -> one value per update; a line shows the mean of the last `window` updates.
    """
    figure, (left, right) = axes(8.0, 3.2, columns=2)
    for plot, runs, title in ((left, proxies, "reward model's score"), (right, truths, "wishes granted (judge)")):
        for (name, values), colour in zip(runs.items(), COLOURS, strict=False):
            updates = range(1, len(values) + 1)
            plot.plot(updates, values, ".", color=PALETTE[colour], alpha=0.35)
            plot.plot(updates, smoothed(values, window), color=PALETTE[colour], linewidth=2, label=name)
        plot.set(xlabel="update")
        plot.set_title(title, loc="left", color=INK, fontsize=10)
    _percent(right)
    if len(proxies) > 1:
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(proxies), frameon=False)
    return figure


def _percent(plot) -> None:
    plot.set_ylim(0, 1)
    plot.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and those just before it."""
    parts = [values[max(0, end - window) : end] for end in range(1, len(values) + 1)]
    return [sum(part) / len(part) for part in parts]


def granted(shares: Mapping[str, Interval], notes: Mapping[str, str] | None = None) -> Figure:
    """One line per policy: the share of wishes granted with its interval, and a note at the right."""
    figure, plot = axes(8.0, 0.9 + 0.5 * len(shares))
    for row, (name, share) in enumerate(shares.items()):
        plot.plot([share.low, share.high], [row, row], color=PALETTE["blue"], linewidth=4, alpha=0.35)
        plot.plot(share.value, row, "o", color=PALETTE["blue"], markersize=8)
        plot.annotate(
            f"{share.value:.0%}", (share.value, row), (0, 9), textcoords="offset points", ha="center", color=INK
        )
        note = (notes or {}).get(name, "")
        plot.annotate(note, (1.02, row), xycoords=("axes fraction", "data"), va="center", color=INK, fontsize=9)
    plot.set_yticks(range(len(shares)), list(shares))
    plot.set_ylim(len(shares) - 0.5, -0.7)
    plot.set_xlim(0, 1)
    plot.xaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    plot.set_xlabel("wishes granted, with 95 % interval")
    return figure


def in_words(shares: Mapping[str, Interval], what: str) -> str:
    """A figure of shares for whoever cannot see it."""
    said = "; ".join(
        f"{name} {share.value:.0%} ({share.low:.0%} to {share.high:.0%})" for name, share in shares.items()
    )
    return f"{what}, with 95 % interval: {said}."


def tilted(weights: Sequence[float], proxy: Sequence[float], truth: Sequence[float], chosen: float) -> Figure:
    """Expected score and share of granted wishes of the best policy for each KL weight; one of them is marked."""
    figure, (left, right) = axes(8.0, 3.0, columns=2)
    panels = ((left, proxy, "blue", "reward model's score"), (right, truth, "orange", "wishes granted (judge)"))
    for plot, values, colour, title in panels:
        plot.plot(weights, values, color=PALETTE[colour], linewidth=2)
        plot.axvline(chosen, color=PALETTE["grey"], linestyle=":")
        plot.set(xlabel="KL weight (logarithmic)", xscale="log")
        plot.invert_xaxis()  # from a short leash to a long one
        plot.set_title(title, loc="left", color=INK, fontsize=10)
    _percent(right)
    return figure


def leashes(scores: Mapping[str, Sequence[float]], truths: Mapping[str, Sequence[float]]) -> Figure:
    """Score and share of granted wishes after training: a dot for each seed, a line through the means.

    Both: KL weight -> one value per seed.
    """
    figure, panels = axes(8.0, 3.0, columns=2)
    shown = ((scores, "blue", "reward model's score"), (truths, "orange", "wishes granted (judge)"))
    for plot, (found, colour, title) in zip(panels, shown, strict=True):
        for place, values in enumerate(found.values()):
            plot.plot([place] * len(values), values, "o", color=PALETTE[colour], alpha=0.5)
        plot.plot(range(len(found)), [fmean(values) for values in found.values()], color=PALETTE[colour], linewidth=2)
        plot.set_xticks(range(len(found)), list(found))
        plot.set(xlabel="KL weight")
        plot.set_title(title, loc="left", color=INK, fontsize=10)
    _percent(panels[1])
    return figure


def leashes_in_words(scores: Mapping[str, Sequence[float]], truths: Mapping[str, Sequence[float]]) -> str:
    """The same figure for whoever cannot see it."""
    said = "; ".join(
        f"{weight}: score {fmean(scores[weight]):+.1f}, granted {min(values):.0%} to {max(values):.0%}"
        for weight, values in truths.items()
    )
    return f"For each KL weight the mean score, and the shares of granted wishes over the seeds. {said}."
