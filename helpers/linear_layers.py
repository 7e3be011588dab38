"""Finds, names and replaces the linear layers of a transformer by inspecting its modules, for any model family."""

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
    """Return all linear layers of the model as path -> layer."""
    return {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}


def linear_names(model: nn.Module) -> list[str]:
    """Return the last components of all linear layers' paths: the names that LoRA's `targets` may contain."""
    return sorted({path.rpartition(".")[2] for path in linear_layers(model)})


def matching(model: nn.Module, targets: Iterable[str]) -> list[str]:
    """Return the paths of the linear layers that match `targets` by `peft`'s rule. Every target must match one."""
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
    """Return the linear layers that share their weight with other modules: path -> the other modules' paths.

    One example is an output head tied to the embeddings. A change of a shared weight changes all these modules.
    """
    places: dict[object, list[str]] = {}
    for parent, module in model.named_modules():  # lists a reused block once, so reuse is not sharing
        for name, child in module._modules.items():
            for parameter in child._parameters.values() if child is not None else ():
                if parameter is not None:
                    places.setdefault(_memory(parameter), []).append(f"{parent}.{name}" if parent else name)
    found = {}
    for path, layer in linear_layers(model).items():
        weight = layer._parameters.get("weight")  # missing if a parametrization computes it
        others = [] if weight is None else [other for other in places.get(_memory(weight), ()) if other != path]
        if others:
            found[path] = others
    return found


def _memory(parameter: torch.Tensor) -> object:
    """Return a key that is the same for two parameters if one is a view of the whole other."""
    return id(parameter) if parameter.is_meta or not parameter.numel() else (parameter.device, parameter.data_ptr())


def submodule(model: nn.Module, name: str) -> nn.Module:
    """Return the module at path `name`, or raise a UserError that lists the model's direct children."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        names = [path for path, _ in model.named_children()]
        raise UserError(f'There is no module "{name}"; there are: {", ".join(names)}.{nearest(name, names)}') from None


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Replace the module at `path` by `module`."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


@dataclass(frozen=True)
class BlockPaths:
    """The paths of a block's linear layers, relative to the block.

    If one layer computes queries, keys and values together (GPT-2), these three paths are the same.
    """

    query: str
    key: str
    value: str
    attention_output: str
    feed_forward_output: str


def block_paths(body: nn.Module) -> BlockPaths:
    """Return the paths of the linear layers in each of this body's blocks.

    Raises:
        UserError: when the names in a block do not identify its attention and feed-forward layers.
    """
    block = blocks(body)[0]
    layers = dict(_layers(block))
    attention = [path for path in layers if _attends(path)]
    # Only a layer whose output has the hidden size can be the last layer of the feed-forward part.
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
    """Return the paths of the layers into a block's inner neurons (two if gated, as in Llama), and of the output layer.

    Raises:
        UserError: as `block_paths`, or when no layer leads to the inner neurons.
    """
    outward, layers = block_paths(body).feed_forward_output, dict(_layers(blocks(body)[0]))
    neurons = getattr(layers[outward], "in_features", None)
    inward = [path for path, layer in layers.items() if path != outward and not _attends(path)]
    inward = [path for path in inward if _width(layers[path]) == neurons]
    if neurons is None or not inward:
        raise _unknown(body)
    return inward, outward


def attention_targets(body: nn.Module) -> tuple[str, ...]:
    """Return the last path components of the query and value layers, the pair that the LoRA paper chooses.

    ("query", "value") for BERT, ("q_proj", "v_proj") for Llama, ("c_attn",) for GPT-2, where one layer computes both.
    """
    paths = block_paths(body)
    return tuple(dict.fromkeys(path.rpartition(".")[2] for path in (paths.query, paths.value)))


def _layers(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, layer) for each linear layer, and for each `nn.Sequential` that has replaced one."""
    for name, child in module.named_children():
        here = f"{path}.{name}" if path else name
        if isinstance(child, nn.Linear | nn.Sequential):
            yield here, child
        else:
            yield from _layers(child, here)


def _named(paths: list[str], role: str) -> str:
    """Return the only path whose last component names the role (query, q_proj, q_lin, wq), or "" if not one path."""
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
    """Replace every `Conv1D` (used by GPT-2) in place by an `nn.Linear` with the weight transposed to (out, in).

    `transformers` stores GPT-2's weights as (in, out) and would load a file with transposed ones without an error.
    A model that was changed here therefore refuses `save_pretrained`. Other models are returned unchanged.
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
