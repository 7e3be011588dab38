"""The pretraining loop: one objective, one optimizer, a log line every so often."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import BertForMaskedLM

from helpers.training import decay_groups, has_bfloat16

Loss = Callable[[Tensor], Tensor]  # blocks (batch, length) -> scalar


@dataclass(frozen=True)
class Recipe:
    """The settings of a pretraining run, apart from the model and the data."""

    tokens: int
    batch_size: int = 16  # small, because with few tokens a model learns more from more steps
    learning_rate: float = 3e-3
    warmup: float = 0.03
    weight_decay: float = 0.05
    masked: float = 0.3  # encoder: share of tokens to predict. BERT's is 0.15; more gives more signal per token
    passes: dict[str, float] = field(default_factory=dict)  # passes over a domain (default: corpus 1, library 0)
    bfloat16: bool = False  # matrix products in bfloat16 if the processor supports it: twice as fast
    seed: int = 0


def masked_loss(model: BertForMaskedLM, tokenizer, recipe: Recipe, generator: torch.Generator) -> Loss:
    """Return the encoder's objective. Only the chosen tokens pass the output layer (at 30 %, a third of its work)."""
    special = torch.zeros(model.config.vocab_size, dtype=torch.bool)
    special[tokenizer.all_special_ids] = True
    body, head = model.bert, model.cls

    def loss(blocks: Tensor) -> Tensor:
        device = blocks.device
        count = round(recipe.masked * blocks.shape[1])
        parts = mask_blocks(blocks.cpu(), count, special, tokenizer.mask_token_id, model.config.vocab_size, generator)
        inputs, positions, targets = (part.to(device) for part in parts)
        return guess(inputs, positions, targets)

    def guess(inputs: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        hidden = body(input_ids=inputs).last_hidden_state  # (batch, length, hidden)
        index = positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        logits = head(hidden.gather(1, index))  # (batch, count, vocabulary)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    guess = compiled(guess)
    return loss


def mask_blocks(
    blocks: Tensor, count: int, special: Tensor, mask_id: int, vocabulary: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose `count` tokens of each block to predict. 80 % become the mask token, 10 % a random one, 10 % stay as is.

    blocks: (batch, length); special: (vocabulary,) True for ids that are never chosen.
    Returns inputs (batch, length), chosen positions (batch, count) and their true ids (batch, count).
    The same count in every block keeps the shapes fixed, so that a compiled model is not recompiled.
    """
    score = torch.rand(blocks.shape, generator=generator).masked_fill_(special[blocks], -1.0)
    positions = score.topk(count, dim=1).indices  # (batch, count)
    targets = blocks.gather(1, positions)
    draw = torch.rand(positions.shape, generator=generator)
    random_ids = torch.randint(vocabulary, positions.shape, generator=generator)
    shown = torch.where(draw < 0.8, mask_id, torch.where(draw < 0.9, random_ids, targets))
    return blocks.scatter(1, positions, shown), positions, targets


def next_token_loss(model: nn.Module) -> Loss:
    """Return the decoder's objective: predict every token from those before it."""

    def loss(blocks: Tensor) -> Tensor:
        logits = model(input_ids=blocks[:, :-1], use_cache=False).logits  # (batch, length - 1, vocabulary)
        return nn.functional.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten())

    return compiled(loss)


def compiled(function: Callable) -> Callable:
    """Compile a function with `torch.compile` if there is a C++ compiler, else return the function unchanged."""
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    except Exception:  # without a compiler: slower, with the same results
        return function
    return torch.compile(function)


def run(
    model: nn.Module, loss: Loss, blocks: Tensor, recipe: Recipe, log: Callable[[dict], None], every: float = 60.0
) -> float:
    """Train for `recipe.tokens` tokens, repeating the blocks as often as needed. Return the seconds of training.

    `log` is called about every `every` seconds, and at the end, with the step, the number of steps, the tokens, the
    seconds, and the mean loss since the last call.
    """
    steps = recipe.tokens // (recipe.batch_size * blocks.shape[1])
    optimizer = torch.optim.AdamW(
        decay_groups(model, recipe.weight_decay), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warmup_cosine(step, steps, recipe.warmup))
    order, device = _batches(len(blocks), recipe), next(model.parameters()).device
    model.train()
    spent, since, losses = 0.0, time.perf_counter(), []
    last = since
    for step in range(1, steps + 1):
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16 and has_bfloat16(device)):
            value = loss(blocks[next(order)].to(device))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(value.detach())
        now = time.perf_counter()
        if now - last > every or step == steps:
            spent += now - since
            mean = torch.stack(losses).mean().item()
            if not math.isfinite(mean):
                raise FloatingPointError(f"The loss is {mean} at step {step}; a lower learning rate may help.")
            tokens = step * recipe.batch_size * blocks.shape[1]
            log({"step": step, "steps": steps, "tokens": tokens, "seconds": round(spent, 1), "loss": round(mean, 4)})
            model.train()
            losses, last = [], time.perf_counter()
            since = last
    return spent


def _warmup_cosine(step: int, steps: int, warmup: float) -> float:
    start = max(1, round(warmup * steps))
    if step < start:
        return (step + 1) / start
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, steps - start)))


def _batches(count: int, recipe: Recipe):
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count // recipe.batch_size * recipe.batch_size].view(-1, recipe.batch_size)
