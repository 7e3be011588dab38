"""Pruning: masks that hold through training, neurons that are really gone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from helpers.quantization.pruning import hold_at_zero, keep_neurons, magnitude_mask, prune_neurons
from helpers.runtime import UserError


def bodies():
    torch.manual_seed(0)
    bert = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40
    )  # fmt: skip
    distil = DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=40)
    return {"bert": BertModel(bert, add_pooling_layer=False).eval(), "distilbert": DistilBertModel(distil).eval()}


def test_a_mask_holds_through_training():
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    mask = magnitude_mask(layer.weight, 0.5)
    with torch.no_grad():
        layer.weight.mul_(mask)
    handles = hold_at_zero(layer, {"weight": mask})
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    for _ in range(5):
        layer(torch.randn(4, 8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert bool((layer.weight[~mask] == 0).all()) and bool((layer.weight[mask] != before[mask]).all())
    for handle in handles:
        handle.remove()
    layer(torch.randn(4, 8)).square().sum().backward()
    assert bool((layer.weight.grad[~mask] != 0).any())


def test_neurons_that_say_nothing_can_go():
    torch.manual_seed(0)
    inner, outer = nn.Linear(6, 10), nn.Linear(10, 6)
    with torch.no_grad():
        outer.weight[:, 4:] = 0
    smaller = keep_neurons([inner], outer, torch.arange(4))
    given = torch.randn(3, 6)
    assert torch.allclose(smaller[1](smaller[0](given).relu()), outer(inner(given).relu()), atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_half_of_the_neurons_leave_every_block(kind):
    body = bodies()[kind]
    ids = torch.arange(10).unsqueeze(0)
    with torch.inference_mode():
        before = body(input_ids=ids).last_hidden_state
        whole = sum(parameter.numel() for parameter in body.parameters())
        same = prune_neurons(body, 0.0)(input_ids=ids).last_hidden_state
        after = prune_neurons(body, 0.5)(input_ids=ids).last_hidden_state
    assert torch.allclose(same, before, atol=1e-5)
    assert after.shape == before.shape and not torch.allclose(after, before, atol=1e-3)
    gone = whole - sum(parameter.numel() for parameter in body.parameters())
    assert gone == 2 * 20 * (16 + 1 + 16)  # two blocks, 20 neurons each: weights in, a bias, weights out


def test_refused():
    with pytest.raises(UserError, match="share is 1.0"):
        prune_neurons(bodies()["bert"], 1.0)
    with pytest.raises(UserError, match='no weight "wieght"'):
        hold_at_zero(nn.Linear(2, 2), {"wieght": torch.ones(2, 2)})
