"""Figures of lesson 01: attention maps, perplexities before and after training, and facts recalled."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor, nn

from helpers.intervals import Interval
from helpers.language_model import top_words
from helpers.lessons.lesson_00.figures import top_words_figure
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


def attention_grid(attentions: Sequence[Tensor], tokens: Sequence[str]) -> Figure:
    """Every head of every layer, small; the brightest is a weight of a half or more.

    attentions: per layer (1, heads, seq, seq).
    """
    layers, heads = len(attentions), attentions[0].shape[1]
    figure = Figure(figsize=(1.7 * heads + 0.6, 1.7 * layers + 0.4), layout="constrained")
    for place, plot in enumerate(figure.subplots(layers, heads, squeeze=False).flat):
        layer, head = divmod(place, heads)
        plot.imshow(attentions[layer][0, head].detach().cpu(), cmap="cividis", vmin=0, vmax=0.5)
        plot.set(xticks=[], yticks=[])
        plot.set_title(f"layer {layer}, head {head}", fontsize=8, color=INK)
    where = f"looks at (the {len(tokens)} tokens, left to right)"
    figure.supxlabel(f"{where}; yellow: a weight of 0.5 or more", fontsize=9, color=INK)
    figure.supylabel("token (top to bottom)", fontsize=9, color=INK)
    figure.alt = (
        f"A grid of {layers} layers by {heads} heads: attention maps of one sentence, "
        "some spread evenly, some with bright diagonals or bright columns."
    )
    return figure


def before_after(before: Mapping[str, float], after: Mapping[str, float]) -> Figure:
    """The perplexity of each domain before and after training, on a logarithmic scale, each written on its bar."""
    figure, plot = axes(7.4, 3.8)
    for shift, values, label, colour in ((-0.2, before, "before", "grey"), (0.2, after, "after", "orange")):
        heights = [values[name] for name in before]
        places = [place + shift for place in range(len(before))]
        bars = plot.bar(places, heights, 0.38, label=label, color=PALETTE[colour])
        plot.bar_label(bars, [f"{height:.3g}" for height in heights], padding=2, fontsize=8, color=INK)
    plot.set_xticks(range(len(before)), list(before))
    plot.set(yscale="log", ylabel="perplexity (logarithmic)")
    plot.margins(y=0.15)
    plot.legend(frameon=False)
    said = "; ".join(f"{name} {before[name]:.3g} before, {after[name]:.3g} after" for name in before)
    figure.alt = f"Perplexity per domain before and after reading the new texts: {said}."
    return figure


def shares(intervals: Mapping[str, Interval], quantity: str) -> Figure:
    """One bar for each share, with its interval as a line across its end."""
    figure, plot = axes(7.0, 0.55 * len(intervals) + 1.2)
    places, values = range(len(intervals)), [interval.value for interval in intervals.values()]
    ends = spans(intervals.values())
    plot.barh(places, values, xerr=ends, color=PALETTE["sky"], ecolor=INK, capsize=4, height=0.6)
    plot.set_yticks(places, list(intervals))
    plot.invert_yaxis()
    plot.set(xlim=(0, 1), xlabel=f"{quantity} (95 % interval)")
    said = "; ".join(f"{name} {interval}" for name, interval in intervals.items())
    figure.alt = f"{quantity[0].upper()}{quantity[1:]}: {said}."
    return figure


def fill_the_blank(model: nn.Module, tokenizer: Any, sentence: str, count: int = 5) -> widgets.VBox:
    """Type a sentence with ___ and press Enter: the likeliest words for the blank."""
    text, page = _sentence_box(sentence), widgets.HTML()

    def draw(_change=None) -> None:
        try:
            page.value = picture(top_words_figure(top_words(model, tokenizer, text.value, count), text.value))
        except ValueError as problem:
            page.value = f"<p>{html.escape(str(problem))}</p>"

    text.observe(draw, names="value")
    draw()
    return widgets.VBox([text, page])


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
