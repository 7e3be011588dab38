"""The three methods that lesson 07 adds to a frozen transformer: trainable biases, bottleneck adapters, IA3 vectors.

  hidden (batch, seq, hidden)          the output of a frozen linear layer
 ____|_____
|          |
|        down (hidden -> size)
|        gelu
|        up   (size -> hidden)         initialized to 0, so the output is unchanged before the first step
|____ + ___|
     |
  (batch, seq, hidden)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.linear_layers import block_paths, replace_module
from helpers.models import blocks, config_of
from helpers.runtime import UserError, check_number


class BottleneckAdapter(nn.Module):
    """h + up(gelu(down(h))): two small layers with a residual connection around them.

    Source: Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP", figure 2.
    """

    def __init__(self, hidden: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(hidden, size), nn.Linear(size, hidden)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: (batch, seq, hidden). Returns the same shape."""
        return hidden + self.up(nn.functional.gelu(self.down(hidden)))


class Rescale(nn.Module):
    """Multiplies every feature by a learned number, which is initialized to 1.

    Source: Liu et al. 2022, "Few-shot parameter-efficient fine-tuning is better and cheaper than in-context
    learning" (IA3), section 3.3.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., features). Returns the same shape."""
        return x * self.scale


def open_biases(body: nn.Module) -> nn.Module:
    """Make every bias trainable, including those of the normalizations, and freeze all other parameters.

    Source: Ben Zaken et al. 2022, "BitFit".
    """
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return body


def add_bottlenecks(
    body: nn.Module, size: int, adapter: Callable[[int, int], nn.Module] = BottleneckAdapter
) -> nn.Module:
    """Freeze the body and put an adapter after each block's attention and feed-forward layer.

    The adapters come before the residual connection and the normalization, as in the paper (which also trains
    the normalizations).

    Args:
        size: the number of features between `down` and `up`, from 1 to the hidden size.
        adapter: called as adapter(hidden size, size), returns a new adapter module.
    """
    check_number("size", size, 1, config_of(body).hidden_size, integer=True)
    paths = block_paths(body)
    body.requires_grad_(False)
    for block in blocks(body):
        for path in (paths.attention_output, paths.feed_forward_output):
            _wrap(block, path, lambda layer: nn.Sequential(layer, adapter(layer.out_features, size)))
    return body


def add_ia3(body: nn.Module) -> nn.Module:
    """Freeze the body and rescale each block's keys, its values, and the input of its last feed-forward layer.

    If one layer computes queries, keys and values together (GPT-2), all three are rescaled, as in `peft`.
    """
    paths = block_paths(body)
    body.requires_grad_(False)
    for block in blocks(body):
        for path in dict.fromkeys((paths.key, paths.value)):
            _wrap(block, path, lambda layer: nn.Sequential(layer, Rescale(layer.out_features)))
        _wrap(block, paths.feed_forward_output, lambda layer: nn.Sequential(Rescale(layer.in_features), layer))
    return body


def _wrap(block: nn.Module, path: str, wrapped: Callable[[nn.Linear], nn.Module]) -> None:
    """Replace the layer at `path` by `wrapped(layer)`, on the same device."""
    layer = block.get_submodule(path)
    if not isinstance(layer, nn.Linear):
        raise UserError(f'"{path}" is a {type(layer).__name__} and no linear layer: something was added here before.')
    replace_module(block, path, wrapped(layer).to(layer.weight.device))
