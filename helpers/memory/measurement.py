"""Measures the memory ledger of a real training step: counts each part's tensors, takes the allocator's peak."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from helpers.memory.prediction import MemoryLedger


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the tensors' storages; a storage that several tensors share counts once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def weight_tensors(model: nn.Module) -> list[Tensor]:
    """Return parameters and buffers, and the scales, scales of scales and lookup tables of 4-bit weights."""
    found = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            found += [value for value in vars(state).values() if isinstance(value, Tensor)]
            state = getattr(state, "state2", None)
    return found


def optimizer_tensors(optimizer: Optimizer) -> list[Tensor]:
    """Return every tensor that the optimizer keeps between steps."""
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def saved_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """Run `forward` and return its loss and the bytes that autograd saves for the backward pass.

    The model's own weights are not counted.
    """
    weights = {tensor.untyped_storage().data_ptr() for tensor in weight_tensors(model)}
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor  # the reference prevents reuse of the tensor's address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    return loss, storage_bytes(kept.values())


def allocator_peak(work: Callable[[], object], device: str = "cpu") -> int:
    """Return the peak bytes that `work` held in addition to those before it, as torch counts them (no sampling)."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    # Log level 6 hides the lines about the profiler's start and end, which have level 5.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(model: nn.Module, batch: dict[str, Tensor], optimizer: Optimizer) -> MemoryLedger:
    """Return the ledger of a training step of `model` on `batch`; this trains the model for three steps.

    batch: the arguments of `model(**batch)`, including labels. The first step creates the optimizer's states.
    """

    def loss() -> Tensor:
        return model(**batch).loss

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    model.train()
    step()
    value, activations = saved_bytes(model, loss)
    value.backward()
    del value
    gradients = storage_bytes(p.grad for p in model.parameters() if p.grad is not None)
    optimizer.step()
    optimizer.zero_grad()
    weights, states = storage_bytes(weight_tensors(model)), storage_bytes(optimizer_tensors(optimizer))
    peak = weights + states + allocator_peak(step, next(model.parameters()).device.type)
    return MemoryLedger(weights, gradients, states, activations, peak)
