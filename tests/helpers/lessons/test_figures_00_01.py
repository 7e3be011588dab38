"""The figures of lessons 00 and 01 draw what they are given, and say it in words too."""

import pytest
import torch

from helpers.intervals import wilson
from helpers.lessons.lesson_00.figures import before_and_after, interval_against_rows
from helpers.lessons.lesson_01.figures import (
    attention_map,
    bars,
    before_after,
    head_patterns,
    loss_curves,
)
from helpers.plotting import Figure, png

WEIGHTS = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
FIGURES = {
    "map": lambda: attention_map(WEIGHTS, ["the", "film"], "layer 0"),
    "patterns": lambda: head_patterns({"one before": WEIGHTS, "one after": 1 - WEIGHTS}),
    "before and after": lambda: before_after({"news": 1.0}, {"news": 3.0}, "bits per character"),
    "bars": lambda: bars({"all": wilson(10, 10), "none": wilson(0, 10)}, "share"),
    "losses": lambda: loss_curves({"on recipes": [3.0, 1.0], "on old kinds": [2.0, 1.5]}),
    "sentences": lambda: before_and_after(["Bad.", "Good."], [0.5, 0.5], [0.1, 0.9], "positive"),
    "certainty": lambda: interval_against_rows(0.9, marked=300),
}
WORDS = {
    "losses": "Training loss of each step: on recipes from 3.00 to 1.00; on old kinds from 2.00 to 1.50.",
    "map": "Attention map of layer 0. Strongest per row: the looks at the; film looks at film.",
    "patterns": "A table of 4 attention heads and 2 patterns. Largest of each: one before: 0.90 in layer 0, head 0; "
    "one after: 0.90 in layer 0, head 1.",
    "before and after": "Bits per character before and after reading the new texts: news 1.00 before, 3.00 after.",
    "bars": "Share: all 1.00 [0.72, 1.00]; none 0.00 [0.00, 0.28].",
    "sentences": 'The probability of "positive" for each sentence: "Bad." 50% before, 10% after; '
    '"Good." 50% before, 90% after.',
    "certainty": "The 95 % interval of an accuracy of 0.9: wide for 10 test rows, narrow for 10,000; "
    "300 rows are marked.",
}


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_drawn_the_same_twice_and_says_what_it_shows(name):
    one, other = FIGURES[name](), FIGURES[name]()
    assert isinstance(one, Figure)
    assert png(one) == png(other)
    assert png(one).startswith(b"\x89PNG")
    assert one.alt == WORDS[name]


def test_axes_say_what_they_show():
    for name in ("before and after", "bars", "certainty", "sentences"):
        (axes, *_) = FIGURES[name]().axes
        assert axes.get_xlabel() or axes.get_ylabel(), name


def test_bars_have_the_heights_of_their_values():
    (axes,) = before_after({"news": 10.0, "talk": 20.0}, {"news": 5.0, "talk": 40.0}, "bits").axes
    assert [round(bar.get_height(), 6) for bar in axes.patches] == [10, 20, 5, 40]


def test_a_map_needs_one_token_for_each_row():
    with pytest.raises(ValueError, match="square"):
        attention_map(WEIGHTS, ["one"])
