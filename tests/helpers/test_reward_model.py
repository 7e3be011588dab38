"""The reward model: what its head reads, the same loss as TRL's trainer, and pairs that it learns."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from helpers import catalog
from helpers.reward_model import (
    Scorer,
    bradley_terry_loss,
    collate,
    new_reward_model,
    pair_scores,
    preference_rows,
    preferred,
    reward_loss,
    train_reward_model,
)
from helpers.sft import messages

ROWS = [
    {"prompt": f"Say it {count} times.", "chosen": "kind " * count, "rejected": "cold " * count}
    for count in range(1, 9)
]


@pytest.fixture(scope="module")
def tokenizer():
    if not catalog.POCKET_MODELS["decoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    return catalog.tokenizer("decoder", "pocket")


@pytest.fixture
def model(tokenizer, tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    return new_reward_model(str(tmp_path), tokenizer)


def test_a_new_model_has_no_opinion(model, tokenizer):
    assert Scorer(model, tokenizer)(["a", "b"], ["c", "d e"]).tolist() == [0.0, 0.0]


def test_a_score_does_not_depend_on_who_shares_the_batch(model, tokenizer):
    torch.nn.init.normal_(model.score.weight)
    score = Scorer(model, tokenizer)
    together = score(["Be kind.", "Be kind."], ["good", "a very much longer answer than the other one"])
    assert torch.isclose(score(["Be kind."], ["good"])[0], together[0], atol=1e-5)


def test_the_loss_is_that_of_trl(model, tokenizer, tmp_path):
    from trl import RewardConfig, RewardTrainer

    torch.nn.init.normal_(model.score.weight)
    talks = [{side: messages(row["prompt"], row[side]) for side in ("chosen", "rejected")} for row in ROWS]
    settings = RewardConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=len(ROWS), report_to="none"
    )
    trainer = RewardTrainer(
        model.eval(), args=settings, train_dataset=Dataset.from_list(talks), processing_class=tokenizer
    )
    with torch.inference_mode():
        theirs = trainer.compute_loss(model.eval(), dict(next(iter(trainer.get_train_dataloader()))))
        ours = bradley_terry_loss(
            *pair_scores(model, collate(preference_rows(tokenizer, ROWS), tokenizer.pad_token_id))
        )
    assert abs(ours.item() - theirs.item()) < 1e-6
    assert abs(ours.item() - 0.6931) > 1e-3  # a model without an opinion would prove nothing


def test_a_margin_has_to_be_won_and_centering_pulls_to_zero():
    chosen, rejected = torch.tensor([2.0, -1.0]), torch.tensor([0.0, 0.5])
    plain = reward_loss(chosen, rejected)
    assert plain == bradley_terry_loss(chosen, rejected)
    assert reward_loss(chosen, rejected, torch.ones(2)) == bradley_terry_loss(chosen - 1, rejected) > plain
    assert reward_loss(chosen, rejected, centering=0.1).item() == pytest.approx(plain.item() + 0.1 * (4 + 0.25) / 2)


def test_pairs_are_learnt_and_judged_in_their_own_order(model, tokenizer):
    pairs = preference_rows(tokenizer, ROWS)
    losses = train_reward_model(model, pairs, tokenizer.pad_token_id, epochs=40, seed=0, rate=1e-2)
    assert losses[0] == pytest.approx(0.6931, abs=1e-3) and losses[-1] < 0.1
    swapped = [{"chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in pairs[:3]] + pairs[3:]
    assert preferred(model, swapped, tokenizer.pad_token_id).tolist() == [0.0] * 3 + [1.0] * 5
