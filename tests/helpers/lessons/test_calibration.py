"""Lesson 12's figure of a learner's calibration: groups of confidence, words, and none yet."""

from __future__ import annotations

import pytest

from helpers.lessons.lesson_12.figures import NONE_YET, calibration, groups, in_words

PAIRS = [(90.0, True), (90.0, False), (100.0, True), (50.0, False), (10.0, False), (0.0, True)]


def test_predictions_are_grouped_by_confidence():
    shares = groups(PAIRS)
    assert list(shares) == [5.0, 50.0, pytest.approx(280 / 3)]
    assert [round(share.value, 2) for share in shares.values()] == [0.5, 0.0, 0.67]


def test_the_figure_says_what_it_shows():
    figure = calibration(PAIRS)
    words = "5 % sure, 50% right; 50 % sure, 0% right; 93 % sure, 67% right"
    assert figure.alt == f"6 predictions, confidence against the share that was right: {words}."
    (plot,) = figure.axes
    assert plot.get_xlabel() == "confidence (per cent)"


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], NONE_YET),
        (PAIRS, "3 of your 6 scored predictions were right (50%). You were 57 % sure on average: 7 points more sure "),
        ([(10.0, True)], "90 points less sure than right."),
        ([(50.0, True), (50.0, False)], "50 % sure on average: as sure as you were right."),
    ],
)
def test_in_words(pairs, words):
    assert words in in_words(pairs)
