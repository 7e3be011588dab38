"""The exercises of lesson 08: a change as two thin matrices, when LoRA saves nothing, and a scale that grows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from helpers.checks import Wrong, exercise, expect, expect_calls, parts_of
from helpers.lessons.lesson_08.experiment import truncate
from helpers.lora import LoRALinear

SHAPES = ((6, 4), (5, 9), (8, 8))


@exercise(
    "08.1",
    hints=[
        "left, sizes, right = torch.linalg.svd(change, full_matrices=False) gives change = left @ diag(sizes) @ right, "
        "largest sizes first.",
        "Keep `rank` columns of left, `rank` sizes and `rank` rows of right. The sizes have to go into one of the two "
        "factors, or half of each (their square root) into both.",
        "left, sizes, right = torch.linalg.svd(change, full_matrices=False); "
        "return left[:, :rank] * sizes[:rank], right[:rank]",
    ],
)
def factors(answer: Callable) -> None:
    """answer(change, rank): B (out, rank) and A (rank, in) whose product is the closest matrix of that rank."""
    draws = torch.Generator().manual_seed(0)
    for shape, rank in zip(SHAPES, (1, 2, 8), strict=True):
        change = torch.randn(shape, generator=draws)
        tall, wide = parts_of(answer(change.clone(), rank), 2, "it should return two matrices, B and A")
        for name, matrix, size in (("B", tall, (shape[0], rank)), ("A", wide, (rank, shape[1]))):
            if tuple(getattr(matrix, "shape", ())) != size:
                raise Wrong(f"for a {shape} change at rank {rank}, {name} should have shape {size}")
        expect(f"B @ A for a {shape} change at rank {rank}", tall @ wide, truncate(change, rank), 1e-4)


@exercise(
    "08.2",
    hints=[
        "The matrix has inputs x outputs numbers. A has rank x inputs, and B has outputs x rank.",
        "Together the branch has rank x (inputs + outputs). For which rank is that as many as the matrix has?",
        "return (inputs * outputs - 1) // (inputs + outputs)",
    ],
)
def last_saving_rank(answer: Callable) -> None:
    """answer(inputs, outputs): the largest rank at which A and B hold fewer numbers than the matrix."""
    cases = [
        (
            (inputs, outputs),
            max(rank for rank in range(min(inputs, outputs)) if rank * (inputs + outputs) < inputs * outputs),
        )
        for inputs, outputs in ((128, 128), (128, 512), (4096, 4096), (3, 7))
    ]
    expect_calls(answer, "last_saving_rank", cases)


@exercise(
    "08.3",
    hints=[
        "What should stay the same when the rank goes from 1 to 16 and nothing else changes?",
        "The more rows A has, the more terms B sums up. The paper's scale answers to that; this one does not.",
        "The rank is len(lora_A): multiply the branch by alpha / len(lora_A).",
    ],
)
def scaled_by_rank(answer: Callable) -> None:
    """answer(x, base, lora_A, lora_B, alpha): the output of a LoRA layer of any rank."""
    torch.manual_seed(0)
    for rank in (1, 2, 5):
        layer = LoRALinear(nn.Linear(6, 5), rank, alpha=3.0)
        nn.init.normal_(layer.lora_B)
        x = torch.randn(2, 4, 6)
        given = answer(x, layer.base, layer.lora_A, layer.lora_B, 3.0)
        expect(f"the output at rank {rank}", given, layer(x))
