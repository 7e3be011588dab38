"""Proximal policy optimization (PPO) of a language model for a reward, with a KL penalty to a reference model.

Lesson 05 writes out the functions that it teaches; a test checks that both versions agree.
Sources: Schulman et al. 2017 (PPO), Schulman et al. 2016 (advantages), Ouyang et al. 2022 (the penalty).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from helpers.language_model import positions
from helpers.runtime import UserError
from helpers.sft import end_of_turn, render

Score = Callable[[Sequence[str], Sequence[str]], Tensor]  # prompts, answers -> (batch,)


@dataclass(frozen=True)
class PPORecipe:
    """The settings of one run of PPO; the reward and the prompts are passed separately."""

    updates: int = 30
    batch_size: int = 32
    ppo_epochs: int = 2  # passes over the same answers; the clip matters from the second one on
    learning_rate: float = 5e-4
    kl_coef: float = 0.2
    clip: float = 0.2
    gamma: float = 1.0  # no discount, because answers are short
    gae_lambda: float = 0.95
    max_new_tokens: int = 24
    missing_end_penalty: float = 1.0  # subtracted from the score of an answer without an end token


@dataclass
class PPOHistory:
    """One value per update: mean score, KL to the reference (nats per answer), entropy (nats per token), and more.

    length: the mean number of tokens per answer. clip_share: the share of tokens whose ratio is outside the clip
    range in the last pass. finished: the share of answers that reached their end token.
    """

    rewards: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    length: list[float] = field(default_factory=list)
    clip_share: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Rollout:
    """Answers sampled from a policy, with its values and both models' log-probabilities.

    input_ids, attention_mask: (batch, prompt + new); mask (True on the answer's own tokens), log_probs,
    reference_log_probs, values: (batch, new); finished: (batch,), True if the answer reached its end token.
    """

    input_ids: Tensor
    attention_mask: Tensor
    mask: Tensor
    log_probs: Tensor
    reference_log_probs: Tensor
    values: Tensor
    finished: Tensor
    answers: list[str]


class PolicyWithValue(nn.Module):
    """A language model with a linear value head, which predicts the reward that is still to come."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        self.value_head = nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, new: int) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities and values of the last `new` tokens, each (batch, new)."""
        asked = {"input_ids": input_ids, "attention_mask": attention_mask, **positions(self.model, attention_mask)}
        outputs = self.model(**asked, output_hidden_states=True, logits_to_keep=new + 1)
        # A token's log-probability and value both come from the position before it, where it is not yet known.
        hidden = outputs.hidden_states[-1][:, -new - 1 : -1].detach()  # no gradient from the value loss to the policy
        values = self.value_head(hidden).squeeze(-1)
        return log_probs_of(outputs.logits[:, :-1], input_ids[:, -new:]), values


def log_probs_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return each token's log-probability: (batch, new). logits: (batch, new, vocab); tokens: (batch, new)."""
    return logits.log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def answer_mask(tokens: Tensor, end_id: int) -> Tensor:
    """Return a mask that is True up to and including the first end token. tokens, result: (batch, new)."""
    ended = (tokens == end_id).cumsum(dim=1)
    return (ended == 0) | ((ended == 1) & (tokens == end_id))


def token_rewards(scores: Tensor, log_probs: Tensor, reference: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Return each token's reward: the negative KL penalty, plus the answer's score on the last token.

    scores: (batch,); the other tensors and the result: (batch, new).
    """
    rewards = -kl_coef * (log_probs - reference) * mask
    last = mask.sum(dim=1) - 1  # (batch,)
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return generalized advantage estimates and returns; all tensors (batch, new).

    An advantage is how much better a token turned out than the value head predicted.
    """
    advantages = torch.zeros_like(rewards)
    running = next_value = torch.zeros_like(rewards[:, 0])  # (batch,)
    for step in reversed(range(rewards.shape[1])):
        surprise = rewards[:, step] + gamma * next_value - values[:, step]
        running = (surprise + gamma * gae_lambda * running) * mask[:, step]
        next_value = values[:, step] * mask[:, step]
        advantages[:, step] = running
    return advantages, (advantages + values) * mask


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the answers' own tokens."""
    return (values * mask).sum() / mask.sum()


def clipped_surrogate(log_probs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Return PPO's loss, which rewards tokens with a positive advantage, but no ratio further from 1 than `clip`."""
    ratio = (log_probs - old).exp()  # (batch, new)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -masked_mean(torch.min(ratio * advantages, clipped * advantages), mask)


def ppo_update(policy: PolicyWithValue, optimizer, rollout: Rollout, scores: Tensor, recipe: PPORecipe) -> float:
    """Take `ppo_epochs` steps on one batch of answers; return the share of tokens outside the clip in the last pass."""
    mask = rollout.mask
    rewards = token_rewards(scores, rollout.log_probs, rollout.reference_log_probs, mask, recipe.kl_coef)
    advantages, returns = advantages_and_returns(rewards, rollout.values, mask, recipe.gamma, recipe.gae_lambda)
    centre = masked_mean(advantages, mask)
    advantages = (advantages - centre) / (masked_mean((advantages - centre) ** 2, mask).sqrt() + 1e-6)
    for _ in range(recipe.ppo_epochs):
        log_probs, values = policy(rollout.input_ids, rollout.attention_mask, mask.shape[1])
        loss = clipped_surrogate(log_probs, rollout.log_probs, advantages, mask, recipe.clip)
        loss = loss + masked_mean((values - returns) ** 2, mask)
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
    outside = ((log_probs - rollout.log_probs).exp() - 1).abs() > recipe.clip  # (batch, new)
    return masked_mean(outside.float(), mask).item()


@torch.no_grad()
def kl_estimates(policy: nn.Module, reference: nn.Module, rollout: Rollout) -> Tensor:
    """Return three estimates of the KL divergence from the policy to the reference, in nats per answer: (3, batch).

    k1 and k3 use only the sampled token (Schulman, "Approximating KL divergence", 2020). The third one sums over the
    whole vocabulary at each position, so only the answer itself is sampled. The rollout must come from this policy.
    """
    new, mask = rollout.mask.shape[1], rollout.attention_mask
    read = {"input_ids": rollout.input_ids, "attention_mask": mask, "logits_to_keep": new + 1}
    ours, theirs = (
        model(**read, **positions(model, mask)).logits[:, :-1].log_softmax(dim=-1) for model in (policy, reference)
    )  # (batch, new, vocab) each
    k1 = rollout.log_probs - rollout.reference_log_probs
    k3 = (-k1).exp() - 1 + k1
    over_vocabulary = (ours.exp() * (ours - theirs)).sum(dim=-1)
    return torch.stack([(part * rollout.mask).sum(dim=1) for part in (k1, k3, over_vocabulary)])


@torch.no_grad()
def roll_out(policy: PolicyWithValue, reference: nn.Module, tokenizer, prompts: Sequence[str], new: int) -> Rollout:
    """Sample answers from the policy; return them with both models' log-probabilities and the policy's values."""
    texts = [render(tokenizer, prompt) for prompt in prompts]
    read = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    read = {name: read[name].to(policy.model.device) for name in ("input_ids", "attention_mask")}
    end = end_of_turn(tokenizer)
    settings = {"do_sample": True, "top_k": 0, "eos_token_id": end, "pad_token_id": tokenizer.pad_token_id}
    input_ids = policy.model.generate(**read, max_new_tokens=new, **settings)  # (batch, prompt + new)
    written = input_ids[:, read["input_ids"].shape[1] :]  # (batch, new or fewer)
    mask = answer_mask(written, end)
    attention_mask = torch.cat([read["attention_mask"], mask.long()], dim=1)
    log_probs, values = policy(input_ids, attention_mask, written.shape[1])
    asked = {"input_ids": input_ids, "attention_mask": attention_mask, **positions(reference, attention_mask)}
    logits = reference(**asked, logits_to_keep=written.shape[1] + 1).logits
    reference_log_probs = log_probs_of(logits[:, :-1], written)
    finished = (written == end).any(dim=1)  # (batch,)
    answers = [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    return Rollout(input_ids, attention_mask, mask, log_probs, reference_log_probs, values, finished, answers)


def train_ppo(
    policy: PolicyWithValue, reference: nn.Module, tokenizer, prompts: Sequence[str], score: Score, recipe: PPORecipe
) -> PPOHistory:
    """Train the policy in place; torch's seed determines the samples. Raises UserError when a score is not finite."""
    policy.eval()  # no dropout, so that the ratio is 1 in the first pass
    heads = [{"params": policy.model.parameters()}, {"params": policy.value_head.parameters(), "lr": 1e-2}]
    optimizer = torch.optim.AdamW(heads, lr=recipe.learning_rate, weight_decay=0.0)
    history = PPOHistory()
    for update in tqdm(range(recipe.updates), desc="PPO", leave=False):
        drawn = torch.randint(len(prompts), (recipe.batch_size,)).tolist()
        asked = [prompts[row] for row in drawn]
        rollout = roll_out(policy, reference, tokenizer, asked, recipe.max_new_tokens)
        scores = score(asked, rollout.answers).to(rollout.log_probs)
        if not scores.isfinite().all():
            raise UserError(f"The reward became {scores.mean().item()} at update {update + 1}: it has to be a number.")
        cut = scores - recipe.missing_end_penalty * ~rollout.finished
        history.clip_share.append(ppo_update(policy, optimizer, rollout, cut, recipe))
        watch_update(history, rollout, scores)
    return history


def watch_update(history: PPOHistory, rollout: Rollout, scores: Tensor) -> None:
    """Add one update's diagnostics to the history; all except the score are estimates from the sampled tokens."""
    gap = (rollout.log_probs - rollout.reference_log_probs) * rollout.mask
    history.rewards.append(scores.mean().item())
    history.kl.append(gap.sum(dim=1).mean().item())
    history.entropy.append(-masked_mean(rollout.log_probs, rollout.mask).item())
    history.length.append(rollout.mask.sum(dim=1).float().mean().item())
    history.finished.append(rollout.finished.float().mean().item())
