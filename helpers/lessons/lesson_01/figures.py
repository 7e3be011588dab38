"""Attention maps: who looks at whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from helpers.plotting import INK

if TYPE_CHECKING:  # whoever draws other figures need not wait for torch
    from torch import Tensor


def attention_map(weights: Tensor, tokens: Sequence[str], title: str = "") -> Figure:
    """One head's map. weights: (seq, seq), each row a token's attention, summing to 1."""
    if tuple(weights.shape) != (len(tokens), len(tokens)):
        raise ValueError(f"{len(tokens)} tokens need a square map, not {tuple(weights.shape)}")
    side = max(3.6, 0.34 * len(tokens) + 1.2)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(weights.detach().cpu(), cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(len(tokens)), tokens, rotation=90, color=INK)
    axes.set_yticks(range(len(tokens)), tokens, color=INK)
    axes.set(xlabel="looks at", ylabel="token", title=title)
    figure.colorbar(image, ax=axes, label="attention weight", shrink=0.8)
    return figure


def attention_grid(attentions: Sequence[Tensor], tokens: Sequence[str]) -> Figure:
    """Every head of every layer, small; the brightest is a weight of a half or more.

    attentions: per layer (1, heads, seq, seq).
    """
    layers, heads = len(attentions), attentions[0].shape[1]
    figure = Figure(figsize=(1.7 * heads + 0.6, 1.7 * layers + 0.4), layout="constrained")
    grid = figure.subplots(layers, heads, squeeze=False)
    for layer in range(layers):
        for head in range(heads):
            axes = grid[layer, head]
            axes.imshow(attentions[layer][0, head].detach().cpu(), cmap="cividis", vmin=0, vmax=0.5)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"layer {layer}, head {head}", fontsize=8, color=INK)
    figure.supxlabel(
        f"looks at (the {len(tokens)} tokens, left to right); yellow: a weight of 0.5 or more", fontsize=9, color=INK
    )
    figure.supylabel("token (top to bottom)", fontsize=9, color=INK)
    return figure


def strongest(weights: Tensor, tokens: Sequence[str]) -> list[tuple[str, str, float]]:
    """For each token, the one it looks at most and how much: what a map says, in words."""
    best = weights.detach().cpu().max(dim=-1)
    found = zip(tokens, best.indices.tolist(), best.values.tolist(), strict=True)
    return [(token, tokens[place], share) for token, place, share in found]
