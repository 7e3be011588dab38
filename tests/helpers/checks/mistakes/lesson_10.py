"""Answers to the exercises of lesson 10: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import torch


def bits(bits, block_size, double):
    return bits + (8 / block_size + 32 / (block_size * 256) if double else 32 / block_size)


def pairs(codes):
    codes = codes.reshape(-1, 2)
    return (codes[:, 0] * 16 + codes[:, 1]).to(torch.uint8)


def scaled(largest):
    def quantize(rows):
        scale = largest(rows) / 127
        return torch.round(rows / scale).to(torch.int8), scale

    return quantize


RIGHT = {"10.1": bits, "10.2": pairs, "10.3": scaled(lambda rows: rows.abs().amax(dim=1, keepdim=True))}


MISTAKES = [
    ("10.1", lambda b, s, d: b, r"bits_per_weight\(4, 64, False\) should be 4.5, not 4"),
    ("10.1", lambda b, s, d: b + 32 / s, r"bits_per_weight\(4, 64, True\) should be 4.12695, not 4.5"),
    ("10.2", lambda codes: pairs(codes.reshape(-1, 2).flip(1)), "halves are swapped"),
    ("10.2", lambda codes: pairs(codes).long(), "should be bytes"),
    ("10.2", lambda codes: codes, "should have shape"),
    ("10.3", scaled(lambda rows: rows.amax(dim=1, keepdim=True)), r"weight -\d.* comes back as \d"),
    (
        "10.3",
        scaled(lambda rows: rows.abs().amax().expand(len(rows), 1)),
        "levels of a row that uses its full range",
    ),
    ("10.3", scaled(lambda rows: rows.abs().amax()), "one scale per row"),
    ("10.3", lambda rows: (rows, rows), "codes should be int8"),
]
