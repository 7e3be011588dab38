"""Figures: data in, `Figure` out; `show` puts one on the page with its alternative text."""

from helpers.plots.style import INK, PALETTE, axes, show

__all__ = ["INK", "PALETTE", "axes", "show"]
