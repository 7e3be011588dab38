"""Time the forward and backward pass of lesson 08's LoRA layers and of `peft`'s, with the same weights and batch."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmarks.steps.harness import Row, Target, by_turns, same, timed
from helpers import catalog
from helpers.lora import inject, lora_layers
from helpers.qlora import drop_two_notices

RANK, ALPHA = 8, 16
TARGETS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


def words(rows: int, length: int, vocabulary: int) -> dict[str, Tensor]:
    """Return a batch of random token ids without padding, (rows, length), the same on every call."""
    ids = torch.randint(5, vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def forward_backward(model: nn.Module, batch: dict[str, Tensor], last: int | None = None):
    """Return a function that does a step without an optimizer and returns the last `last` positions' hidden states."""

    def work() -> Tensor:
        model.zero_grad()
        hidden = model(**batch).last_hidden_state[:, -last if last else None :]  # (rows, length, hidden)
        hidden.square().mean().backward()
        return hidden.detach()

    return work


def gradients(model: nn.Module) -> Tensor:
    """Return all gradients as one flat tensor."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def pair() -> tuple[nn.Module, nn.Module]:
    """Return our encoder with LoRA and peft's, both with the same A and B (B is not zero)."""
    drop_two_notices()
    from peft import LoraConfig, get_peft_model

    body = catalog.body("encoder", "pocket")
    torch.manual_seed(0)
    ours, config = copy.deepcopy(body), LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS)
    inject(ours, TARGETS, rank=RANK, alpha=ALPHA)
    theirs = get_peft_model(body, config)
    with torch.no_grad():
        for path, layer in lora_layers(ours).items():
            nn.init.normal_(layer.lora_B, std=0.02)
            other = theirs.base_model.model.get_submodule(path)
            other.lora_A["default"].weight.copy_(layer.lora_A)
            other.lora_B["default"].weight.copy_(layer.lora_B)
    return ours.train(), theirs.train()


def measure(rounds: int, toy: bool) -> list[Row]:
    """Return the ratio of our layers' time to peft's, for a large and a small batch."""
    ours, theirs = pair()
    rows = []
    for title, size in (("16 texts of 64 words", (16, 64)), ("one text of 16 words", (1, 16))):
        batch = words(*((1, 4) if toy else size), ours.config.vocab_size)
        works = [forward_backward(model, batch) for model in (ours, theirs)]
        same("LoRA, hidden states", *(work() for work in works), within=1e-5)
        same("LoRA, gradients", gradients(ours), gradients(theirs), within=1e-5)
        times = 1 if toy else 10
        turns = by_turns(*(timed(work, times) for work in works), rounds)
        one, other = turns.milliseconds(times)
        note = f"{title}, rank {RANK} beside {len(lora_layers(ours))} linear layers of the encoder"
        limit = Target("at most", 1.0)
        rows.append(Row("LoRA forward + backward", f"lesson 08, {one}", f"peft, {other}", turns.ratio, limit, note))
    return rows
