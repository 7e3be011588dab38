"""The exercises of lesson 10: a block quantizer with its edge cases, small floats, and one column of GPTQ."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from helpers.checks import Wrong, attempted, exercise, expect, parts_of
from helpers.lessons.lesson_10.experiment import gptq, spread_error
from helpers.quantization.quantizers import affine, small_float
from helpers.runtime import UserError

SIZE = 16  # weights in a block of the cases
MANY = 32_768  # blocks; all at once they take some hundredths of a second
SECONDS = 2.0


def _cases() -> dict[str, Tensor]:
    """Two blocks of each kind of weights: what they are -> (32,)."""
    normal = torch.randn(2 * SIZE, generator=torch.Generator().manual_seed(0))
    normal[5] = 0.0
    return {
        "normal weights": normal,
        "only positive weights": normal.abs() + 0.1,
        "only negative weights": -normal.abs() - 0.1,
        "blocks whose weights are all 0.7": torch.full((2 * SIZE,), 0.7),
        "blocks whose weights are all -0.7": torch.full((2 * SIZE,), -0.7),
        "blocks of zeros": torch.zeros(2 * SIZE),
        "one block of zeros beside another": normal * (torch.arange(2 * SIZE) >= SIZE),
    }


@exercise(
    "10.1",
    hints=[
        "Refuse what is not finite first: torch.isfinite(weights).all(). Then rows = weights.reshape(-1, block_size), "
        "and the smallest and the largest weight of each row with amin and amax (dim=1, keepdim=True).",
        "Zero has to be a level, so the range must reach it: low.clamp(max=0), high.clamp(min=0). Only a block of "
        "zeros still has a range of 0 then: give it the scale 1.",
        "scale = (high - low) / (2**bits - 1); zero = torch.round(-low / scale); "
        "codes = (torch.round(rows / scale) + zero).clamp(0, 2**bits - 1)",
    ],
)
def block_quantizer(answer: Callable) -> None:
    """answer(weights, bits, block_size): codes (blocks, block_size), scales and zero points (blocks, 1)."""
    for bits in (4, 2):
        for what, weights in _cases().items():
            _one_case(answer, what, weights, bits)
    started = time.perf_counter()
    answer(_cases()["normal weights"].repeat(MANY // 2), 4, SIZE)
    if (seconds := time.perf_counter() - started) > SECONDS:
        raise Wrong(f"{MANY:,} blocks take {seconds:.1f} s: compute all blocks at once, without a loop over them")
    broken = torch.ones(2 * SIZE)
    broken[3] = torch.nan
    try:
        attempted(answer(broken, 4, SIZE))
    except (ValueError, UserError):
        return
    raise Wrong("one weight is NaN, and your function returns codes as if nothing were wrong: raise a ValueError")


def _one_case(answer: Callable, what: str, weights: Tensor, bits: int) -> None:
    found = parts_of(answer(weights.clone(), bits, SIZE), 3, "it should return codes, scales and zero points")
    for name, part, shape in zip(("codes", "scales", "zero points"), found, ((2, SIZE), (2, 1), (2, 1)), strict=True):
        if not isinstance(part, Tensor) or tuple(part.shape) != shape:
            raise Wrong(f"{what}: the {name} should be a tensor of shape {shape}")
    codes, scale, zero = (part.double() for part in found)
    if not bool((scale.isfinite() & (scale > 0)).all()):
        raise Wrong(f"{what}: a scale is {scale.min():g}; nobody can divide by that")
    outside = ~((codes >= 0) & (codes <= 2**bits - 1))  # `~` so that nan is outside
    if outside.any():
        raise Wrong(f"{what}: a code is {codes[outside][0]:g}; {bits} bits hold 0 to {2**bits - 1}")
    for name, part in (("code", codes), ("zero point", zero)):
        if bool((part != part.round()).any()):
            raise Wrong(f"{what}: a {name} is {part[part != part.round()][0]:.3f}, which is not a whole number")
    rows = weights.reshape(2, SIZE).double()
    restored = (codes - zero) * scale
    right, step, middle = affine(weights, bits, SIZE)
    wanted = (right - middle).double() * step.double()
    for row, column in ((restored - wanted).abs() > 1e-4 * step).nonzero().tolist():
        back = f"comes back as {restored[row, column]:.4f}; {wanted[row, column]:.4f} is possible with {bits} bits"
        raise Wrong(f"{what}: the weight {rows[row, column]:.4f} at [{row}, {column}] {back}")


@exercise(
    "10.2",
    hints=[
        "Without the sign a code is exponent * 2**fraction_bits + fraction. Take it apart with // and %.",
        "An exponent above 0 means 2 ** (exponent - bias) * (1 + fraction / 2**fraction_bits). Exponent 0 has no "
        "leading 1: 2 ** (1 - bias) * fraction / 2**fraction_bits. The bias is 2 ** (exponent_bits - 1) - 1.",
        "codes = torch.arange(2 ** (exponent_bits + fraction_bits))\n"
        "exponent, fraction = codes // 2**fraction_bits, codes % 2**fraction_bits\n"
        "bias = 2 ** (exponent_bits - 1) - 1\n"
        "normal = 2.0 ** (exponent - bias) * (1 + fraction / 2**fraction_bits)\n"
        "subnormal = 2.0 ** (1 - bias) * fraction / 2**fraction_bits\n"
        "sizes = torch.where(exponent > 0, normal, subnormal)\n"
        "return torch.cat([sizes, -sizes])",
    ],
)
def decode_small_float(answer: Callable) -> None:
    """answer(exponent_bits, fraction_bits): what each code stands for, in the order of the codes."""
    from gguf.quants import MXFP4

    bytes_ = torch.arange(256).to(torch.uint8)
    books = {
        (4, 3): ("torch.float8_e4m3fn", bytes_.view(torch.float8_e4m3fn).float()),
        (5, 2): ("torch.float8_e5m2", bytes_.view(torch.float8_e5m2).float()),
        (2, 1): ("the gguf package's MXFP4", torch.tensor(MXFP4.kvalues) / 2),
    }
    for (exponent_bits, fraction_bits), (whose, wanted) in books.items():
        call = f"small_float({exponent_bits}, {fraction_bits})"
        got = attempted(answer(exponent_bits, fraction_bits))
        if not isinstance(got, Tensor) or got.shape != wanted.shape:
            raise Wrong(f"{call} should be a tensor of {len(wanted)} numbers, one for each code")
        for code in range(len(wanted)):
            if wanted[code].isfinite() and got[code] != wanted[code]:
                bits = f"{code:0{1 + exponent_bits + fraction_bits}b}"
                raise Wrong(f"{call}: code {bits} should be {wanted[code]:g} (as in {whose}), not {got[code]:g}")
    expect("small_float(3, 2)", answer(3, 2), small_float(3, 2))


@exercise(
    "10.3",
    hints=[
        "The error is what the column lost, block[:, at] - rounded, divided by upper[at, at].",
        "Column k after `at` changes by -error * upper[at, k]: that is torch.outer(error, upper[at, at + 1 :]).",
        "error = (block[:, at] - rounded) / upper[at, at]; block = block.clone(); "
        "block[:, at + 1 :] -= torch.outer(error, upper[at, at + 1 :]); return block, error",
    ],
)
def one_column_of_gptq(answer: Callable) -> None:
    """answer(block, rounded, upper, at): the block with later columns corrected, and the column's error (out,)."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 12, generator=draw) @ torch.randn(12, 12, generator=draw)  # they depend on each other
    weights, gram = torch.randn(6, 12, generator=draw), inputs.T @ inputs / 64
    upper = torch.randn(4, 4, generator=draw).triu().fill_diagonal_(2.0)
    block, rounded = weights[:, :4], weights[:, 1].round()
    wanted, lost = spread_error(block, rounded, upper, 1)
    corrected, error = parts_of(
        answer(block.clone(), rounded.clone(), upper.clone(), 1), 2, "it should return two tensors, block and error"
    )
    expect("the error", error, lost, mistakes={"divide by upper[at, at]": block[:, 1] - rounded})
    added = block.clone()
    added[:, 2:] += torch.outer(lost, upper[1, 2:])
    expect("the corrected block", corrected, wanted, mistakes={"the correction has the wrong sign": added})
    layer = gptq(weights, gram, 3, answer, block_size=4)
    expect("a whole layer, beside the least-squares solution,", layer, by_least_squares(weights, gram, 3, 4), 1e-4)


def by_least_squares(weights: Tensor, gram: Tensor, bits: int, block_size: int) -> Tensor:
    """What `gptq` should give: after each column, the later ones are fitted anew to what the column lost. (out, in)"""
    damped = gram.double() + 0.01 * gram.diagonal().mean() * torch.eye(len(gram))
    rest, done = weights.double(), []
    for at in range(weights.shape[1]):
        if at % block_size == 0:
            _, scale, zero = (part.double() for part in affine(rest[:, at : at + block_size].float(), bits, "channel"))
        codes = (torch.round(rest[:, at] / scale[:, 0]) + zero[:, 0]).clamp(0, 2**bits - 1)
        done.append((codes - zero[:, 0]) * scale[:, 0])
        later = slice(at + 1, None)
        share = torch.linalg.solve(damped[later, later], damped[later, at])  # input `at` told from the later ones
        rest[:, later] += torch.outer(rest[:, at] - done[-1], share)
    return torch.stack(done, dim=1).float()
