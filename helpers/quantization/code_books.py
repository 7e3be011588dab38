"""Levels at chosen places: NF4 and FP4, block by block, and the scales quantized once more.

Source: Dettmers et al. 2023, "QLoRA", section 3; the 8-bit code is Dettmers et al. 2022, "8-bit optimizers via
block-wise quantization". Codes and scales equal bitsandbytes' to the bit.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from helpers.quantization.inputs import SMALLEST, blocks

CELLS = 65536  # of bitsandbytes' table for 8-bit codes
SCALES_PER_BLOCK = 256  # share one scale of scales


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
    """The scales of NF4 blocks in 8 bits each: their mean is taken off, the rest is coded in blocks of 256.

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
