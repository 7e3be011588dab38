"""Packs codes of a few bits each into bytes, without gaps, and unpacks them."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.quantization.quantizers import check_bits
from helpers.runtime import UserError


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack integers from 0 to 2^bits - 1 (any shape) into bytes, the highest bit first: (bytes,) uint8.

    Two 4-bit codes share a byte as in bitsandbytes: the first code is in the upper half.
    """
    codes = fits(codes.flatten().long(), check_bits(bits, low=1))
    places = torch.arange(bits - 1, -1, -1)
    stream = (codes.unsqueeze(1) >> places & 1).flatten()  # (codes * bits,) of 0 and 1
    stream = torch.nn.functional.pad(stream, (0, -len(stream) % 8))
    powers = 2 ** torch.arange(7, -1, -1)
    return (stream.reshape(-1, 8) * powers).sum(dim=1).to(torch.uint8)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Unpack the first `count` codes from the bytes: (count,) int64."""
    places = torch.arange(7, -1, -1)
    stream = (packed.long().unsqueeze(1) >> places & 1).flatten()[: enough(packed, bits, count)]
    powers = 2 ** torch.arange(bits - 1, -1, -1)
    return (stream.reshape(-1, bits) * powers).sum(dim=1)


def pack_pairs(codes: Tensor) -> Tensor:
    """Return the same as `pack(codes, 4)`, many times faster: with byte arithmetic instead of single bits."""
    codes = fits(codes.flatten(), 4).to(torch.uint8)
    high, low = torch.nn.functional.pad(codes, (0, len(codes) % 2)).reshape(-1, 2).unbind(1)
    return high << 4 | low


def level_pairs(code: Tensor) -> Tensor:
    """Return a lookup table for `look_up_pairs`: for each of the 256 bytes, its two levels as one 64-bit value.

    code: (16,) float32. Returns (256,) int64, each of which holds the bits of two float32 levels.
    """
    return torch.cartesian_prod(code, code).view(torch.int64).flatten()  # (256, 2) -> (256,)


def look_up_pairs(packed: Tensor, pairs: Tensor, count: int) -> Tensor:
    """Return the levels of the first `count` packed 4-bit codes, (count,): `code[unpack(packed, 4, count)]`.

    pairs: `level_pairs(code)`.
    """
    enough(packed, 4, count)
    return pairs.index_select(0, packed.int()).view(torch.float32)[:count]


def fits(codes: Tensor, bits: int) -> Tensor:
    """Return `codes` if each fits into `bits` bits, else raise a UserError."""
    if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < 2**bits:
        raise UserError(f"The codes run from {codes.min()} to {codes.max()}; {bits} bits hold 0 to {2**bits - 1}.")
    return codes


def enough(packed: Tensor, bits: int, count: int) -> int:
    """Return the number of bits of `count` codes; raise a UserError if `packed` holds fewer codes."""
    needed = count * check_bits(bits, low=1)
    if needed > 8 * len(packed):
        raise UserError(f"{len(packed)} bytes hold {8 * len(packed) // bits} codes of {bits} bits, not {count}.")
    return needed
