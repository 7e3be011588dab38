"""The figures of lesson 03 say what they were given."""

from __future__ import annotations

import pytest

from helpers.intervals import wilson
from helpers.lessons.lesson_03 import figures as pitfalls
from helpers.plotting import png


def texts(figure) -> set[str]:
    found = {
        text.get_text() for ax in figure.axes for text in [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels()]
    }
    found |= {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    return found | {ax.get_title() for ax in figure.axes}


def test_points_of_this_run_and_bands_of_the_reference():
    series = {"pretrained": {25: wilson(8, 10), 100: wilson(9, 10)}, "random start": {25: wilson(5, 10)}}
    bands = {"pretrained": {25: wilson(70, 100), 1600: wilson(95, 100)}}
    figure = pitfalls.labels_curve(series, bands, floor=0.5)
    for word in ("25", "100", "1,600", "pretrained, this run", "pretrained, reference", "majority class"):
        assert word in texts(figure)
    assert "random start: 50% with 25. Reference: pretrained: 70% with 25" in figure.alt
    alone = pitfalls.labels_curve(series)
    assert png(alone).startswith(b"\x89PNG") and alone.alt.endswith("random start: 50% with 25.")


@pytest.mark.parametrize("runs", [1, 3])
def test_losses_have_a_panel_for_each_run(runs):
    curves = {f"run {number}": {"train": [0.7, 0.4, 0.1], "validation": [0.7, 0.6, 0.9]} for number in range(runs)}
    best = dict.fromkeys(curves, 2)
    figure = pitfalls.losses(curves, 0.69, best)
    assert len(figure.axes) == runs and "run 0" in texts(figure)
    ring = [line for line in figure.axes[0].lines if line.get_fillstyle() == "none"]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in ring] == [([2], [0.6])]
    assert "validation loss from 0.70 to 0.90, validation lowest after epoch 2" in figure.alt


def test_forgetting_is_drawn_as_a_rise():
    before = {"reviews": 1.0, "news": 2.0}
    after = {"plain": {"reviews": 3.0, "news": 6.0}, "replay": {"reviews": 1.1, "news": 2.1}}
    figure = pitfalls.forgetting(before, after)
    assert {"plain", "replay", "reviews", "news"} <= texts(figure)
    marks = [list(line.get_xdata()) for line in figure.axes[0].lines[:2]]
    assert marks[0] == pytest.approx([0.1, 2.0]) and marks[1] == pytest.approx([0.1, 4.0])
    assert "plain: reviews +2.00, news +4.00" in figure.alt


def test_luck_also_of_equal_scores():
    figure = pitfalls.luck([0.6, 0.7], [0.5, 0.5], 50, candidates=4)
    assert {"on fresh rows", "on the 50 rows that chose"} <= texts(figure)
    assert figure.alt == "The winner of 4 variants on 50 rows: 0.650 there, 0.500 on fresh rows."
    assert png(pitfalls.luck([0.5], [0.5], 10, candidates=2)).startswith(b"\x89PNG")
