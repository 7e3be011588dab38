"""The exercises of lesson 11: the answer passes, a planted mistake is named, a blank says so."""

from __future__ import annotations

import pytest

from helpers.checks.registry import names, verdict


def bits(block, scale_bits, outer):
    return 4 + scale_bits / block + (32 / (block * outer) if outer else 0)


def standing(frozen, bits, trained):
    return frozen * bits / 8 + 12 * trained


def merged(_, layer):
    return layer.base.weight() + layer.change()


ANSWERS = {"11.1": bits, "11.2": standing, "11.3": merged}


@pytest.mark.parametrize(("name", "answer"), ANSWERS.items())
def test_the_right_answer_passes(name, answer):
    assert verdict(name, answer).passed, verdict(name, answer).text


def test_every_exercise_is_known():
    assert names("11") == list(ANSWERS)


@pytest.mark.parametrize("name", list(ANSWERS))
@pytest.mark.parametrize("blank", [..., lambda *_: ...], ids=["dots", "a function that returns dots"])
def test_a_blank_is_not_attempted(name, blank):
    assert verdict(name, blank).state == "not attempted"


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("11.1", lambda block, scale_bits, outer: 4 + scale_bits / block, "should be 4.12695, not 4.125"),
        ("11.1", lambda block, scale_bits, outer: 4 + 32 / block, "should be 4.12695, not 4.5"),
        ("11.2", lambda frozen, bits, trained: frozen * bits + 12 * trained, "should be 1.592e+10"),
        ("11.2", lambda frozen, bits, trained: frozen * bits / 8 + 8 * trained, "should be 7.8e+11, not 5.2e+11"),
        ("11.3", lambda original, layer: original + layer.change(), "This is the fault itself"),
        ("11.3", lambda original, layer: layer.base.weight(), "The weight is unpacked, but the branch is missing"),
        ("11.3", lambda original, layer: layer.base.weight() + layer.lora_B @ layer.lora_A, "output"),
        ("11.3", lambda original, layer: original.add_(layer.change().detach()), "changes the original weight"),
        ("11.3", lambda original, layer: None, "returns None"),
        ("11.3", lambda original, layer: layer.base.packed, "should return a weight of shape (32, 64)"),
    ],
)
def test_a_planted_mistake_is_named(name, answer, said):
    found = verdict(name, answer)
    assert found.state == "wrong" and said in found.text, found.text
