"""A linear layer that lies in 4 bits and lets the gradient through: what QLoRA puts under its adapters.

bitsandbytes has its own; `quiet_bitsandbytes` leaves out a line that it writes on import.

Source: Dettmers et al. 2023, "QLoRA: Efficient finetuning of quantized LLMs", equations 5 and 6.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from helpers.quantization.packing import pack, unpack
from helpers.quantization.quantizers import double_dequantize, double_quantize, nf4_code, to_code_book

BLOCK = 64  # weights that share a scale
SPEAKER = "bitsandbytes.backends.cpu.ops"  # the logger of the line that is left out


class FourBitProduct(torch.autograd.Function):
    """x W^T where W lies in 4 bits: unpacked for the product, and once more for the gradient of x."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: FourBitLinear) -> Tensor:
        """x: (..., in). Returns (..., out)."""
        ctx.layer = layer  # 4 bits a weight; what a plain product would keep is the unpacked matrix
        return linear(x, layer.weight(), layer.bias)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        """gradient: (..., out). Returns (..., in), and nothing for W: it is frozen."""
        return gradient @ ctx.layer.weight(), None


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
        """x: (..., in). Returns (..., out)."""
        return FourBitProduct.apply(x, self)


def quiet_bitsandbytes() -> None:
    """Leave out the line that bitsandbytes writes on import when the package `kernels` is not there.

    That package holds a faster 4-bit product for processors with bfloat16, fetched from a network; without it
    bitsandbytes computes the same with its own. Every other line still comes. Call it before the import.
    """
    logging.getLogger(SPEAKER).addFilter(_not_about_kernels)


def _not_about_kernels(entry: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in entry.getMessage()
