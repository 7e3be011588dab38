"""The figures of lesson 09 show every value that they are given, and say it in words too."""

from __future__ import annotations

import pytest

from helpers.intervals import Interval
from helpers.lessons.lesson_09 import figures as variants
from helpers.plotting import png

GAPS = {"DoRA": Interval(0.01, -0.02, 0.04), "LoRA+": Interval(-0.03, -0.05, -0.01)}


def test_differences():
    series = {"this run": GAPS, "the reference": GAPS}
    figure = variants.differences(series, "LoRA")
    plot = figure.axes[0]
    assert [label.get_text() for label in plot.get_yticklabels()] == ["LoRA+", "DoRA"]
    assert list(plot.lines[0].get_xdata()) == [0.01, -0.03]
    assert plot.lines[0].get_ydata()[0] > plot.lines[0].get_ydata()[1]  # the first is the topmost
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(series)
    assert png(figure).startswith(b"\x89PNG")
    assert "against LoRA" in figure.alt and "the reference: DoRA +0.010" in figure.alt and "-0.050" in figure.alt


def test_losses():
    curves, lines = {"two outputs": [0.7, 0.5, 0.3], "four outputs": [1.4, 0.7, 0.7]}, {"ln 2": 0.693}
    figure = variants.losses(curves, lines)
    drawn = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert [0.7, 0.5, 0.3] in drawn and [1.4, 0.7, 0.7] in drawn
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list(curves)
    assert "four outputs from 1.40 to 0.93" in figure.alt


def test_the_running_mean_is_shorter_at_the_ends():
    assert variants.running_mean([1, 2, 3, 10], 3) == pytest.approx([1.5, 2.0, 5.0, 6.5])
