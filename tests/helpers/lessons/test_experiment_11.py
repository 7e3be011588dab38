"""Lesson 11: its calculator beside the formulas of the ledger, and its merges beside the model that was trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from helpers import qlora, real
from helpers.lessons.lesson_11.experiment import (
    WAYS,
    adapter_on,
    block_numbers,
    exported,
    kept_of_update,
    qlora_memory,
    smollm2_config,
    through_nf4,
)
from helpers.lessons.lesson_11.figures import ledger_of
from helpers.memory.architecture import PUBLISHED, Architecture
from helpers.memory.measurement import measure
from helpers.memory.prediction import Plan, block_floats, predict
from helpers.models import MeanPoolClassifier

TINY = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 30}


@pytest.mark.parametrize("size", PUBLISHED)
def test_a_block_keeps_what_the_ledger_says(size):
    shape = Architecture.published(size)
    assert sum(block_numbers(shape, 8).values()) == block_floats(shape, Plan("qlora", 1, 1, rank=8))


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("size", PUBLISHED)
def test_the_sum_is_close_to_the_ledgers_peak(size, checkpointed):
    shape = Architecture.published(size)
    plan = Plan("qlora", 1, 2048, rank=16, checkpointed=checkpointed)
    assert sum(qlora_memory(shape, 2048, 16, 4, checkpointed).values()) == pytest.approx(
        predict(shape, plan).peak, rel=0.04
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_holds_three_copies_of_the_scores_in_float32(dtype):
    model = LlamaForCausalLM(LlamaConfig(**TINY | {"vocab_size": 20_000})).to(dtype).requires_grad_(False)
    trained = model.model.layers[0].mlp.down_proj.weight.requires_grad_(True)
    ids = torch.arange(256).unsqueeze(0)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    ledger = measure(model, batch, torch.optim.AdamW([trained], lr=1e-4))
    a_score = (ledger.peak - ledger.weights - ledger.optimizer) / (256 * 20_000)
    assert a_score == pytest.approx(12, rel=0.02)


def test_the_parts_become_a_ledger():
    parts = qlora_memory(Architecture.published("7B"), 512, 8)
    ledger = ledger_of(parts)
    assert ledger.activations == pytest.approx(parts["kept"] + parts["logits"], abs=1)
    assert ledger.peak == pytest.approx(sum(parts.values()), abs=3)


def test_smollm2_is_the_one_of_the_real_track():
    if real.trouble(["decoder"]):
        pytest.skip("the real track's files are not there")
    found = Architecture.of(AutoConfig.from_pretrained(real.model_folder("decoder")))
    assert found == replace(Architecture.of(smollm2_config()), vectors=found.vectors)
    assert found.parameters == 134_515_008


def with_an_update(folder, std):
    """A small BERT, saved in the folder, and a QLoRA classifier on it whose matrices B are random."""
    torch.manual_seed(0)
    plain = BertModel(BertConfig(**TINY), add_pooling_layer=False)
    plain.save_pretrained(folder)
    trained = MeanPoolClassifier(qlora.with_lora(qlora.load_four_bit(BertModel, str(folder)), 4)).eval()
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    return plain, trained


def test_only_the_right_merge_gives_the_trained_model(tmp_path):
    _, trained = with_an_update(tmp_path, std=0.1)
    batch = {"input_ids": torch.arange(5, 25).reshape(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.long)}
    with torch.no_grad():
        wanted = trained(**batch).logits
        for name, (method, weight_of) in WAYS.items():
            if method == "qlora":
                body = BertModel.from_pretrained(tmp_path, add_pooling_layer=False)
                found = exported(MeanPoolClassifier(body), trained, weight_of)(**batch).logits
                assert torch.allclose(found, wanted, atol=1e-5) == (name == "qlora_merged"), name


def test_the_share_of_an_update_that_a_merge_keeps(tmp_path):
    plain, trained = with_an_update(tmp_path, std=0.002)  # far smaller than the steps between levels
    kept = {name: kept_of_update(plain, trained, WAYS[name][1])[0] for name in WAYS}
    assert kept["qlora_merged"] == pytest.approx(1, abs=1e-4)
    assert kept["qlora_without_adapter"] == 0
    assert kept["qlora_merged_4_bits"] < 0.5 < kept["qlora_merged_file_4_bits"]


def test_an_adapter_on_a_rounded_base_is_the_way_that_rounds_the_base_alone():
    class Layer:
        def get_delta_weight(self, _name):
            return torch.full((4, 64), 0.3)

    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    wanted = WAYS["lora_then_4_bits"][1](weight, Layer().get_delta_weight("default"))
    assert torch.equal(adapter_on(through_nf4)(weight, Layer()), wanted)
