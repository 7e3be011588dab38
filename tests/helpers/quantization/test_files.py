"""Quantized models on disk: the size is the codes', what is read is what was written, all else is refused."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from helpers.models import MeanPoolClassifier
from helpers.quantization.storage import clustered, code_book, compress, load, matrices, pruned, read, uniform, write
from helpers.runtime import UserError

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
