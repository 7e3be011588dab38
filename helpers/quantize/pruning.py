"""Weights that are not there: the smallest ones set to zero, or whole neurons taken out.

Source: Han et al. 2015, "Learning both weights and connections"; Li et al. 2017, "Pruning filters for efficient
convnets", for the structured kind.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from helpers.models import blocks as transformer_blocks
from helpers.quantize.inputs import check_weights
from helpers.runtime import UserError, check_number

FEED_FORWARD = (("intermediate.dense", "output.dense"), ("ffn.lin1", "ffn.lin2"))  # BERT, DistilBERT


def magnitude_mask(weights: Tensor, sparsity: float) -> Tensor:
    """Which weights stay: all but the smallest share `sparsity`. Same shape, True for what stays."""
    check_number("sparsity", sparsity, 0.0, 1.0)
    sizes = check_weights(weights).detach().abs().flatten()
    mask = torch.ones_like(sizes, dtype=torch.bool)
    mask[sizes.argsort(stable=True)[: round(sparsity * len(sizes))]] = False
    return mask.reshape(weights.shape)


def hold_at_zero(model: nn.Module, masks: Mapping[str, Tensor]) -> list:
    """Keep pruned weights at zero while the rest trains: their gradient is zero, so AdamW leaves them alone.

    Returns the hooks' handles; `handle.remove()` lets the weights move again.
    """
    parameters = dict(model.named_parameters())
    missing = sorted(set(masks) - set(parameters))
    if missing:
        raise UserError(f'The model has no weight "{missing[0]}".')
    return [parameters[name].register_hook(lambda gradient, mask=mask: gradient * mask) for name, mask in masks.items()]


def neuron_sizes(inner: nn.Linear, outer: nn.Linear) -> Tensor:
    """How much each inner neuron can say: the length of its weights in, times that of its weights out. (neurons,)"""
    return inner.weight.detach().norm(dim=1) * outer.weight.detach().norm(dim=0)


def keep_neurons(inner: nn.Linear, outer: nn.Linear, kept: Tensor) -> tuple[nn.Linear, nn.Linear]:
    """Two smaller layers that hold only the neurons `kept` (their numbers): rows of one, columns of the other."""
    smaller = nn.Linear(inner.in_features, len(kept)), nn.Linear(len(kept), outer.out_features)
    with torch.no_grad():
        smaller[0].weight.copy_(inner.weight[kept])
        smaller[0].bias.copy_(inner.bias[kept])
        smaller[1].weight.copy_(outer.weight[:, kept])
        smaller[1].bias.copy_(outer.bias)
    return smaller


def prune_neurons(body: nn.Module, share: float) -> nn.Module:
    """Take the share `share` of inner neurons with the smallest size out of every block, in place."""
    check_number("share", share, 0.0, 0.99)
    for block in transformer_blocks(body):
        inner, outer = feed_forward(block)
        sizes = neuron_sizes(block.get_submodule(inner), block.get_submodule(outer))
        kept = sizes.argsort(descending=True)[: len(sizes) - round(share * len(sizes))].sort().values
        layers = keep_neurons(block.get_submodule(inner), block.get_submodule(outer), kept)
        for path, layer in zip((inner, outer), layers, strict=True):
            block.set_submodule(path, layer.to(kept.device))
    return body


def feed_forward(block: nn.Module) -> tuple[str, str]:
    """The paths of a transformer block's two feed-forward layers."""
    modules = dict(block.named_modules())
    for pair in FEED_FORWARD:
        if all(path in modules for path in pair):
            return pair
    raise UserError(f"No feed-forward layers of BERT or DistilBERT were found in {type(block).__name__}.")
