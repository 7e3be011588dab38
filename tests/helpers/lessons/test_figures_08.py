"""The figures of lessons 08 and 09 show every value that they are given, and say it in words too."""

from __future__ import annotations

import numpy as np
import torch

from helpers.intervals import wilson
from helpers.lessons.lesson_08 import figures as lora
from helpers.plotting import png


def legend(figure) -> list[str]:
    boxes = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    return [text.get_text() for box in boxes if box for text in box.get_texts()]


def test_energies():
    series = {"attention": [0.5, 0.8, 1.0], "random numbers": [0.4, 0.7, 1.0]}
    figure = lora.energies(series, marked=2)
    assert legend(figure) == list(series)
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.5, 0.8, 1.0]
    assert "attention: 50% at rank 1; random numbers: 40% at rank 1" in figure.alt


def test_accuracy_by_rank():
    series, lines = {"cut": {1: wilson(70, 100), 8: wilson(90, 100)}}, {"whole": 0.93}
    figure = lora.accuracy_by_rank(series, lines)
    assert legend(figure) == ["cut", "whole 93.0%"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "8"]
    assert figure.alt.endswith("cut: rank 1 70.0%, rank 8 90.0%; whole 93.0%.")
    assert png(figure).startswith(b"\x89PNG")


def test_forgetting_paths():
    paths = {"all": [(0.5, 1.0), (0.9, 0.4)], "LoRA": [(0.5, 1.0), (0.8, 0.9)]}
    figure = lora.forgetting_paths(paths, chance=0.25)
    assert legend(figure) == ["all", "LoRA"]
    assert "all goes from 50% new and 100% old to 90% new and 40% old" in figure.alt


def test_change_maps():
    change = np.outer([1.0, 2.0], [3.0, 4.0, 5.0])
    figure = lora.change_maps(change, change, 1)
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == ["the whole change", "rank 1", "left over"]
    assert "Rank 1 holds 100% of the energy in 5 of 6 numbers" in figure.alt


def test_spanned():
    points = torch.randn(3, 9)
    figure = lora.spanned({f"rank {rank}": (points, points[:, :rank]) for rank in (1, 2)})
    assert [len(ax.texts) for ax in figure.axes] == [1, 2]  # an arrow for each vector
    assert "rank 2 with 2 spanning vectors" in figure.alt


def test_first_steps():
    drops, sizes = {"one": {1: 0.5, 2: 0.4}, "other": {1: 0.5, 2: 0.9}}, {"one": {1: 3.0}, "other": {1: 4.0}}
    figure = lora.first_steps(drops, sizes)
    assert legend(figure) == ["one", "other"]
    assert "Loss drop: one: rank 1 0.5, rank 2 0.4; other" in figure.alt and "Size: one: rank 1 3" in figure.alt
