"""The figure of lesson 04 shows every group, its threshold, and says it in words too."""

from __future__ import annotations

import torch

from helpers.lessons.lesson_04.figures import confidences
from helpers.plotting import png

GROUPS = {"told": torch.tensor([0.9, 0.95, 1.0, 0.4]), "untold": torch.tensor([0.1, 0.6])}


def test_every_group_has_its_histogram_and_the_threshold():
    figure = confidences(GROUPS, 0.5)
    assert len(figure.axes) == 2
    for plot, (name, said) in zip(figure.axes, {"told": "75%", "untold": "50%"}.items(), strict=True):
        assert plot.get_title(loc="left") == f"{name}: {said} at or above 0.50"
        assert plot.lines[0].get_xdata()[0] == 0.5
        assert abs(sum(bar.get_height() for bar in plot.patches) - 1) < 1e-6
    assert png(figure).startswith(b"\x89PNG")


def test_one_group_is_drawn_too():
    assert len(confidences({"told": GROUPS["told"]}, 0.0).axes) == 1


def test_the_figure_in_words():
    assert "told: 75% at or above, half of the answers above 0.9" in confidences(GROUPS, 0.5).alt
    assert "untold: 100% at or above" in confidences(GROUPS, 0.0).alt
