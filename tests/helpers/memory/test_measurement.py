"""helpers.memory's measurements, and the promise of lesson 11: predicted and measured parts within a tenth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.linear_layers import plain_linear
from helpers.memory.architecture import Architecture
from helpers.memory.measurement import allocator_peak, measure, saved_bytes
from helpers.memory.prediction import Plan, predict
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


SIZES = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
COMMON = {"vocab_size": 512, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SHARED = {"num_key_value_heads": 2, "tie_word_embeddings": True}


def config_of(family: str):
    """A small model of each family, as in a lesson without dropout."""
    from transformers import BertConfig, DistilBertConfig, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config

    made = {
        "bert": lambda: BertConfig(**COMMON, **SIZES, **STILL),
        "bert, dropout": lambda: BertConfig(**COMMON, **SIZES),
        "distilbert, dropout": lambda: DistilBertConfig(**COMMON, dim=64, hidden_dim=256, n_layers=3, n_heads=4),
        "gpt2": lambda: GPT2Config(
            **COMMON, n_embd=64, n_layer=3, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
        ),
        "gpt2, dropout": lambda: GPT2Config(**COMMON, n_embd=64, n_layer=3, n_head=4),
        "llama": lambda: LlamaConfig(**COMMON, **SIZES, tie_word_embeddings=True),
        "llama, shared keys": lambda: LlamaConfig(**COMMON, **SIZES, **SHARED),
        "llama, its own output": lambda: LlamaConfig(**COMMON, **SIZES, tie_word_embeddings=False),
        "qwen2": lambda: Qwen2Config(**COMMON, **SIZES, **SHARED),
        "qwen3": lambda: Qwen3Config(**COMMON, **SIZES, **SHARED, head_dim=32),
    }
    return made[family]()


def model_of(method: str, family: str, predicts: bool, folder):
    """A small random model, saved and loaded as a lesson would; predicts: tokens, in place of a class."""
    from transformers import AutoModel, AutoModelForCausalLM

    from helpers import qlora

    kind = AutoModelForCausalLM if predicts else AutoModel
    made = kind.from_config(config_of(family))
    if getattr(made, "pooler", None) is not None:
        made.pooler = None
    if method == "qlora":
        made.save_pretrained(folder)
        made = qlora.load_four_bit(kind, str(folder))
    made = plain_linear(made)
    made = made if method == "full" else qlora.with_lora(made)
    return made if predicts else MeanPoolClassifier(made, CLASSES)


def both(method: str, family: str, predicts: bool, folder, bits: int = 32):
    """The ledger by formula, and the one that was measured."""
    import bitsandbytes as bnb

    torch.manual_seed(0)
    model = model_of(method, family, predicts, folder)
    ids = torch.randint(5, 500, (BATCH, LENGTH))
    labels = ids if predicts else torch.arange(BATCH) % CLASSES
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    kind = torch.optim.AdamW if bits == 32 else bnb.optim.AdamW8bit
    found = measure(model, batch, kind([p for p in model.parameters() if p.requires_grad], lr=1e-4))
    plan = Plan(method, BATCH, LENGTH, classes=0 if predicts else CLASSES, optimizer_bits=bits)
    return predict(Architecture.of(config_of(family)), plan), found


def hold(wanted, found, within):
    for part, size in {**wanted.parts, "peak": wanted.peak}.items():
        assert size == pytest.approx(getattr(found, part), rel=within), part


@pytest.mark.parametrize(("family", "predicts"), [("bert", False), ("llama", True)])
@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_every_part_is_predicted_within_a_tenth(method, bits, family, predicts, tmp_path):
    hold(*both(method, family, predicts, tmp_path, bits), within=0.1)  # what lesson 11 promises


@pytest.mark.parametrize(
    ("family", "predicts"),
    [
        *[(family, False) for family in ("bert, dropout", "distilbert, dropout", "gpt2", "gpt2, dropout", "qwen2")],
        *[(family, True) for family in ("gpt2", "llama, shared keys", "llama, its own output", "qwen2", "qwen3")],
        ("llama, its own output", False),
        ("qwen3", False),
    ],
)
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_so_it_is_for_every_family(method, family, predicts, tmp_path):
    hold(*both(method, family, predicts, tmp_path), within=0.05)
