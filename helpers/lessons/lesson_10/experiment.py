"""Lesson 10, whole-number arithmetic: a model whose linear layers multiply int8, and how long a call takes."""

from __future__ import annotations

import copy
import timeit
import warnings
from collections.abc import Callable

import torch
from torch import nn

from helpers.runtime import check_number


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
