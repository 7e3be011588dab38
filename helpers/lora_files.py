"""Reads a LoRA adapter's folder (adapter_config.json, adapter_model.safetensors) and checks that it fits its base."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from helpers.runtime import UserError
from helpers.weight_files import wrong_content

WEIGHTS, CONFIG, PICKLE = "adapter_model.safetensors", "adapter_config.json", "adapter_model.bin"
PREFIX = "base_model.model."  # peft's wrappers put this before every parameter's name
BASE = "base_fingerprint"  # our own entry in the file's metadata, which peft ignores


def fingerprint(model: nn.Module, modules_to_save: Sequence[str] = ()) -> str:
    """Return a hash of all weights except those of the adapter and of the `modules_to_save`."""
    found = hashlib.sha256()
    for name, value in sorted((path.replace(".base.", "."), value) for path, value in model.named_parameters()):
        if "lora_" not in name and not any(name.startswith(f"{module}.") for module in modules_to_save):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def read_config(folder: Path) -> dict:
    """Return a LoRA adapter's settings; raise a UserError if the folder holds no LoRA adapter."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder.name} has no {CONFIG}, so it is not an adapter.") from None
    except ValueError:
        raise UserError(f"{CONFIG} in {folder.name} is not valid JSON; save the adapter again.") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or not {"r", "lora_alpha"} <= set(config):
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise UserError(f"{folder.name} holds no LoRA adapter (its peft_type is {kind}).")
    return config


def read_weights(folder: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors by name and the base model's fingerprint ("" if the file has none)."""
    if not (folder / WEIGHTS).is_file():
        pickle = f" but {PICKLE}, a pickle, which can run code when it is opened" * (folder / PICKLE).is_file()
        raise UserError(f"{folder.name} has no {WEIGHTS}{pickle}; save the adapter as safetensors.")
    wrong = wrong_content(folder / WEIGHTS)
    if wrong and "pickle" not in wrong:
        raise UserError(f"{WEIGHTS} in {folder.name} {wrong}")
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get(BASE, "")  # noqa: SIM118
    except SafetensorError:
        raise UserError(f"{WEIGHTS} in {folder.name} is not a safetensors file (a renamed pickle?).") from None


def check_base(model: nn.Module, config: dict, tensors: dict[str, Tensor], made_for: str) -> None:
    """Raise a UserError if the plain model is not the base model that the adapter was trained on.

    Checks that every A (rank, in), B (out, rank) and fully trained tensor fits a parameter of the model. If `made_for`
    is not "", it is the base model's fingerprint, which the frozen weights must match.
    """
    _check_fit(model, tensors, config["r"])
    if made_for and made_for != fingerprint(model, config.get("modules_to_save") or ()):
        raise UserError("This adapter was made for another base model: the frozen weights are not those it grew on.")


def _check_fit(model: nn.Module, tensors: dict[str, Tensor], rank: int) -> None:
    """Raise a UserError if a tensor fits no parameter of the model by name and shape."""
    sizes = {name: tuple(value.shape) for name, value in model.named_parameters(remove_duplicate=False)}
    for key, value in tensors.items():
        path, _, part = key.removeprefix(PREFIX).rpartition(".lora_")
        wanted = sizes.get(f"{path}.weight" if path else key.removeprefix(PREFIX))
        if wanted and path:
            wanted = (rank, wanted[1]) if part == "A.weight" else (wanted[0], rank)
        if wanted is None:
            raise UserError(f"This adapter was made for another base model: there is no {path or key} in this one.")
        if tuple(value.shape) != wanted:
            shapes = f"{key} is {tuple(value.shape)}, where this model needs {wanted}"
            raise UserError(f"This adapter was made for another base model: {shapes}.")
