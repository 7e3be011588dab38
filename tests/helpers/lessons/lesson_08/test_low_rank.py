"""The closest matrix of a rank, its factors, and the share of energy that it holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.lessons.lesson_08.experiment import (
    linear_changes,
    linear_weights,
    pissa,
    rank_for,
    share_of_energy,
    truncate,
    with_changes,
)


def draw(out: int, inputs: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(out, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(sizes=st.tuples(st.integers(1, 20), st.integers(1, 20)), seed=st.integers(0, 99), share=st.floats(0, 1))
def test_no_matrix_of_the_rank_is_closer(sizes, seed, share):
    change = draw(*sizes, seed)
    rank = max(1, round(share * min(sizes)))
    kept = truncate(change, rank)
    assert torch.linalg.matrix_rank(kept, rtol=1e-9) <= rank
    rest = ((change - kept) ** 2).sum() / (change**2).sum()
    assert rest.item() == pytest.approx(1 - share_of_energy(change)[rank - 1].item(), abs=1e-9)
    other = draw(sizes[0], rank, seed + 1) @ draw(rank, sizes[1], seed + 2)
    assert ((change - kept) ** 2).sum() <= ((change - other) ** 2).sum() + 1e-9


def test_pissa_is_the_truncation_and_the_rest_of_it():
    weight = draw(9, 5)
    rest, wide, tall = pissa(weight, 3, scale=2.0)
    assert wide.shape == (3, 5) and tall.shape == (9, 3)
    assert torch.allclose(2.0 * tall @ wide, truncate(weight, 3))
    assert torch.allclose(rest + 2.0 * tall @ wide, weight)
    assert not truncate(weight, 0).any()


def test_the_rank_for_a_share_of_energy():
    sizes = torch.tensor([3.0, 2.0, 1.0])  # energies 9, 4, 1 of 14
    change = torch.diag(sizes)
    assert share_of_energy(change).tolist() == pytest.approx([9 / 14, 13 / 14, 1])
    assert [rank_for(change, share) for share in (0.5, 0.9, 0.95)] == [1, 2, 3]


def test_changes_are_taken_and_put_back():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    before = linear_weights(model)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    changes = linear_changes(before, model)
    assert torch.allclose(changes["0"], torch.ones(3, 4)) and not changes["2"].any()
    with_changes(model, before, {"0": torch.zeros(3, 4)})
    assert torch.equal(model[0].weight, before["0"])
