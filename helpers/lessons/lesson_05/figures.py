"""Figures of lesson 05: what the clip does, rewards over the updates, and what each KL weight gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, PERCENT, Figure, axes, dot_plot, panels

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
    figure.alt = (
        f"For a good token the objective rises with the ratio and is flat beyond {1 + clip:g}; for a bad one it falls, "
        f"and is flat below {1 - clip:g}."
    )
    return figure


def proxy_and_truth(
    proxies: Mapping[str, Sequence[float]], truths: Mapping[str, Sequence[float]], window: int = 5
) -> Figure:
    """Two panels over the updates: the reward model's mean score, and the share of wishes granted.

    Both: run -> one value per update; a line shows the mean of the last `window` updates.
    """
    figure, plots = _score_and_truth(height=3.2)
    for plot, runs in zip(plots, (proxies, truths), strict=True):
        for (name, values), colour in zip(runs.items(), COLOURS, strict=False):
            updates = range(1, len(values) + 1)
            plot.plot(updates, values, ".", color=PALETTE[colour], alpha=0.35)
            plot.plot(updates, smoothed(values, window), color=PALETTE[colour], linewidth=2, label=name)
        plot.set(xlabel="update")
    if len(proxies) > 1:
        lines, names = plots[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside upper center", ncols=len(proxies), frameon=False)
    said = "; ".join(
        f"{name}: score {values[0]:+.1f} to {values[-1]:+.1f}, granted {truths[name][0]:.0%} to {truths[name][-1]:.0%}"
        for name, values in proxies.items()
    )
    figure.alt = f"From the first update to the last: {said}."
    return figure


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and those just before it, `window` in all."""
    return [fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def granted(shares: Mapping[str, Interval], notes: Mapping[str, str] | None = None) -> Figure:
    """One row per policy: the share of wishes granted with its interval, and a note at the right."""
    figure = dot_plot(shares, notes, quantity="wishes granted", digits=0, low=0.0)
    figure.axes[0].set_ylim(len(shares) - 0.5, -0.7)  # the first at the top
    said = "; ".join(f"{name} {one.value:.0%} ({one.low:.0%} to {one.high:.0%})" for name, one in shares.items())
    figure.alt = f"Wishes granted, with 95 % interval: {said}."
    return figure


def tilted(weights: Sequence[float], proxy: Sequence[float], truth: Sequence[float], chosen: float) -> Figure:
    """Expected score and share of granted wishes of the best policy for each KL weight; `chosen` is marked."""
    figure, plots = _score_and_truth(height=3.0)
    for plot, values, colour in zip(plots, (proxy, truth), COLOURS, strict=False):
        plot.plot(weights, values, color=PALETTE[colour], linewidth=2)
        plot.axvline(chosen, color=PALETTE["grey"], linestyle=":")
        plot.set(xlabel="KL weight (logarithmic)", xscale="log")
        plot.invert_xaxis()  # from a strict penalty to a loose one
    return figure


def by_kl_coef(scores: Mapping[str, Sequence[float]], truths: Mapping[str, Sequence[float]]) -> Figure:
    """Score and share of granted wishes after training: a dot for each seed, a line through the means.

    Both: KL weight -> one value per seed.
    """
    figure, plots = _score_and_truth(height=3.0)
    for plot, found, colour in zip(plots, (scores, truths), COLOURS, strict=False):
        for place, values in enumerate(found.values()):
            plot.plot([place] * len(values), values, "o", color=PALETTE[colour], alpha=0.5)
        plot.plot(range(len(found)), [fmean(values) for values in found.values()], color=PALETTE[colour], linewidth=2)
        plot.set_xticks(range(len(found)), list(found))
        plot.set(xlabel="KL weight")
    said = "; ".join(
        f"{weight}: score {fmean(scores[weight]):+.1f}, granted {min(values):.0%} to {max(values):.0%}"
        for weight, values in truths.items()
    )
    figure.alt = f"For each KL weight the mean score, and the shares of granted wishes over the seeds. {said}."
    return figure


def _score_and_truth(height: float) -> tuple[Figure, list[Axes]]:
    """Two empty panels: what the reward model says, and what the judge says, from 0 to 100 %."""
    figure, plots = panels(8.0, height, columns=2)
    for plot, title in zip(plots, ("reward model's score", "wishes granted (judge)"), strict=True):
        plot.set_title(title, loc="left", color=INK, fontsize=10)
    plots[1].set_ylim(0, 1)
    plots[1].yaxis.set_major_formatter(PERCENT)
    return figure, plots
