"""Plans a training step that fits the free memory, if necessary with checkpointing or in microbatches.

The memory is predicted with `predict`, before the first step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from helpers.memory.architecture import Architecture
from helpers.memory.prediction import Plan, predict
from helpers.runtime import UserError

MARGIN = 0.9  # share of the free memory that a step may use; the rest is for fragmentation and other programs
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class MicrobatchPlan:
    """How to compute a training step: the number of microbatches, and whether with gradient checkpointing."""

    microbatches: int = 1
    checkpointed: bool = False


def free_bytes(device: str | torch.device) -> int:
    """Return the free bytes of a device; for a CPU, those of main memory."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return psutil.virtual_memory().available


def plan_microbatches(model: nn.Module, batch: Batch, free: int | None = None) -> MicrobatchPlan:
    """Return the first plan that fits: 1, 2, 4, ... microbatches, each without and then with checkpointing.

    A model without memory formulas gets a plan with one microbatch and no checkpointing.

    Args:
        batch: its tensors include input_ids (batch, seq).
        free: the free bytes; None asks the model's device.

    Raises:
        UserError: when not even one row at a time fits; the message says what to change.
    """
    shape = _shape(model)
    if shape is None or batch.get("input_ids") is None or batch["input_ids"].dim() != 2:
        return MicrobatchPlan()
    rows, length = batch["input_ids"].shape
    held = sum(p.numel() * p.element_size() for p in model.parameters())  # already in memory
    room = (free_bytes(next(model.parameters()).device) if free is None else free) * MARGIN + held
    most = 0
    for parts in (2**power for power in range(rows.bit_length() + 1)):
        for checkpointed in (False, True) if can_checkpoint(model) else (False,):
            plan = _plan(model, -(-rows // parts), length, checkpointed)
            most = predict(shape, plan).peak
            if most <= room:
                return MicrobatchPlan(min(parts, rows), checkpointed)
    raise UserError(
        f"model: a training step on one text of {length} tokens takes about {most / 1e9:.1f} GB with this model, and "
        f"{room / 1e9:.1f} GB are free; choose a smaller one with the parameter model, or see lesson 11 for QLoRA."
    )


def can_checkpoint(model: nn.Module) -> bool:
    """Whether the model, or its body, supports gradient checkpointing."""
    return _checkpointing(model) is not None


def checkpoint(model: nn.Module) -> None:
    """Enable gradient checkpointing: the backward pass recomputes the blocks instead of storing their activations."""
    _checkpointing(model).gradient_checkpointing_enable({"use_reentrant": False})


def split(batch: Batch, parts: int) -> list[tuple[Batch, float]]:
    """Split the batch by rows; each part comes with its share of the labels, its weight in the mean loss."""
    pieces = zip(*(tensor.chunk(parts) for tensor in batch.values()), strict=True)
    found = [dict(zip(batch, piece, strict=True)) for piece in pieces]
    counts = [int((part["labels"] != -100).sum()) for part in found]
    return [(part, count / sum(counts)) for part, count in zip(found, counts, strict=True) if count]


def _checkpointing(model: nn.Module) -> Any:
    for candidate in (model, getattr(model, "body", None)):
        if getattr(candidate, "supports_gradient_checkpointing", False):
            return candidate
    return None


def _shape(model: nn.Module) -> Architecture | None:
    try:
        shape = Architecture.of(model.config)
    except (AttributeError, UserError):
        return None
    if next(model.parameters()).device.type == "cuda":
        return replace(shape, attention_dropout=False)  # CUDA kernels recompute the dropout mask and store none
    return shape


def _plan(model: nn.Module, rows: int, length: int, checkpointed: bool) -> Plan:
    numbers = [(p.numel(), p.requires_grad) for p in model.parameters()]
    moving = sum(count for count, moves in numbers if moves)
    method = "full" if moving > sum(count for count, _ in numbers) // 4 else "lora"
    classes = getattr(getattr(model, "head", None), "out_features", 0)
    return Plan(method, batch=rows, length=length, classes=classes, checkpointed=checkpointed)
