"""Answers to the exercises of lesson 11: right ones, and mistakes with what the check says to them."""

from __future__ import annotations


def bits(block, scale_bits, outer):
    return 4 + scale_bits / block + (32 / (block * outer) if outer else 0)


def standing(frozen, bits, trained):
    return frozen * bits / 8 + 12 * trained


def merged(_, layer):
    return layer.base.weight() + layer.change()


RIGHT = {"11.1": bits, "11.2": standing, "11.3": merged}


MISTAKES = [
    ("11.1", lambda block, scale_bits, outer: 4 + scale_bits / block, "should be 4.12695, not 4.125"),
    ("11.1", lambda block, scale_bits, outer: 4 + 32 / block, "should be 4.12695, not 4.5"),
    ("11.2", lambda frozen, bits, trained: frozen * bits + 12 * trained, r"should be 1.592e\+10"),
    ("11.2", lambda frozen, bits, trained: frozen * bits / 8 + 8 * trained, r"should be 7.8e\+11, not 5.2e\+11"),
    ("11.3", lambda original, layer: original + layer.change(), "This is the bug itself"),
    ("11.3", lambda original, layer: layer.base.weight(), "The weight is unpacked, but the LoRA path is missing"),
    ("11.3", lambda original, layer: layer.base.weight() + layer.lora_B @ layer.lora_A, "output"),
    ("11.3", lambda original, layer: original.add_(layer.change().detach()), "changes the original weight"),
    ("11.3", lambda original, layer: None, "returns None"),
    ("11.3", lambda original, layer: layer.base.packed, r"should return a weight of shape \(32, 64\)"),
]
