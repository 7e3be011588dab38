"""Time lesson 10's NF4 against bitsandbytes' on the CPU, in both directions, and measure the parts of our time."""

from __future__ import annotations

import torch

from benchmarks.steps.harness import Row, Target, by_turns, same, timed
from helpers.quantization.four_bit import quiet_bitsandbytes
from helpers.quantization.packing import level_pairs, look_up_pairs, pack, pack_pairs, unpack
from helpers.quantization.quantizers import nf4_code, to_code_book
from helpers.quantization.storage import code_book

BLOCK = 64
SHAPES = {"a 512 x 2048 matrix": (512, 2048), "the encoder's largest matrix, 512 x 128": (512, 128)}
TOY_SHAPES = {"a toy matrix": (8, 64)}
AT_MOST = Target("at most", 2.0)
NAMES = ("NF4 quantize", "NF4 dequantize")
LEFT = (
    "Dequantizing: of the parts the look-up takes longest, one 64-bit number for each pair of codes; then torch"
    " goes over the matrix once more for the scales. bitsandbytes does both in one pass of compiled code. Looking up"
    " code by code took longer; below that only C++ would help, which this course does not compile."
)


def measure(rounds: int, toy: bool) -> list[Row]:
    """Return the ratios of our times to the library's, for two sizes, with the time of each part."""
    quiet_bitsandbytes()
    import bitsandbytes as bnb

    rows = []
    for title, shape in (TOY_SHAPES if toy else SHAPES).items():
        weights = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        stored = code_book("nf4", BLOCK)(weights)
        packed, state = bnb.functional.quantize_4bit(weights, blocksize=BLOCK, quant_type="nf4")
        same("NF4, packed codes", stored.tensors["codes"].int(), packed.flatten().int())
        same("NF4, weights", stored.restore(), bnb.functional.dequantize_4bit(packed, state))
        ours = (lambda w=weights: code_book("nf4", BLOCK)(w), stored.restore)
        theirs = (
            lambda w=weights: bnb.functional.quantize_4bit(w, blocksize=BLOCK, quant_type="nf4"),
            lambda p=packed, s=state: bnb.functional.dequantize_4bit(p, s),
        )
        for place, parts in enumerate((quantize_parts(weights), dequantize_parts(weights))):
            times = 1 if toy else 5
            turns = by_turns(timed(ours[place], times), timed(theirs[place], times), rounds)
            one, other = turns.milliseconds(times)
            said = ", ".join(f"{part} {value:.2f} ms" for part, value in spent(parts).items())
            note = f"{title}; {said}"
            who = f"lesson 10, {one}", f"bitsandbytes, {other}"
            rows.append(Row(NAMES[place], *who, turns.ratio, AT_MOST, note))
    return rows


def quantize_parts(weights) -> dict:
    """Return the parts of our quantization, and the lesson's packing bit by bit, which NF4 does not use."""
    code = nf4_code()
    codes, _ = to_code_book(weights, code, BLOCK)
    return {
        "levels": nf4_code,
        "scales and codes": lambda: to_code_book(weights, code, BLOCK),
        "packing": lambda: pack_pairs(codes),
        "bit by bit as the lesson packs, not used here,": lambda: pack(codes, 4),
    }


def dequantize_parts(weights) -> dict:
    """Return the parts of our dequantization, and the lesson's unpacking bit by bit."""
    code = nf4_code()
    codes, scale = to_code_book(weights, code, BLOCK)
    packed, count = pack_pairs(codes), weights.numel()
    pairs = level_pairs(code)
    levels = look_up_pairs(packed, pairs, count).reshape(len(scale), -1)
    return {
        "look-up": lambda: look_up_pairs(packed, pairs, count),
        "times scale": lambda: levels.mul_(scale),
        "bit by bit as the lesson unpacks, not used here,": lambda: unpack(packed, 4, count),
    }


def spent(parts: dict, rounds: int = 5) -> dict[str, float]:
    """Return the shortest milliseconds of each part, after a warm-up."""
    found = {}
    for name, work in parts.items():
        work()
        found[name] = 1000 * min(timed(work)() for _ in range(rounds))
    return found
