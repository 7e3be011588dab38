"""The recipe of lesson 06 at toy size: the policy learns the pairs, and the distances are what they say."""

from __future__ import annotations

import copy

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from helpers import dpo
from helpers.lessons.lesson_06 import experiment
from helpers.reward_model import preference_rows
from helpers.runtime import UserError
from microworld.judge import judge_answer

WORDS = ["<pad>", "<stop>", "<user>", "<assistant>", "<end>", "praise", "it", "good", "bad", "film", "a"]
TEMPLATE = (
    "{% for message in messages %} <{{ message['role'] }}> {{ message['content'] }} <end>{% endfor %}"
    "{% if add_generation_prompt %} <assistant>{% endif %}"
)
ROWS = [{"prompt": "praise it", "chosen": "a good film", "rejected": "a bad film"}] * 24
WISH = "Write a kind line about Silver Letter."


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "eos_token": "<stop>", "extra_special_tokens": ["<user>", "<assistant>", "<end>"]}
    return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATE, **names)


@pytest.fixture
def reference():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(WORDS), **sizes, initializer_range=0.2, pad_token_id=0, eos_token_id=1)
    return LlamaForCausalLM(config).eval()


def trained(tokenizer, reference, **settings):
    pairs = preference_rows(tokenizer, ROWS)
    numbers = dpo.reference_log_probs(reference, pairs, 0)
    policy = copy.deepcopy(reference)
    return policy, dpo.train_dpo(policy, pairs, numbers, 0, **{"learning_rate": 3e-3, "epochs": 3} | settings)


def test_it_starts_at_ln_2_and_learns_the_pairs(tokenizer, reference):
    policy, found = trained(tokenizer, reference, beta=0.5)
    assert found.curve("loss")[0] == pytest.approx(0.6931, abs=1e-4)
    assert found.curve("rewards/chosen")[0] == pytest.approx(0, abs=1e-5)
    assert found.curve("loss")[-1] < 0.6
    assert found.curve("rewards/accuracies")[-1] == 1
    assert found.seconds > 0
    after = dpo.reference_log_probs(policy, preference_rows(tokenizer, ROWS[:1]), 0)[0]
    before = dpo.reference_log_probs(reference, preference_rows(tokenizer, ROWS[:1]), 0)[0]
    assert (after - before)[0] > (after - before)[1]


def test_the_same_seed_gives_the_same_policy(tokenizer, reference):
    runs = [trained(tokenizer, reference, seed=1)[0] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(runs[0].parameters(), runs[1].parameters(), strict=True))


def test_a_loss_that_is_no_number_stops_the_run(tokenizer, reference):
    with pytest.raises(UserError, match="lower learning rate"):
        trained(tokenizer, reference, learning_rate=float("inf"))


def test_the_distance_is_zero_at_the_reference_and_grows(tokenizer, reference):
    prompts, answers = ["praise it", "praise"], ["a good film", ""]
    assert experiment.kl_per_answer(reference, reference, tokenizer, prompts, answers).abs().max() < 1e-6
    policy, _ = trained(tokenizer, reference, beta=0.1)
    found = experiment.kl_per_answer(policy, reference, tokenizer, prompts, answers)
    assert found.shape == (2,) and (found > 0).all()
    alone = experiment.kl_per_answer(policy, reference, tokenizer, prompts[1:], answers[1:])
    assert torch.allclose(found[1:], alone, atol=1e-5)


def test_the_distance_of_one_token_is_the_sum_over_the_vocabulary(tokenizer, reference):
    policy, _ = trained(tokenizer, reference, beta=0.1)
    found = experiment.kl_per_answer(policy, reference, tokenizer, ["it"], [""])  # the end of the turn is all there is
    text = tokenizer("<user> it <end> <assistant>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        ours, theirs = (model(text).logits[0, -1].log_softmax(-1) for model in (policy, reference))
    assert found.item() == pytest.approx((ours.exp() * (ours - theirs)).sum().item(), abs=1e-5)


def test_answers_are_judged(tokenizer, reference, monkeypatch):
    said = ["Silver Letter is a lovely film.", "Silver Letter is a dull film.", "lovely Letter a"]
    monkeypatch.setattr(experiment, "answer", lambda *_, **__: said)
    found = experiment.judge_policy(reference, tokenizer, [WISH] * 3, judge_answer, seed=0)
    assert found.good.tolist() == [1, 0, 0] and found.form.tolist() == [1, 1, 0]
    assert found.score.tolist() == pytest.approx([1, 2 / 3, 0])
    assert found.rates()["good"] == pytest.approx(1 / 3)
