"""GPTQ is the least-squares solution and lowers the output's error; a GGUF file is counted; int8 copies stay near."""

from __future__ import annotations

import warnings

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from torch import nn

from helpers.lessons.lesson_10 import experiment
from helpers.lessons.lesson_10.exercises import by_least_squares
from helpers.lessons.lesson_10.experiment import (
    DIFFERENCES,
    contents,
    fastest_seconds,
    gptq,
    int8_copy,
    spread_error,
)
from helpers.quantization.quantizers import affine
from helpers.reference import recorded
from helpers.runtime import UserError

Q4_1 = gguf.GGMLQuantizationType.Q4_1


def layer(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix (8, 24) and the Gram matrix of inputs that depend on each other (24, 24)."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(200, 24, generator=draw) @ torch.randn(24, 24, generator=draw)
    return torch.randn(8, 24, generator=draw), inputs.T @ inputs / 200


@pytest.mark.parametrize("seed", range(3))
def test_gptq_is_the_least_squares_solution_and_beats_rounding_on_the_output(seed):
    weights, gram = layer(seed)
    found = gptq(weights, gram, 3, spread_error, block_size=8)
    assert torch.allclose(found, by_least_squares(weights, gram, 3, 8), atol=1e-4)
    codes, scale, zero = affine(weights, 3, 8)
    nearest = ((codes - zero) * scale).reshape(weights.shape)
    lost = [(((one - weights) @ gram) * (one - weights)).sum() for one in (found, nearest)]
    assert lost[0] < lost[1] and (found - weights).norm() > (nearest - weights).norm()


def test_a_gguf_file_is_counted_and_a_wrong_decoder_is_noticed(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    numbers = np.random.default_rng(0).standard_normal((4, 64), dtype=np.float32)
    writer.add_tensor("four", quantize(numbers, Q4_1), raw_dtype=Q4_1)
    writer.add_tensor("whole", numbers[0])
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    found = contents(tmp_path / "small.gguf", lambda data: torch.from_numpy(dequantize(data, Q4_1)))
    assert found["weights_q4_1"] == 256 and found["bytes_q4_1"] == 160 and found["bytes_all"] == 160 + 256
    assert found["count_q4_1"] == found["equal_q4_1"] == 1
    assert contents(tmp_path / "small.gguf", lambda data: torch.zeros(256))["equal_q4_1"] == 0


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


def test_each_seed_of_the_reference_names_its_smallest_metric(monkeypatch):
    there = {"a": [1.0, 5.0, 3.0], "b": [2.0, 4.0, 2.0]}
    monkeypatch.setattr(experiment, "recorded", lambda lesson, metric: there.get(metric, []))
    assert experiment.best_by_seed({"a": "A", "b": "B"}) == ["A", "B", "B"]
    assert experiment.best_by_seed({"a": "A", "missing": "M"}) == []
    assert experiment.ratios("b", "a") == [2.0, 0.8, 2 / 3]
    assert experiment.ratios("b", "missing") == []


def test_the_reference_holds_every_metric_of_the_recap():
    named = {f"{quantity}_{end}" for quantity, some in DIFFERENCES.items() for _, *ends in some for end in ends}
    assert all(recorded("10", metric) for metric in named)
