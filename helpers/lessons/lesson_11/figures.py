"""Figures of lesson 11: what training holds in memory, part by part, in bars laid end to end."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.memory.prediction import MemoryLedger
from helpers.plotting import INK, PALETTE, Figure, axes, note

COLOURS = {"weights": "blue", "gradients": "green", "optimizer": "orange", "activations": "sky"}
UNITS = {"MB": 1e6, "GB": 1e9}


def ledgers(
    bars: Mapping[str, MemoryLedger], unit: str = "MB", *, marks: Mapping[str, float] | None = None, title: str = ""
) -> Figure:
    """One bar for each ledger, the first at the top: its four parts end to end, and a black line at the peak.

    bars: title -> ledger. marks: a short text -> bytes, drawn as a dotted line (a GPU's memory, say).
    """
    scale, marks = UNITS[unit], marks or {}
    figure, plot = axes(8.0, 1.3 + 0.42 * len(bars))
    said = []
    for row, (name, ledger) in enumerate(bars.items()):
        start, peak = 0.0, ledger.peak / scale
        for part, size in ledger.parts.items():
            colour, label = PALETTE[COLOURS[part]], part if row == 0 else ""
            plot.barh(row, size / scale, left=start, height=0.62, color=colour, label=label)
            start += size / scale
        plot.vlines(peak, row - 0.4, row + 0.4, color=INK, linewidth=2, label="" if row else "peak")
        note(plot, _short(peak), (max(start, peak), row), (5, 0), va="center")
        parts = ", ".join(f"{part} {_short(size / scale)}" for part, size in ledger.parts.items())
        said.append(f"{name}: {parts}, peak {_short(peak)}")
    for text, limit in marks.items():
        plot.axvline(limit / scale, color=PALETTE["grey"], linestyle=":")
        note(plot, text, (limit / scale, 1), (3, -2), xycoords=("data", "axes fraction"), va="bottom", fontsize=9)
    plot.set_yticks(range(len(bars)), list(bars))
    plot.invert_yaxis()
    plot.margins(x=0.1)
    plot.set_xlim(left=0)
    plot.set_xlabel(f"{unit} (the number is the peak)")
    plot.set_title(title, loc="left", color=INK, pad=16 if marks else 6)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    figure.alt = f"Memory of one training step in {unit}. {'; '.join(said)}."
    return figure


def _short(value: float) -> str:
    """Three digits: 0.55, 7.1, 44."""
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def ledger_of(parts: Mapping[str, float]) -> MemoryLedger:
    """The calculator's parts as a ledger: what blocks keep and the logits are activations, the peak is the sum."""
    activations = round(parts["kept"] + parts["logits"])
    weights, gradients, optimizer = (round(parts[name]) for name in ("weights", "gradients", "optimizer"))
    return MemoryLedger(weights, gradients, optimizer, activations, round(sum(parts.values())))
