"""Numbers to codes of a few bits, and the levels that the codes stand for, as lesson 10 writes them.

Levels at equal distances: Jacob et al. 2018, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", section 2.1. NF4, FP4 and the scales quantized once more: Dettmers et al. 2023,
"QLoRA", section 3; the 8-bit code is Dettmers et al. 2022, "8-bit optimizers via block-wise quantization"; codes and
scales equal bitsandbytes' to the bit. Levels where the weights are (k-means): Han et al. 2016, "Deep compression",
section 3.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from helpers.runtime import UserError, check_number

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SMALLEST = 1e-38  # below it float32 has no full precision, and 1 / x overflows
CELLS = 65536  # of bitsandbytes' table for 8-bit codes
SCALES_PER_BLOCK = 256  # share one scale of scales


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
    size = check_number("block_size", block_size, 1, 2**31, integer=True)
    if len(flat) % size:
        raise UserError(f"block_size is {size}, which does not divide the {len(flat)} weights.")
    return flat.reshape(-1, size)


def never_zero(scale: Tensor) -> Tensor:
    """A row of zeros has the scale 0, by which nobody can divide: there 1 does as well, since 0 / 1 is 0."""
    return torch.where(scale < SMALLEST, torch.ones_like(scale), scale)


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


def nf4_code(tail: float = 0.9677083) -> Tensor:
    """The 16 levels of NF4: quantiles of the normal distribution, 8 above zero and 7 below, scaled to -1 ... 1.

    tail: how much of the distribution lies below the outermost level; halfway between 1 - 1/30 and 1 - 1/32.
    """
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in torch.linspace(tail, 0.5, 9)[:-1].tolist()]
    below = [-quantile(p) for p in torch.linspace(tail, 0.5, 8)[:-1].tolist()]
    levels = torch.tensor(sorted([*below, 0.0, *above]))
    return levels / levels.max()


def fp4_code() -> Tensor:
    """The 16 levels of FP4 in the order of their codes: a sign bit, two exponent bits, one fraction bit.

    Exponent 0 is the odd one out: zero and a level next to it.
    """
    sizes = [0.0, 0.0625]  # exponent 0
    for exponent in (1, 2, 3):
        sizes += [2.0 ** (4 - exponent) * (1 + fraction / 2) for fraction in (0, 1)]
    return torch.tensor(sizes + [-size for size in sizes]) / max(sizes)


def small_float(exponent_bits: int, fraction_bits: int) -> Tensor:
    """What each code of a small float stands for, in the order of the codes: a sign bit, the exponent, the fraction.

    Exponent 0 holds zero and the subnormal numbers. No code is set aside for infinity or NaN: `small_float(2, 1)` is
    E2M1 of the OCP Microscaling formats (2023), and E4M3 and E5M2 equal torch's wherever torch's are finite.
    """
    codes = torch.arange(2 ** (exponent_bits + fraction_bits))
    exponent, fraction = codes >> fraction_bits, (codes % 2**fraction_bits) / 2**fraction_bits
    bias = 2 ** (exponent_bits - 1) - 1
    sizes = torch.where(exponent > 0, 2.0 ** (exponent - bias) * (1 + fraction), 2.0 ** (1 - bias) * fraction)
    return torch.cat([sizes, -sizes])


def e2m1_code() -> Tensor:
    """The 16 levels of the 4-bit float E2M1 in the order of their codes, scaled to -1 ... 1."""
    levels = small_float(2, 1)
    return levels / levels.max()


def to_code_book(weights: Tensor, code: Tensor, block_size: int = 64) -> tuple[Tensor, Tensor]:
    """Each weight's nearest level, after its block was scaled to -1 ... 1.

    Returns codes (blocks, numbers), places in `code`, and scales (blocks, 1), the largest size of each block. What
    comes back is `code[codes] * scale`.
    """
    rows = blocks(weights, block_size)
    scale = rows.abs().amax(dim=1, keepdim=True)
    order = code.argsort()  # FP4's codes are not in order of their levels
    middles = (code[order[:-1]] + code[order[1:]]) / 2
    nearest = torch.bucketize(rows * (1 / scale.clamp(min=SMALLEST)), middles)
    return order[nearest], scale


def dynamic_code() -> Tensor:
    """256 levels from -1 to 1, in decades: from a millionth to one, each decade with twice as many as the one below."""
    sizes = []
    for decade in range(7):
        ends = torch.linspace(0.1, 1, 2**decade + 1)
        sizes += (10.0 ** (decade - 6) * ((ends[:-1] + ends[1:]) / 2)).tolist()
    return torch.tensor(sorted([*sizes, *[-size for size in sizes], 0.0, 1.0]))


def through_table(values: Tensor) -> Tensor:
    """Numbers from -1 to 1, rounded to the nearest of 65,536 cells.

    bitsandbytes' CPU kernel looks an 8-bit code up in a table with so many cells. A number within half a cell of the
    middle between two levels can therefore get the farther one.
    """
    cell = ((values + 1) * 0.5 * (CELLS - 1) + 0.5).long()
    return cell.float() / (CELLS - 1) * 2 - 1


def double_quantize(scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Store the scales of NF4 blocks in 8 bits each: subtract their mean, and quantize the rest in blocks of 256.

    scale: (blocks, 1). Returns codes (blocks,), outer scales (blocks / 256, 1), and the mean, a single number.
    """
    mean = scale.mean()
    rest = scale.flatten() - mean
    rows = torch.nn.functional.pad(rest, (0, -len(rest) % SCALES_PER_BLOCK)).reshape(-1, SCALES_PER_BLOCK)
    outer = rows.abs().amax(dim=1, keepdim=True)
    code = dynamic_code()
    shares = (rows * (1 / outer.clamp(min=SMALLEST))).clamp(-1, 1)
    codes = torch.bucketize(through_table(shares), (code[1:] + code[:-1]) / 2)
    codes = codes.where(outer > 0, 0)  # all scales alike: as bitsandbytes writes it
    return codes.flatten()[: len(rest)], outer, mean


def double_dequantize(codes: Tensor, outer: Tensor, mean: Tensor) -> Tensor:
    """The scales back, (blocks, 1), from what `double_quantize` gave."""
    repeated = outer.repeat_interleave(SCALES_PER_BLOCK)[: len(codes)]
    return (dynamic_code()[codes] * repeated + mean).reshape(-1, 1)


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
