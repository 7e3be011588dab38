"""A quantized tensor as it goes to disk: packed codes and what is needed to read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from helpers.quantization.clusters import k_means
from helpers.quantization.code_books import (
    double_dequantize,
    double_quantize,
    fp4_code,
    nf4_code,
    to_code_book,
)
from helpers.quantization.inputs import blocks
from helpers.quantization.packing import level_pairs, look_up_pairs, pack, pack_pairs, unpack
from helpers.quantization.pruning import magnitude_mask
from helpers.quantization.uniform import affine, symmetric
from helpers.runtime import UserError, choose

CODES = {"nf4": nf4_code, "fp4": fp4_code}


@dataclass(frozen=True)
class Stored:
    """One tensor, quantized. `tensors` and `settings` are all that a file keeps of it."""

    method: str
    shape: tuple[int, ...]
    settings: dict[str, int]
    tensors: dict[str, Tensor]

    def restore(self) -> Tensor:
        """The weights that the codes stand for: float32, in the original shape."""
        choose("method", self.method, RESTORE)
        return RESTORE[self.method](self).reshape(self.shape)

    def codes(self, bits: int) -> Tensor:
        """The packed codes as numbers: (numbers,)."""
        return unpack(self.tensors["codes"], bits, math.prod(self.shape))


@dataclass(frozen=True)
class Technique:
    """A way to store weights in fewer bits: `technique(weights)` gives a `Stored`."""

    name: str
    bits: float
    store: Callable[[Tensor], Stored] = field(repr=False)

    def __call__(self, weights: Tensor) -> Stored:
        return self.store(weights)


def uniform(bits: int, block_size: int | str | None = None, zero_point: bool = False) -> Technique:
    """Equal distances: symmetric, or affine with a zero point."""
    top = 2 ** (bits - 1) - 1

    def store(weights: Tensor) -> Stored:
        if zero_point:
            codes, scale, zero = affine(weights, bits, block_size)
            tensors = {"codes": pack(codes, bits), "scale": scale, "zero": zero.to(torch.uint8)}
        else:
            codes, scale = symmetric(weights, bits, block_size)
            tensors = {"codes": pack(codes + top, bits), "scale": scale}
        return Stored("affine" if zero_point else "symmetric", tuple(weights.shape), {"bits": bits}, tensors)

    where = {None: "one scale", "channel": "a scale per channel"}.get(block_size, f"blocks of {block_size}")
    return Technique(f"{'affine' if zero_point else 'symmetric'}, {where}", bits, store)


def code_book(kind: str = "nf4", block_size: int = 64, double: bool = False) -> Technique:
    """The levels of NF4 or FP4; with `double`, the scales in 8 bits each."""
    choose("kind", kind, CODES)

    def store(weights: Tensor) -> Stored:
        codes, scale = to_code_book(weights, CODES[kind](), block_size)
        tensors = {"codes": pack_pairs(codes), "scale": scale}
        if double:
            small, outer, mean = double_quantize(scale)
            tensors |= {"scale": small.to(torch.uint8), "outer": outer, "mean": mean}
        return Stored(f"{kind}_double" if double else kind, tuple(weights.shape), {"block_size": block_size}, tensors)

    return Technique(kind.upper() + (" + double quantization" if double else ""), 4, store)


def clustered(bits: int, steps: int = 10) -> Technique:
    """k-means: an index per weight, and one code book per tensor."""

    def store(weights: Tensor) -> Stored:
        codes, centres = k_means(weights, bits, steps)
        return Stored(
            "clusters", tuple(weights.shape), {"bits": bits}, {"codes": pack(codes, bits), "centres": centres}
        )

    return Technique("k-means", bits, store)


def pruned(sparsity: float) -> Technique:
    """Zeros for the smallest weights: one bit per weight says which stay, and those keep their float32."""

    def store(weights: Tensor) -> Stored:
        mask = magnitude_mask(weights, sparsity)
        kept = blocks(weights).flatten()[mask.flatten()]
        return Stored("pruned", tuple(weights.shape), {}, {"codes": pack(mask, 1), "kept": kept})

    return Technique(f"pruned to {sparsity:.0%} zeros", 1 + 32 * (1 - sparsity), store)


def _symmetric(stored: Stored) -> Tensor:
    bits, scale = stored.settings["bits"], stored.tensors["scale"]
    return (stored.codes(bits) - (2 ** (bits - 1) - 1)).reshape(len(scale), -1) * scale


def _affine(stored: Stored) -> Tensor:
    scale, zero = stored.tensors["scale"], stored.tensors["zero"].float()
    return (stored.codes(stored.settings["bits"]).reshape(len(scale), -1) - zero) * scale


def _code_book(stored: Stored) -> Tensor:
    scale = stored.tensors["scale"]
    if "outer" in stored.tensors:
        scale = double_dequantize(scale.long(), stored.tensors["outer"], stored.tensors["mean"])
    levels = look_up_pairs(stored.tensors["codes"], _pairs(stored.method[:3]), math.prod(stored.shape))
    return levels.reshape(len(scale), -1).mul_(scale)  # in place: new memory costs more than the product


@cache
def _pairs(kind: str) -> Tensor:
    return level_pairs(CODES[kind]())  # for a small matrix, half of the time


def _clusters(stored: Stored) -> Tensor:
    return stored.tensors["centres"][stored.codes(stored.settings["bits"])]


def _pruned(stored: Stored) -> Tensor:
    mask, kept = stored.codes(1).bool(), stored.tensors["kept"]
    if int(mask.sum()) != len(kept):
        raise UserError(f"{int(mask.sum())} weights are marked as kept, but {len(kept)} are there.")
    weights = torch.zeros(len(mask))
    weights[mask] = kept
    return weights


RESTORE: dict[str, Callable[[Stored], Tensor]] = {
    "symmetric": _symmetric,
    "affine": _affine,
    "nf4": _code_book,
    "fp4": _code_book,
    "nf4_double": _code_book,
    "fp4_double": _code_book,
    "clusters": _clusters,
    "pruned": _pruned,
}
