"""Figures of lesson 02: learning rates over steps, probes over layers, differences per kind of row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from helpers.intervals import Interval
from helpers.plotting import PALETTE, PERCENT, Figure, axes, interval_rows

COLOURS = ("blue", "orange", "green", "purple")


def learning_rates(rates: Mapping[str, Sequence[float]]) -> Figure:
    """The learning rate at every step; rates: name -> one value per step."""
    figure, plot = axes(7.0, 2.8)
    for index, (name, values) in enumerate(rates.items()):
        colour, style = PALETTE[COLOURS[index % 4]], "-" if index % 2 == 0 else "--"
        plot.plot(range(1, len(values) + 1), values, style, color=colour, linewidth=2, label=name)
    plot.set(xlabel="step", ylabel="learning rate")
    plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    plot.set_ylim(bottom=0)
    plot.legend(frameon=False)
    return figure


def layers(probes: Mapping[str, Sequence[float]], words: float) -> Figure:
    """The accuracy of a linear probe at every layer; probes: name of the model -> one accuracy per layer.

    words: the accuracy of the bag of words, drawn as a dotted line.
    """
    figure, plot = axes(7.0, 3.2)
    for index, (name, scores) in enumerate(probes.items()):
        colour = PALETTE[COLOURS[index % 4]]
        plot.plot(range(len(scores)), scores, "osD^"[index % 4] + "-", color=colour, linewidth=2, label=name)
    plot.axhline(words, color=PALETTE["grey"], linestyle=":", label="bag of words")
    count = max(map(len, probes.values()))
    plot.set_xticks(range(count), ["embedding\nlayer", *(f"block {layer}" for layer in range(1, count))])
    plot.set(ylabel="accuracy of a linear probe")
    plot.yaxis.set_major_formatter(PERCENT)
    plot.legend(frameon=False)
    said = "; ".join(f"{name}: {', '.join(f'{score:.1%}' for score in scores)}" for name, scores in probes.items())
    figure.alt = f"Accuracy of a linear probe, from the embedding layer up. {said}; bag of words {words:.1%}."
    return figure


def differences(series: Mapping[str, Mapping[str, Interval]], counts: Mapping[str, int], quantity: str) -> Figure:
    """A difference with its interval for each kind of row, beside a line at 0.

    series: whose it is -> kind -> difference; counts: kind -> how many test rows it has.
    """
    names = list(next(iter(series.values())))
    figure, plot = axes(8.0, 1.2 + 0.42 * len(names))
    interval_rows(plot, series, spread=0.26)
    plot.set_yticks(range(len(names)), [f"{name}  ({counts[name]:,} rows)" for name in reversed(names)])
    plot.axvline(0, color=PALETTE["grey"], linestyle=":")
    plot.xaxis.set_major_formatter("{x:+.0%}")
    plot.set_xlabel(f"{quantity},\nwith 95 % interval")
    figure.legend(loc="outside upper center", ncols=len(series), frameon=False)
    said = "; ".join(
        f"{label}: {', '.join(f'{name} {scores[name]:+.1%}' for name in names)}" for label, scores in series.items()
    )
    figure.alt = f"{quantity[0].upper()}{quantity[1:]}, with 95 % interval. {said}."
    return figure
