"""Models of the hub: what one is, whether this machine can train it, and its folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from helpers.hub.download import fetch
from helpers.pretrained import check_model_folder

HUB_NAME = re.compile(r"(?!.*(--|\.\.))\w([\w.-]*\w)?/\w([\w.-]*\w)?", re.ASCII)
BYTES_PER_PARAMETER = 16  # of training everything with Adam: weight, gradient, two states, four bytes each
ROOM = 1.5  # how much more than that has to be free: activations, and what else the machine does


@dataclass(frozen=True)
class HubModel:
    """A model on the hub. millions: of parameters; megabytes: to download."""

    name: str
    licence: str
    millions: float
    megabytes: int
    revision: str | None = None

    @property
    def bytes_to_train(self) -> int:
        """Memory that training every parameter takes, roughly: the exact formula is `helpers.memory`'s."""
        return int(self.millions * 1e6 * BYTES_PER_PARAMETER * ROOM)


def is_hub_name(name: str) -> bool:
    """Whether this has the form owner/name."""
    return HUB_NAME.fullmatch(name) is not None


def model_folder(name: str, revision: str | None = None) -> Path:
    """The folder of a hub model, downloaded once.

    Raises:
        UserError: it cannot be downloaded, or holds no weights that are safe to open.
    """
    return check_model_folder(fetch(name, "model", revision=revision))


def fits(model: HubModel) -> bool:
    """Whether the model can be trained in the free memory; says so when it cannot."""
    if model.bytes_to_train <= free_memory():
        return True
    print(f"{model.name} needs more memory to be trained than is free; the pocket model takes its place.")
    return False


def free_memory() -> int:
    """Bytes that are free where training happens: on the CUDA device, else in main memory."""
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
