"""PPO's pieces against slow loops and hand-made cases, and a toy model that learns to say one word."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
)

from helpers import catalog, ppo
from helpers.language_model import count_positions_from_mask, positions
from helpers.ppo import (
    PolicyWithValue,
    PPORecipe,
    advantages_and_returns,
    answer_mask,
    clipped_surrogate,
    kl_estimates,
    log_probs_of,
    masked_mean,
    ppo_update,
    roll_out,
    token_rewards,
    train_ppo,
)
from helpers.runtime import UserError
from helpers.sft import end_of_turn

PROMPTS = ["Write a kind line about Forty Roads.", "Forty Roads: cold.", "Be kind."]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def tokenizer():
    if not catalog.POCKET_MODELS["decoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    return catalog.tokenizer("decoder", "pocket")


@pytest.fixture
def tiny(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_log_probs_are_those_of_the_tokens():
    logits, tokens = random(2, 3, 5), torch.tensor([[0, 4, 2], [1, 1, 3]])
    found = log_probs_of(logits, tokens)
    for row in range(2):
        for step in range(3):
            assert torch.isclose(found[row, step], logits[row, step].log_softmax(-1)[tokens[row, step]])


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        ([5, 9, 0, 0], [1, 1, 0, 0]),
        ([5, 6, 7, 8], [1, 1, 1, 1]),
        ([9, 9, 9, 9], [1, 0, 0, 0]),
        ([5, 9, 5, 9], [1, 1, 0, 0]),
    ],
)
def test_an_answer_ends_with_its_first_end_token(tokens, wanted):
    assert answer_mask(torch.tensor([tokens]), end_id=9)[0].int().tolist() == wanted


def test_the_score_lands_on_the_last_token_and_the_padding_earns_nothing():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    log_probs, reference = random(2, 3), random(2, 3, seed=1)
    found = token_rewards(torch.tensor([5.0, 7.0]), log_probs, reference, mask, 0.1)
    penalty = -0.1 * (log_probs - reference)
    wanted = torch.tensor([[penalty[0, 0], penalty[0, 1] + 5, 0], [penalty[1, 0], penalty[1, 1], penalty[1, 2] + 7]])
    assert torch.allclose(found, wanted)


@pytest.mark.parametrize(("gamma", "trace"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0)])
def test_advantages_are_the_faded_sum_of_surprises(gamma, trace):
    rewards, values = random(2, 5), random(2, 5, seed=1)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    rewards = rewards * mask
    advantages, returns = advantages_and_returns(rewards, values, mask, gamma, trace)
    for row, length in enumerate((3, 5)):
        ahead = [*values[row, :length].tolist(), 0.0]
        surprises = [rewards[row, t].item() + gamma * ahead[t + 1] - ahead[t] for t in range(length)]
        wanted = [sum((gamma * trace) ** (k - t) * surprises[k] for k in range(t, length)) for t in range(length)]
        assert torch.allclose(advantages[row, :length], torch.tensor(wanted), atol=1e-5)
    assert (advantages[0, 3:] == 0).all() and (returns[0, 3:] == 0).all()
    assert torch.allclose(returns[mask], (advantages + values)[mask])


def test_the_clip_takes_the_gain_and_leaves_the_way_back():
    mask, old = torch.ones(1, 1), torch.zeros(1, 1)
    for ratio, advantage, moves in ((1.5, 1.0, False), (0.5, 1.0, True), (0.5, -1.0, False), (1.5, -1.0, True)):
        now = torch.tensor([[ratio]]).log().requires_grad_()
        clipped_surrogate(now, old, torch.tensor([[advantage]]), mask, 0.2).backward()
        assert (now.grad.abs().item() > 0) == moves


def test_at_ratio_one_the_surrogate_is_the_policy_gradient():
    now = random(2, 3).requires_grad_()
    advantages, mask = random(2, 3, seed=1), torch.tensor([[1.0, 1, 0], [1, 1, 1]])
    (gradient,) = torch.autograd.grad(clipped_surrogate(now, now.detach(), advantages, mask, 0.2), now)
    assert torch.allclose(gradient, -advantages * mask / mask.sum())
    assert torch.isclose(masked_mean(advantages, mask), (advantages * mask).sum() / 5)


def test_a_rollout_of_an_unchanged_policy_agrees_with_the_reference(tiny, tokenizer):
    found = roll_out(PolicyWithValue(tiny), tiny, tokenizer, PROMPTS, new=6)
    assert torch.equal(found.log_probs, found.reference_log_probs)
    assert found.log_probs.shape == found.values.shape == found.mask.shape
    assert found.values.abs().sum() == 0 and len(found.answers) == 3


def test_the_three_estimates_of_the_kl_are_0_at_home_and_agree_on_average(tiny, tokenizer):
    policy = PolicyWithValue(tiny)
    torch.manual_seed(0)
    found = roll_out(policy, tiny, tokenizer, PROMPTS, new=6)
    assert not kl_estimates(tiny, tiny, found).any()
    moved = copy.deepcopy(tiny)
    with torch.no_grad():
        moved.lm_head.weight.add_(0.3 * torch.randn(moved.lm_head.weight.shape))
    found = roll_out(PolicyWithValue(moved), tiny, tokenizer, PROMPTS * 150, new=4)
    k1, k3, whole = kl_estimates(moved, tiny, found)
    assert (k3 >= -1e-4).all() and (whole >= -1e-4).all() and (k1 < 0).any()
    wanted = whole.mean().item()
    assert k1.mean().item() == pytest.approx(wanted, rel=0.2)
    assert whole.std() < k1.std()


def test_an_answer_that_was_cut_is_not_finished(tiny, tokenizer):
    found = roll_out(PolicyWithValue(tiny), tiny, tokenizer, PROMPTS, new=3)
    ended = (found.input_ids[:, -found.mask.shape[1] :] == end_of_turn(tokenizer)).any(dim=1)
    assert torch.equal(found.finished, ended)


def test_padding_does_not_change_what_a_policy_thinks_of_its_answer(tiny, tokenizer):
    torch.manual_seed(1)
    policy = PolicyWithValue(tiny)
    torch.nn.init.normal_(policy.value_head.weight)
    found = roll_out(policy, tiny, tokenizer, PROMPTS, new=6)
    for row in range(len(PROMPTS)):
        real = found.attention_mask[row].bool()
        new = int(found.mask[row].sum())
        with torch.no_grad():
            alone, values = policy(found.input_ids[row, real][None], torch.ones(1, int(real.sum())).long(), new)
        assert torch.allclose(alone[0], found.log_probs[row, :new], atol=1e-4)
        assert torch.allclose(values[0], found.values[row, :new], atol=1e-4)


def test_an_update_moves_the_policy_and_leaves_the_reference(tiny, tokenizer):
    policy = PolicyWithValue(copy.deepcopy(tiny))
    before = tiny.state_dict()["model.embed_tokens.weight"].clone()
    found = roll_out(policy, tiny, tokenizer, PROMPTS, new=6)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    ppo_update(policy, optimizer, found, torch.tensor([1.0, 0.0, -1.0]), PPORecipe())
    assert torch.equal(tiny.model.embed_tokens.weight, before)
    assert not torch.equal(policy.model.model.embed_tokens.weight, before)
    assert policy.value_head.weight.abs().sum() > 0


def test_a_toy_policy_learns_to_write_what_is_rewarded(tiny, tokenizer):
    def longer(prompts, answers):
        return torch.tensor([float(len(answer.split())) for answer in answers])

    torch.manual_seed(0)
    policy = PolicyWithValue(copy.deepcopy(tiny))
    recipe = PPORecipe(updates=25, batch_size=32, learning_rate=3e-2, kl_coef=0.0, max_new_tokens=6)
    trace = train_ppo(policy, tiny, tokenizer, PROMPTS, longer, recipe)
    assert sum(trace.rewards[-5:]) > 1.15 * sum(trace.rewards[:5])
    assert abs(trace.kl[0]) < 1e-4 < trace.kl[-1]
    assert len(trace.entropy) == len(trace.length) == len(trace.clip_share) == len(trace.finished) == 25
    assert trace.entropy[0] > trace.entropy[-1] > 0 and max(trace.length) <= 6 and 0 <= max(trace.clip_share) <= 1


def test_an_answer_without_its_end_pays(tiny, tokenizer, monkeypatch):
    seen = []
    monkeypatch.setattr(ppo, "ppo_update", lambda *given: seen.append(given[3]) or 0.0)
    recipe = PPORecipe(updates=1, batch_size=4, max_new_tokens=2, missing_end_penalty=0.5)
    trace = train_ppo(PolicyWithValue(tiny), tiny, tokenizer, PROMPTS, lambda p, a: torch.ones(len(a)), recipe)
    assert trace.rewards == [1.0] and seen[0].tolist() == [0.5 if not done else 1.0 for done in seen[0] == 1.0]
    assert (seen[0] == 0.5).any()


def test_a_reward_that_is_no_number_stops_the_run(tiny, tokenizer):
    with pytest.raises(UserError, match="The reward became nan at update 1"):
        train_ppo(
            PolicyWithValue(tiny), tiny, tokenizer, PROMPTS, lambda p, a: torch.full((len(a),), float("nan")),
            PPORecipe(updates=2, batch_size=4, max_new_tokens=4),
        )  # fmt: skip


SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "max_position_embeddings": 64}
FAMILIES = {
    "gpt2": GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=64, initializer_range=0.3),
    "llama": LlamaConfig(**SIZES, intermediate_size=32, initializer_range=0.3),
    "gpt_neox": GPTNeoXConfig(**SIZES, intermediate_size=32, initializer_range=0.3),
    "opt": OPTConfig(**SIZES, ffn_dim=32, word_embed_proj_dim=16, init_std=0.3),
    "gpt_bigcode": GPTBigCodeConfig(n_layer=2, n_head=2, n_embd=16, n_positions=64, initializer_range=0.3),
    "gptj": GPTJConfig(n_layer=2, n_head=2, n_embd=16, n_positions=64, rotary_dim=4, initializer_range=0.3),
    "bloom": BloomConfig(n_layer=2, n_head=2, hidden_size=16, initializer_range=0.3),
}


def of_family(name: str, tokenizer):
    torch.manual_seed(0)
    marks = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": 1, "eos_token_id": 2}
    config = copy.deepcopy(FAMILIES[name])
    for key, value in ({"vocab_size": len(tokenizer)} | marks).items():
        setattr(config, key, value)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_left_padded_rollout_is_the_same_as_each_row_alone(family, tokenizer):
    """GPT-2's learned positions, counted from the left edge, would be off by nats."""
    model = of_family(family, tokenizer)
    policy = PolicyWithValue(model)
    torch.nn.init.normal_(policy.value_head.weight)
    torch.manual_seed(1)
    found = roll_out(policy, model, tokenizer, PROMPTS, new=6)
    assert (found.attention_mask[:, 0] == 0).any()  # some rows are padded on the left
    for row in range(len(PROMPTS)):
        ids = found.input_ids[row, found.attention_mask[row].bool()][None]
        new = int(found.mask[row].sum())
        with torch.no_grad():
            wanted = log_probs_of(model(input_ids=ids).logits[:, -new - 1 : -1], ids[:, -new:])[0]
            values = policy(ids, torch.ones_like(ids), new)[1][0]
        assert torch.allclose(found.log_probs[row, :new], wanted, atol=1e-5)
        assert torch.allclose(found.reference_log_probs[row, :new], wanted, atol=1e-5)
        assert torch.allclose(found.values[row, :new], values, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_counts_its_own_positions_reads_left_padding_as_none(family, tokenizer):
    """What TRL's trainers do: an attention mask, and no positions."""
    model = of_family(family, tokenizer)
    count_positions_from_mask(model, None)
    ids, mask = torch.tensor([[9, 9, 9, 30, 31, 32, 33]]), torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    with torch.no_grad():
        alone = model(input_ids=ids[:, 3:]).logits
        padded = model(input_ids=ids, attention_mask=mask).logits[:, 3:]
        written = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=4)[:, 3:]
        assert torch.allclose(alone, padded, atol=1e-5)
        assert torch.equal(written, model.generate(input_ids=ids[:, 3:], do_sample=False, max_new_tokens=4))


def test_positions_count_from_the_first_real_token(tiny, tokenizer):
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    found = positions(of_family("gpt2", tokenizer), mask)
    assert found["position_ids"].tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]]
    assert positions(tiny, mask) == {}  # so that nothing changes for rotary positions, to the bit
