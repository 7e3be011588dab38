"""Models of the hub: describes a model, checks whether this machine can train it, and downloads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from helpers.hub.download import fetch
from helpers.pretrained import check_model_folder

HUB_NAME = re.compile(r"(?!.*(--|\.\.))\w([\w.-]*\w)?/\w([\w.-]*\w)?", re.ASCII)
BYTES_PER_PARAMETER = 16  # full fine-tuning with Adam: weight, gradient and two optimizer states, 4 bytes each
ROOM = 1.5  # factor on these bytes, for activations and for other programs on the machine


@dataclass(frozen=True)
class HubModel:
    """A model on the hub. millions: its parameters in millions; megabytes: the size of the download."""

    name: str
    licence: str
    millions: float
    megabytes: int
    revision: str | None = None

    @property
    def bytes_to_train(self) -> int:
        """A rough estimate of the memory for full fine-tuning; `helpers.memory` has the exact formula."""
        return int(self.millions * 1e6 * BYTES_PER_PARAMETER * ROOM)


def is_hub_name(name: str) -> bool:
    """Whether `name` has the form owner/name."""
    return HUB_NAME.fullmatch(name) is not None


def model_folder(name: str, revision: str | None = None) -> Path:
    """Return the folder of a hub model, which is downloaded once.

    Raises:
        UserError: the model cannot be downloaded, or has no safetensors weights.
    """
    return check_model_folder(fetch(name, "model", revision=revision))


def fits(model: HubModel) -> bool:
    """Whether the free memory is enough to train the model; prints a notice if not."""
    if model.bytes_to_train <= free_memory():
        return True
    print(f"{model.name} needs more memory to be trained than is free; the pocket model takes its place.")
    return False


def free_memory() -> int:
    """Return the free bytes of the training device: the CUDA device if there is one, else main memory."""
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
