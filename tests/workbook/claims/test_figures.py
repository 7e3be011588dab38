"""The figures of lesson 12 hold every claim and every method that they are given, and say them in words too."""

from __future__ import annotations

from helpers.intervals import Interval
from helpers.plotting import png
from workbook.claims import figures
from workbook.claims.leaderboard import Row
from workbook.claims.ledger import load_ledger
from workbook.claims.results import Results
from workbook.claims.verdict import judge


def point(method, numbers, value):
    row = Row(method, "02", Interval(0.9, 0.8, 1.0), 3, {"trainable_parameters": [numbers]})
    return row, Interval(value, value - 0.1, value + 0.1)


PART = [point("full", 1000, 1.0), point("last_block", 100, 0.8), point("lora", 10, 0.7), point("bag_of_words", 50, 0.6),
        point("head_only", 1, 0.0)]  # fmt: skip


def test_every_claim_has_its_tile():
    verdicts = list(judge(load_ledger().claims, Results({}), {}).values())
    figure = figures.tiles(verdicts, "Was it all true?")
    texts = ["".join(text.get_text().split()) for text in figure.axes[0].texts]  # wrapped over lines
    for found in verdicts:
        assert any(text.endswith("".join(found.claim.short.split())) for text in texts), found.claim.short
    assert len(figure.axes[0].patches) == len(verdicts)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    count = sum(one.kind == "unmeasured" for one in load_ledger().claims)
    assert [word for word in words if "holds" in word] == [] and any(
        f"not measurable: {count}" in word for word in words
    )
    assert png(figure).startswith(b"\x89PNG")
    assert all(found.claim.short in figure.alt for found in verdicts)


def test_one_panel_for_each_setting():
    figure = figures.share_for_numbers({"one": PART, "two": PART[:3]}, {"one": [point("lora", 10, 0.75)]})
    assert [panel.get_title() for panel in figure.axes] == ["one", "two"]
    names = [text.get_text() for text in figure.axes[0].texts]
    assert {"last block", "LoRA", "bag of words", "all parameters", "the head alone"} == set(names)
    drawn = [(line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert (0.01, 0.7) in drawn and (0.1, 0.8) in drawn and (0.01, 0.75) in drawn
    assert "your own runs" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert png(figure).startswith(b"\x89PNG")
    assert "LoRA 70% with 1.00% trained" in figure.alt


def test_a_single_panel_without_own_runs():
    figure = figures.share_for_numbers({"one": PART})
    assert len(figure.axes) == 1
    assert "your own runs" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_p_values_that_count_are_told_in_words():
    figure = figures.p_values([1e-9, 0.01, 0.2, 0.9], 0.05)
    assert "2 lie at or below 0.01" in figure.alt and "2 stay open" in figure.alt
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][:2] == ["counts: 2", "stays open: 2"]
    assert png(figures.p_values([0.5], 0.05)).startswith(b"\x89PNG")
