"""Quantizes weights to codes of a few bits, and defines the level of each code, as in lesson 10.

Equally spaced levels: Jacob et al. 2018, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", section 2.1. NF4, FP4 and double quantization: Dettmers et al. 2023, "QLoRA",
section 3; the 8-bit code is from Dettmers et al. 2022, "8-bit optimizers via block-wise quantization"; codes and
scales are bit-identical to bitsandbytes'. Levels fitted to the weights (k-means): Han et al. 2016, "Deep compression",
section 3.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from helpers.runtime import UserError, check_number

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SMALLEST = 1e-38  # smaller float32 numbers lose precision, and 1 / x overflows
CELLS = 65536  # number of cells in bitsandbytes' table for 8-bit codes
SCALES_PER_BLOCK = 256  # number of scales that share one scale of scales


def check_weights(weights: Tensor) -> Tensor:
    """Return `weights` if they can be quantized.

    Raises:
        UserError: when `weights` is not a tensor, has another dtype, is empty, or is not finite.
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
    """Return `bits` if it is an integer from `low` to `high`, else raise a UserError."""
    return check_number("bits", bits, low, high, integer=True)


def blocks(weights: Tensor, block_size: int | str | None = None) -> Tensor:
    """Reshape the weights to rows, each of which gets one scale, in float32.

    Args:
        weights: any shape.
        block_size: None gives one row for the whole tensor; "channel" gives one row per output, that is, per index
            of the first dimension; a number n gives rows of n neighbouring weights.

    Returns:
        (blocks, numbers).

    Raises:
        UserError: when the weights cannot be quantized, or the block size does not divide their number.
    """
    flat = check_weights(weights).detach().float().reshape(-1)
    if block_size is None:
        return flat.reshape(1, -1)
    if block_size == "channel":
        if weights.dim() < 2:
            raise UserError(f'block_size is "channel", but weights of shape {tuple(weights.shape)} have no channels.')
        return flat.reshape(len(weights), -1)
    size = check_number("block_size", block_size, 1, 2**31, integer=True)
    if len(flat) % size:
        raise UserError(f"block_size is {size}, which does not divide the {len(flat)} weights.")
    return flat.reshape(-1, size)


def never_zero(scale: Tensor) -> Tensor:
    """Replace scales below `SMALLEST`, as of a row of zeros, by 1, so that division by the scale is safe."""
    return torch.where(scale < SMALLEST, torch.ones_like(scale), scale)


def symmetric(weights: Tensor, bits: int, block_size: int | str | None = None) -> tuple[Tensor, Tensor]:
    """Quantize to the nearest of 2^bits - 1 equally spaced levels, which are symmetric around zero.

    Returns codes (blocks, numbers), integers from -top to top, and scales (blocks, 1), the distance of two levels.
    `codes * scale` restores the weights, with an error of at most half that distance.
    """
    rows = blocks(weights, block_size)
    top = 2 ** (check_bits(bits) - 1) - 1
    scale = never_zero(rows.abs().amax(dim=1, keepdim=True) / top)
    return torch.round(rows * (1 / scale)), scale


