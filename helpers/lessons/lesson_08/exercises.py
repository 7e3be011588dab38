"""The exercises of lesson 08: a change as two thin matrices, when a branch is no saving, and a scale that grows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.checks.compare import attempted, differs
from helpers.checks.registry import exercise
from helpers.lora import LoRALinear
from helpers.low_rank import truncate

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
def factors(answer: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> str | None:
    """answer(change, rank): B (out, rank) and A (rank, in) whose product is the closest matrix of that rank."""
    draws = torch.Generator().manual_seed(0)
    for shape, rank in zip(SHAPES, (1, 2, 8), strict=True):
        change = torch.randn(shape, generator=draws)
        given = attempted(answer(change.clone(), rank))
        if not isinstance(given, tuple | list) or len(given) != 2:
            return "it should return two matrices, B and A"
        tall, wide = given
        for name, matrix, size in (("B", tall, (shape[0], rank)), ("A", wide, (rank, shape[1]))):
            if tuple(getattr(matrix, "shape", ())) != size:
                return f"for a {shape} change at rank {rank}, {name} should have shape {size}"
        problem = differs(f"B @ A for a {shape} change at rank {rank}", tall @ wide, truncate(change, rank), 1e-4)
        if problem:
            return problem
    return None


@exercise(
    "08.2",
    hints=[
        "The matrix has inputs x outputs numbers. A has rank x inputs, and B has outputs x rank.",
        "Together the branch has rank x (inputs + outputs). For which rank is that as many as the matrix has?",
        "return (inputs * outputs - 1) // (inputs + outputs)",
    ],
)
def last_saving_rank(answer: Callable[[int, int], int]) -> str | None:
    """answer(inputs, outputs): the largest rank at which A and B hold fewer numbers than the matrix."""
    for inputs, outputs in ((128, 128), (128, 512), (4096, 4096), (3, 7)):
        wanted = max(rank for rank in range(min(inputs, outputs)) if rank * (inputs + outputs) < inputs * outputs)
        problem = differs(f"your last_saving_rank({inputs}, {outputs})", answer(inputs, outputs), wanted)
        if problem:
            return problem
    return None


@exercise(
    "08.3",
    hints=[
        "What should stay the same when the rank goes from 1 to 16 and nothing else changes?",
        "The more rows A has, the more terms B sums up. The paper's scale answers to that; this one does not.",
        "The rank is len(lora_A): multiply the branch by alpha / len(lora_A).",
    ],
)
def mended(answer: Callable[..., Tensor]) -> str | None:
    """answer(x, base, lora_A, lora_B, alpha): the output of a LoRA layer of any rank."""
    torch.manual_seed(0)
    for rank in (1, 2, 5):
        layer = LoRALinear(nn.Linear(6, 5), rank, alpha=3.0)
        nn.init.normal_(layer.lora_B)
        x = torch.randn(2, 4, 6)
        given = attempted(answer(x, layer.base, layer.lora_A, layer.lora_B, 3.0))
        problem = differs(f"the output at rank {rank}", given, layer(x))
        if problem:
            return problem
    return None
