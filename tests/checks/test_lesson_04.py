"""The exercises of lesson 04: the answer passes, a planted mistake is named, a blank says so."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch

from helpers.checks.registry import names, verdict
from helpers.conversations import collate


def labels(input_ids, start_id, end_id, *, mark=False, end=True, first_only=False):
    """The labels of exercise 04.1 with one thing done wrongly."""
    found, speaking, turns = [], False, 0
    for token in input_ids:
        wanted = speaking and (end or token != end_id)
        found.append(token if wanted or (mark and token == start_id) else -100)
        if token == start_id:
            turns += 1
            speaking = not first_only or turns == 1
        elif token == end_id:
            speaking = False
    return found


def threshold(confidences, right, allowed, *, highest=False):
    tried = sorted(confidences, reverse=highest)
    for level in tried:
        spoken = [ok for sure, ok in zip(confidences, right, strict=True) if sure >= level]
        if 1 - sum(spoken) / len(spoken) <= allowed:
            return level
    return None


def hurried(rows, pad_id, *, mask_only=False):
    batch = collate(rows, pad_id)
    batch["attention_mask"] = (batch["input_ids"] != pad_id).long()
    if not mask_only:
        batch["labels"][batch["labels"] == pad_id] = -100
    return batch


@pytest.mark.parametrize(("name", "answer"), [("04.1", labels), ("04.2", threshold), ("04.3", collate)])
def test_the_right_answer_passes(name, answer):
    assert verdict(name, answer).passed, verdict(name, answer).text


def test_every_exercise_is_known():
    assert names("04") == ["04.1", "04.2", "04.3"]


@pytest.mark.parametrize("name", ["04.1", "04.2", "04.3"])
@pytest.mark.parametrize("blank", [..., lambda *_: ...], ids=["dots", "a function that returns dots"])
def test_a_blank_is_not_attempted(name, blank):
    assert verdict(name, blank).state == "not attempted"


@pytest.mark.parametrize("name", ["04.1", "04.2", "04.3"])
@pytest.mark.parametrize("answer", [None, 3, "text", lambda: 1, lambda *_: 1 / 0, lambda *_: None, lambda *_: {}])
def test_nonsense_is_wrong_and_raises_nothing(name, answer):
    assert verdict(name, answer).state == "wrong"


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("04.1", partial(labels, end=False), "never learn to stop"),
        ("04.1", partial(labels, mark=True), "mark of the assistant is in the prompt already"),
        ("04.1", partial(labels, first_only=True), r"\]\[11\] should be 31, not -100\."),
        ("04.1", lambda ids, *_: ids, r"should be -100, not 4"),
        ("04.2", partial(threshold, highest=True), r"allowed 0.0 should be 0.8, not 0.9"),
        ("04.2", lambda sure, right, allowed: threshold(sure, right, allowed) or 1.0, "should be None"),
        ("04.3", hurried, "end of the turn is still masked"),
        ("04.3", partial(hurried, mask_only=True), r"Attention_mask at \[0, 2\] should be 1"),
        ("04.3", lambda rows, pad_id: torch.zeros(2), "should return a dictionary"),
    ],
)
def test_a_planted_mistake_is_named(name, answer, said):
    found = verdict(name, answer)
    assert found.state == "wrong"
    assert re.search(said, found.text, re.DOTALL), found.text
