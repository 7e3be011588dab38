"""The figures of lesson 05 show every value that they are given, and say it in words too."""

from __future__ import annotations

import pytest

from helpers.intervals import wilson
from helpers.lessons.lesson_05 import figures as rewards
from helpers.plotting import png
from helpers.ppo import PPOHistory


def test_both_objectives_and_both_edges_are_drawn():
    figure = rewards.clipped_objective([0.5, 1.5], {"good": [0.5, 1.2], "bad": [-0.8, -1.5]}, clip=0.2)
    lines = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert lines[:2] == [[0.5, 1.2], [-0.8, -1.5]]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines[2:]] == [0.8, 1.2]


def test_score_and_truth_have_a_panel_each():
    figure = rewards.proxy_and_truth({"PPO": [1.0, 3.0, 5.0]}, {"PPO": [0.2, 0.4, 0.1]}, window=2)
    left, right = figure.axes
    assert not figure.legends
    assert figure.alt == "From the first update to the last: PPO: score +1.0 to +5.0, satisfied 20% to 10%."
    assert list(left.lines[0].get_ydata()) == [1.0, 3.0, 5.0]
    assert list(left.lines[1].get_ydata()) == [1.0, 2.0, 4.0]
    assert list(right.lines[0].get_ydata()) == [0.2, 0.4, 0.1]
    assert right.get_ylim() == (0, 1)


def test_several_runs_are_named():
    both = {"no penalty": [1.0, 2.0], "penalty": [0.5, 0.6]}
    assert [text.get_text() for text in rewards.proxy_and_truth(both, both).legends[0].get_texts()] == list(both)


@pytest.mark.parametrize(("window", "wanted"), [(1, [2.0, 4.0, 6.0]), (2, [2.0, 3.0, 5.0]), (9, [2.0, 3.0, 4.0])])
def test_smoothing_looks_back_only(window, wanted):
    assert rewards.smoothed([2.0, 4.0, 6.0], window) == wanted


def test_every_policy_is_drawn_and_said():
    shares = {"SFT": wilson(20, 100), "PPO": wilson(60, 100)}
    figure = rewards.satisfied(shares, {"PPO": "KL 3 nats"})
    said = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "20%" in said and "60%" in said and "KL 3 nats" in said
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["SFT", "PPO"]
    assert "PPO 60% (50% to 69%)" in figure.alt


def test_the_penalty_goes_from_strict_to_loose():
    figure = rewards.tilted([0.1, 1.0, 10.0], [3.0, 2.0, 1.0], [0.5, 0.6, 0.7], chosen=1.0)
    left, right = figure.axes
    assert left.get_xlim()[0] > left.get_xlim()[1] and left.get_xscale() == "log"
    assert list(right.lines[0].get_ydata()) == [0.5, 0.6, 0.7]
    assert png(figure).startswith(b"\x89PNG")


def test_every_seed_is_a_dot_over_its_kl():
    figure = rewards.against_kl({"weight 0": [(7.0, 0.9, 0.7), (9.0, 0.7, 0.5)], "weight 1": [(1.0, 0.2, 0.4)]})
    left, right = figure.axes
    assert [list(line.get_xdata()) for line in left.lines] == [[7.0, 9.0], [1.0]]
    assert [list(line.get_ydata()) for line in right.lines] == [[0.7, 0.5], [0.4]]
    assert "weight 0: KL 8.0, score +0.8, satisfied 50% to 70%" in figure.alt


def test_the_best_of_n_has_a_point_for_each_n():
    figure = rewards.best_of_n((1, 4), [0.0, 1.0], [0.3, 0.6])
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["1", "4"]
    assert list(right.lines[0].get_ydata()) == [0.3, 0.6] and "n 4: score +1.00, satisfied 60%" in figure.alt


def test_health_draws_each_curve_and_says_where_it_ends():
    history = PPOHistory([0.0], kl=[1.0, 2.0], entropy=[0.5, 0.4], length=[9.0, 8.0], clip_share=[0.1, 0.2])
    figure = rewards.health({"PPO": history})
    drawn = [list(plot.lines[0].get_ydata()) for plot in figure.axes]
    assert drawn == [[1.0, 2.0], [0.5, 0.4], [0.1, 0.2], [9.0, 8.0]]
    assert "PPO: KL (nats per answer) 2.00" in figure.alt


def test_the_four_models_are_named():
    figure = rewards.four_models()
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(name in texts for name in rewards.BOXES) and all(name in figure.alt for name in rewards.BOXES)
    assert png(figure)
