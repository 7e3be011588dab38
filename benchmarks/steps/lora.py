"""Forward and backward through lesson 08's LoRA layers, and through `peft`'s: same weights, same batch."""

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
    """A batch of token ids without padding, the same each time: (rows, length)."""
    ids = torch.randint(5, vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def forward_backward(model: nn.Module, batch: dict[str, Tensor], last: int | None = None):
    """A step without an optimizer; what it returns are the hidden states of the last `last` places."""

    def work() -> Tensor:
        model.zero_grad()
        hidden = model(**batch).last_hidden_state[:, -last if last else None :]  # (rows, length, hidden)
        hidden.square().mean().backward()
        return hidden.detach()

    return work


def gradients(model: nn.Module) -> Tensor:
    """All gradients in one row."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def pair() -> tuple[nn.Module, nn.Module]:
    """Our encoder with LoRA and peft's, with the same A and B (and B not zero)."""
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
    """The ratio of our layers' time to peft's, in the whole encoder and for a few words."""
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
