"""The figures of lesson 11: what training holds in memory, part by part, in bars laid end to end."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from helpers.memory import Ledger
from helpers.plotting import INK, PALETTE, axes

COLOURS = {"weights": "blue", "gradients": "green", "optimizer": "orange", "activations": "sky"}
UNITS = {"MB": 1e6, "GB": 1e9}


def ledgers(
    bars: Mapping[str, Ledger], unit: str = "MB", *, marks: Mapping[str, float] | None = None, title: str = ""
) -> Figure:
    """One bar for each ledger, the first at the top: its four parts end to end, and a black line at the peak.

    bars: title -> ledger. marks: a short text -> bytes, drawn as a dotted line (a GPU's memory, say).
    """
    scale, marks = UNITS[unit], marks or {}
    figure, ax = axes(8.0, 1.3 + 0.42 * len(bars))
    for row, ledger in enumerate(bars.values()):
        start = 0.0
        for part, size in ledger.parts.items():
            label = part if row == 0 else None
            ax.barh(row, size / scale, left=start, height=0.62, color=PALETTE[COLOURS[part]], label=label)
            start += size / scale
        ax.vlines(ledger.peak / scale, row - 0.4, row + 0.4, color=INK, linewidth=2, label=None if row else "peak")
        end = max(start, ledger.peak / scale)
        ax.annotate(_short(ledger.peak / scale), (end, row), (5, 0), textcoords="offset points", va="center", color=INK)
    for text, size in marks.items():
        ax.axvline(size / scale, color=PALETTE["grey"], linestyle=":")
        ax.annotate(text, (size / scale, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                    va="bottom", color=INK, fontsize=9)  # fmt: skip
    ax.set_yticks(range(len(bars)), list(bars))
    ax.invert_yaxis()
    ax.margins(x=0.1)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"{unit} (the number is the peak)")
    ax.set_title(title, loc="left", color=INK, pad=16 if marks else 6)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    return figure


def ledgers_in_words(bars: Mapping[str, Ledger], unit: str = "MB") -> str:
    """The same figure for whoever cannot see it."""
    scale = UNITS[unit]
    said = []
    for title, ledger in bars.items():
        parts = ", ".join(f"{part} {_short(size / scale)}" for part, size in ledger.parts.items())
        said.append(f"{title}: {parts}, peak {_short(ledger.peak / scale)}")
    return f"Memory of one training step in {unit}. " + "; ".join(said) + "."


def _short(value: float) -> str:
    """Three digits: 0.55, 7.1, 44."""
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
