"""GPT-2's linear layers as everybody else's, so that what is built for `nn.Linear` finds them."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from helpers.runtime import UserError

__all__ = ["plain_linear"]


def plain_linear(model: nn.Module) -> nn.Module:
    """Put an `nn.Linear` in the place of every `Conv1D`, in place: the same numbers, the matrix turned to (out, in).

    `transformers` keeps GPT-2's matrices as (in, out), and would read a file of turned ones without complaint; a
    model that was changed here therefore refuses `save_pretrained`. Any other model comes back untouched.
    """
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, Conv1D)]
    for path, module in found:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, _turned(module))
    if found:
        model.save_pretrained = _refuse
    return model


def _turned(layer: Conv1D) -> nn.Linear:
    inputs, outputs = layer.weight.shape
    made = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=layer.weight.dtype, device=layer.weight.device)
    with torch.no_grad():
        made.weight.copy_(layer.weight.T)
        made.bias.copy_(layer.bias)
    return made.train(layer.training).requires_grad_(layer.weight.requires_grad)


def _refuse(*_: object, **__: object) -> None:
    raise UserError(
        "This model's matrices were turned for the lesson and must not be saved in its family's format; save its "
        "state_dict, or an adapter."
    )
