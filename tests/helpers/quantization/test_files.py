"""Quantized models on disk: the size is the codes', what is read is what was written, all else is refused."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from helpers.models import MeanPoolClassifier
from helpers.quantization.four_bit import quiet_bitsandbytes
from helpers.quantization.storage import (
    clustered,
    code_book,
    compress,
    example_matrix,
    load,
    matrices,
    pruned,
    read,
    uniform,
    write,
)
from helpers.runtime import UserError

quiet_bitsandbytes()
from bitsandbytes import functional  # noqa: E402

TECHNIQUES = [
    uniform(8, "channel"),
    uniform(3, 64),
    uniform(4, 64, zero_point=True),
    code_book("nf4"),
    code_book("fp4"),
    code_book("e2m1", 32),
    code_book("nf4", double=True),
    clustered(3),
    pruned(0.75),
]


def tiny(hidden: int = 64) -> MeanPoolClassifier:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=128, hidden_size=hidden, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=32,
    )  # fmt: skip
    return MeanPoolClassifier(BertModel(config, add_pooling_layer=False))


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda one: f"{one.name}, {one.bits:g} bits")
def test_what_is_read_is_what_was_written(technique, tmp_path):
    model = tiny()
    stored = compress(model, technique)
    size = write(tmp_path / "model.safetensors", model, stored)
    other = load(tmp_path / "model.safetensors", tiny())
    for name, parameter in other.named_parameters():
        wanted = stored[name].restore() if name in stored else dict(model.named_parameters())[name]
        assert torch.equal(parameter, wanted), name
    count = sum(weights.numel() for weights in matrices(model).values())
    whole = sum(parameter.numel() * 4 for parameter in model.parameters())
    assert size < whole - count * 4 + count * (technique.bits + 1) / 8 + 12_000  # names and header: a few kilobytes


@pytest.mark.parametrize("shape", [(2, 312), (3, 5), (7, 1, 13), (1, 64), (65, 1)])
@pytest.mark.parametrize(
    "technique", [uniform(3, 64), uniform(4, 48, zero_point=True), *TECHNIQUES[3:6]], ids=lambda one: one.name
)
def test_a_last_block_that_is_not_full_is_filled_with_zeros(technique, shape):
    torch.manual_seed(0)
    weights = torch.randn(shape)
    restored = technique(weights).restore()
    assert restored.shape == weights.shape
    assert (restored - weights).abs().max() < weights.abs().max() / 2
    cut = technique(torch.cat([weights.flatten(), torch.zeros(192)])[: -(-weights.numel() // 192) * 192])
    assert torch.equal(cut.restore()[: weights.numel()], restored.flatten()) or "double" in technique.name


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(2, 312), (5, 26)])
def test_a_last_block_that_is_not_full_is_bitsandbytes(kind, shape):
    torch.manual_seed(0)
    weights = torch.randn(shape)
    theirs = functional.dequantize_4bit(*functional.quantize_4bit(weights.flatten(), blocksize=64, quant_type=kind))
    assert torch.equal(code_book(kind)(weights).restore(), theirs.reshape(shape))


@pytest.mark.parametrize(
    ("hidden", "block_size", "shape"), [(64, 64, (64, 64)), (48, 64, (48, 48)), (40, 64, (40, 40)), (20, 64, (16, 20))]
)
def test_the_example_fills_its_blocks(hidden, block_size, shape):
    name, weights = example_matrix(tiny(hidden), block_size)
    assert name == "body.encoder.layer.0.attention.self.query.weight" and tuple(weights.shape) == shape
    assert weights.numel() % 64 == weights.numel() % block_size == 0


def test_a_block_that_no_example_fills():
    with pytest.raises(
        UserError, match="block_size is 4096, but body.encoder.* of shape .20, 20. has fewer weights; use"
    ):
        example_matrix(tiny(20), 4096)


def test_the_head_and_the_vectors_stay_whole(tmp_path):
    model = tiny()
    write(tmp_path / "model.safetensors", model, compress(model, uniform(2, "channel")))
    found = read(tmp_path / "model.safetensors")
    assert torch.equal(found["head.weight"], model.head.weight)
    assert all(torch.equal(found[name], value) for name, value in model.named_parameters() if value.dim() == 1)


def test_a_file_of_another_model_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    model = tiny()
    write(path, model, compress(model, uniform(8)))
    with pytest.raises(UserError, match=r"another shape in model.safetensors .*: it belongs to another model"):
        load(path, tiny(hidden=128))
    with pytest.raises(UserError, match=r'holds no "weight": it belongs to another model'):
        load(path, nn.Linear(4, 4))


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"weight": [1.0]}))
    with pytest.raises(UserError, match="is not a safetensors file .*; pickles are not read"):
        read(path)


def test_missing_and_foreign_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(UserError, match="model.safetensors is missing"):
        read(tmp_path / "model.safetensors")
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="does not say how its weights were quantized"):
        read(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match='no weight "nowhere"'):
        write(tmp_path / "model.safetensors", nn.Linear(2, 2), {"nowhere": uniform(8)(torch.ones(2))})
