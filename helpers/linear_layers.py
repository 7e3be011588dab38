"""Find, name and replace the linear layers of a transformer, by looking into it and not by its family's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from helpers.models import blocks, config_of
from helpers.runtime import UserError, nearest


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Every linear layer by its path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}


def linear_names(model: nn.Module) -> list[str]:
    """The last parts of all linear layers' paths: what LoRA's `targets` may name."""
    return sorted({path.rpartition(".")[2] for path in linear_layers(model)})


def matching(model: nn.Module, targets: Iterable[str]) -> list[str]:
    """The paths of the linear layers that the names fit, `peft`'s rule; a UserError for a name that fits none."""
    targets, paths = [targets] if isinstance(targets, str) else list(targets), list(linear_layers(model))
    if not targets:
        raise UserError(f"targets is empty; there are: {', '.join(linear_names(model))}.")
    found: set[str] = set()
    for target in targets:
        fits = {path for path in paths if path == target or path.endswith(f".{target}")}
        if not fits:
            names = linear_names(model)
            said = f'No linear layer is called "{target}"; there are: {", ".join(names)}.'
            raise UserError(said + nearest(target, names))
        found |= fits
    return [path for path in paths if path in found]


def sharing(model: nn.Module) -> dict[str, list[str]]:
    """The linear layers whose weight another part of the model uses too: path -> the other parts' paths.

    An output head tied to the embeddings is one. To change the weight of one is to change all of them.
    """
    places: dict[object, list[str]] = {}
    for parent, module in model.named_modules():  # names each module once, so blocks that repeat are no sharing
        for name, child in module._modules.items():
            for parameter in child._parameters.values() if child is not None else ():
                if parameter is not None:
                    places.setdefault(_memory(parameter), []).append(f"{parent}.{name}" if parent else name)
    found = {}
    for path, layer in linear_layers(model).items():
        weight = layer._parameters.get("weight")  # none where it is computed
        others = [] if weight is None else [other for other in places.get(_memory(weight), ()) if other != path]
        if others:
            found[path] = others
    return found


def _memory(parameter: torch.Tensor) -> object:
    """What two parameters have in common if one is a view of all of the other."""
    return id(parameter) if parameter.is_meta or not parameter.numel() else (parameter.device, parameter.data_ptr())


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The module of this name; a UserError that says which there are."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        names = [path for path, _ in model.named_children()]
        raise UserError(f'There is no module "{name}"; there are: {", ".join(names)}.{nearest(name, names)}') from None


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` in the place of the one at `path`."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


@dataclass(frozen=True)
class BlockPaths:
    """The linear layers of a block, by their paths in it.

    Where one layer computes queries, keys and values together (GPT-2), the three paths are the same.
    """

    query: str
    key: str
    value: str
    attention_output: str
    feed_forward_output: str


def block_paths(body: nn.Module) -> BlockPaths:
    """Where this body's blocks keep their linear layers.

    Raises:
        UserError: when a block is not built of attention and feed-forward layers whose names say what they are.
    """
    block = blocks(body)[0]
    layers = dict(_layers(block))
    attention = [path for path in layers if _attends(path)]
    # Only a layer that leads back to the hidden size can be the last of its part.
    widths = (None, config_of(body).hidden_size)
    others = [path for path in layers if path not in attention and _width(layers[path]) in widths]
    if len(attention) < 2 or not others:
        raise _unknown(body)
    *inward, output = attention
    if len(inward) == 1:
        query = key = value = inward[0]
    else:
        query, key, value = (_named(inward, role) for role in ("query", "key", "value"))
    if not (query and key and value):
        raise _unknown(body)
    return BlockPaths(query, key, value, output, others[-1])


def feed_forward_paths(body: nn.Module) -> tuple[list[str], str]:
    """The layers that lead to a block's inner neurons (two where they are gated, as in Llama), and the one back.

    Raises:
        UserError: as `block_paths`.
    """
    outward, layers = block_paths(body).feed_forward_output, dict(_layers(blocks(body)[0]))
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
    paths = block_paths(body)
    return tuple(dict.fromkeys(path.rpartition(".")[2] for path in (paths.query, paths.value)))


def _layers(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Linear layers, and the sequences that somebody put in the place of one."""
    for name, child in module.named_children():
        here = f"{path}.{name}" if path else name
        if isinstance(child, nn.Linear | nn.Sequential):
            yield here, child
        else:
            yield from _layers(child, here)


def _named(paths: list[str], role: str) -> str:
    """The one path whose last name holds the role or its first letter as a word (query, q_proj, q_lin, wq), or ""."""
    fits = [path for path in paths if {role, role[0], f"w{role[0]}"} & set(re.split(r"_|\.", path.rpartition(".")[2]))]
    return fits[0] if len(fits) == 1 else ""


def _attends(path: str) -> bool:
    return "attn" in path.lower() or "attention" in path.lower()


def _width(layer: nn.Module) -> int | None:
    return layer.out_features if isinstance(layer, nn.Linear) else None


def _unknown(body: nn.Module) -> UserError:
    return UserError(
        f"In a {config_of(body).model_type} model, query, key, value and feed-forward layers are not found by "
        "their names; choose a model of another family for this."
    )


def plain_linear(model: Any) -> Any:
    """Replace every `Conv1D` (GPT-2's) in place by an `nn.Linear`: the same numbers, the matrix turned to (out, in).

    `transformers` keeps GPT-2's matrices as (in, out), and would read a file of turned ones without complaint; a
    model that was changed here therefore refuses `save_pretrained`. Any other model comes back untouched.
    """
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, Conv1D)]
    for path, module in found:
        replace_module(model, path, _turned(module))
    if found:
        model.save_pretrained = _refuse
    return model


def _turned(layer: Conv1D) -> nn.Linear:
    inputs, outputs = layer.weight.shape
    linear = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=layer.weight.dtype, device=layer.weight.device)
    with torch.no_grad():
        linear.weight.copy_(layer.weight.T)
        linear.bias.copy_(layer.bias)
    return linear.train(layer.training).requires_grad_(layer.weight.requires_grad)


def _refuse(*_: object, **__: object) -> None:
    raise UserError(
        "This model's matrices were turned for the lesson and must not be saved in its family's format; save its "
        "state_dict, or an adapter."
    )
