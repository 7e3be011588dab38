"""Figures of lesson 06: a policy and its optimum, likelihoods over steps, verdicts, and win rate against KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from helpers.intervals import Interval
from helpers.plotting import COLOURS, INK, PALETTE, PERCENT, Figure, axes, interval_rows, listing, note, panels

Points = Mapping[str, tuple[float, Interval]]  # label -> (KL in nats per answer, win rate)


def policies(shares: Mapping[str, Sequence[float]], answers: Sequence[str], title: str = "") -> Figure:
    """How probable each answer is under a few policies, side by side. shares: policy -> one share per answer."""
    figure, plot = axes(7.0, 3.0)
    width = 0.8 / len(shares)
    for index, (name, values) in enumerate(shares.items()):
        places = [place + (index - (len(shares) - 1) / 2) * width for place in range(len(answers))]
        plot.bar(places, values, width, color=PALETTE[COLOURS[index % 4]], label=name)
    plot.set_xticks(range(len(answers)), answers)
    plot.set(ylim=(0, 1), ylabel="probability")
    plot.yaxis.set_major_formatter(PERCENT)
    plot.set_title(title, loc="left", color=INK)
    plot.legend(frameon=False)
    return figure


def likelihoods(chosen: Sequence[float], rejected: Sequence[float], losses: Sequence[float], over: int) -> Figure:
    """Left the loss, right how much likelier each side became than the reference finds it, each a moving mean.

    chosen, rejected: the mean change of log-probability of a batch's answers, in nats, one per step.
    over: steps in one mean.
    """
    figure, (left, right) = panels(9.0, 3.4, columns=2)
    window, steps = np.ones(over) / over, range(over, len(losses) + 1)
    left.plot(steps, np.convolve(losses, window, "valid"), color=PALETTE["blue"], linewidth=2)
    left.axhline(0.6931, color=PALETTE["grey"], linestyle=":")
    note(left, "ln 2", (steps[-1], 0.6931), (0, -12), ha="right")
    left.set_ylim(bottom=0)
    left.set_ylabel("DPO loss")
    right.axhline(0, color=PALETTE["grey"], linestyle=":")
    for name, values, colour, style in (("chosen", chosen, "green", "-"), ("rejected", rejected, "red", "--")):
        means = np.convolve(values, window, "valid")
        right.plot(steps, means, style, color=PALETTE[colour], linewidth=2, label=name)
    right.set_ylabel("change of log-probability (nats)")
    right.legend(frameon=False)
    for plot in (left, right):
        plot.set_xlabel(f"step (mean of {over})")
    return figure


def verdicts(rates: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """What share of answers the judge accepts in each respect, for a few models. rates: model -> respect -> share."""
    figure, plot = axes(8.0, 1.2 + 0.55 * len(next(iter(rates.values()))))
    interval_rows(plot, rates, spread=0.22)
    plot.set(xlabel="share of the answers, with 95 % interval", xlim=(-0.02, 1.02))
    plot.xaxis.set_major_formatter(PERCENT)
    plot.grid(axis="y", color="#eeeeee")
    plot.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=len(rates), frameon=False)
    figure.alt = f"Share of answers that the judge accepts. {listing(rates, '{key} {value.value:.0%}')}."
    return figure


def frontier(points: Points, apart: Points | None = None) -> Figure:
    """Win rate against KL: one point per setting, joined, and other methods (`apart`) beside them."""
    apart = apart or {}
    figure, plot = axes(7.0, 3.8)
    ordered = sorted(points.values(), key=lambda point: point[0])
    plot.plot([kl for kl, _ in ordered], [rate.value for _, rate in ordered], color=PALETTE["blue"], alpha=0.4)
    for group, colour, mark in ((points, "blue", "o"), (apart, "orange", "D")):
        nearest, step = 0.0, 0
        for row, (label, (kl, rate)) in enumerate(sorted(group.items(), key=lambda item: item[1][0])):
            plot.plot([kl, kl], [rate.low, rate.high], color=PALETTE[colour], linewidth=3, alpha=0.4)
            plot.plot(kl, rate.value, mark, color=PALETTE[colour], markersize=8)
            if group is points:  # named below their intervals, one that is near its neighbour a step lower
                nearest, step = kl, step + 1 if kl < 2 * nearest else 0
                end, place, side = rate.low, (0, -12 - 18 * step), "center"
            else:  # named above, away from each other
                last = row == len(group) - 1
                end, place, side = rate.high, (8 if last else -8, 10), "left" if last else "right"
            line = {"arrowstyle": "-", "color": PALETTE[colour], "shrinkA": 0, "shrinkB": 0}
            note(plot, label, (kl, end), place, ha=side, va="center", arrowprops=line)
    plot.axhline(0.5, color=PALETTE["grey"], linestyle=":")
    plot.set_xscale("log")
    plot.xaxis.set_major_formatter(ScalarFormatter())
    plot.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    plot.xaxis.set_minor_formatter(NullFormatter())
    plot.margins(x=0.42, y=0.25)
    plot.set(xlabel="KL from the reference (nats per answer, logarithmic)", ylabel="win rate, with 95 % interval")
    plot.yaxis.set_major_formatter(PERCENT)
    said = "; ".join(
        f"{label}: KL {kl:.2f}, win rate {rate.value:.0%}"
        for label, (kl, rate) in sorted({**points, **apart}.items(), key=lambda item: item[1][0])
    )
    figure.alt = f"Win rate against KL from the reference, in nats per answer, least KL first. {said}."
    return figure
