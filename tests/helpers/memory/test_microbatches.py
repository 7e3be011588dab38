"""What fits the free memory, what is taken in parts, and what is refused in words."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from helpers.memory.architecture import Architecture
from helpers.memory.microbatches import MicrobatchPlan, free_bytes, plan_microbatches, split
from helpers.memory.prediction import Plan, predict
from helpers.models import HeadClassifier, MeanPoolClassifier
from helpers.runtime import UserError
from helpers.training import train

CONFIG = BertConfig(
    vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip


def classifier() -> MeanPoolClassifier:
    torch.manual_seed(0)
    return MeanPoolClassifier(BertModel(CONFIG, add_pooling_layer=False))


def batch(rows: int = 8, length: int = 64) -> dict[str, torch.Tensor]:
    ids = torch.arange(rows * length).reshape(rows, length) % 90
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(rows) % 2}


def bytes_for(rows: int, checkpointed: bool) -> int:
    plan = Plan("full", batch=rows, length=64, classes=2, checkpointed=checkpointed)
    return predict(Architecture.of(CONFIG), plan).peak


def room_for(rows: int, checkpointed: bool, model: torch.nn.Module) -> int:
    """Free bytes in which just so many rows fit."""
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    return int((bytes_for(rows, checkpointed) + 100 - held) / 0.9) + 1


def test_plenty_is_taken_as_it_is():
    assert plan_microbatches(classifier(), batch(), free=10**12) == MicrobatchPlan()
    assert plan_microbatches(classifier(), batch()) == MicrobatchPlan()
    assert free_bytes("cpu") > 0


def test_less_makes_it_checkpoint_then_split_then_say_what_to_change():
    model = classifier()
    assert bytes_for(8, True) < bytes_for(8, False)
    assert plan_microbatches(model, batch(), free=room_for(8, True, model)) == MicrobatchPlan(1, checkpointed=True)
    few = plan_microbatches(model, batch(), free=room_for(2, True, model))
    assert few.microbatches == 4 and few.checkpointed
    with pytest.raises(UserError, match=r"one text of 64 tokens .* GB are free; choose a smaller one"):
        plan_microbatches(model, batch(), free=0)


def test_a_model_without_formulas_or_text_is_taken_as_it_is():
    assert (
        plan_microbatches(HeadClassifier(torch.nn.Linear(4, 2)), {"features": torch.zeros(2, 4)}, free=0)
        == MicrobatchPlan()
    )
    model = classifier()
    model.config = copy.deepcopy(model.config)
    model.config.model_type = "unheard-of"
    assert plan_microbatches(model, batch(), free=0) == MicrobatchPlan()


def test_a_decoder_is_asked_too():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=100, **sizes))
    with pytest.raises(UserError, match="choose a smaller one"):
        plan_microbatches(model, batch() | {"labels": batch()["input_ids"]}, free=0)


def test_parts_weigh_as_much_as_their_labels():
    rows = batch(4) | {"labels": torch.tensor([0, 1, -100, 1])}
    assert [share for _, share in split(rows, 2)] == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize(
    "way", [MicrobatchPlan(4), MicrobatchPlan(1, checkpointed=True), MicrobatchPlan(3, checkpointed=True)]
)
def test_every_way_gives_the_same_training(monkeypatch, way):
    losses = {}
    for name, taken in (("at once", MicrobatchPlan()), ("otherwise", way)):
        monkeypatch.setattr("helpers.training.plan_microbatches", lambda *_, taken=taken: taken)
        model = classifier()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses[name] = train(model, [batch(8), batch(7)], optimizer, epochs=2).losses
    assert losses["otherwise"] == pytest.approx(losses["at once"], abs=1e-5)
    assert losses["at once"][0] != losses["at once"][-1]
