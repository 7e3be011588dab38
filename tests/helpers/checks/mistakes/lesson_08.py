"""Answers to the exercises of lesson 08: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import torch
from torch import nn

from helpers.lessons.lesson_08.experiment import pissa
from helpers.linear_layers import replace_module
from helpers.lora import LoRALinear


class Unscaled(LoRALinear):
    def forward(self, x):
        return self.base(x) + nn.functional.linear(nn.functional.linear(x, self.lora_A), self.lora_B)


class DropsTheBase(LoRALinear):
    def forward(self, x):
        x = self.dropout(x)
        return self.base(x) + nn.functional.linear(nn.functional.linear(x, self.lora_A), self.lora_B) * self.scaling


class MergesTwice(LoRALinear):
    @torch.no_grad()
    def merge(self):
        self.original = self.base.weight.clone()
        self.base.weight += self.change()


class AddsAgain(LoRALinear):
    def forward(self, x):
        return self.base(x) + nn.functional.linear(nn.functional.linear(self.dropout(x), self.lora_A), self.lora_B) * (
            self.scaling
        )


class Subtracts(LoRALinear):
    @torch.no_grad()
    def unmerge(self):
        self.base.weight -= self.change() * 1.001
        self.original = None


def inject(model, targets, rank, alpha, *, ends=lambda path, target: path.rpartition(".")[2] == target, freeze=True):
    """The answer to 08.2, with one thing done wrongly."""
    model.requires_grad_(not freeze)
    linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    found = [path for path in linears if any(ends(path, target) for target in targets)]
    for path in found:
        replace_module(model, path, LoRALinear(linears[path], rank, alpha))
    return found


def frozen_after(model, targets, rank, alpha):
    found = inject(model, targets, rank, alpha)
    model.requires_grad_(False)
    return found


def still(model, losses, steps=3, *, every=False):
    """The answer to 08.4, with one thing done wrongly."""
    values = {name: value for name, value in model.named_parameters() if value.requires_grad or every}
    old = {name: value.detach().clone() for name, value in values.items()}
    optimizer = torch.optim.AdamW([value for value in values.values() if value.requires_grad], 1e-2, weight_decay=0.0)
    for _ in range(steps):
        losses(model).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [name for name, value in values.items() if torch.equal(value, old[name])]


def by_gradient(model, losses, steps=3):
    losses(model).backward()
    return [name for name, value in model.named_parameters() if value.grad is not None and not value.grad.any()]


RIGHT = {"08.1": LoRALinear, "08.2": inject, "08.3": pissa, "08.4": still}


MISTAKES = [
    ("08.1", Unscaled, "the path is not scaled"),
    ("08.1", DropsTheBase, "with dropout in training"),
    ("08.1", MergesTwice, r"weight after merge\(\) twice"),
    ("08.1", AddsAgain, r"output after merge\(\).*a merged layer is a plain one"),
    ("08.1", Subtracts, "not the old weight to the bit"),
    ("08.2", lambda *given: inject(*given, ends=str.endswith), "attention.subquery should stay a plain layer"),
    ("08.2", lambda *given: inject(*given, freeze=False), "should be frozen"),
    ("08.2", frozen_after, "lora_A should be trainable"),
    ("08.2", lambda *given: inject(*given) and None, "return the list of the paths"),
    ("08.3", lambda w, r, s: (w, *pissa(w, r, s)[1:]), r"[Rr]est \+ scale"),
    (
        "08.3",
        lambda w, r, s: (w - pissa(w, r, 1.0)[2] @ pissa(w, r, 1.0)[1], *pissa(w, r, 1.0)[1:]),
        r"[Rr]est \+ scale",
    ),
    ("08.3", lambda w, r, s: (w, torch.zeros(r, w.shape[1]), torch.zeros(len(w), r)), "B @ A for a 6 x 4"),
    ("08.3", lambda w, r, s: pissa(w, r, s)[:2], "three"),
    ("08.4", by_gradient, "where all is well"),
    ("08.4", lambda model, losses, steps=3: still(model, losses, every=True), "where A and B are zero"),
    ("08.4", lambda model, losses, steps=3: still(model, losses, 1), "where all is well"),
]
