"""The exercises of lesson 02: the answer passes, a planted mistake is named, a blank says so."""

from __future__ import annotations

import re

import pytest

from helpers.checks.registry import names, verdict


def loop(*, step_scheduler="each", order="after", step_optimizer=True, clear=True, returns=True):
    """The loop of exercise 02.3 with one thing done wrongly."""

    def train(model, batches, optimizer, scheduler):
        rates = []
        for batch in batches:
            if order == "before":
                scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
            model(**batch).loss.backward()
            if step_optimizer:
                optimizer.step()
            if order == "after" and step_scheduler == "each":
                scheduler.step()
            if clear:
                optimizer.zero_grad()
        if step_scheduler == "once":
            scheduler.step()
        return rates if returns else None

    return train


def block(hidden, inner):
    return 4 * (hidden * hidden + hidden) + 2 * hidden * inner + inner + hidden + 4 * hidden


def rows(accuracy, half_width):
    return 1.96**2 * accuracy * (1 - accuracy) / half_width**2


@pytest.mark.parametrize(("name", "answer"), [("02.1", block), ("02.2", rows), ("02.3", loop())])
def test_the_right_answer_passes(name, answer):
    assert verdict(name, answer).passed, verdict(name, answer).text


def test_every_exercise_is_known():
    assert names("02") == ["02.1", "02.2", "02.3"]


@pytest.mark.parametrize("name", ["02.1", "02.2", "02.3"])
@pytest.mark.parametrize("blank", [..., lambda *_: ...], ids=["dots", "a function that returns dots"])
def test_a_blank_is_not_attempted(name, blank):
    assert verdict(name, blank).state == "not attempted"


@pytest.mark.parametrize("name", ["02.1", "02.2", "02.3"])
@pytest.mark.parametrize("answer", [None, 3, "text", lambda: 1, lambda *_: 1 / 0, lambda *_: None])
def test_nonsense_is_wrong_and_raises_nothing(name, answer):
    assert verdict(name, answer).state == "wrong"


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("02.1", lambda h, i: block(h, i) - 4 * h, r"block_parameters\(8, 16\) should be 600, not 568"),
        ("02.2", lambda a, w: rows(a, w) / 4, r"rows_needed\(0.9, 0.01\) should be 3458, not 864"),
        ("02.3", loop(step_scheduler="never"), "same at every step"),
        ("02.3", loop(step_scheduler="once"), "stepped 1 times in 6 batches"),
        ("02.3", loop(order="before"), "optimizer.step\\(\\) comes first"),
        ("02.3", loop(step_optimizer=False), "weights did not move"),
        ("02.3", loop(clear=False), "trained weights"),
        ("02.3", loop(returns=False), "returns None"),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_planted_mistake_is_named(name, answer, said):
    found = verdict(name, answer)
    assert found.state == "wrong"
    assert re.search(said, found.text), found.text
