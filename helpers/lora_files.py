"""Read a LoRA adapter's folder (adapter_config.json, adapter_model.safetensors) and check that it fits its base."""

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
PREFIX = "base_model.model."  # where peft's own wrappers keep the model
BASE = "base_fingerprint"  # our own entry in the file's header; peft reads past it


def fingerprint(model: nn.Module, modules_to_save: Sequence[str] = ()) -> str:
    """A hash of all weights but the adapter's and those of the `modules_to_save` in full."""
    found = hashlib.sha256()
    for name, value in sorted((path.replace(".base.", "."), value) for path, value in model.named_parameters()):
        if "lora_" not in name and not any(name.startswith(f"{module}.") for module in modules_to_save):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def read_config(folder: Path) -> dict:
    """A LoRA adapter's settings; a UserError when the folder holds none."""
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
    """The tensors by name, and the fingerprint of the base model they were made for ("" if the file has none)."""
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
    """A UserError unless the plain model is the base that an adapter of these settings and tensors grew on.

    Every A (rank, in), B (out, rank) and whole tensor has its place; the frozen weights are those of `made_for`, a
    fingerprint, where there is one.
    """
    _check_fit(model, tensors, config["r"])
    if made_for and made_for != fingerprint(model, config.get("modules_to_save") or ()):
        raise UserError("This adapter was made for another base model: the frozen weights are not those it grew on.")


def _check_fit(model: nn.Module, tensors: dict[str, Tensor], rank: int) -> None:
    """Every tensor has its place in the model, with the right shape."""
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
