"""Figures: data in, `Figure` out; `show` puts one on the page with its alternative text."""

from helpers.plots.attention import attention_grid, attention_map, strongest
from helpers.plots.bars import before_after, shares, top_words_figure
from helpers.plots.certainty import interval_against_rows
from helpers.plots.style import INK, PALETTE, axes, show

__all__ = [
    "INK",
    "PALETTE",
    "attention_grid",
    "attention_map",
    "axes",
    "before_after",
    "interval_against_rows",
    "shares",
    "show",
    "strongest",
    "top_words_figure",
]
