"""The exercises of lesson 11: the bits of a weight, what a model takes before the first batch, and the right base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from helpers.checks import Wrong, exercise, expect, expect_calls, returned
from helpers.lora import LoRALinear
from helpers.quantization.four_bit import FourBitLinear


@exercise(
    "11.1",
    hints=[
        "Write down what 64 weights share, and what 64 x 256 weights share. Then divide by how many share it.",
        "Each weight has its 4 bits. A scale of `scale_bits` is shared by `block` weights. The scale of scales has 32 "
        "bits and is shared by `outer` scales, that is by `block * outer` weights.",
        "return 4 + scale_bits / block + (32 / (block * outer) if outer else 0)",
    ],
)
def bits_per_weight(answer: Callable) -> None:
    """answer(block, scale_bits, outer): bits that a weight takes on average; outer is 0 without a second level."""
    cases = {(64, 32, 0): 4.5, (64, 8, 256): 4 + 8 / 64 + 32 / (64 * 256), (32, 16, 0): 4.5, (128, 8, 64): 4.06640625}
    expect_calls(answer, "bits_per_weight", cases.items(), tolerance=1e-9)


@exercise(
    "11.2",
    hints=[
        "Two kinds of numbers: frozen ones cost only their weight; trained ones cost weight, gradient and two states.",
        "In 16 bits a weight takes 2 bytes and a gradient 2. Adam's two states are float32, 4 bytes each.",
        "return frozen * bits / 8 + trained * (2 + 2 + 8)",
    ],
)
def standing_bytes(answer: Callable) -> None:
    """answer(frozen, bits, trained): bytes of weights, gradients and Adam's states, without activations."""
    for given in ((0, 16, 65e9), (7e9, 16, 160e6), (65e9, 4.127, 800e6)):
        frozen, bits, trained = given
        wanted = frozen * bits / 8 + 12 * trained
        expect_calls(answer, "standing_bytes", [(given, wanted)], tolerance=1e-6 * wanted)


@exercise(
    "11.3",
    hints=[
        "What did the adapter see while it learned: the weight from the file, or the weight out of 4 bits?",
        "The adapter has learned to correct the rounded weight, so the update belongs on top of that one. "
        "`layer.base.weight()` unpacks it.",
        "return layer.base.weight() + layer.change()",
    ],
)
def merged(answer: Callable) -> None:
    """answer(original, layer): one float weight that gives the outputs of the 4-bit layer with its LoRA branch."""
    original, layer, x = _toy()
    kept = original.clone()
    weight = returned(answer(original, layer), "the merged weight")
    if not isinstance(weight, Tensor) or weight.shape != original.shape:
        raise Wrong(f"it should return a weight of shape {tuple(original.shape)}")
    if not torch.equal(original, kept):
        raise Wrong("it changes the original weight in place: return a new one")
    if torch.allclose(weight, original + layer.change(), atol=1e-6):
        raise Wrong("this is the bug itself: the update sits on the weight from the file, which the adapter never saw")
    if torch.allclose(weight, layer.base.weight(), atol=1e-6):
        raise Wrong("the weight is unpacked, but the LoRA path is missing: add layer.change()")
    found = nn.functional.linear(x, weight.detach(), layer.base.bias)
    expect("the merged layer's output", found, layer(x), tolerance=1e-4)


def _toy() -> tuple[Tensor, Any, Tensor]:
    """A weight, the 4-bit LoRA layer made of it with an adapter that has learned something, and inputs for it."""
    generator = torch.Generator().manual_seed(0)
    base = nn.Linear(64, 32)
    with torch.no_grad():
        base.weight.copy_(torch.randn(32, 64, generator=generator))
        base.bias.zero_()
    four_bit: Any = FourBitLinear(base)  # no nn.Linear, but used like one
    layer = LoRALinear(four_bit, rank=2, alpha=4)
    with torch.no_grad():
        for part in (layer.lora_A, layer.lora_B):
            part.copy_(0.3 * torch.randn(part.shape, generator=generator))
    return base.weight.detach().clone(), layer, torch.randn(5, 64, generator=generator)
