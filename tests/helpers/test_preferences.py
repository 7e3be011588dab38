"""Pairs, their log-probabilities and losses, held against the library, autograd and known numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from helpers.dpo import dpo_loss, reference_log_probs, sequence_log_probs, win_rate
from helpers.language_model import IGNORED
from helpers.reward_model import (
    bradley_terry_loss,
    check_preferences,
    collate,
    preference_batches,
    preference_rows,
)
from helpers.runtime import UserError

WORDS = ["<pad>", "<stop>", "<user>", "<assistant>", "<end>", "praise", "it", "good", "bad", "film", "a", "dull", "the"]
TEMPLATE = (
    "{% for message in messages %} <{{ message['role'] }}> {{ message['content'] }} <end>{% endfor %}"
    "{% if add_generation_prompt %} <assistant>{% endif %}"
)
PAIRS = [
    {"prompt": "praise it", "chosen": "a good film", "rejected": "dull"},
    {"prompt": "praise the film", "chosen": "good", "rejected": "the film a bad"},
    {"prompt": "it", "chosen": "the good", "rejected": "the bad"},
]


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "eos_token": "<stop>", "extra_special_tokens": ["<user>", "<assistant>", "<end>"]}
    return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATE, **names)


def decoder(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(WORDS), **sizes, initializer_range=0.3, pad_token_id=0, eos_token_id=1)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def batch(tokenizer):
    return collate(preference_rows(tokenizer, PAIRS), pad_id=0)


def test_chosen_come_first_and_only_answers_have_labels(tokenizer, batch):
    assert batch["input_ids"].shape[0] == 2 * len(PAIRS)
    answers = [tokenizer.decode(row[row != IGNORED]) for row in batch["labels"]]
    wanted = [f"{pair[side]} <end>" for side in ("chosen", "rejected") for pair in PAIRS]
    assert answers == wanted


def test_log_probs_are_the_models_own_loss(batch):
    model = decoder(0)
    with torch.no_grad():
        found = sequence_log_probs(model, batch)
        for row in range(len(found)):
            one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
            count = (one["labels"] != IGNORED).sum()
            assert found[row].item() == pytest.approx(-(model(**one).loss * count).item(), abs=1e-4)


def test_padding_does_not_change_a_log_prob(tokenizer, batch):
    model = decoder(0)
    with torch.no_grad():
        together = sequence_log_probs(model, batch).view(2, -1)
        for row, pair in enumerate(PAIRS):
            alone = sequence_log_probs(model, collate(preference_rows(tokenizer, [pair]), pad_id=0))
            assert torch.allclose(alone, together[:, row], atol=1e-5)


def test_losses_at_known_numbers():
    zero, two = torch.zeros(3), torch.full((3,), 2.0)
    assert bradley_terry_loss(zero, zero).item() == pytest.approx(math.log(2))
    assert bradley_terry_loss(two, zero).item() == pytest.approx(math.log(1 + math.exp(-2)))
    losses, chosen, rejected = dpo_loss(two, zero, two, zero, beta=0.3)
    assert losses.tolist() == pytest.approx([math.log(2)] * 3) and not (chosen - rejected).any()
    losses, chosen, rejected = dpo_loss(two, -two, zero, zero, beta=0.5)
    assert chosen.tolist() == [1, 1, 1] and rejected.tolist() == [-1, -1, -1]
    assert losses.tolist() == pytest.approx([math.log(1 + math.exp(-2))] * 3)


def test_the_gradient_is_the_one_of_the_paper():
    policy = torch.randn(2, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0)).requires_grad_()
    reference = torch.randn(2, 5, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    losses, chosen, rejected = dpo_loss(*policy, *reference, beta=0.2)
    losses.sum().backward()
    weight = 0.2 * torch.sigmoid(rejected - chosen)  # equation after (7): how wrong the pair still is
    assert torch.allclose(policy.grad, torch.stack([-weight, weight]))


def test_batches_know_their_rows_and_the_reference_keeps_their_order(tokenizer):
    pairs, model = preference_rows(tokenizer, PAIRS), decoder(0)
    seen = torch.cat([one["rows"] for one in preference_batches(pairs, 0, batch_size=2, seed=1)])
    assert sorted(seen.tolist()) == [0, 1, 2]
    found = reference_log_probs(model, pairs, 0, batch_size=2)
    with torch.no_grad():
        wanted = sequence_log_probs(model, collate(pairs, 0)).view(2, -1).T
    assert found.shape == (3, 2) and torch.allclose(found, wanted, atol=1e-5)


def test_a_tie_counts_half():
    assert win_rate(torch.tensor([1.0, 0.5, 0.0, 1.0]), torch.tensor([0.0, 0.5, 1.0, 1.0])) == 0.5
    assert win_rate(torch.tensor([1.0]), torch.tensor([0.9])) == 1.0


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([PAIRS[0], PAIRS[0] | {"rejected": "a good film "}], "chosen and rejected are equal in row 2"),
        ([{"prompt": "p", "chosen": "a"}], "no column rejected, only prompt, chosen"),
        ([PAIRS[0] | {"chosen": " "}], "chosen is empty in row 1"),
        ([PAIRS[0] | {"rejected": None}], "rejected is empty in row 1"),
        ([], "there are no rows"),
    ],
)
def test_bad_pairs_are_named(rows, said):
    with pytest.raises(UserError, match=said):
        check_preferences(rows)


def test_bad_pairs_stop_the_encoding(tokenizer):
    with pytest.raises(UserError, match="equal in row 1"):
        preference_rows(tokenizer, [PAIRS[0] | {"rejected": "a good film"}])


@pytest.mark.slow
def test_the_loss_is_the_one_of_trl(tokenizer, batch, tmp_path):
    """The losses and margins that `DPOTrainer` logs for one batch, from a policy that differs from its reference."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, reference = decoder(1), decoder(0)
    with torch.no_grad():
        pairs = [sequence_log_probs(model, batch).chunk(2) for model in (policy, reference)]
    losses, chosen, rejected = dpo_loss(*pairs[0], *pairs[1], beta=0.1)
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    rows = [{name: [{"role": roles[name], "content": pair[name]}] for name in roles} for pair in PAIRS]
    options = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    args = DPOConfig(
        str(tmp_path), beta=0.1, max_steps=1, logging_steps=1, per_device_train_batch_size=3, learning_rate=0, **options
    )
    trainer = DPOTrainer(
        policy, reference, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["loss"] == pytest.approx(losses.mean().item(), abs=1e-6)
    assert logged["rewards/margins"] == pytest.approx((chosen - rejected).mean().item(), abs=1e-6)
