"""Fewer bits per weight: quantizers, packing, pruning, and files that really hold so few bits.

The 4-bit layer and bitsandbytes are in `four_bit`; QLoRA's training is in `helpers.qlora`.
"""

from helpers.quantization.packing import pack, unpack
from helpers.quantization.pruning import hold_at_zero, magnitude_mask, prune_neurons
from helpers.quantization.quantizers import (
    affine,
    blocks,
    double_dequantize,
    double_quantize,
    dynamic_code,
    fp4_code,
    k_means,
    nf4_code,
    symmetric,
    to_code_book,
)
from helpers.quantization.storage import (
    Stored,
    Technique,
    clustered,
    code_book,
    compress,
    load,
    matrices,
    pruned,
    read,
    uniform,
    write,
)

__all__ = [
    "Stored",
    "Technique",
    "affine",
    "blocks",
    "clustered",
    "code_book",
    "compress",
    "double_dequantize",
    "double_quantize",
    "dynamic_code",
    "fp4_code",
    "hold_at_zero",
    "k_means",
    "load",
    "magnitude_mask",
    "matrices",
    "nf4_code",
    "pack",
    "prune_neurons",
    "pruned",
    "read",
    "symmetric",
    "to_code_book",
    "uniform",
    "unpack",
    "write",
]
