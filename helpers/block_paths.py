"""Where a transformer block keeps its linear layers, found by looking into the block, not by its family's name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from helpers.models import blocks
from helpers.runtime import UserError

__all__ = ["Paths", "attention_targets", "feed_forward_paths", "paths_of"]


@dataclass(frozen=True)
class Paths:
    """The linear layers of a block, by their paths in it.

    Where one layer computes queries, keys and values together (GPT-2), its path stands three times.
    """

    query: str
    key: str
    value: str
    attention_output: str
    feed_forward_output: str


def paths_of(body: nn.Module) -> Paths:
    """Where this body's blocks keep their linear layers.

    Raises:
        UserError: when a block is not built of attention and feed-forward layers whose names say what they are.
    """
    block = blocks(body)[0]
    layers = dict(_layers(block))
    attention = [path for path in layers if _attends(path)]
    # Only a layer that leads back to the hidden size can be the last of its part.
    others = [path for path in layers if path not in attention and _width(layers[path]) in (None, _hidden(body))]
    if len(attention) < 2 or not others:
        raise _unknown(body)
    *inward, output = attention
    found = [inward[0]] * 3 if len(inward) == 1 else [_named(inward, role) for role in ("query", "key", "value")]
    if None in found:
        raise _unknown(body)
    return Paths(*found, attention_output=output, feed_forward_output=others[-1])


def feed_forward_paths(body: nn.Module) -> tuple[list[str], str]:
    """The layers that lead to a block's inner neurons (two where they are gated, as in Llama), and the one back.

    Raises:
        UserError: as `paths_of`.
    """
    outward, layers = paths_of(body).feed_forward_output, dict(_layers(blocks(body)[0]))
    neurons = getattr(layers[outward], "in_features", None)
    inward = [path for path, layer in layers.items() if path != outward and not _attends(path)]
    inward = [path for path in inward if _width(layers[path]) == neurons]
    if neurons is None or not inward:
        raise _unknown(body)
    return inward, outward


def attention_targets(body: nn.Module) -> tuple[str, ...]:
    """The ends of the paths of the queries' and the values' layers: the pair that the LoRA paper settles on.

    ("query", "value") for BERT, ("q_proj", "v_proj") for Llama, ("c_attn",) for GPT-2, whose one layer holds both.
    """
    paths = paths_of(body)
    return tuple(dict.fromkeys(path.rpartition(".")[2] for path in (paths.query, paths.value)))


def _layers(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Linear layers, and the sequences that somebody put in the place of one."""
    for name, child in module.named_children():
        here = f"{path}.{name}" if path else name
        if isinstance(child, nn.Linear | nn.Sequential):
            yield here, child
        else:
            yield from _layers(child, here)


def _named(paths: list[str], role: str) -> str | None:
    """The one path whose last name holds the role or its first letter as a word: query, q_proj, q_lin, wq."""
    fits = [path for path in paths if {role, role[0], f"w{role[0]}"} & set(re.split(r"_|\.", path.rpartition(".")[2]))]
    return fits[0] if len(fits) == 1 else None


def _attends(path: str) -> bool:
    return "attn" in path.lower() or "attention" in path.lower()


def _width(layer: nn.Module) -> int | None:
    return layer.out_features if isinstance(layer, nn.Linear) else None


def _hidden(body: nn.Module) -> int:
    return body.config.hidden_size


def _unknown(body: nn.Module) -> UserError:
    return UserError(
        f"In a {body.config.model_type} model, query, key, value and feed-forward layers are not found by their names; "
        "choose a model of another family for this."
    )
