"""Fewer bits per weight: levels, code books, clusters, pruning, and files that really hold so few bits."""

from helpers.quantization.clusters import k_means
from helpers.quantization.code_books import (
    double_dequantize,
    double_quantize,
    dynamic_code,
    fp4_code,
    nf4_code,
    to_code_book,
)
from helpers.quantization.files import compress, load, matrices, read, write
from helpers.quantization.inputs import blocks
from helpers.quantization.library import quiet_bitsandbytes
from helpers.quantization.packing import pack, unpack
from helpers.quantization.pruning import hold_at_zero, magnitude_mask, prune_neurons
from helpers.quantization.stored import Stored, Technique, clustered, code_book, pruned, uniform
from helpers.quantization.uniform import affine, symmetric

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
    "quiet_bitsandbytes",
    "read",
    "symmetric",
    "to_code_book",
    "uniform",
    "unpack",
    "write",
]
