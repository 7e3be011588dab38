"""LoRA: a frozen linear layer plus a trained low-rank product of two matrices.

           x  (batch, seq, in)
      _____|_______
     |             |
  W (out, in)   A (rank, in)      W is frozen, A and B are trained
     |             |
     |          B (out, rank)     initialized to 0, so the output is unchanged before the first step
     |             |
     |        x alpha / rank
     |_____ + _____|
           |
        (batch, seq, out)

Source: Hu et al. 2021, "LoRA: Low-rank adaptation of large language models".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from helpers.linear_layers import linear_layers, matching, replace_module, sharing, submodule
from helpers.runtime import UserError, check_number


class LoRALinear(nn.Module):
    """W x + (alpha / rank) B A x, with W (and its bias) frozen; equation 3 of the paper.

    Args:
        base: the layer to adapt; it is frozen in place.
        rank: from 1 to the smaller side of W.
        alpha: the update is scaled by alpha / rank, so that one learning rate suits several ranks.
        dropout: the share of x that is dropped before A in training.

    Raises:
        UserError: when the rank is out of range for this layer.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        check_number("rank", rank, 1, min(base.in_features, base.out_features), integer=True)
        self.base = base.requires_grad_(False)
        self.scaling = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # nn.Linear's default initialization
        self.original = None  # type: Tensor | None  # the weight before the merge

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in). Returns (..., out)."""
        if self.original is not None:
            return self.base(x)
        thin = nn.functional.linear(self.dropout(x), self.lora_A)  # (..., in) -> (..., rank)
        return self.base(x) + nn.functional.linear(thin, self.lora_B) * self.scaling  # (..., out)

    def change(self) -> Tensor:
        """Return the update that the LoRA path adds to the weight: (out, in), with a rank of at most `rank`."""
        return self.lora_B @ self.lora_A * self.scaling

    @torch.no_grad()
    def merge(self) -> None:
        """Add the update to the weight: same outputs, at the cost of a plain layer. A second call does nothing."""
        if self.original is None:
            self.original = self.base.weight.clone()
            self.base.weight += self.change()

    @torch.no_grad()
    def unmerge(self) -> None:
        """Restore the exact weight from a copy, because subtracting the update would leave rounding errors."""
        if self.original is not None:
            self.base.weight.copy_(self.original)
            self.original = None


def inject(
    model: nn.Module,
    targets: Sequence[str],
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    modules_to_save: Sequence[str] = (),
    layer: type[LoRALinear] | None = None,
) -> list[str]:
    """Freeze the model, then replace every linear layer that matches `targets` by a LoRA layer.

    Args:
        targets: paths or ends of paths, by `peft`'s rule: "query" means every layer whose path ends in ".query".
        modules_to_save: modules whose parameters are all trained, such as a new head.
        layer: the class to use; None takes `LoRALinear`.

    Returns the paths of the layers that were replaced.

    Raises:
        UserError: when a target matches no linear layer, the rank is out of range, or LoRA could not be merged: the
            layer's weight is shared (a tied head), not floating point, or parametrized. The model is unchanged then.
    """
    check_number("alpha", alpha, 1e-9, 1e9)
    check_number("dropout", dropout, 0.0, 0.999)
    if lora_layers(model):
        raise UserError("This model has LoRA layers already; load the model anew.")
    paths = matching(model, targets)
    check_rank(model, paths, rank)
    check_mergeable(model, paths)
    learning = [submodule(model, name) for name in modules_to_save]
    model.requires_grad_(False)
    layers = linear_layers(model)
    for path in paths:
        base = layers[path]
        adapted = (layer or LoRALinear)(base, rank, alpha, dropout).to(base.weight.device).train(base.training)
        replace_module(model, path, adapted)
    for module in learning:
        module.requires_grad_(True)
    return paths


def merge(model: nn.Module) -> nn.Module:
    """Merge every LoRA layer.

    Raises:
        UserError: when a weight is one that `inject` would refuse, such as a shared one. No weight is changed then.
    """
    layers = lora_layers(model)
    check_mergeable(model, list(layers))
    for layer in layers.values():
        layer.merge()
    return model


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Return all LoRA layers of the model as path -> layer."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoRALinear)}


def check_mergeable(model: nn.Module, paths: Sequence[str]) -> None:
    """Raise a UserError if LoRA cannot be merged into one of these layers without changing other parts of the model.

    Args:
        paths: the paths of linear layers, or of the LoRA layers that wrap them.
    """
    shared = sharing(model)
    for path in paths:
        layer = model.get_submodule(path) if path else model
        base, own = (layer.base, f"{path}.base") if isinstance(layer, LoRALinear) else (layer, path)
        if parametrize.is_parametrized(base):
            raise UserError(
                f'The weight of the linear layer "{path}" is computed from other parameters (torch\'s parametrize), so '
                "LoRA cannot be merged into it; call nn.utils.parametrize.remove_parametrizations on it first."
            )
        weight = base.get_parameter("weight")
        if not weight.is_floating_point():
            raise UserError(
                f'The weight of the linear layer "{path}" is stored as {weight.dtype} (quantized), so LoRA cannot '
                "be merged into it; use peft for quantized layers, or a model in float32."
            )
        if own in shared:
            raise UserError(
                f'The linear layer "{path}" shares its weight with {", ".join(shared[own])} (a tied weight), so '
                f"merging LoRA into it would change both; leave {path} out of targets, or untie it first: "
                f"model.{path}.weight = nn.Parameter(model.{path}.weight.detach().clone()) and "
                "model.config.tie_word_embeddings = False."
            )


def check_rank(model: nn.Module, paths: Sequence[str], rank: int) -> None:
    """Raise a UserError if the rank is larger than the smaller side of one of these linear layers."""
    layers = linear_layers(model)
    for path in paths:
        smaller_side = min(layers[path].in_features, layers[path].out_features)
        check_number("rank", rank, 1, smaller_side, integer=True)
