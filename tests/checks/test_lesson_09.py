"""The exercises of lesson 09: the answer passes, a planted mistake is named, a blank says so."""

from __future__ import annotations

import math
import re

import pytest
from peft import LoraConfig

from helpers.checks.registry import names, verdict


def adapter_bytes(shapes, rank):
    return sum(4 * rank * (outputs + inputs) for outputs, inputs in shapes)


RIGHT = {
    "09.1": adapter_bytes,
    "09.2": lambda alpha, rank: alpha * math.sqrt(rank),
    "09.3": LoraConfig(target_modules=["query"], modules_to_save=["head"]),
}


@pytest.mark.parametrize(("name", "answer"), RIGHT.items())
def test_the_right_answer_passes(name, answer):
    assert verdict(name, answer).passed, verdict(name, answer).text


def test_every_exercise_is_known():
    assert names("09") == list(RIGHT)


@pytest.mark.parametrize("name", RIGHT)
def test_a_blank_is_not_attempted(name):
    assert verdict(name, ...).state == "not attempted"
    if name != "09.3":
        assert verdict(name, lambda *_: ...).state == "not attempted"


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("answer", [None, 3, "text", lambda: 1, lambda *_: 1 / 0, lambda *_: None])
def test_nonsense_is_wrong_and_raises_nothing(name, answer):
    assert verdict(name, answer).state == "wrong"


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("09.1", lambda shapes, rank: adapter_bytes(shapes, rank) // 4, r"should be 1024, not 256"),
        ("09.1", lambda shapes, rank: 4 * rank * sum(a * b for a, b in shapes), r"should be 1024, not 65536"),
        ("09.2", lambda alpha, rank: alpha / math.sqrt(rank), r"same_scale\(16, 4\) should be 32, not 8"),
        ("09.3", LoraConfig(target_modules=["query"]), "modules_to_save is None"),
        ("09.3", LoraConfig(target_modules=["query", "head"]), "has to be learned in full"),
        ("09.3", LoraConfig(modules_to_save=["head"]), "arget_modules is empty"),
    ],
)
def test_a_planted_mistake_is_named(name, answer, said):
    found = verdict(name, answer)
    assert found.state == "wrong"
    assert re.search(said, found.text), found.text
