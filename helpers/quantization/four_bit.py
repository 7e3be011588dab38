"""A linear layer that lies in 4 bits, and the same with a LoRA path that learns: one layer of QLoRA.

bitsandbytes and peft have their own; `quiet_bitsandbytes` leaves out a line that bitsandbytes writes on import.

Source: Dettmers et al. 2023, "QLoRA: Efficient finetuning of quantized LLMs", equations 5 and 6.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from helpers.quantization.packing import pack, unpack
from helpers.quantization.quantizers import double_dequantize, double_quantize, nf4_code, to_code_book

BLOCK = 64  # weights that share a scale
SPEAKER = "bitsandbytes.backends.cpu.ops"  # the logger of the line that is left out


class FourBitLinear(nn.Module):
    """A frozen linear layer in NF4 with double quantization, for a float32 input."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = base.in_features, base.out_features
        self.bias = None if base.bias is None else base.bias.detach()
        codes, scale = to_code_book(base.weight, nf4_code(), BLOCK)
        self.packed, self.scales = pack(codes, bits=4), double_quantize(scale)

    def weight(self) -> Tensor:
        """W, unpacked: (out, in) in float32."""
        codes = unpack(self.packed, 4, self.in_features * self.out_features).reshape(-1, BLOCK)
        blocks = nf4_code()[codes] * double_dequantize(*self.scales)  # (blocks, 64)
        return blocks.reshape(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in). Returns (..., out). Autograd keeps the unpacked weight until the backward pass."""
        return linear(x, self.weight(), self.bias)


class QLoRAProduct(torch.autograd.Function):
    """x W^T + bias + scaling x A^T B^T, where W lies in 4 bits: unpacked once forward, and once more backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lora_A: Tensor, lora_B: Tensor, layer: FourBitLinear, scaling: float) -> Tensor:
        """x: (..., in). Returns (..., out)."""
        thin = x @ lora_A.T  # (..., in) -> (..., rank)
        ctx.save_for_backward(x, thin, lora_A, lora_B)
        ctx.layer, ctx.scaling = layer, scaling
        return linear(x, layer.weight(), layer.bias) + scaling * thin @ lora_B.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """The gradient (..., out) in; those of x, A and B out, and none for W: it is frozen."""
        (gradient,) = gradients
        x, thin, lora_A, lora_B = ctx.saved_tensors
        gradient_thin = ctx.scaling * gradient @ lora_B  # (..., out) -> (..., rank)
        gradient_x = gradient @ ctx.layer.weight() + gradient_thin @ lora_A
        gradient_A = gradient_thin.flatten(0, -2).T @ x.flatten(0, -2)  # (rank, tokens) @ (tokens, in)
        gradient_B = ctx.scaling * gradient.flatten(0, -2).T @ thin.flatten(0, -2)
        return gradient_x, gradient_A, gradient_B, None, None


class QLoRALinear(nn.Module):
    """A 4-bit layer with a LoRA path: B starts at zero, so the layer starts as its base.

    product: another `torch.autograd.Function` than `QLoRAProduct`, such as a learner's.
    """

    def __init__(self, base: FourBitLinear, rank: int, alpha: float, product: Any = QLoRAProduct) -> None:
        super().__init__()
        self.base, self.scaling, self.product = base, alpha / rank, product
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in). Returns (..., out)."""
        return self.product.apply(x, self.lora_A, self.lora_B, self.base, self.scaling)


def quiet_bitsandbytes() -> None:
    """Leave out the line that bitsandbytes writes on import when the package `kernels` is not there.

    That package holds a faster 4-bit product for processors with bfloat16, fetched from a network; without it
    bitsandbytes computes the same with its own. Every other line still comes. Call it before the import.
    """
    logging.getLogger(SPEAKER).addFilter(_not_about_kernels)


def _not_about_kernels(entry: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in entry.getMessage()
