"""Models on disk with quantized matrices: one safetensors file, read back into the same architecture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from helpers.quantization.stored import Stored, Technique
from helpers.runtime import UserError

ENTRY = "quantized"  # the entry of the file's header that says how each matrix was stored
HEADS = ("head.", "lm_head.", "classifier.")


def matrices(model: nn.Module) -> dict[str, Tensor]:
    """The weights worth quantizing: name -> matrix. Vectors (biases, norms) and the head stay as they are."""
    return {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.dim() >= 2 and not name.startswith(HEADS)
    }


def compress(model: nn.Module, technique: Technique) -> dict[str, Stored]:
    """Every matrix of a model through one technique: name -> what to store."""
    return {name: technique(weights) for name, weights in matrices(model).items()}


def write(path: Path, model: nn.Module, stored: Mapping[str, Stored]) -> int:
    """Write a model with some weights quantized; return the file's size in bytes.

    What is not in `stored` is written as it is.
    """
    unknown = sorted(set(stored) - set(dict(model.named_parameters())))
    if unknown:
        raise UserError(f'The model has no weight "{unknown[0]}".')
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        parts = stored[name].tensors if name in stored else {"": parameter.detach()}
        for part, value in parts.items():
            tensors[f"{name}:{part}" if part else name] = value.cpu().contiguous()
    header = {name: [one.method, list(one.shape), one.settings] for name, one in stored.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={ENTRY: json.dumps(header)})
    return path.stat().st_size


def read(path: Path) -> dict[str, Tensor]:
    """The weights in a file that `write` made, quantized ones restored: name -> tensor.

    Raises:
        UserError: the file is missing, is no safetensors file (a pickle, say), or was not written by `write`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(ENTRY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dictionary
    except FileNotFoundError:
        raise UserError(f"{Path(path).name} is missing.") from None
    except SafetensorError as error:
        raise UserError(f"{Path(path).name} is not a safetensors file ({error}); pickles are not read.") from None
    if header is None:
        raise UserError(f"{Path(path).name} does not say how its weights were quantized.")
    found = {name: value for name, value in tensors.items() if ":" not in name}
    for name, (method, shape, settings) in header.items():
        parts = {key.split(":", 1)[1]: value for key, value in tensors.items() if key.split(":", 1)[0] == name}
        found[name] = Stored(method, tuple(shape), settings, parts).restore()
    return found


@torch.no_grad()
def load(path: Path, model: nn.Module) -> nn.Module:
    """Put the weights of a file into `model`, in place.

    Raises:
        UserError: the file belongs to another architecture.
    """
    weights, parameters = read(path), dict(model.named_parameters())
    for name, parameter in parameters.items():
        if name not in weights:
            raise UserError(f'{Path(path).name} holds no "{name}": it belongs to another model.')
        if weights[name].shape != parameter.shape:
            shapes = f"{tuple(weights[name].shape)} there, {tuple(parameter.shape)} here"
            raise UserError(f'"{name}" has another shape in {Path(path).name} ({shapes}): it belongs to another model.')
        parameter.copy_(weights[name])
    return model
