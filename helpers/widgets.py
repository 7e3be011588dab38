"""Things to move: widgets that show the figures of the lessons again for each new choice."""

from __future__ import annotations

import base64
import html

import ipywidgets as widgets
import torch
from torch import nn

from helpers.intervals import wilson
from helpers.language_models import top_words
from helpers.lessons.lesson_00.figures import interval_against_rows
from helpers.lessons.lesson_01.figures import attention_map, strongest
from helpers.plotting import png, top_words_figure


def picture(figure, alt: str) -> str:
    """The figure as an `<img>` with its alternative text."""
    data = base64.b64encode(png(figure)).decode()
    return f'<img alt="{html.escape(alt)}" style="max-width: 100%" src="data:image/png;base64,{data}">'


def fill_the_blank(model: nn.Module, tokenizer, sentence: str, count: int = 5) -> widgets.VBox:
    """Type a sentence with ___ and press Enter: the likeliest words for the blank."""
    text = widgets.Text(
        value=sentence,
        description="sentence",
        continuous_update=False,
        layout=widgets.Layout(width="95%"),
    )
    page = widgets.HTML()

    def draw(_change=None) -> None:
        try:
            words = top_words(model, tokenizer, text.value, count)
        except ValueError as problem:
            page.value = f"<p>{html.escape(str(problem))}</p>"
            return
        alt = "Likeliest words: " + ", ".join(f"{word} {share:.0%}" for word, share in words)
        page.value = picture(top_words_figure(words, text.value), alt)

    text.observe(draw, names="value")
    draw()
    return widgets.VBox([text, page])


def attention_browser(model: nn.Module, tokenizer, sentence: str, layer: int = 0, head: int = 0) -> widgets.VBox:
    """Pick a layer and a head, or type another sentence: the map of that head."""
    config = model.config
    layer = widgets.IntSlider(value=layer, min=0, max=config.num_hidden_layers - 1, description="layer")
    head = widgets.IntSlider(value=head, min=0, max=config.num_attention_heads - 1, description="head")
    text = widgets.Text(
        value=sentence,
        description="sentence",
        continuous_update=False,
        layout=widgets.Layout(width="95%"),
    )
    page = widgets.HTML()

    def draw(_change=None) -> None:
        tokens, attentions = attention_of(model, tokenizer, text.value)
        weights = attentions[layer.value][0, head.value]
        said = [f"{token} looks most at {other}" for token, other, _ in strongest(weights, tokens)]
        title = f"layer {layer.value}, head {head.value}"
        page.value = picture(attention_map(weights, tokens, title), f"{title}: {'; '.join(said)}")

    for control in (layer, head, text):
        control.observe(draw, names="value")
    draw()
    return widgets.VBox([text, widgets.HBox([layer, head]), page])


@torch.inference_mode()
def attention_of(model: nn.Module, tokenizer, sentence: str, longest: int = 32):
    """A sentence's tokens, and per layer its attention weights (1, heads, seq, seq).

    The model has to run with `set_attn_implementation("eager")`, else it returns no weights.
    """
    inputs = tokenizer(sentence, return_tensors="pt", truncation=True, max_length=longest, return_token_type_ids=False)
    device = next(model.parameters()).device
    outputs = model.eval()(**inputs.to(device), output_attentions=True)
    return tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist()), outputs.attentions


def certainty(score: float = 0.9) -> widgets.VBox:
    """Move the number of test rows and the score: the interval around it."""
    share = widgets.FloatSlider(value=score, min=0.5, max=0.99, step=0.01, description="accuracy")
    rows = widgets.IntSlider(value=300, min=10, max=5000, step=10, description="test rows")
    page = widgets.HTML()

    def draw(_change=None) -> None:
        interval = wilson(round(share.value * rows.value), rows.value)
        alt = f"With {rows.value} test rows the accuracy is {interval}."
        page.value = f"<p>{alt}</p>" + picture(interval_against_rows(share.value, marked=rows.value), alt)

    for control in (share, rows):
        control.observe(draw, names="value")
    draw()
    return widgets.VBox([widgets.HBox([share, rows]), page])
