"""Fine-tuning on conversations: it learns, it stops at NaN, and TRL's trainer does the same on the same rows."""

import math

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from helpers import catalog
from helpers.runtime import UserError
from helpers.sft import SFTRecipe, answer, collate, encode_rows, exact_match, fine_tune, messages

PAIRS = [{"prompt": f"Who made number {n}?", "completion": name} for n, name in enumerate(["Ann.", "Bo.", "Cy."] * 4)]


@pytest.fixture(scope="module")
def tokenizer():
    return catalog.tokenizer("decoder", "pocket")


def decoder(tokenizer):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, initializer_range=0.1))


def test_it_learns_the_answers_and_where_they_end(tokenizer):
    model, rows = decoder(tokenizer), encode_rows(tokenizer, PAIRS)
    history = fine_tune(model, rows, tokenizer.pad_token_id, SFTRecipe(learning_rate=1e-2, epochs=30, batch_size=4))
    assert history.losses[-1] < 0.05 < 1 < history.losses[0]
    given = answer(model, tokenizer, [pair["prompt"] for pair in PAIRS])
    assert exact_match(given, [pair["completion"] for pair in PAIRS]).mean() == 1


def test_a_loss_that_is_nan_stops_the_run_before_the_weights_are_touched(tokenizer):
    model, rows = decoder(tokenizer), encode_rows(tokenizer, PAIRS)
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    before = model.lm_head.weight.clone()
    with pytest.raises(UserError, match=r"loss became nan at step 1: training has diverged. A lower learning rate"):
        fine_tune(model, rows, tokenizer.pad_token_id)
    assert torch.equal(before, model.lm_head.weight)


def test_a_learning_rate_out_of_all_bounds_is_said(tokenizer):
    recipe = SFTRecipe(learning_rate=1e30, epochs=5, batch_size=4)
    with pytest.raises(UserError, match="lower learning rate"):
        fine_tune(decoder(tokenizer), encode_rows(tokenizer, PAIRS), tokenizer.pad_token_id, recipe)


@pytest.mark.slow
def test_trl_makes_the_same_batch_and_the_same_losses(tokenizer, tmp_path):
    from trl import SFTConfig, SFTTrainer

    turns = [{"prompt": messages(pair["prompt"]), "completion": messages("", pair["completion"])[1:]} for pair in PAIRS]
    arguments = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, activation_checkpointing=False, num_train_epochs=1,
        per_device_train_batch_size=4, learning_rate=1e-2, weight_decay=0.0, max_grad_norm=1.0, optim="adamw_torch",
        lr_scheduler_type="constant", train_sampling_strategy="sequential", save_strategy="no", report_to="none",
        logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    trainer = SFTTrainer(
        decoder(tokenizer), arguments, train_dataset=Dataset.from_list(turns), processing_class=tokenizer
    )
    rows, model = encode_rows(tokenizer, PAIRS), decoder(tokenizer)
    batches = [collate(rows[start : start + 4], tokenizer.pad_token_id) for start in range(0, len(rows), 4)]
    theirs = next(iter(trainer.get_train_dataloader()))
    assert all(torch.equal(theirs[name], batches[0][name]) for name in batches[0])
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    optimizer, ours = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0), []
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ours.append(loss.item())
    assert ours[0] == pytest.approx(logged[0], abs=2e-6)
    assert ours == pytest.approx(logged, abs=1e-4)
