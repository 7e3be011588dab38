"""Answers to the exercises of lesson 04: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

from functools import partial

import torch

from helpers.sft import collate


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


RIGHT = {"04.1": labels, "04.2": threshold, "04.3": collate}

MISTAKES = [
    ("04.1", partial(labels, end=False), "never learn to stop"),
    ("04.1", partial(labels, mark=True), "mark of the assistant is in the prompt already"),
    ("04.1", partial(labels, first_only=True), r"\]\[11\] should be 31, not -100\."),
    ("04.1", lambda ids, *_: ids, r"should be -100, not 4"),
    ("04.2", partial(threshold, highest=True), r"allowed 0.0 should be 0.8, not 0.9"),
    ("04.2", lambda sure, right, allowed: threshold(sure, right, allowed) or 1.0, "should be None"),
    ("04.3", hurried, "end of the turn is still masked"),
    ("04.3", partial(hurried, mask_only=True), r"Attention_mask at \[0, 2\] should be 1"),
    ("04.3", lambda rows, pad_id: torch.zeros(2), "should return a dictionary"),
]
