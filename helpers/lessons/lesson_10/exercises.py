"""The exercises of lesson 10: bits per weight, two codes in a byte, and a scale that forgets half of the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.checks import Wrong, attempted, exercise, expect, expect_calls, parts_of


@exercise(
    "10.1",
    hints=[
        "Count for one block: its codes and its scale, in bits; then divide by the weights of the block.",
        "Without double quantization: (block_size * bits + 32) / block_size. With it the scale takes 8 bits, and every "
        "256 blocks share 32 more.",
        "return bits + 32 / block_size, or with double: bits + 8 / block_size + 32 / (block_size * 256)",
    ],
)
def bits_per_weight(answer: Callable) -> None:
    """answer(bits, block_size, double): the bits that a weight takes on average, its share of the scales included."""
    cases = [
        ((bits, size, double), bits + (8 / size + 32 / (256 * size) if double else 32 / size))
        for bits, size, double in ((4, 64, False), (8, 32, False), (4, 64, True), (3, 128, True))
    ]
    expect_calls(answer, "bits_per_weight", cases)


@exercise(
    "10.2",
    hints=[
        "A byte is 16 times its upper half plus its lower half.",
        "codes.reshape(-1, 2) puts the pairs into rows: the first column is the upper half.",
        "pairs = codes.reshape(-1, 2); return (pairs[:, 0] * 16 + pairs[:, 1]).to(torch.uint8)",
    ],
)
def pack_pairs(answer: Callable) -> None:
    """answer(codes): codes 0 to 15, an even number of them, to bytes."""
    for codes in (torch.tensor([1, 2, 15, 0]), torch.arange(16).repeat(3)):
        wanted = (codes[::2] * 16 + codes[1::2]).to(torch.uint8)
        got = attempted(answer(codes.clone()))
        if isinstance(got, Tensor) and got.shape == wanted.shape:
            if got.equal((codes[1::2] * 16 + codes[::2]).to(got.dtype)):
                raise Wrong("the halves are swapped: the first code of a pair belongs into the upper half")
            if got.dtype != torch.uint8:
                raise Wrong(f"the numbers should be bytes (torch.uint8), not {got.dtype}")
        expect(f"pack_pairs({codes.tolist()[:4]}...)", got, wanted)


@exercise(
    "10.3",
    hints=[
        "Look at a row whose largest weight, its sign left out, is negative. Which codes does it get?",
        "The scale is made from the largest weight. A weight of -1.0 beside a largest of 0.5 gets a code of twice the "
        "highest; in 8 bits 254 does not exist, and the number wraps around.",
        "Take the largest size: scale = rows.abs().amax(dim=1, keepdim=True) / 127",
    ],
)
def scale_of_largest(answer: Callable) -> None:
    """answer(rows): int8 codes (rows, numbers) and scales (rows, 1) such that codes * scale is within half a level."""
    rows = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    rows[0, :2] = torch.tensor([-4.0, 1.0])
    codes, scale = parts_of(answer(rows.clone()), 2, "it should return two tensors, codes and scales")
    if not isinstance(codes, Tensor) or codes.dtype != torch.int8 or codes.shape != rows.shape:
        found = f"{codes.dtype} of shape {tuple(codes.shape)}" if isinstance(codes, Tensor) else type(codes).__name__
        raise Wrong(f"the codes should be int8 of shape {tuple(rows.shape)}, not {found}")
    if tuple(getattr(scale, "shape", ())) != (len(rows), 1):
        raise Wrong(f"there should be one scale per row, of shape {(len(rows), 1)}")
    restored = codes * scale
    flipped = (restored.sign() * rows.sign() < 0).nonzero()
    if len(flipped):
        row, column = flipped[0].tolist()
        back = f"comes back as {restored[row, column]:.2f}"
        raise Wrong(f"the weight {rows[row, column]:.2f} at [{row}, {column}] {back}")
    levels = ((restored - rows).abs() / (rows.abs().amax(dim=1, keepdim=True) / 127)).max()
    if levels > 0.51:
        largest = f"the largest error is {levels:.2f} levels of a row that uses its full range"
        raise Wrong(f"{largest}; half a level is possible")
