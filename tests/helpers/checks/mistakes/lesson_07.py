"""Answers to the exercises of lesson 07: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import torch
from torch import nn

from helpers.adapters import BottleneckAdapter


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


RIGHT = {"07.1": count, "07.2": join, "07.3": adapter}


MISTAKES = [
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
]
