"""A LoRA adapter as a folder in `peft`'s own format: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from helpers.files import write_json
from helpers.lora import inject, lora_layers
from helpers.runtime import UserError
from helpers.weight_files import listed, wrong_content

WEIGHTS, CONFIG, PICKLE = "adapter_model.safetensors", "adapter_config.json", "adapter_model.bin"
PREFIX = "base_model.model."  # where peft's own wrappers keep the model
BASE = "base_fingerprint"  # our own entry in the file's header; peft reads past it
# What peft's LoRA can do and LoRALinear cannot: an adapter that uses it would be loaded wrongly.
UNKNOWN = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias")


def adapter_tensors(model: nn.Module, modules_to_save: Sequence[str] = ()) -> dict[str, Tensor]:
    """What an adapter file holds: A (rank, in) and B (out, rank) of each layer, and the modules trained in full."""
    found = {}
    for path, layer in lora_layers(model).items():
        found[f"{PREFIX}{path}.lora_A.weight"] = layer.lora_A
        found[f"{PREFIX}{path}.lora_B.weight"] = layer.lora_B
    for name in modules_to_save:
        for key, value in model.get_submodule(name).state_dict().items():
            found[f"{PREFIX}{name}.{key}"] = value
    return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}


def save_adapter(model: nn.Module, folder: Path, *, modules_to_save: Sequence[str] = (), base_name: str = "") -> int:
    """Write the LoRA layers, and the `modules_to_save` in full, so that `PeftModel.from_pretrained` loads them.

    Returns the bytes written.

    Raises:
        UserError: when there is nothing to save, or it is merged into the weights.
    """
    layers = lora_layers(model)
    if not layers:
        raise UserError("This model has no LoRA layers to save.")
    if any(layer.original is not None for layer in layers.values()):
        raise UserError("The adapter is merged into the weights; unmerge it before saving.")
    folder = Path(folder)
    write_json(folder / CONFIG, _config(layers, modules_to_save, base_name))
    header = {"format": "pt", BASE: fingerprint(model, modules_to_save)}
    save_file(adapter_tensors(model, modules_to_save), folder / WEIGHTS, metadata=header)
    return sum((folder / name).stat().st_size for name in (CONFIG, WEIGHTS))


def load_adapter(model: nn.Module, folder: Path) -> list[str]:
    """Put a saved adapter into a model without LoRA layers; returns the paths of the adapted layers.

    Raises:
        UserError: before anything is changed, when the folder is not a LoRA adapter in safetensors, or it was
            made for another base model.
    """
    config = read_config(Path(folder))
    used = [name for name in UNKNOWN if config.get(name)] + ["bias"] * (config.get("bias", "none") != "none")
    if used:
        raise UserError(f"This adapter uses {used[0]}, which LoRALinear does not know; load it with peft.")
    tensors, made_for = read_weights(Path(folder))
    check_base(model, config, tensors, made_for)
    _check_whole(tensors)
    paths = [key.removeprefix(PREFIX).removesuffix(".lora_A.weight") for key in tensors if key.endswith("A.weight")]
    options = {"rank": config["r"], "alpha": config["lora_alpha"], "dropout": config.get("lora_dropout", 0.0)}
    inject(model, paths, **options, modules_to_save=config.get("modules_to_save") or ())
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for key, value in tensors.items():
            parameters[_own_name(key)].copy_(value)
    return paths


def fingerprint(model: nn.Module, modules_to_save: Sequence[str] = ()) -> str:
    """A hash of all weights but the adapter's and those of the `modules_to_save` in full."""
    found = hashlib.sha256()
    for name, value in sorted((path.replace(".base.", "."), value) for path, value in model.named_parameters()):
        if "lora_" not in name and not any(name.startswith(f"{module}.") for module in modules_to_save):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _config(layers: dict, modules_to_save: Sequence[str], base_name: str) -> dict[str, object]:
    one = next(iter(layers.values()))
    rank = len(one.lora_A)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_name or None,
        "r": rank,
        "lora_alpha": one.scaling * rank,
        "lora_dropout": one.dropout.p,
        "target_modules": list(layers),
        "modules_to_save": list(modules_to_save) or None,
        "bias": "none",
        "inference_mode": True,
    }


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


def _check_whole(tensors: dict[str, Tensor]) -> None:
    """Every A has its B, every B its A, and all numbers are finite."""
    halves = {key for key in tensors if key.endswith((".lora_A.weight", ".lora_B.weight"))}
    alone = {key for key in halves if _other_half(key) not in halves}
    if alone or not halves:
        what = f"has only one half of its layers ({listed(alone)})" if alone else f"holds no LoRA layer ({WEIGHTS})"
        raise UserError(f"This adapter {what}; each needs a lora_A and a lora_B, so save the adapter again.")
    wrong = [key for key, value in tensors.items() if not torch.isfinite(value.float()).all()]
    if wrong:
        raise UserError(
            f"This adapter holds numbers that are not finite ({listed(wrong)}): its training diverged, or the file is "
            "damaged; take an earlier checkpoint."
        )


def _other_half(key: str) -> str:
    """The name of A's B, and of B's A."""
    path, _, part = key.rpartition(".lora_")
    return f"{path}.lora_{'B' if part.startswith('A') else 'A'}.weight"


def _own_name(key: str) -> str:
    """peft's name of a tensor -> the name of our parameter."""
    name = key.removeprefix(PREFIX)
    return name.removesuffix(".weight") if ".lora_" in name else name