def affine(weights: Tensor, bits: int, block_size: int | str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize to the nearest of 2^bits equally spaced levels from the smallest to the largest weight; 0 is a level.

    Returns codes (blocks, numbers) from 0 to 2^bits - 1, scales (blocks, 1) and zero points (blocks, 1), the code of
    0. `(codes - zero) * scale` restores the weights, with an error of at most half the distance of two levels.
    """
    rows = blocks(weights, block_size)
    top = 2 ** check_bits(bits) - 1
    low = rows.amin(dim=1, keepdim=True).clamp(max=0)
    high = rows.amax(dim=1, keepdim=True).clamp(min=0)
    scale = never_zero((high - low) / top)
    zero = torch.round(-low / scale)
    codes = (torch.round(rows * (1 / scale)) + zero).clamp(0, top)
    return codes, scale, zero


def nf4_code(tail: float = 0.9677083) -> Tensor:
    """Return the 16 levels of NF4: 0 and quantiles of the normal distribution, 8 above and 7 below, scaled to -1 ... 1.

    tail: the probability below the highest level; the default is halfway between 1 - 1/30 and 1 - 1/32.
    """
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in torch.linspace(tail, 0.5, 9)[:-1].tolist()]
    below = [-quantile(p) for p in torch.linspace(tail, 0.5, 8)[:-1].tolist()]
    levels = torch.tensor(sorted([*below, 0.0, *above]))
    return levels / levels.max()


def fp4_code() -> Tensor:
    """Return the 16 levels of FP4 in the order of their codes: a sign bit, two exponent bits, one fraction bit.

    Exponent 0 does not follow the formula: its levels are zero and a small one next to it.
    """
    sizes = [0.0, 0.0625]  # exponent 0
    for exponent in (1, 2, 3):
        sizes += [2.0 ** (4 - exponent) * (1 + fraction / 2) for fraction in (0, 1)]
    return torch.tensor(sizes + [-size for size in sizes]) / max(sizes)


def small_float(exponent_bits: int, fraction_bits: int) -> Tensor:
    """Return the value of each code of a small float format, by code: a sign bit, the exponent, the fraction.

    Exponent 0 holds zero and the subnormal numbers. No code is reserved for infinity or NaN: `small_float(2, 1)` is
    E2M1 of the OCP Microscaling formats (2023), and E4M3 and E5M2 equal torch's for all codes that are finite there.
    """
    codes = torch.arange(2 ** (exponent_bits + fraction_bits))
    exponent, fraction = codes >> fraction_bits, (codes % 2**fraction_bits) / 2**fraction_bits
    bias = 2 ** (exponent_bits - 1) - 1
    sizes = torch.where(exponent > 0, 2.0 ** (exponent - bias) * (1 + fraction), 2.0 ** (1 - bias) * fraction)
    return torch.cat([sizes, -sizes])


def e2m1_code() -> Tensor:
    """Return the 16 levels of the 4-bit float E2M1 in the order of their codes, scaled to -1 ... 1."""
    levels = small_float(2, 1)
    return levels / levels.max()


def to_code_book(weights: Tensor, code: Tensor, block_size: int = 64) -> tuple[Tensor, Tensor]:
    """Scale each block to -1 ... 1 and find each weight's nearest level in `code`.

    Returns codes (blocks, numbers), indices into `code`, and scales (blocks, 1), the largest absolute value of each
    block. `code[codes] * scale` restores the weights.
    """
    rows = blocks(weights, block_size)
    scale = rows.abs().amax(dim=1, keepdim=True)
    order = code.argsort()  # FP4's levels are not sorted
    middles = (code[order[:-1]] + code[order[1:]]) / 2
    nearest = torch.bucketize(rows * (1 / scale.clamp(min=SMALLEST)), middles)
    return order[nearest], scale


def dynamic_code() -> Tensor:
    """Return 256 levels from -1 to 1: 0, 1, and 7 decades per sign, each with twice as many levels as the one below."""
    sizes = []
    for decade in range(7):
        ends = torch.linspace(0.1, 1, 2**decade + 1)
        sizes += (10.0 ** (decade - 6) * ((ends[:-1] + ends[1:]) / 2)).tolist()
    return torch.tensor(sorted([*sizes, *[-size for size in sizes], 0.0, 1.0]))


def through_table(values: Tensor) -> Tensor:
    """Round numbers from -1 to 1 to the nearest of 65,536 cells.

    bitsandbytes' CPU kernel looks up 8-bit codes in a table with 65,536 cells. A number within half a cell of the
    middle between two levels can therefore get the farther one.
    """
    cell = ((values + 1) * 0.5 * (CELLS - 1) + 0.5).long()
    return cell.float() / (CELLS - 1) * 2 - 1


def double_quantize(scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize the scales of NF4 blocks to 8 bits: subtract their mean, and quantize the differences in blocks of 256.

    scale: (blocks, 1). Returns codes (blocks,), outer scales (blocks / 256, 1), and the mean, a single number.
    """
    mean = scale.mean()
    rest = scale.flatten() - mean
    rows = torch.nn.functional.pad(rest, (0, -len(rest) % SCALES_PER_BLOCK)).reshape(-1, SCALES_PER_BLOCK)
    outer = rows.abs().amax(dim=1, keepdim=True)
    code = dynamic_code()
    shares = (rows * (1 / outer.clamp(min=SMALLEST))).clamp(-1, 1)
    codes = torch.bucketize(through_table(shares), (code[1:] + code[:-1]) / 2)
    codes = codes.where(outer > 0, 0)  # if all scales are equal, bitsandbytes also stores code 0
    return codes.flatten()[: len(rest)], outer, mean


def double_dequantize(codes: Tensor, outer: Tensor, mean: Tensor) -> Tensor:
    """Restore the scales, (blocks, 1), from the results of `double_quantize`."""
    repeated = outer.repeat_interleave(SCALES_PER_BLOCK)[: len(codes)]
    return (dynamic_code()[codes] * repeated + mean).reshape(-1, 1)


def k_means(weights: Tensor, bits: int, steps: int = 10) -> tuple[Tensor, Tensor]:
    """Cluster the weights around 2^bits centres.

    The initial centres are the best ones for a normal distribution: its quantiles, spread by the square root of 3
    (Panter and Dite 1951). Equally spaced initial centres would need many times as many steps.

    Returns codes (numbers,), indices into the code book, and the sorted code book (2^bits,). `centres[codes]` restores
    the weights.
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
    """Return `values` (numbers,) if they are not all equal.

    Raises:
        UserError: when all values are equal.
    """
    if values.min() == values.max():
        raise UserError(f"All {len(values)} weights are {values[0].item():g}: there is no range to cluster.")
    return values
