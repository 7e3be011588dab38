"""Figures of lesson 01: attention maps, what heads look at, and values with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor, nn

from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, Figure, axes, picture, spans


def attention_map(weights: Tensor, tokens: Sequence[str], title: str = "") -> Figure:
    """One head's map. weights: (seq, seq), each row a token's attention, summing to 1."""
    if tuple(weights.shape) != (len(tokens), len(tokens)):
        raise ValueError(f"{len(tokens)} tokens need a square map, not {tuple(weights.shape)}")
    side = max(3.6, 0.34 * len(tokens) + 1.2)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    plot = figure.subplots()
    image = plot.imshow(weights.detach().cpu().numpy(), cmap="cividis", vmin=0, vmax=1)
    plot.set_xticks(range(len(tokens)), tokens, rotation=90, color=INK)
    plot.set_yticks(range(len(tokens)), tokens, color=INK)
    plot.set(xlabel="looks at", ylabel="token", title=title)
    figure.colorbar(image, ax=plot, label="attention weight", shrink=0.8)
    seen = zip(tokens, weights.argmax(dim=-1).tolist(), strict=True)
    said = "; ".join(f"{token} looks at {tokens[place]}" for token, place in seen)
    figure.alt = f"Attention map of {title}. Strongest per row: {said}."
    return figure


def head_patterns(shares: Mapping[str, Tensor]) -> Figure:
    """A table of heads and patterns: how much of its weight each head gives to each pattern.

    shares: pattern -> (layers, heads), the mean weight on the pairs of this pattern.
    """
    layers, heads = next(iter(shares.values())).shape
    table = torch.stack([share.flatten() for share in shares.values()], dim=1)  # (layers * heads, patterns)
    figure = Figure(figsize=(7.0, 0.27 * len(table) + 1.6), layout="constrained")
    plot = figure.subplots()
    image = plot.imshow(table.cpu(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, values in enumerate(table.tolist()):
        for column, value in enumerate(values):
            colour = "black" if value > 0.5 else "white"
            plot.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    plot.set_xticks(range(len(shares)), [name.replace(", ", ",\n") for name in shares], color=INK, fontsize=9)
    plot.set_yticks(range(len(table)), [f"layer {row // heads}, head {row % heads}" for row in range(len(table))])
    plot.tick_params(axis="y", labelsize=8, labelcolor=INK)
    figure.colorbar(image, ax=plot, label="mean attention weight", shrink=0.8)
    best = {name: divmod(int(share.argmax()), heads) for name, share in shares.items()}
    said = "; ".join(f"{name}: {shares[name].max():.2f} in layer {at[0]}, head {at[1]}" for name, at in best.items())
    figure.alt = f"A table of {layers * heads} attention heads and {len(shares)} patterns. Largest of each: {said}."
    return figure


def before_after(before: Mapping[str, float], after: Mapping[str, float], quantity: str) -> Figure:
    """A quantity for each domain before and after training, each value written on its bar."""
    figure, plot = axes(7.4, 3.8)
    for shift, values, label, colour in ((-0.2, before, "before", "grey"), (0.2, after, "after", "orange")):
        heights = [values[name] for name in before]
        places = [place + shift for place in range(len(before))]
        bars = plot.bar(places, heights, 0.38, label=label, color=PALETTE[colour])
        plot.bar_label(bars, [f"{height:.2f}" for height in heights], padding=2, fontsize=8, color=INK)
    plot.set_xticks(range(len(before)), list(before))
    plot.set(ylabel=quantity)
    plot.margins(y=0.15)
    plot.legend(frameon=False)
    said = "; ".join(f"{name} {before[name]:.2f} before, {after[name]:.2f} after" for name in before)
    figure.alt = f"{quantity[0].upper()}{quantity[1:]} before and after reading the new texts: {said}."
    return figure


def loss_curves(losses: Mapping[str, Sequence[float]]) -> Figure:
    """The training loss of each step, one line for each run."""
    figure, plot = axes(6.4, 3.0)
    for (name, values), colour in zip(losses.items(), ("orange", "blue", "green"), strict=False):
        plot.plot(range(1, len(values) + 1), list(values), label=name, color=PALETTE[colour])
    plot.set(xlabel="step", ylabel="training loss (nats per token)")
    plot.legend(frameon=False)
    said = "; ".join(f"{name} from {values[0]:.2f} to {values[-1]:.2f}" for name, values in losses.items())
    figure.alt = f"Training loss of each step: {said}."
    return figure


def bars(intervals: Mapping[str, Interval], quantity: str, limit: float | None = None) -> Figure:
    """One bar for each value, with its interval as an error bar; limit: the end of the axis."""
    figure, plot = axes(7.0, 0.42 * len(intervals) + 1.2)
    places, values = range(len(intervals)), [interval.value for interval in intervals.values()]
    ends = spans(intervals.values())
    plot.barh(places, values, xerr=ends, color=PALETTE["sky"], ecolor=INK, capsize=4, height=0.6)
    plot.set_yticks(places, list(intervals))
    plot.invert_yaxis()
    plot.set(xlim=(0, limit), xlabel=f"{quantity} (95 % interval)")
    said = "; ".join(f"{name} {interval}" for name, interval in intervals.items())
    figure.alt = f"{quantity[0].upper()}{quantity[1:]}: {said}."
    return figure


def attention_browser(model: Any, tokenizer: Any, sentence: str, layer: int = 0, head: int = 0) -> widgets.VBox:
    """Pick a layer and a head, or type another sentence: the map of that head."""
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    pick_layer = widgets.IntSlider(value=layer, min=0, max=layers - 1, description="layer")
    pick_head = widgets.IntSlider(value=head, min=0, max=heads - 1, description="head")
    text, page = _sentence_box(sentence), widgets.HTML()

    def draw(_change=None) -> None:
        tokens, attentions = attention_of(model, tokenizer, text.value)
        title = f"layer {pick_layer.value}, head {pick_head.value}"
        page.value = picture(attention_map(attentions[pick_layer.value][0, pick_head.value], tokens, title))

    for control in (pick_layer, pick_head, text):
        control.observe(draw, names="value")
    draw()
    return widgets.VBox([text, widgets.HBox([pick_layer, pick_head]), page])


@torch.inference_mode()
def attention_of(model: nn.Module, tokenizer: Any, sentence: str, longest: int = 32) -> tuple[list[str], Any]:
    """A sentence's tokens, and per layer its attention weights (1, heads, seq, seq).

    The model has to run with `set_attn_implementation("eager")`, else it returns no weights.
    """
    inputs = tokenizer(sentence, return_tensors="pt", truncation=True, max_length=longest, return_token_type_ids=False)
    device = next(model.parameters()).device
    outputs = model.eval()(**inputs.to(device), output_attentions=True)
    return tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist()), outputs.attentions


def _sentence_box(sentence: str) -> widgets.Text:
    wide = widgets.Layout(width="95%")
    return widgets.Text(value=sentence, description="sentence", continuous_update=False, layout=wide)
