"""What `peft` lets pass in silence: names that fit nothing, an adapter from another base, a pickle.

`peft` (0.21) refuses a target list only when *none* of its names fits. A misspelt name beside right ones, a misspelt
module to save, a rank above the matrix's size, other frozen weights of the same shape and a pickle are all accepted.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from helpers.lora import check_rank, matching, submodule
from helpers.lora_files import BASE, WEIGHTS, check_base, fingerprint, read_config, read_weights

__all__ = ["check_config", "check_folder", "stamp"]


def check_config(model: nn.Module, config) -> list[str]:
    """The paths that a `LoraConfig` with a list of names adapts in a plain model.

    Raises:
        UserError: for a name that fits no linear layer, a rank that a layer is too small for, or a module to save
            that is not there.
    """
    named = config.target_modules or ()
    paths = matching(model, [named] if isinstance(named, str) else sorted(named))
    check_rank(model, paths, config.r)
    for name in config.modules_to_save or ():
        submodule(model, name)
    return paths


def stamp(folder: Path, base: nn.Module) -> None:
    """Note in the header of a saved adapter's file which frozen weights it grew on; `peft` reads past it."""
    tensors, _ = read_weights(Path(folder))
    trained = tuple(read_config(Path(folder)).get("modules_to_save") or ())
    save_file(tensors, Path(folder) / WEIGHTS, metadata={"format": "pt", BASE: fingerprint(base, trained)})


def check_folder(folder: Path, base: nn.Module) -> None:
    """Look at an adapter's folder before `PeftModel.from_pretrained` puts it onto the plain model `base`.

    Raises:
        UserError: when it is no LoRA adapter in safetensors, or it was made for another base model.
    """
    config = read_config(Path(folder))
    tensors, made_for = read_weights(Path(folder))
    thin = {name: value for name, value in tensors.items() if "lora_magnitude" not in name}  # DoRA's fits if A and B do
    check_base(base, config, thin, made_for)
