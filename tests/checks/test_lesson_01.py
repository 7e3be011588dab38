"""Lesson 00's and 01's exercises: the right answer, the last hint, and planted mistakes."""

import math

import pytest
import torch
from torch import nn

from helpers.checks import registry
from helpers.checks.registry import names, verdict


def built(arguments, code):
    """A function from a hint's last line."""
    space = {"torch": torch, "math": math, "nn": nn}
    exec(f"def answer({arguments}):\n    {code}", space)
    return space["answer"]


SIGNATURES = {
    "00.1": "predictions, labels",
    "01.1": "scores",
    "01.2": "hidden, heads",
    "01.3": "losses, attention_mask",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_last_hint_is_the_answer(name):
    assert name in names(name[:2])
    hints = registry._exercises[name].hints
    assert len(hints) == 3 and hints[-1].startswith("return ")
    assert verdict(name, built(SIGNATURES[name], hints[-1])).passed


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_stub_is_not_attempted(name):
    assert verdict(name, built(SIGNATURES[name], "return ...")).state == "not attempted"


@pytest.mark.parametrize(
    ("name", "mistake", "words"),
    [
        ("00.1", "return sum(a == b for a, b in zip(predictions, labels))", "not which share"),
        ("00.1", "return 1.0", "should be 0.5"),
        ("01.1", "return scores.softmax(dim=-1)", "looks ahead"),
        ("01.1", "return scores.softmax(dim=-1).tril()", "mask before the softmax"),
        ("01.1", "return scores[:2]", "shape"),
        ("01.2", "return nn.TransformerEncoderLayer(hidden, heads)", "look at each other"),
        ("01.2", "return nn.Linear(hidden, hidden)", "words do not look"),
        ("01.2", "return nn.Linear(hidden, 2)", "shape"),
        ("01.2", "return 3", "module"),
        ("01.3", "return math.exp(losses.mean())", "padding"),
        ("01.3", "return losses.exp()[attention_mask.bool()].mean().item()", "mean first"),
        ("01.3", "return (losses * attention_mask).sum() / attention_mask.sum()", "should be"),
    ],
)
def test_each_planted_mistake_is_named(name, mistake, words):
    found = verdict(name, built(SIGNATURES[name], mistake))
    assert found.state == "wrong" and words in found.text, found.text
