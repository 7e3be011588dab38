"""A linear layer with 4-bit weights, and the same layer with a trainable LoRA path: one layer of QLoRA.

bitsandbytes and peft have their own versions; `quiet_bitsandbytes` silences one line that bitsandbytes logs on import.

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

BLOCK = 64  # number of weights that share a scale
SPEAKER = "bitsandbytes.backends.cpu.ops"  # the logger of the line that `quiet_bitsandbytes` silences


class FourBitLinear(nn.Module):
    """A frozen linear layer in NF4 with double quantization, for a float32 input."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = base.in_features, base.out_features
        self.bias = None if base.bias is None else base.bias.detach()
        codes, scale = to_code_book(base.weight, nf4_code(), BLOCK)
        self.packed, self.scales = pack(codes, bits=4), double_quantize(scale)

    def weight(self) -> Tensor:
        """Return the dequantized W: (out, in) in float32."""
        codes = unpack(self.packed, 4, self.in_features * self.out_features).reshape(-1, BLOCK)
        blocks = nf4_code()[codes] * double_dequantize(*self.scales)  # (blocks, 64)
        return blocks.reshape(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in). Returns (..., out). Autograd keeps the dequantized weight until the backward pass."""
        return linear(x, self.weight(), self.bias)


class QLoRAProduct(torch.autograd.Function):
    """x W^T + bias + scaling x A^T B^T with a 4-bit W, which is dequantized in the forward and the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lora_A: Tensor, lora_B: Tensor, layer: FourBitLinear, scaling: float) -> Tensor:
        """x: (..., in). Returns (..., out)."""
        thin = x @ lora_A.T  # (..., in) -> (..., rank)
        ctx.save_for_backward(x, thin, lora_A, lora_B)
        ctx.layer, ctx.scaling = layer, scaling
        return linear(x, layer.weight(), layer.bias) + scaling * thin @ lora_B.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Return the gradients of x, A and B for the output's gradient (..., out); W is frozen and gets none."""
        (gradient,) = gradients
        x, thin, lora_A, lora_B = ctx.saved_tensors
        gradient_thin = ctx.scaling * gradient @ lora_B  # (..., out) -> (..., rank)
        gradient_x = gradient @ ctx.layer.weight() + gradient_thin @ lora_A
        gradient_A = gradient_thin.flatten(0, -2).T @ x.flatten(0, -2)  # (rank, tokens) @ (tokens, in)
        gradient_B = ctx.scaling * gradient.flatten(0, -2).T @ thin.flatten(0, -2)
        return gradient_x, gradient_A, gradient_B, None, None


class QLoRALinear(nn.Module):
    """A 4-bit layer with a LoRA path. B is initialized to 0, so at first the layer equals its base.

    product: the `torch.autograd.Function` to use, such as a learner's own version of `QLoRAProduct`.
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
    """Silence the line that bitsandbytes logs on import if the package `kernels` is missing; call it before the import.

    This package downloads a faster 4-bit product for processors with bfloat16. Without the package, bitsandbytes
    computes the same with its own code. All other lines are still logged.
    """
    logging.getLogger(SPEAKER).addFilter(_not_about_kernels)


def _not_about_kernels(entry: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in entry.getMessage()
