"""Levels at equal distances: symmetric around zero, or affine with a zero point.

Source: Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
inference", section 2.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.quantization.inputs import blocks, check_bits, never_zero


def symmetric(weights: Tensor, bits: int, block_size: int | str | None = None) -> tuple[Tensor, Tensor]:
    """The nearest of 2^bits - 1 levels on both sides of zero.

    Returns codes (blocks, numbers), whole numbers from -top to top, and scales (blocks, 1), the distance of two
    levels. What comes back is `codes * scale`, at most half a level away.
    """
    rows = blocks(weights, block_size)
    top = 2 ** (check_bits(bits) - 1) - 1
    scale = never_zero(rows.abs().amax(dim=1, keepdim=True) / top)
    return torch.round(rows * (1 / scale)), scale


def affine(weights: Tensor, bits: int, block_size: int | str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest of 2^bits levels from the smallest weight to the largest; zero is always a level.

    Returns codes (blocks, numbers) from 0 to 2^bits - 1, scales (blocks, 1) and zero points (blocks, 1), the code
    of 0. What comes back is `(codes - zero) * scale`, at most half a level away.
    """
    rows = blocks(weights, block_size)
    top = 2 ** check_bits(bits) - 1
    low = rows.amin(dim=1, keepdim=True).clamp(max=0)
    high = rows.amax(dim=1, keepdim=True).clamp(min=0)
    scale = never_zero((high - low) / top)
    zero = torch.round(-low / scale)
    codes = (torch.round(rows * (1 / scale)) + zero).clamp(0, top)
    return codes, scale, zero
