"""Figures of lesson 05: the four models, the clip, reward and health over the updates, and score against KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, PERCENT, Figure, axes, dot_plot, panels

COLOURS = ("blue", "orange", "green", "purple", "red", "sky")


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
    """Two panels over the updates: the reward model's mean score, and the share of requests satisfied.

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
        f"{name}: score {values[0]:+.1f} to {values[-1]:+.1f}, "
        f"satisfied {truths[name][0]:.0%} to {truths[name][-1]:.0%}"
        for name, values in proxies.items()
    )
    figure.alt = f"From the first update to the last: {said}."
    return figure


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and those just before it, `window` in all."""
    return [fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def satisfied(shares: Mapping[str, Interval], notes: Mapping[str, str] | None = None) -> Figure:
    """One row per policy: the share of requests satisfied with its interval, and a note at the right."""
    figure = dot_plot(shares, notes, quantity="requests satisfied", digits=0, low=0.0)
    figure.axes[0].set_ylim(len(shares) - 0.5, -0.7)  # the first at the top
    said = "; ".join(f"{name} {one.value:.0%} ({one.low:.0%} to {one.high:.0%})" for name, one in shares.items())
    figure.alt = f"Requests satisfied, with 95 % interval: {said}."
    return figure


def tilted(weights: Sequence[float], proxy: Sequence[float], truth: Sequence[float], chosen: float) -> Figure:
    """Expected score and share of requests satisfied of the best policy for each KL weight; `chosen` is marked."""
    figure, plots = _score_and_truth(height=3.0)
    for plot, values, colour in zip(plots, (proxy, truth), COLOURS, strict=False):
        plot.plot(weights, values, color=PALETTE[colour], linewidth=2)
        plot.axvline(chosen, color=PALETTE["grey"], linestyle=":")
        plot.set(xlabel="KL weight (logarithmic)", xscale="log")
        plot.invert_xaxis()  # from a strict penalty to a loose one
    return figure


def against_kl(runs: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """Score and share of requests satisfied against the KL; runs: setting -> (KL, score, share) for each seed."""
    figure, plots = _score_and_truth(height=3.4)
    for (name, seeds), colour, mark in zip(runs.items(), COLOURS, "osD^vP", strict=False):
        for plot, column in zip(plots, (1, 2), strict=True):
            places = [point[0] for point in seeds], [point[column] for point in seeds]
            plot.plot(*places, mark, color=PALETTE[colour], alpha=0.8, label=name)
    for plot in plots:
        plot.set(xlabel="KL from the reference (nats per answer)", xlim=(-0.5, None))
    lines, names = plots[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=3, frameon=False)
    said = "; ".join(
        f"{name}: KL {fmean(point[0] for point in seeds):.1f}, score {fmean(point[1] for point in seeds):+.1f}, "
        f"satisfied {min(point[2] for point in seeds):.0%} to {max(point[2] for point in seeds):.0%}"
        for name, seeds in runs.items()
    )
    figure.alt = f"Each dot is a seed. {said}."
    return figure


def best_of_n(counts: Sequence[int], scores: Sequence[float], truths: Sequence[float]) -> Figure:
    """Score and share of requests satisfied of the best of n answers; one value for each n in `counts`."""
    figure, plots = _score_and_truth(height=3.0)
    for plot, values, colour in zip(plots, (scores, truths), COLOURS, strict=False):
        plot.plot(range(len(counts)), values, "o-", color=PALETTE[colour], linewidth=2)
        plot.set_xticks(range(len(counts)), [str(count) for count in counts])
        plot.set(xlabel="answers drawn for each request (n)")
    said = "; ".join(
        f"n {n}: score {s:+.2f}, satisfied {share:.0%}" for n, s, share in zip(counts, scores, truths, strict=True)
    )
    figure.alt = f"The answer that the reward model scores highest among n. {said}."
    return figure


HEALTH = {
    "kl": "KL (nats per answer)",
    "entropy": "entropy (nats per token)",
    "clip_share": "tokens outside the clip",
    "length": "length (tokens)",
}


def health(runs: Mapping[str, Any]) -> Figure:
    """Four panels over the updates, what to watch beside the score; runs: name -> a `PPOHistory`."""
    figure, plots = panels(9.0, 5.0, rows=2, columns=2)
    for plot, (column, title) in zip(plots, HEALTH.items(), strict=True):
        for (name, history), colour in zip(runs.items(), COLOURS, strict=False):
            values = getattr(history, column)
            plot.plot(range(1, len(values) + 1), values, color=PALETTE[colour], linewidth=1.8, label=name)
        plot.set_title(title, loc="left", color=INK, fontsize=10)
        plot.set(xlabel="update", ylim=(0, None))
    if len(runs) > 1:
        lines, names = plots[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside upper center", ncols=len(runs), frameon=False)
    said = "; ".join(
        f"{name}: " + ", ".join(f"{title} {getattr(one, column)[-1]:.2f}" for column, title in HEALTH.items())
        for name, one in runs.items()
    )
    figure.alt = f"At the last update, {said}."
    return figure


BOXES = {  # name: (left, bottom, what it does, whether it is trained)
    "policy": (0.2, 1.5, "writes the answers", True),
    "value head": (0.2, 0.0, "guesses the reward to come", True),
    "reference": (3.5, 1.5, "the policy's frozen start", False),
    "reward model": (3.5, 0.0, "scores whole answers", False),
}


def four_models() -> Figure:
    """The models of RLHF and what passes between them."""
    figure, plot = axes(8.0, 3.2)
    for name, (left, bottom, what, trained) in BOXES.items():
        colour = PALETTE["orange" if trained else "grey"]
        plot.add_patch(Rectangle((left, bottom), 2.0, 0.9, fill=False, edgecolor=colour, linewidth=2))
        plot.text(left + 1.0, bottom + 0.6, name, ha="center", va="center", color=INK, fontsize=10, weight="bold")
        plot.text(left + 1.0, bottom + 0.28, what, ha="center", va="center", color=INK, fontsize=8)
    arrows = {
        "answers": ((2.2, 2.1), (3.5, 2.1)),
        "answers ": ((2.2, 1.65), (3.5, 0.7)),
        "KL penalty": ((5.5, 1.95), (6.5, 1.4)),
        "score": ((5.5, 0.45), (6.5, 1.0)),
    }
    for said, (start, end) in arrows.items():
        plot.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": INK})
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.14
        plot.text(*middle, said.strip(), ha="center", color=INK, fontsize=8)
    plot.text(6.6, 1.2, "reward of\neach token\n-> advantages\n-> update", va="center", color=INK, fontsize=9)
    plot.set(xlim=(0, 8.0), ylim=(-0.2, 2.6))
    plot.axis("off")
    figure.alt = (
        "Four models. The policy (trained) writes answers. The frozen reference and the frozen reward model read them: "
        "one gives the KL penalty, the other the score, and both make the reward of each token. The value head "
        "(trained) guesses the reward to come, so that the reward becomes an advantage, which updates the policy."
    )
    return figure


def _score_and_truth(height: float) -> tuple[Figure, list[Axes]]:
    """Two empty panels: what the reward model says, and what the judge says, from 0 to 100 %."""
    figure, plots = panels(8.0, height, columns=2)
    for plot, title in zip(plots, ("reward model's score", "requests satisfied (judge)"), strict=True):
        plot.set_title(title, loc="left", color=INK, fontsize=10)
    plots[1].set_ylim(0, 1)
    plots[1].yaxis.set_major_formatter(PERCENT)
    return figure, plots
