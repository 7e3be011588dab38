"""How much of a weight's change fits in a few directions: the singular value decomposition and its truncation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from helpers.runtime import check_number

__all__ = ["factors", "linear_changes", "linear_weights", "rank_for", "share_of_energy", "truncate", "with_changes"]


def truncate(change: Tensor, rank: int) -> Tensor:
    """The closest matrix of this rank: the `rank` largest singular values and their directions.

    change: (out, in). Source: Eckart and Young 1936, "The approximation of one matrix by another of lower rank".
    """
    left, sizes, right = torch.linalg.svd(change, full_matrices=False)
    return left[:, :rank] * sizes[:rank] @ right[:rank]  # (out, rank) @ (rank, in)


def factors(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (out, rank) and A (rank, in) whose product is `truncate(change, rank)`: a LoRA adapter without training.

    Raises:
        UserError: when the matrix has no such rank.
    """
    check_number("rank", rank, 1, min(change.shape), integer=True)
    left, sizes, right = torch.linalg.svd(change, full_matrices=False)
    root = sizes[:rank].sqrt()  # each side takes half of the size
    return left[:, :rank] * root, root.unsqueeze(1) * right[:rank]


def share_of_energy(change: Tensor) -> Tensor:
    """Of the squared entries of a matrix (out, in), the share that its closest matrix of rank 1, 2, ... holds."""
    squares = torch.linalg.svdvals(change) ** 2
    return squares.cumsum(0) / squares.sum()


def rank_for(change: Tensor, share: float = 0.9) -> int:
    """The smallest rank whose truncation holds this share of the energy."""
    return int((share_of_energy(change) < share).sum()) + 1


def linear_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every linear layer's weight (out, in), by its path."""
    layers = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {path: layer.weight.detach().clone() for path, layer in layers.items()}


def linear_changes(before: Mapping[str, Tensor], after: nn.Module) -> dict[str, Tensor]:
    """What training added to each weight of `before`, by path."""
    return {path: weight - before[path] for path, weight in linear_weights(after).items() if path in before}


@torch.no_grad()
def with_changes(model: nn.Module, before: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> nn.Module:
    """Set the weights to what they were before plus the given changes, in place."""
    for path, change in changes.items():
        model.get_submodule(path).weight.copy_(before[path] + change)
    return model
