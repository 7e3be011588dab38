"""Does a training step fit into the memory that is free, and if not, in which smaller parts does it?

`predict` answers before the first step.
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

MARGIN = 0.9  # of what is free: the allocator's holes, and what else runs
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class MicrobatchPlan:
    """How a step is taken: in one piece or in `microbatches`, with blocks computed again or not."""

    microbatches: int = 1
    checkpointed: bool = False


def free_bytes(device: str | torch.device) -> int:
    """Bytes that are free on a device; for a CPU in main memory."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return psutil.virtual_memory().available


def plan_microbatches(model: nn.Module, batch: Batch, free: int | None = None) -> MicrobatchPlan:
    """The first plan that fits: as it is; with checkpointing; in ever smaller parts of the batch.

    A model of a family without formulas is taken as it is.

    Args:
        batch: input_ids (batch, seq) among its tensors.
        free: bytes; None asks the model's device.

    Raises:
        UserError: not even one row at a time fits; it says what to change.
    """
    shape = _shape(model)
    if shape is None or batch.get("input_ids") is None or batch["input_ids"].dim() != 2:
        return MicrobatchPlan()
    rows, length = batch["input_ids"].shape
    held = sum(p.numel() * p.element_size() for p in model.parameters())  # lies there already
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
    """Whether the model, or the body in it, can compute its blocks again."""
    return _checkpointing(model) is not None


def checkpoint(model: nn.Module) -> None:
    """Let the backward pass compute the blocks again, instead of keeping what is inside them."""
    _checkpointing(model).gradient_checkpointing_enable({"use_reentrant": False})


def split(batch: Batch, parts: int) -> list[tuple[Batch, float]]:
    """The batch in parts of its rows, each with its share of the labels: its weight in the mean loss."""
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
        return replace(shape, attention_dropout=False)  # its kernels draw anew in the backward pass, and keep nothing
    return shape


def _plan(model: nn.Module, rows: int, length: int, checkpointed: bool) -> Plan:
    numbers = [(p.numel(), p.requires_grad) for p in model.parameters()]
    moving = sum(count for count, moves in numbers if moves)
    method = "full" if moving > sum(count for count, _ in numbers) // 4 else "lora"
    classes = getattr(getattr(model, "head", None), "out_features", 0)
    return Plan(method, batch=rows, length=length, classes=classes, checkpointed=checkpointed)
