"""int8 copies compute nearly the same, are smaller, and say nothing on the way."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from helpers.lessons.lesson_10.experiment import fastest_seconds, int8_copy
from helpers.runtime import UserError


def test_an_int8_copy_computes_nearly_the_same_and_warns_of_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
    given = torch.randn(16, 32)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        small = int8_copy(model)
        apart = (small(given) - model(given)).abs().max()
    assert 0 < apart < 0.05
    assert isinstance(model[0], nn.Linear) and not isinstance(small[0], nn.Linear)


def test_every_call_but_the_first_is_timed():
    calls = []
    assert fastest_seconds(lambda: calls.append(torch.is_inference_mode_enabled()), repeats=3) >= 0
    assert calls == [True] * 4
    with pytest.raises(UserError, match="repeats is 0"):
        fastest_seconds(lambda: None, repeats=0)
