"""The figures of lesson 07 show every value that they are given, and say it in words too."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from helpers.intervals import Interval, wilson
from helpers.lessons.lesson_07 import figures
from helpers.plotting import png

SCORES = {"LoRA": wilson(80, 100), "head only": wilson(60, 100), "everything": wilson(90, 100)}
COUNTS = {"LoRA": 1_000, "head only": 10, "everything": 100_000}
FAMILIES = {"LoRA": "reparameterised", "head only": "selective", "everything": "all"}
SERIES = {"soft prompt": {1: wilson(5, 10), 4: wilson(7, 10)}, "LoRA": {1: wilson(8, 10), 8: wilson(9, 10)}}
LABELS = {"soft prompt": "length", "LoRA": "rank"}


def texts(figure: Figure) -> str:
    figure.canvas.draw()
    found = [text.get_text() for box in figure.legends for text in box.get_texts()]
    for axes in figure.axes:
        found += [text.get_text() for text in [*axes.texts, *axes.get_yticklabels(), axes.title]]
        found += [axes.get_xlabel(), axes.get_title(loc="left")]
    return " ".join(found)


def points(axes) -> dict[tuple[float, float], str]:
    """Place -> marker of every single point."""
    return {(line.get_xdata()[0], line.get_ydata()[0]): line.get_marker() for line in axes.lines if len(
        line.get_xdata()) == 1}  # fmt: skip


def test_every_method_stands_at_its_cost_and_its_accuracy():
    figure = figures.tradeoff(SCORES, COUNTS, FAMILIES, {"LoRA": Interval(0.8, 0.7, 0.9)})
    assert points(figure.axes[0]) == {(1_000, 0.8): "D", (10, 0.6): "o", (100_000, 0.9): "^"}
    for word in (*SCORES, *FAMILIES.values(), "reference, over seeds"):
        assert word in texts(figure)
    assert png(figure).startswith(b"\x89PNG")


def test_without_a_reference_none_is_promised():
    assert "reference" not in texts(figures.tradeoff(SCORES, COUNTS, FAMILIES))


def test_the_tradeoff_in_words_goes_from_few_to_many():
    said = figures.tradeoff(SCORES, COUNTS, FAMILIES).alt
    assert said.index("head only, 10 trained: 60.0%") < said.index("LoRA, 1,000 trained") < said.index("100,000")


@pytest.mark.parametrize("reference", [None, {"LoRA": {1: Interval(0.8, 0.7, 0.9), 64: Interval(0.9, 0.8, 1.0)}}])
def test_each_sweep_has_a_panel_and_they_share_an_axis(reference):
    figure = figures.sweeps(SERIES, LABELS, reference, {"head only": 0.3})
    assert [axes.get_title() for axes in figure.axes] == list(SERIES)
    assert [axes.get_xlabel() for axes in figure.axes] == ["length", "rank"]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert texts(figure).count("head only") == 2
    assert ("reference over seeds" in texts(figure)) == bool(reference)
    assert 64 in figure.axes[1].get_xticks() or not reference


def test_the_sweeps_in_words():
    assert "soft prompt by length: 50.0% at 1, 70.0% at 4; LoRA by rank" in figures.sweeps(SERIES, LABELS).alt


def test_the_shares_are_those_of_the_whole():
    figure = figures.trained_shares(COUNTS, FAMILIES, "a model")
    assert [bar.get_width() for bar in figure.axes[0].patches] == [1e-4, 1e-2, 1.0]
    assert "1,000  (1 %)" in texts(figure) and "a model" in texts(figure)
    assert "a model: head only 10; LoRA 1,000" in figure.alt
