"""A linear layer that lies in 4 bits and lets the gradient through: what QLoRA puts under its adapters.

Source: Dettmers et al. 2023, "QLoRA: Efficient finetuning of quantized LLMs", equations 5 and 6.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from helpers.quantization.code_books import double_dequantize, double_quantize, nf4_code, to_code_book
from helpers.quantization.packing import pack, unpack

BLOCK = 64  # weights that share a scale


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
