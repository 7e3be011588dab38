"""Levels where the weights are: k-means on one tensor's numbers.

Source: Han et al. 2016, "Deep compression", section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.quantization.inputs import blocks, check_bits
from helpers.runtime import UserError


def k_means(weights: Tensor, bits: int, steps: int = 10) -> tuple[Tensor, Tensor]:
    """Cluster the weights around 2^bits centres.

    The centres start where they would be best for a normal distribution: at its quantiles, spread by the square
    root of 3 (Panter and Dite 1951). From equal distances the same takes many times as many steps.

    Returns codes (numbers,), places in the code book, and the code book (2^bits,), sorted. What comes back is
    `centres[codes]`.
    """
    values = not_constant(blocks(weights).flatten())
    shares = (torch.arange(2 ** check_bits(bits)) + 0.5) / 2**bits
    centres = values.mean() + 3**0.5 * values.std() * torch.special.ndtri(shares)
    for _ in range(steps):
        codes = torch.bucketize(values, (centres[1:] + centres[:-1]) / 2)
        count = torch.bincount(codes, minlength=2**bits)
        total = torch.bincount(codes, weights=values.double(), minlength=2**bits)
        centres = torch.where(count > 0, total / count.clamp(min=1), centres).float()
    return torch.bucketize(values, (centres[1:] + centres[:-1]) / 2), centres


def not_constant(values: Tensor) -> Tensor:
    """Return `values` (numbers,) if they differ.

    Raises:
        UserError: all are the same.
    """
    if values.min() == values.max():
        raise UserError(f"All {len(values)} weights are {values[0].item():g}: there is no range to cluster.")
    return values
