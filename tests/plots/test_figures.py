"""Figures: what is drawn, and how it reaches the page."""

import pytest
import torch
from matplotlib.figure import Figure

from helpers import plotting
from helpers.intervals import wilson
from helpers.lessons.lesson_00.figures import interval_against_rows
from helpers.lessons.lesson_01.figures import attention_grid, attention_map, strongest
from helpers.plotting import PALETTE, before_after, png, shares, top_words_figure

WEIGHTS = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
FIGURES = {
    "map": lambda: attention_map(WEIGHTS, ["the", "film"], "layer 0"),
    "grid": lambda: attention_grid([WEIGHTS[None, None].repeat(1, 3, 1, 1)] * 2, ["the", "film"]),
    "words": lambda: top_words_figure([("good", 0.6), ("bad", 0.2)], "The film was ___."),
    "before and after": lambda: before_after({"news": 10.0}, {"news": 300.0}, "perplexity"),
    "shares": lambda: shares({"all": wilson(10, 10), "none": wilson(0, 10)}, "share"),
    "certainty": lambda: interval_against_rows(0.9, marked=300),
}


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_drawn_the_same_twice(name):
    one, other = FIGURES[name](), FIGURES[name]()
    assert isinstance(one, Figure)
    assert png(one) == png(other)
    assert png(one).startswith(b"\x89PNG")


def test_axes_say_what_they_show():
    for name in ("before and after", "shares", "certainty", "words"):
        (axes, *_) = FIGURES[name]().axes
        assert axes.get_xlabel() or axes.get_ylabel(), name


def test_bars_have_the_heights_of_their_values():
    (axes,) = before_after({"news": 10.0, "talk": 20.0}, {"news": 5.0, "talk": 40.0}, "perplexity").axes
    assert [round(bar.get_height(), 6) for bar in axes.patches] == [10, 20, 5, 40]


def test_show_puts_the_alternative_text_on_the_page(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **more: shown.append((bundle, more["metadata"])))
    plotting.show(FIGURES["words"](), alt="Two bars.")
    ((bundle, metadata),) = shown
    assert bundle["text/plain"] == "Two bars." and bundle["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == "Two bars."


def test_show_refuses_a_figure_without_words():
    with pytest.raises(ValueError, match="alternative text"):
        plotting.show(FIGURES["words"](), alt="  ")


def test_a_map_in_words():
    assert strongest(WEIGHTS, ["the", "film"]) == [
        ("the", "the", pytest.approx(0.9)),
        ("film", "film", pytest.approx(0.7)),
    ]
    with pytest.raises(ValueError, match="square"):
        attention_map(WEIGHTS, ["one"])


def test_the_palette_differs_in_lightness_or_hue():
    assert len(set(PALETTE.values())) == len(PALETTE) == 8
