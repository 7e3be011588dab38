"""Pruning: sets the smallest weights to zero (unstructured), or removes whole neurons (structured).

Source: Han et al. 2015, "Learning both weights and connections"; Li et al. 2017, "Pruning filters for efficient
convnets", for the structured kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from helpers.linear_layers import feed_forward_paths
from helpers.models import blocks as transformer_blocks
from helpers.quantization.quantizers import check_weights
from helpers.runtime import UserError, check_number


def magnitude_mask(weights: Tensor, sparsity: float) -> Tensor:
    """Return a mask of the weights' shape that is False for the smallest share `sparsity` of weights, else True."""
    check_number("sparsity", sparsity, 0.0, 1.0)
    sizes = check_weights(weights).detach().abs().flatten()
    mask = torch.ones_like(sizes, dtype=torch.bool)
    mask[sizes.argsort(stable=True)[: round(sparsity * len(sizes))]] = False
    return mask.reshape(weights.shape)


def hold_at_zero(model: nn.Module, masks: Mapping[str, Tensor]) -> list:
    """Keep pruned weights at zero in training: hooks set their gradient to zero, so AdamW does not change them.

    Returns the hooks' handles; after `handle.remove()` the weights can change again.
    """
    parameters = dict(model.named_parameters())
    missing = sorted(set(masks) - set(parameters))
    if missing:
        raise UserError(f'The model has no weight "{missing[0]}".')
    return [parameters[name].register_hook(lambda gradient, mask=mask: gradient * mask) for name, mask in masks.items()]


def neuron_sizes(inward: Sequence[nn.Linear], outward: nn.Linear) -> Tensor:
    """Return each inner neuron's size, (neurons,): the norms of its input weights times that of its output weights."""
    lengths = [layer.weight.detach().norm(dim=1) for layer in inward]
    return math.prod(lengths) * outward.weight.detach().norm(dim=0)


def keep_neurons(inward: Sequence[nn.Linear], outward: nn.Linear, kept: Tensor) -> list[nn.Linear]:
    """Return smaller layers with only the neurons `kept` (indices): rows of `inward` layers, columns of `outward`."""
    smaller = [_linear(one.weight[kept], None if one.bias is None else one.bias[kept]) for one in inward]
    return [*smaller, _linear(outward.weight[:, kept], outward.bias)]


@torch.no_grad()
def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer with copies of this weight and bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer


def prune_neurons(body: nn.Module, share: float) -> nn.Module:
    """Remove the share `share` of inner neurons with the smallest `neuron_sizes` from every block, in place.

    Raises:
        UserError: when the share is out of range, or the blocks' feed-forward layers are not found.
    """
    check_number("share", share, 0.0, 0.99)
    inward, outward = feed_forward_paths(body)
    for block in transformer_blocks(body):
        before = [cast(nn.Linear, block.get_submodule(path)) for path in inward]
        after = cast(nn.Linear, block.get_submodule(outward))
        sizes = neuron_sizes(before, after)
        kept = sizes.argsort(descending=True)[: len(sizes) - round(share * len(sizes))].sort().values
        for path, layer in zip((*inward, outward), keep_neurons(before, after, kept), strict=True):
            block.set_submodule(path, layer.to(kept.device))
    return body
