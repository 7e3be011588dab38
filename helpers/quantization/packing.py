"""Codes of a few bits each, laid end to end in bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.quantization.quantizers import check_bits
from helpers.runtime import UserError


def pack(codes: Tensor, bits: int) -> Tensor:
    """Whole numbers from 0 to 2^bits - 1, any shape, as a row of bytes, the highest bit first: (bytes,) uint8.

    Two 4-bit codes share a byte as in bitsandbytes: the first is its upper half.
    """
    codes = fits(codes.flatten().long(), check_bits(bits, low=1))
    places = torch.arange(bits - 1, -1, -1)
    stream = (codes.unsqueeze(1) >> places & 1).flatten()  # (codes * bits,) of 0 and 1
    stream = torch.nn.functional.pad(stream, (0, -len(stream) % 8))
    powers = 2 ** torch.arange(7, -1, -1)
    return (stream.reshape(-1, 8) * powers).sum(dim=1).to(torch.uint8)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` codes back out of the bytes: (count,) int64."""
    places = torch.arange(7, -1, -1)
    stream = (packed.long().unsqueeze(1) >> places & 1).flatten()[: enough(packed, bits, count)]
    powers = 2 ** torch.arange(bits - 1, -1, -1)
    return (stream.reshape(-1, bits) * powers).sum(dim=1)


def pack_pairs(codes: Tensor) -> Tensor:
    """What `pack(codes, 4)` gives, in one line of arithmetic instead of bit by bit: many times faster."""
    codes = fits(codes.flatten(), 4).to(torch.uint8)
    high, low = torch.nn.functional.pad(codes, (0, len(codes) % 2)).reshape(-1, 2).unbind(1)
    return high << 4 | low


def level_pairs(code: Tensor) -> Tensor:
    """What each of the 256 bytes stands for: two levels side by side in one 64-bit number, fetched in one piece.

    code: (16,) float32. Returns (256,) int64, of which only the bits count.
    """
    return torch.cartesian_prod(code, code).view(torch.int64).flatten()  # (256, 2) -> (256,)


def look_up_pairs(packed: Tensor, pairs: Tensor, count: int) -> Tensor:
    """The first `count` levels that packed 4-bit codes stand for: (count,), equal to `code[unpack(packed, 4, count)]`.

    pairs: `level_pairs(code)`.
    """
    enough(packed, 4, count)
    return pairs.index_select(0, packed.int()).view(torch.float32)[:count]


def fits(codes: Tensor, bits: int) -> Tensor:
    """Return `codes` if each fits into `bits` bits."""
    if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < 2**bits:
        raise UserError(f"The codes run from {codes.min()} to {codes.max()}; {bits} bits hold 0 to {2**bits - 1}.")
    return codes


def enough(packed: Tensor, bits: int, count: int) -> int:
    """How many bits `count` codes take, if so many are there."""
    needed = count * check_bits(bits, low=1)
    if needed > 8 * len(packed):
        raise UserError(f"{len(packed)} bytes hold {8 * len(packed) // bits} codes of {bits} bits, not {count}.")
    return needed
