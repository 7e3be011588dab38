"""The exercises of lesson 07: the answer passes, a planted mistake is named, a blank says so."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from helpers.adapters import BottleneckAdapter
from helpers.checks.registry import names, verdict


def count(hidden, size, blocks):
    return blocks * 2 * (2 * hidden * size + size + hidden)


def join(prompt, words, attention_mask, *, mask_value=1, first=True):
    """The answer to 07.2, with one thing done wrongly."""
    parts = [prompt.expand(len(words), -1, -1), words]
    mask = nn.functional.pad(attention_mask, (len(prompt), 0), value=mask_value)
    return torch.cat(parts if first else parts[::-1], dim=1), mask


def adapter(hidden, size, *, down=True, bias=True, shortcut=True):
    """The answer to 07.3, with one thing done wrongly."""
    made = BottleneckAdapter(hidden, size)
    if not down:
        nn.init.zeros_(made.down.weight)
        nn.init.zeros_(made.down.bias)
    if not bias:
        nn.init.ones_(made.up.bias)
    return made if shortcut else nn.Sequential(made.down, nn.GELU(), made.up)


ALL = [("07.1", count), ("07.2", join), ("07.3", adapter)]


@pytest.mark.parametrize(("name", "answer"), ALL)
def test_the_right_answer_passes(name, answer):
    assert verdict(name, answer).passed, verdict(name, answer).text


def test_every_exercise_is_known():
    assert names("07") == ["07.1", "07.2", "07.3"]


@pytest.mark.parametrize("name", [name for name, _ in ALL])
@pytest.mark.parametrize("blank", [..., lambda *_: ...], ids=["dots", "a function that returns dots"])
def test_a_blank_is_not_attempted(name, blank):
    assert verdict(name, blank).state == "not attempted"


def test_a_blank_pair_is_not_attempted():
    assert verdict("07.2", lambda *_: (..., ...)).state == "not attempted"


@pytest.mark.parametrize("name", [name for name, _ in ALL])
@pytest.mark.parametrize("answer", [None, 3, "text", lambda: 1, lambda *_: 1 / 0, lambda *_: None])
def test_nonsense_is_wrong_and_raises_nothing(name, answer):
    assert verdict(name, answer).state == "wrong"


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("07.1", lambda h, s, b: b * (2 * h * s + s + h), r"adapter_parameters\(8, 2, 1\) should be 84, not 42"),
        ("07.1", lambda h, s, b: b * 2 * 2 * h * s, "should be 84, not 64"),
        ("07.2", lambda p, w, m: (join(p, w, m)[0], m), "still has one number per word"),
        ("07.2", lambda *given: join(*given, mask_value=0), r"[Tt]he mask at \[0, 0\] should be 1, not 0"),
        ("07.2", lambda *given: join(*given, first=False), "The joined vectors"),
        ("07.2", lambda *given: join(*given)[0], "two tensors"),
        ("07.3", lambda *given: adapter(*given, bias=False), "before the first step.*should be x itself"),
        ("07.3", lambda *given: adapter(*given, shortcut=False), "before the first step"),
        ("07.3", lambda *given: adapter(*given, down=False), "down.weight has not moved"),
        ("07.3", lambda *_: nn.Identity(), "can learn nothing"),
        ("07.3", lambda *_: BottleneckAdapter, "an nn.Module, not type"),
    ],
)
def test_a_planted_mistake_is_named(name, answer, said):
    found = verdict(name, answer)
    assert found.state == "wrong"
    assert re.search(said, found.text), found.text
