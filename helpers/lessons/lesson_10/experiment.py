"""Lesson 10: GPTQ with what its exercise asks for, what a GGUF file holds, int8 copies, and how long a call takes."""

from __future__ import annotations

import copy
import timeit
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from helpers.quantization.quantizers import affine
from helpers.reference import recorded
from helpers.runtime import check_number

DIFFERENCES = {  # of the recap: quantity -> the first way and the second, and the endings of their metrics
    "accuracy": [
        ("4 bits: NF4; float32", "nf4_4", "float32"),
        ("3 bits: symmetric blocks; affine blocks", "uniform_block_3", "affine_block_3"),
        ("2 bits: affine blocks; symmetric blocks", "affine_block_2", "uniform_block_2"),
        ("2 bits: affine blocks; k-means", "affine_block_2", "clusters_2"),
        ("2 bits: QAT; the same pass in float32, then rounding", "qat_2", "dense_then_2"),
        (
            "70 % of the weights pruned, trained again; nothing pruned, trained again",
            "smallest_weights_trained_again_70",
            "dense",
        ),
        ("about 30 % of all weights gone: smallest weights; neurons", "smallest_weights_30", "whole_neurons_75"),
    ],
    "perplexity": [
        ("4 bits: affine blocks; NF4", "affine_block_4", "nf4_4"),
        ("4 bits: NF4; E2M1", "nf4_4", "e2m1_4"),
        ("3 bits: symmetric blocks; affine blocks (perplexity)", "uniform_block_3", "affine_block_3"),
        ("2 bits: affine blocks; k-means (perplexity)", "affine_block_2", "clusters_2"),
        ("3 bits: GPTQ; rounding to nearest", "gptq_linear_3", "nearest_linear_3"),
        ("3 bits: AWQ; rounding to nearest", "awq_linear_3", "nearest_linear_3"),
        ("3 bits: GPTQ calibrated on one text; on all texts", "gptq_linear_3_one_text", "gptq_linear_3"),
        ("outlier of 100 times: int8, static scales; float32", "int8_planted_static", "float32"),
        (
            "outlier of 100 times: int8, static scales, SmoothQuant; float32",
            "int8_planted_smoothquant_static",
            "float32",
        ),
        ("outlier of 100 times: int8, mixed precision; float32", "int8_planted_mixed_precision", "float32"),
    ],
}
Spread = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]


def spread_error(block: Tensor, rounded: Tensor, upper: Tensor, at: int) -> tuple[Tensor, Tensor]:
    """The block with the error of column `at` worked into the columns after it, and that error (out,).

    Args:
        block: (out, columns), weights of which the columns before `at` are finished.
        rounded: (out,), what column `at` became.
        upper: (columns, columns), this block's part of U, where U^T U is the inverse of the Gram matrix.

    Source: Frantar et al. 2022, "GPTQ", equation 2 and algorithm 1.
    """
    error = (block[:, at] - rounded) / upper[at, at]
    block = block.clone()
    block[:, at + 1 :] -= torch.outer(error, upper[at, at + 1 :])
    return block, error


def gptq(weights: Tensor, gram: Tensor, bits: int, spread: Spread, block_size: int = 64) -> Tensor:
    """The matrix rounded column by column; `spread` works each column's error into the later columns. (out, in)"""
    damped = gram.double() + 0.01 * gram.diagonal().mean() * torch.eye(len(gram))
    upper = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True).float()  # upper.T @ upper is the inverse
    rest, done = weights.clone(), []
    for first in range(0, weights.shape[1], block_size):
        end = first + block_size
        block, inside, errors = rest[:, first:end], upper[first:end, first:end], []
        _, scale, zero = affine(block, bits, "channel")  # of this block's weights, as they are by now
        for at in range(block.shape[1]):
            codes = (torch.round(block[:, at] / scale[:, 0]) + zero[:, 0]).clamp(0, 2**bits - 1)
            done.append((codes - zero[:, 0]) * scale[:, 0])
            block, error = spread(block, done[-1], inside, at)
            errors.append(error)
        rest[:, end:] -= torch.stack(errors, dim=1) @ upper[first:end, end:]
    return torch.stack(done, dim=1)


def best_by_seed(titles: Mapping[str, str]) -> list[str]:
    """For each seed of the reference the title whose metric is the smallest; [] where one was not measured.

    titles: metric -> title.
    """
    found = {title: recorded("10", metric) for metric, title in titles.items()}
    seeds = range(min(map(len, found.values()), default=0))
    return [min(found, key=lambda title: found[title][at]) for at in seeds]


def ratios(metric: str, other: str) -> list[float]:
    """For each seed of the reference one metric over another; [] where they were not measured."""
    return [one / another for one, another in zip(recorded("10", metric), recorded("10", other), strict=False)]


def contents(path: Path, decode: Callable[[Any], Tensor]) -> dict[str, float]:
    """What a GGUF file holds: weights and bytes by type, and how many Q4_1 tensors `decode` gives as `gguf` does."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    found: dict[str, float] = dict.fromkeys(("weights_all", "bytes_all", "count_q4_1", "equal_q4_1"), 0.0)
    for tensor in GGUFReader(path).tensors:
        kind = tensor.tensor_type.name.lower()
        for key in (kind, "all"):
            found[f"weights_{key}"] = found.get(f"weights_{key}", 0.0) + float(tensor.n_elements)
            found[f"bytes_{key}"] = found.get(f"bytes_{key}", 0.0) + float(tensor.n_bytes)
        if kind == "q4_1":
            right = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type)).flatten()
            found["count_q4_1"] += 1
            found["equal_q4_1"] += torch.equal(decode(tensor.data).flatten(), right)
    return found


def int8_copy(model: nn.Module) -> nn.Module:
    """A copy whose linear layers keep int8 weights, and quantize what they read at each call.

    This is PyTorch's dynamic quantization; it runs on the CPU only.
    """
    with warnings.catch_warnings():
        # Both announce that this moves to another package (torchao) in a later PyTorch; here the version is fixed.
        warnings.filterwarnings("ignore", message="torch.ao.quantization is deprecated", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
        return torch.ao.quantization.quantize_dynamic(copy.deepcopy(model).cpu().eval(), {nn.Linear}, dtype=torch.qint8)


@torch.inference_mode()
def fastest_seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """The shortest of `repeats` timings, the one that other work disturbed least; one call before them warms up."""
    check_number("repeats", repeats, 1, 10_000, integer=True)
    call()
    return min(timeit.repeat(call, number=1, repeat=repeats))
