"""The figures of lesson 06: a policy and its optimum, likelihoods over steps, verdicts, and win rate against KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, ScalarFormatter

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, axes

COLOURS = ("grey", "blue", "orange", "green")
MARKS = "os^D"


def policies(shares: Mapping[str, Sequence[float]], answers: Sequence[str], title: str = "") -> Figure:
    """How probable each answer is under a few policies, side by side. shares: policy -> one share per answer."""
    figure, ax = axes(7.0, 3.0)
    width = 0.8 / len(shares)
    for index, (name, values) in enumerate(shares.items()):
        places = [place + (index - (len(shares) - 1) / 2) * width for place in range(len(answers))]
        ax.bar(places, values, width, color=PALETTE[COLOURS[index % 4]], label=name)
    ax.set_xticks(range(len(answers)), answers)
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    ax.set_ylabel("probability")
    ax.set_title(title, loc="left", color=INK)
    ax.legend(frameon=False)
    return figure


def likelihoods(chosen: Sequence[float], rejected: Sequence[float], losses: Sequence[float], over: int) -> Figure:
    """Left the loss, right how much likelier each side became than the reference finds it, each a moving mean.

    chosen, rejected: the mean change of log-probability of a batch's answers, in nats, one per step.
    over: steps in one mean.
    """
    figure, (left, right) = axes(9.0, 3.4, columns=2)
    steps = range(over, len(losses) + 1)
    left.plot(steps, moving_mean(losses, over), color=PALETTE["blue"], linewidth=2)
    left.axhline(0.6931, color=PALETTE["grey"], linestyle=":")
    left.annotate("ln 2", (steps[-1], 0.6931), (0, -12), textcoords="offset points", ha="right", color=INK)
    left.set_ylim(bottom=0)
    left.set_ylabel("DPO loss")
    right.axhline(0, color=PALETTE["grey"], linestyle=":")
    for name, values, colour, style in (("chosen", chosen, "green", "-"), ("rejected", rejected, "red", "--")):
        right.plot(steps, moving_mean(values, over), style, color=PALETTE[colour], linewidth=2, label=name)
    right.set_ylabel("change of log-probability (nats)")
    right.legend(frameon=False)
    for ax in (left, right):
        ax.set_xlabel(f"step (mean of {over})")
    return figure


def moving_mean(values: Sequence[float], over: int) -> list[float]:
    """The mean of each `over` values in a row: len(values) - over + 1 of them."""
    return [sum(values[start : start + over]) / over for start in range(len(values) - over + 1)]


def verdicts(rates: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """What share of answers is right in each way, for a few models. rates: model -> way -> share."""
    ways = list(next(iter(rates.values())))
    figure, ax = axes(8.0, 1.2 + 0.55 * len(ways))
    for index, (model, shares) in enumerate(rates.items()):
        colour = PALETTE[COLOURS[index % 4]]
        rows = [len(ways) - 1 - row - (index - (len(rates) - 1) / 2) * 0.22 for row in range(len(ways))]
        found = [shares[way] for way in ways]
        ax.hlines(rows, [one.low for one in found], [one.high for one in found], color=colour, linewidth=3, alpha=0.4)
        ax.plot([one.value for one in found], rows, MARKS[index % 4], color=colour, label=model)
    ax.set_yticks(range(len(ways)), list(reversed(ways)))
    ax.set_xlim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    ax.set_xlabel("share of the answers, with 95 % interval")
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=len(rates), frameon=False)
    return figure


def verdicts_in_words(rates: Mapping[str, Mapping[str, Interval]]) -> str:
    """The same figure for whoever cannot see it."""
    said = (
        f"{model}: " + ", ".join(f"{way} {one.value:.0%}" for way, one in ways.items()) for model, ways in rates.items()
    )
    return "Share of answers that the judge accepts. " + "; ".join(said) + "."


def frontier(
    points: Mapping[str, tuple[float, Interval]], apart: Mapping[str, tuple[float, Interval]] | None = None
) -> Figure:
    """Win rate against KL: one point per setting, joined, and other methods beside them.

    points, apart: label -> (KL in nats per answer, win rate).
    """
    figure, ax = axes(7.0, 3.8)
    ordered = sorted(points.values(), key=lambda point: point[0])
    ax.plot([kl for kl, _ in ordered], [rate.value for _, rate in ordered], color=PALETTE["blue"], alpha=0.4)
    for group, colour, mark in ((points, "blue", "o"), (apart or {}, "orange", "D")):
        nearest, step = 0.0, 0
        for row, (label, (kl, rate)) in enumerate(sorted(group.items(), key=lambda item: item[1][0])):
            ax.plot([kl, kl], [rate.low, rate.high], color=PALETTE[colour], linewidth=3, alpha=0.4)
            ax.plot(kl, rate.value, mark, color=PALETTE[colour], markersize=8)
            if group is points:  # named below their intervals, one that is near its neighbour a step lower
                nearest, step = kl, step + 1 if kl < 2 * nearest else 0
                end, place, side = rate.low, (0, -12 - 18 * step), "center"
            else:  # named above, away from each other
                last = row == len(group) - 1
                end, place, side = rate.high, (8 if last else -8, 10), "left" if last else "right"
            line = {"arrowstyle": "-", "color": PALETTE[colour], "shrinkA": 0, "shrinkB": 0}
            ax.annotate(
                label, (kl, end), place, textcoords="offset points", ha=side, va="center", color=INK, arrowprops=line
            )
    ax.axhline(0.5, color=PALETTE["grey"], linestyle=":")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(x=0.42, y=0.25)
    ax.set_xlabel("KL from the reference (nats per answer, logarithmic)")
    ax.set_ylabel("win rate, with 95 % interval")
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    return figure


def frontier_in_words(points: Mapping[str, tuple[float, Interval]]) -> str:
    """The same figure for whoever cannot see it."""
    ordered = sorted(points.items(), key=lambda item: item[1][0])
    said = "; ".join(f"{label}: KL {kl:.2f}, win rate {rate.value:.0%}" for label, (kl, rate) in ordered)
    return f"Win rate against KL from the reference, in nats per answer, least KL first. {said}."
