"""The exercises of lesson 09: the size of an adapter, rsLoRA's scale, and a head that is left behind."""

from __future__ import annotations

import math
from collections.abc import Callable

from helpers.checks import Wrong, attempted, exercise, expect_calls

SHAPES = [(128, 128)] * 4 + [(512, 128), (128, 512)]


@exercise(
    "09.1",
    hints=[
        "Each layer brings an A of rank x inputs and a B of outputs x rank.",
        "A layer of shape (outputs, inputs) brings rank * (outputs + inputs) numbers. A float32 number takes 4 bytes.",
        "return sum(4 * rank * (outputs + inputs) for outputs, inputs in shapes)",
    ],
)
def adapter_bytes(answer: Callable) -> None:
    """answer(shapes, rank): the bytes of all A and B in float32; shapes: (outputs, inputs) of each layer."""
    cases = [
        ((shapes, rank), 4 * rank * sum(sum(shape) for shape in shapes))
        for shapes, rank in ((SHAPES[:1], 1), (SHAPES, 8), ([(3, 5)], 2))
    ]
    expect_calls(answer, "adapter_bytes", cases)


@exercise(
    "09.2",
    hints=[
        "LoRA scales by alpha / rank, rsLoRA by alpha / sqrt(rank).",
        "Look for the alpha of LoRA, call it a, for which a / rank equals alpha / sqrt(rank).",
        "return alpha * math.sqrt(rank)",
    ],
)
def same_scale(answer: Callable) -> None:
    """answer(alpha, rank): the alpha with which plain LoRA computes what rsLoRA computes with `alpha`."""
    cases = [((alpha, rank), alpha * math.sqrt(rank)) for alpha, rank in ((16, 1), (16, 4), (8, 32))]
    expect_calls(answer, "same_scale", cases, tolerance=1e-3)


@exercise(
    "09.3",
    hints=[
        "What is in the file? Look at the names of the saved tensors: what would the model need besides them?",
        "The head is no LoRA layer, and peft writes only what its config knows of. One setting names modules that are "
        "trained and saved in full.",
        'LoraConfig(r=8, lora_alpha=16, target_modules=targets, modules_to_save=["head"])',
    ],
)
def config_with_head(answer: object) -> None:
    """answer: a LoraConfig whose adapters hold the head as well."""
    from peft import LoraConfig

    config = attempted(answer)
    if not isinstance(config, LoraConfig):
        raise Wrong(f"it should be a LoraConfig, not {type(config).__name__}")
    targets = config.target_modules or ()
    if "head" in ([targets] if isinstance(targets, str) else targets):
        raise Wrong("the head is new and has to be learned in full: a low-rank change of random numbers is not enough")
    if "head" not in (config.modules_to_save or ()):
        raise Wrong(f"the head is still left behind: modules_to_save is {config.modules_to_save}")
    if not targets:
        raise Wrong("target_modules is empty now: which layers get an adapter?")
