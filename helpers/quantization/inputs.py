"""What the quantizers accept, and how a tensor is cut into rows that share a scale."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.runtime import UserError, check_number

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SMALLEST = 1e-38  # below it float32 has no full precision, and 1 / x overflows


def check_weights(weights: Tensor) -> Tensor:
    """Return `weights` if they can be quantized.

    Raises:
        UserError: no tensor, another dtype, empty, or not all finite.
    """
    if not isinstance(weights, Tensor) or weights.dtype not in DTYPES:
        kind = weights.dtype if isinstance(weights, Tensor) else type(weights).__name__
        raise UserError(f"weights are {kind}; they have to be a tensor of float16, bfloat16 or float32.")
    if weights.numel() == 0:
        raise UserError(f"weights are empty (shape {tuple(weights.shape)}): there is nothing to quantize.")
    bad = int((~torch.isfinite(weights)).sum())
    if bad:
        raise UserError(f"{bad} of {weights.numel()} weights are NaN or infinite: no range holds them.")
    return weights


def check_bits(bits: int, low: int = 2, high: int = 8) -> int:
    """Return `bits` if it is a whole number from `low` to `high`."""
    return check_number("bits", bits, low, high, integer=True)


def blocks(weights: Tensor, block_size: int | str | None = None) -> Tensor:
    """The weights as rows that share one scale, in float32.

    Args:
        weights: any shape.
        block_size: None, one row for the whole tensor; "channel", one row per output, that is per index
            of the first dimension; a number, that many neighbours per row.

    Returns:
        (blocks, numbers).

    Raises:
        UserError: the weights cannot be quantized, or the block size does not divide their number.
    """
    flat = check_weights(weights).detach().float().reshape(-1)
    if block_size is None:
        return flat.reshape(1, -1)
    if block_size == "channel":
        if weights.dim() < 2:
            raise UserError(f'block_size is "channel", but weights of shape {tuple(weights.shape)} have no channels.')
        return flat.reshape(len(weights), -1)
    check_number("block_size", block_size, 1, 2**31, integer=True)
    if len(flat) % block_size:
        raise UserError(f"block_size is {block_size}, which does not divide the {len(flat)} weights.")
    return flat.reshape(-1, block_size)


def never_zero(scale: Tensor) -> Tensor:
    """A row of zeros has the scale 0, by which nobody can divide: there 1 does as well, since 0 / 1 is 0."""
    return torch.where(scale < SMALLEST, torch.ones_like(scale), scale)
