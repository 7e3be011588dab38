"""Answers to the exercises of lesson 07: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import torch
from peft import LoraConfig
from torch import nn

from helpers.adapters import BottleneckAdapter


def adapter(hidden, size, *, down=True, bias=True, residual=True, between=nn.GELU):
    """The answer to 07.1, with one thing done wrongly."""

    class Planted(BottleneckAdapter):
        def forward(self, x):
            return (x if residual else 0) + self.up(between()(self.down(x)))

    made = Planted(hidden, size)
    if not down:
        nn.init.zeros_(made.down.weight)
        nn.init.zeros_(made.down.bias)
    if not bias:
        nn.init.ones_(made.up.bias)
    return made


def folded(weight, bias, inputs, outputs):
    return outputs.unsqueeze(1) * weight * inputs, outputs * bias


def join(prompt, words, attention_mask, *, mask_value=1, first=True):
    """The answer to 07.3, with one thing done wrongly."""
    parts = [prompt.expand(len(words), -1, -1), words]
    mask = nn.functional.pad(attention_mask, (len(prompt), 0), value=mask_value)
    return torch.cat(parts if first else parts[::-1], dim=1), mask


def within(body, names, budget, *, more=0, alpha=16, every=False):
    """The answer to 07.4, with one thing done wrongly."""
    layers = [
        layer
        for path, layer in body.named_modules()
        if isinstance(layer, nn.Linear) and (every or path.rpartition(".")[2] in names)
    ]
    each = sum(layer.in_features + layer.out_features for layer in layers)
    return LoraConfig(r=max(1, budget // each + more), lora_alpha=alpha, target_modules=list(names))


RIGHT = {"07.1": adapter, "07.2": folded, "07.3": join, "07.4": within}


MISTAKES = [
    ("07.1", lambda *given: adapter(*given, bias=False), "before the first step.*should be x itself"),
    ("07.1", lambda *given: adapter(*given, residual=False), "before the first step"),
    ("07.1", lambda *given: adapter(*given, down=False), "down.weight has not moved"),
    ("07.1", lambda *given: adapter(*given, between=nn.ReLU), "this is relu"),
    ("07.1", lambda *given: adapter(*given, between=nn.Identity), "there is no gelu"),
    ("07.1", lambda *_: nn.Identity(), "number of its parameters should be 59, not 0"),
    ("07.1", lambda *_: BottleneckAdapter, "a class of modules"),
    ("07.2", lambda weight, bias, i, o: (o.unsqueeze(1) * weight * i, bias), "multiply the bias as well"),
    ("07.2", lambda weight, bias, i, o: (o.unsqueeze(1) * weight, o * bias), "[Tt]he weight of a layer of 4 inputs"),
    ("07.2", lambda weight, bias, i, o: weight * i, "two tensors"),
    ("07.3", lambda p, w, m: (join(p, w, m)[0], m), "still has one number per word"),
    ("07.3", lambda *given: join(*given, mask_value=0), r"[Tt]he mask at \[0, 0\] should be 1, not 0"),
    ("07.3", lambda *given: join(*given, first=False), "The joined vectors"),
    ("07.3", lambda *given: join(*given)[0], "two tensors"),
    ("07.4", lambda *given: within(*given, more=1), "r = 4 is too large: `peft` trains 64 parameters"),
    ("07.4", lambda *given: within(*given, more=-1), "r = 2 trains 32 parameters, so a larger rank fits too"),
    ("07.4", lambda *given: within(*given, every=True), "so a larger rank fits too"),
    ("07.4", lambda *given: within(*given, alpha=8), "lora_alpha should be 16, not 8"),
    ("07.4", lambda body, names, budget: within(body, ["dense"], budget), r"target_modules should be \['query'\]"),
    ("07.4", lambda *given: within(*given).r, "a LoraConfig, not int"),
]
