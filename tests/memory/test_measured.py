"""helpers.memory's measurements, and the promise of lesson 11: predicted and measured parts within a tenth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.memory import Architecture, Plan, measure, predict, saved_bytes
from helpers.memory.measured import allocator_peak
from helpers.models import MeanPoolClassifier

BATCH, LENGTH, CLASSES = 8, 32, 2


def test_saved_bytes_counts_what_a_linear_layer_keeps():
    layer, x = nn.Linear(16, 4), torch.randn(8, 16)
    loss, kept = saved_bytes(layer, lambda: layer(x).sum())
    assert kept == 8 * 16 * 4 and loss.requires_grad
    layer.requires_grad_(False)
    x.requires_grad_(True)
    assert saved_bytes(layer, lambda: layer(x).sum())[1] == 0  # frozen: only its own weight is kept


def test_what_is_kept_twice_counts_once():
    x = torch.randn(10, requires_grad=True)
    assert saved_bytes(nn.Identity(), lambda: (x * x).sum())[1] == 10 * 4


def test_the_allocator_sees_what_a_sample_would_miss():
    def work():
        _ = torch.empty(3_000_000, dtype=torch.uint8)
        del _
        return torch.empty(1_000_000, dtype=torch.uint8)

    assert allocator_peak(work) == pytest.approx(3_000_000, rel=0.01)


def body_of(method: str, family: str, folder):
    """A small random model, saved and loaded as a lesson would."""
    from transformers import AutoModel, AutoModelForCausalLM, BertConfig, LlamaConfig

    from helpers import qlora

    kind, config = (AutoModel, BertConfig) if family == "bert" else (AutoModelForCausalLM, LlamaConfig)
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if family == "bert" else {}
    options = {"add_pooling_layer": False} if family == "bert" else {}
    made = kind.from_config(
        config(vocab_size=512, max_position_embeddings=64, tie_word_embeddings=True, **sizes, **still), **options
    )
    if method != "qlora":
        return made if method == "full" else qlora.adapted(made)
    made.save_pretrained(folder)
    return qlora.adapted(qlora.load_four_bit(kind, str(folder)))


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_every_part_is_predicted_within_a_tenth(method, family, bits, tmp_path):
    import bitsandbytes as bnb

    torch.manual_seed(0)
    model = body_of(method, family, tmp_path)
    config = model.config
    if family == "bert":
        model = MeanPoolClassifier(model, CLASSES)
    ids = torch.randint(5, 500, (BATCH, LENGTH))
    labels = torch.arange(BATCH) % CLASSES if family == "bert" else ids
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    kind = torch.optim.AdamW if bits == 32 else bnb.optim.AdamW8bit
    found = measure(model, batch, kind([p for p in model.parameters() if p.requires_grad], lr=1e-4))
    classes = CLASSES if family == "bert" else 0
    wanted = predict(Architecture.of(config), Plan(method, BATCH, LENGTH, classes=classes, optimizer_bits=bits))
    for part, size in {**wanted.parts, "peak": wanted.peak}.items():
        assert size == pytest.approx(getattr(found, part), rel=0.1), part
