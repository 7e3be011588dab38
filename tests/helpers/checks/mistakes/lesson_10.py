"""Answers to the exercises of lesson 10: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import torch

from helpers.lessons.lesson_10.experiment import spread_error
from helpers.quantization.quantizers import affine, small_float


def quantizer(reach_zero=True, never_zero=True, check=True, whole=True, fit=True):
    def quantize(weights, bits, block_size):
        if check and not torch.isfinite(weights).all():
            raise ValueError("not finite")
        rows = weights.reshape(-1, block_size)
        low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
        if reach_zero:
            low, high = low.clamp(max=0), high.clamp(min=0)
        scale = (high - low) / (2**bits - 1)
        if never_zero:
            scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        zero = torch.round(-low / scale) if whole else -low / scale
        codes = torch.round(rows / scale) + zero if whole else torch.round(rows / scale + zero)
        return codes.clamp(0, 2**bits - 1) if fit else codes + 1, scale, zero

    return quantize


def block_by_block(weights, bits, block_size):
    parts = [affine(row, bits, block_size) for row in weights.reshape(-1, block_size)]
    return tuple(torch.cat(some) for some in zip(*parts, strict=True))


def floats(subnormal=True, bias=0, signed=True):
    def decode(exponent_bits, fraction_bits):
        codes = torch.arange(2 ** (exponent_bits + fraction_bits))
        exponent, fraction = codes // 2**fraction_bits, (codes % 2**fraction_bits) / 2**fraction_bits
        middle = 2 ** (exponent_bits - 1) - 1 + bias
        sizes = 2.0 ** (exponent - middle) * (1 + fraction)
        if subnormal:
            sizes = torch.where(exponent > 0, sizes, 2.0 ** (1 - middle) * fraction)
        return torch.cat([sizes, -sizes]) if signed else sizes

    return decode


def column(sign=-1, divide=True, first=1):
    def spread(block, rounded, upper, at):
        error = (block[:, at] - rounded) / (upper[at, at] if divide else 1)
        block = block.clone()
        block[:, at + first :] += sign * torch.outer(error, upper[at, at + first :])
        return block, error

    return spread


RIGHT = {"10.1": quantizer(), "10.2": floats(), "10.3": column()}


MISTAKES = [
    ("10.1", lambda w, b, s: affine(w, b, s)[:2], "codes, scales and zero points, not 2 of them"),
    ("10.1", lambda w, b, s: affine(w, b), r"the codes should be a tensor of shape \(2, 16\)"),
    ("10.1", quantizer(never_zero=False), "blocks of zeros: a scale is 0"),
    ("10.1", quantizer(whole=False), "a zero point is .* not a whole number"),
    ("10.1", quantizer(fit=False), "a code is 16; 4 bits hold 0 to 15"),
    ("10.1", quantizer(reach_zero=False), r"only positive weights: the weight .* comes back as"),
    ("10.1", block_by_block, "32,768 blocks take .* without a loop"),
    ("10.1", quantizer(check=False), "one weight is NaN"),
    ("10.2", floats(subnormal=False), r"small_float\(4, 3\): code 00000000 should be 0 .* not 0.0078125"),
    ("10.2", floats(bias=1), r"code 00000001 should be 0.00195312 \(as in torch.float8_e4m3fn\), not 0.000976562"),
    ("10.2", floats(signed=False), "a tensor of 256 numbers"),
    ("10.3", column(divide=False), r"the error at \[0\] should be .*divide by upper"),
    ("10.3", column(sign=1), "wrong sign"),
    ("10.3", column(first=2), "the corrected block at"),
    ("10.3", lambda *given: spread_error(*given)[0], "two tensors, block and error"),
]

assert torch.equal(floats()(2, 1), small_float(2, 1))
