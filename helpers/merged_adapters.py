"""Merges the folder of a LoRA adapter with its base model, if the base is on this disk, so that lessons can load it.

The update of a weight is alpha / rank * B A (Hu et al. 2021, "LoRA", section 4.1), added without loading a model.
"""

from __future__ import annotations

import math
import shutil
from functools import cache
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from helpers.files import sha256
from helpers.lora_files import PREFIX, WEIGHTS, read_config, read_weights
from helpers.paths import cache_folder, exists, local_path
from helpers.runtime import UserError
from helpers.weight_files import ADAPTER_CONFIG, TEXT_FILES, is_adapter, weight_paths

# With one of these options, the merged weight is not W + scaling * B A.
OTHER = ("use_dora", "rank_pattern", "alpha_pattern", "layer_replication", "alora_invocation_tokens")


def merged_folder(folder: Path, base: Path) -> Path:
    """Return a folder with the adapter merged into its base model; it is written once per adapter and base.

    Args:
        folder: the adapter's folder, in `peft`'s format.
        base: the folder of the model that the adapter was trained on, already checked.

    Raises:
        UserError: when the adapter is not plain LoRA, or does not fit this base.
    """
    config = read_config(folder)
    used = [name for name in OTHER if config.get(name)] + ["bias"] * (config.get("bias", "none") != "none")
    if used:
        raise UserError(f"model: the adapter in {folder} uses {used[0]}, which is not merged here; merge it with peft.")
    adapter, sources = read_weights(folder)[0], weight_paths(base)
    name = "-".join(
        _digest(path, path.stat().st_mtime_ns) for path in (folder / WEIGHTS, folder / ADAPTER_CONFIG, *sources)
    )
    found = cache_folder() / "merged" / name[:100]
    if not (found / "config.json").is_file():
        tensors = {key: value for path in sources for key, value in load_file(path).items()}
        _merge(tensors, adapter, config, folder)
        found.mkdir(parents=True, exist_ok=True)
        save_file(
            {key: value.contiguous() for key, value in tensors.items()}, found / "model.safetensors", {"format": "pt"}
        )
        for file in [*TEXT_FILES[2:], "chat_template.jinja", "config.json"]:  # the last file marks a complete folder
            for place in (folder, base) if file != "config.json" else (base,):
                if (place / file).is_file():
                    shutil.copyfile(place / file, found / file)
                    break
    return found


def base_of(folder: Path) -> Path | None:
    """Return the folder of an adapter's base model, or None if it is not on this disk."""
    if not exists(folder) or not is_adapter(folder) or not (folder / ADAPTER_CONFIG).is_file():
        return None
    try:
        name = read_config(folder).get("base_model_name_or_path")
    except UserError:  # not LoRA, or damaged; `check_adapter` reports it
        return None
    base = local_path(str(name)) if name else None
    return base if base and exists(base) and base.is_dir() else None


@cache
def _digest(path: Path, _changed: int) -> str:
    """Return the beginning of a file's hash; cached in this process until the file changes."""
    return sha256(path)[:12]


def _merge(tensors: dict[str, Tensor], adapter: dict[str, Tensor], config: dict, folder: Path) -> None:
    """Add an adapter's updates to the tensors of its base, in place."""
    rank = config["r"]
    scaling = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    for key, value in adapter.items():
        if key.endswith(".lora_A.weight"):
            name = _place(key.removesuffix(".lora_A.weight") + ".weight", tensors)
            if not name and ".pooler." in key:
                continue  # no lesson uses the pooler, and the base may lack it
            other = adapter.get(key.removesuffix("lora_A.weight") + "lora_B.weight")
            if not name or other is None or not name.endswith(".weight"):
                raise _misfit(folder, key)
            change = scaling * (other.float() @ value.float())  # (out, rank) -> (out, in)
            change = change.T if config.get("fan_in_fan_out") else change
            if change.shape != tensors[name].shape:
                raise _misfit(folder, key)
            tensors[name] = (tensors[name].float() + change).to(tensors[name].dtype)
        elif ".lora_" not in key:  # fully trained; if the base has no such head, a lesson creates a new one
            name = _place(key, tensors)
            if name and tensors[name].shape == value.shape:
                tensors[name] = value.to(tensors[name].dtype)
        elif not key.endswith(".lora_B.weight"):
            raise _misfit(folder, key)


def _place(key: str, tensors: dict[str, Tensor]) -> str:
    """Return the base's name of an adapter's weight, or ""; either name may have the body's prefix, such as "bert."."""
    wanted = key.removeprefix(PREFIX)
    fitting = [name for name in tensors if name == wanted] or [
        name for name in tensors if name.endswith(f".{wanted}") or wanted.endswith(f".{name}")
    ]
    return fitting[0] if len(fitting) == 1 else ""


def _misfit(folder: Path, key: str) -> UserError:
    return UserError(
        f"model: the adapter in {folder} was made for another base model: {key} has no place there; give the base that "
        "it was trained on, or merge it with peft."
    )
