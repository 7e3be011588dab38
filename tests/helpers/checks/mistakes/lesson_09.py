"""Answers to the exercises of lesson 09: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import math

from peft import LoraConfig


def adapter_bytes(shapes, rank):
    return sum(4 * rank * (outputs + inputs) for outputs, inputs in shapes)


RIGHT = {
    "09.1": adapter_bytes,
    "09.2": lambda alpha, rank: alpha * math.sqrt(rank),
    "09.3": LoraConfig(target_modules=["query"], modules_to_save=["head"]),
}


MISTAKES = [
    ("09.1", lambda shapes, rank: adapter_bytes(shapes, rank) // 4, r"should be 1024, not 256"),
    ("09.1", lambda shapes, rank: 4 * rank * sum(a * b for a, b in shapes), r"should be 1024, not 65536"),
    ("09.2", lambda alpha, rank: alpha * rank, r"same_scale\(16, 4\) should be 32, not 64"),
    ("09.2", lambda alpha, rank: alpha / math.sqrt(rank), r"same_scale\(16, 4\) should be 32, not 8"),
    ("09.3", LoraConfig(target_modules=["query"]), "modules_to_save is None"),
    ("09.3", LoraConfig(target_modules=["query", "head"]), "has to be learned in full"),
    ("09.3", LoraConfig(modules_to_save=["head"]), "arget_modules is empty"),
]
