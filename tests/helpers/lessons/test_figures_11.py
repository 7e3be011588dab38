"""The bars of lesson 11: every part is drawn at its size, the peak where it is, and the text says the same."""

from __future__ import annotations

import pytest

from helpers.lessons.lesson_11.figures import ledgers
from helpers.memory.prediction import MemoryLedger

BARS = {
    "one": MemoryLedger(
        weights=4_000_000, gradients=1_000_000, optimizer=2_000_000, activations=30_000_000, peak=38_000_000
    ),
    "two": MemoryLedger(weights=3_000_000, gradients=0, optimizer=0, activations=30_000_000, peak=34_000_000),
}


def test_parts_lie_end_to_end():
    ax = ledgers(BARS).axes[0]
    first = [bar for bar in ax.patches if bar.get_y() < 0.5]
    assert [bar.get_width() for bar in first] == [4.0, 1.0, 2.0, 30.0]
    assert [bar.get_x() for bar in first] == [0.0, 4.0, 5.0, 7.0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two"]


def test_a_gpu_is_a_line():
    ax = ledgers(BARS, "GB", marks={"48 GB": 48e9}).axes[0]
    assert any(line.get_xdata()[0] == pytest.approx(48.0) for line in ax.lines)
    assert "48 GB" in [text.get_text() for text in ax.texts]


def test_the_words_say_every_number():
    said = ledgers(BARS).alt
    assert "one: weights 4.0, gradients 1.0, optimizer 2.0, activations 30, peak 38" in said
    assert "two: weights 3.0, gradients 0.00" in said
