"""The figures of lesson 06 show every value that they are given, and say it in words too."""

from __future__ import annotations

import pytest

from helpers.intervals import Interval, wilson
from helpers.lessons.lesson_06 import figures as preferences
from helpers.plotting import png

POINTS = {"beta 1": (0.5, Interval(0.55, 0.5, 0.6)), "beta 0.1": (4.0, Interval(0.8, 0.75, 0.85))}
RATES = {
    "SFT": {"good": wilson(20, 100), "form": wilson(80, 100)},
    "DPO": {"good": wilson(60, 100), "form": wilson(90, 100)},
}


def drawn(ax) -> list[tuple[float, float]]:
    marked = [line for line in ax.lines if line.get_marker() not in ("None", None, "")]
    return [(float(x), float(y)) for line in marked for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_each_policy_has_a_bar_for_each_answer():
    figure = preferences.policies({"reference": [0.7, 0.3], "best": [0.1, 0.9]}, ["a", "b"], "beta = 1")
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.7, 0.3, 0.1, 0.9]
    assert png(figure).startswith(b"\x89PNG")


def test_the_curves_are_moving_means_and_both_sides_are_named():
    figure = preferences.likelihoods([0, -1, -2], [-1, -3, -5], [0.7, 0.5, 0.3], over=2)
    right = figure.axes[1]
    curves = {line.get_label(): list(line.get_ydata()) for line in right.lines}
    assert curves["chosen"] == [-0.5, -1.5] and curves["rejected"] == [-2, -4]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["chosen", "rejected"]
    assert png(figure)


def test_a_single_step_can_be_drawn():
    assert png(preferences.likelihoods([0.0], [0.0], [0.69], over=1))


def test_every_verdict_is_drawn_and_said():
    figure = preferences.verdicts(RATES)
    assert sorted(x for x, _ in drawn(figure.axes[0])) == [0.2, 0.6, 0.8, 0.9]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["form", "good"]
    assert "SFT: good 20%, form 80%; DPO: good 60%" in figure.alt
    assert png(figure)


@pytest.mark.parametrize("apart", [None, {"RLHF": (2.0, Interval(0.7, 0.6, 0.8))}])
def test_the_frontier_shows_every_point(apart):
    figure = preferences.frontier(POINTS, apart)
    wanted = [(0.5, 0.55), (4.0, 0.8)] + ([(2.0, 0.7)] if apart else [])
    assert drawn(figure.axes[0]) == wanted
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == [*POINTS, *(apart or {})]
    assert png(figure)


def test_the_frontier_in_words_goes_from_near_to_far():
    said = preferences.frontier(dict(reversed(POINTS.items()))).alt
    assert said.index("beta 1: KL 0.50, win rate 55%") < said.index("beta 0.1: KL 4.00")
