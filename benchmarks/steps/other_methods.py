"""Time a soft prompt and IA3 against `peft`'s, and a bottleneck adapter, which `peft` lacks, against the bare model."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.steps.harness import Row, Target, Turns, by_turns, same, timed
from benchmarks.steps.lora import forward_backward, gradients, words
from helpers import catalog
from helpers.adapters import add_bottlenecks, add_ia3
from helpers.prompt_tuning import add_soft_prompt
from helpers.qlora import drop_two_notices

LENGTH, SIZE = 8, 16
AT_MOST = Target("at most", 1.0)


def body() -> nn.Module:
    """Return a fresh encoder in training mode."""
    return catalog.body("encoder", "pocket").train()


def soft_prompts() -> tuple[nn.Module, nn.Module]:
    """Return our encoder and peft's with a soft prompt of the same vectors."""
    from peft import PromptTuningConfig, get_peft_model

    ours = add_soft_prompt(body(), LENGTH)
    config = PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=LENGTH)
    theirs = get_peft_model(body(), config).train()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(ours.prompt)
    return ours, theirs


def rescaled() -> tuple[nn.Module, nn.Module]:
    """Return our encoder and peft's with IA3, whose factors are all 1."""
    from peft import IA3Config, get_peft_model

    last = r".*layer\.\d+\.output\.dense"
    where = rf".*attention\.self\.(key|value)|{last}"
    config = IA3Config(target_modules=where, feedforward_modules=last)
    return add_ia3(body()), get_peft_model(body(), config).train()


def turns_of(what: str, models: tuple[nn.Module, nn.Module], rounds: int, toy: bool, alike: bool = True) -> Turns:
    """Time both sides alternately. If `alike`, check first that they compute the same values."""
    batch = words(*((1, 4) if toy else (16, 64)), models[0].config.vocab_size)
    works = [forward_backward(model, batch, last=batch["input_ids"].shape[1]) for model in models]
    results = [work() for work in works]
    if alike:
        same(f"{what}, hidden states", *results, within=1e-5)
        same(f"{what}, gradients", *(gradients(model) for model in models), within=1e-5)
    return by_turns(*(timed(work, 1 if toy else 10) for work in works), rounds)


def measure(rounds: int, toy: bool) -> list[Row]:
    """Return the ratios of our times to peft's, and the cost of an adapter."""
    drop_two_notices()
    rows = []
    for what, models in ((f"soft prompt of {LENGTH}", soft_prompts()), ("IA3", rescaled())):
        turns = turns_of(what, models, rounds, toy)
        one, other = turns.milliseconds(1 if toy else 10)
        note = "forward and backward, 16 texts of 64 words"
        rows.append(Row(what, f"lesson 07, {one}", f"peft, {other}", turns.ratio, AT_MOST, note))
    bare = body().requires_grad_(False)
    bare.embeddings.LayerNorm.weight.requires_grad_(True)  # as with an adapter, the gradient passes all layers
    turns = turns_of("adapter", (add_bottlenecks(body(), SIZE), bare), rounds, toy, alike=False)
    one, other = turns.milliseconds(1 if toy else 10)
    note = "`peft` has no such adapter: the price of one after each attention and feed-forward layer"
    rows.append(Row(f"adapter of {SIZE}", f"lesson 07, {one}", f"no adapter, {other}", turns.ratio, None, note))
    return rows
