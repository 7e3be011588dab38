"""Answers to the exercises of lesson 09: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from torch.nn.functional import linear


def weighted_sum(adapters, weights, *, scaled=True, weighted=True):
    """The answer to 09.1, with one thing left out."""
    factors = [
        (weight if weighted else 1.0) * (scale if scaled else 1.0)
        for weight, (_, _, scale) in zip(weights, adapters, strict=True)
    ]
    A = torch.cat([factor * A for factor, (A, _, _) in zip(factors, adapters, strict=True)])
    return A, torch.cat([B for _, B, _ in adapters], dim=1)


def sum_of_each(adapters, weights):
    pairs = list(zip(weights, adapters, strict=True))
    return sum(w * s * A[:1] for w, (A, _, s) in pairs), sum(B[:, :1] for _, (_, B, _) in pairs)


def dora(x, weight, bias, A, B, magnitude, scale, *, constant=True, divide=True, trained=True):
    """The answer to 09.2, with one thing done wrongly."""
    direction = weight + scale * B @ A
    length = direction.norm(dim=1, keepdim=True)
    length = length.detach() if constant else length
    rows = direction / length if divide else direction
    return linear(x, magnitude.unsqueeze(1) * rows if trained else rows, bias)


def missing(adapted, folder, *, rename=True, frozen=False):
    """The answer to 09.3, with one thing done wrongly."""
    kept = set(load_file(folder / "adapter_model.safetensors"))

    def in_file(name):
        return name.replace(".modules_to_save.default", "").replace(".default", "") if rename else name

    values = adapted.named_parameters()
    return [name for name, value in values if (value.requires_grad or frozen) and in_file(name) not in kept]


RIGHT = {"09.1": weighted_sum, "09.2": dora, "09.3": missing}


MISTAKES = [
    ("09.1", lambda *given: weighted_sum(*given, scaled=False), "each adapter's own scale is missing"),
    ("09.1", lambda *given: weighted_sum(*given, weighted=False), "the weights are missing"),
    ("09.1", sum_of_each, "join the adapters along the rank"),
    ("09.2", lambda *given: dora(*given, constant=False), "gradient of A.*In peft it is a constant"),
    ("09.2", lambda *given: dora(*given, divide=False), "the rows' own length is still in it"),
    ("09.2", lambda *given: dora(*given, trained=False), "the trained length is missing"),
    ("09.2", lambda *given: dora(*given).detach(), "no gradient passes"),
    ("09.3", lambda *given: missing(*given, rename=False), "where modules_to_save is .'head'. should have 0 items"),
    ("09.3", lambda *given: missing(*given, frozen=True), "should have 0 items"),
    ("09.3", lambda *_: [], "head was made trainable by hand should have 2 items"),
]
