"""One block of an encoder by the roles of its parts, whatever its family calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from helpers.models import config_of
from helpers.runtime import UserError

BERT = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
)  # fmt: skip
DISTILBERT = (
    "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
    "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm",
)  # fmt: skip
FAMILIES = {"bert": ("encoder.layer", BERT), "roberta": ("encoder.layer", BERT)}
FAMILIES |= {"distilbert": ("transformer.layer", DISTILBERT)}


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
    blocks, paths = FAMILIES[family]
    body: Any = getattr(model, "base_model", model)
    return EncoderBlock(*(body.get_submodule(f"{blocks}.{layer}.{path}") for path in paths))
