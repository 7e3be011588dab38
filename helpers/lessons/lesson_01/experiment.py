"""Lesson 01 takes one block of an encoder apart: its layers by their roles, whatever its family calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from helpers.linear_layers import block_paths, feed_forward_paths
from helpers.models import blocks, config_of
from helpers.runtime import UserError

FAMILIES = ("bert", "roberta", "distilbert")  # each block: attention, norm, feed-forward, norm


@dataclass(frozen=True)
class EncoderBlock:
    """The layers of one block, in the order in which a text meets them."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    mixing: nn.Linear
    attention_norm: nn.LayerNorm
    widening: nn.Linear
    narrowing: nn.Linear
    output_norm: nn.LayerNorm


def encoder_block(model: nn.Module, layer: int) -> EncoderBlock:
    """The parts of block `layer` of an encoder with or without a head.

    Raises:
        UserError: for a family whose blocks are built otherwise.
    """
    family = config_of(model).model_type
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(f"model: a {family} model has other blocks than are taken apart here; choose one of {known}.")
    body: Any = getattr(model, "base_model", model)
    block, paths, (inward, _) = blocks(body)[layer], block_paths(body), feed_forward_paths(body)
    attention_norm, output_norm = (module for module in block.modules() if isinstance(module, nn.LayerNorm))
    linear: Any = block.get_submodule
    return EncoderBlock(
        linear(paths.query),
        linear(paths.key),
        linear(paths.value),
        linear(paths.attention_output),
        attention_norm,
        linear(inward[0]),
        linear(paths.feed_forward_output),
        output_norm,
    )
