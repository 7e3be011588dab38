"""The exercises of lesson 06: the answer passes, a planted mistake is named, a blank says so."""

from __future__ import annotations

import copy
import math

import pytest

from helpers.checks.registry import names, verdict


def gap(probability, beta):
    return math.log(probability / (1 - probability)) / beta


def wins(ours, theirs):
    return ((ours > theirs).double() + 0.5 * (ours == theirs).double()).mean()


def loop(*, reference="copy", step=True, returns=True):
    """The loop of exercise 06.3 with one thing done wrongly."""

    def train(policy, batches, loss_of, optimizer):
        fixed = policy if reference == "same" else copy.deepcopy(policy)
        losses = []
        for batch in batches:
            loss = loss_of(policy, fixed, batch)
            losses.append(loss.item())
            loss.backward()
            if step:
                optimizer.step()
            optimizer.zero_grad()
            if reference == "late":
                fixed = copy.deepcopy(policy)
        return losses if returns else None

    return train


@pytest.mark.parametrize(("name", "answer"), [("06.1", gap), ("06.2", wins), ("06.3", loop())])
def test_the_right_answer_passes(name, answer):
    assert verdict(name, answer).passed, verdict(name, answer).text


def test_every_exercise_is_known():
    assert names("06") == ["06.1", "06.2", "06.3"]


@pytest.mark.parametrize("name", ["06.1", "06.2", "06.3"])
@pytest.mark.parametrize("blank", [..., lambda *_: ...], ids=["dots", "a function that returns dots"])
def test_a_blank_is_not_attempted(name, blank):
    assert verdict(name, blank).state == "not attempted"


@pytest.mark.parametrize("name", ["06.1", "06.2", "06.3"])
@pytest.mark.parametrize("answer", [None, 3, "text", lambda: 1, lambda *_: 1 / 0, lambda *_: None])
def test_nonsense_is_wrong_and_raises_nothing(name, answer):
    assert verdict(name, answer).state == "wrong"


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("06.1", lambda p, beta: math.log(p / (1 - p)), "beta times the log-ratios"),
        ("06.1", lambda p, beta: p / beta, "should be"),
        ("06.2", lambda ours, theirs: (ours > theirs).double().mean(), "counted as losses"),
        ("06.2", lambda ours, theirs: (ours >= theirs).double().mean(), "counted as wins"),
        ("06.2", lambda ours, theirs: (ours > theirs).sum() / (ours != theirs).sum(), "left out"),
        ("06.3", loop(reference="same"), "stands at ln 2"),
        ("06.3", loop(reference="late"), "stands at ln 2"),
        ("06.3", loop(step=False), "did not move"),
        ("06.3", loop(returns=False), "returns None"),
        ("06.3", lambda *_: [0.5], "one loss per batch"),
    ],
)
def test_planted_mistakes_are_named(name, answer, said):
    found = verdict(name, answer)
    assert found.state == "wrong" and said in found.text, found.text
