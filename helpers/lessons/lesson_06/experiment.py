"""How lesson 06 judges a policy: its drawn answers, and how far it moved from the reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from helpers.language_model import IGNORED
from helpers.lessons.lesson_05.experiment import Judge, JudgedAnswers, judge_answers
from helpers.sft import Row, answer, collate, split_conversation
from helpers.training import to_device

TEMPERATURE = 0.6  # of the answers that are judged: at 1.0 random typing errors hide what was learned
NEW_TOKENS = 24  # the longest line of the grammar takes a few less


def judge_policy(
    model: nn.Module, tokenizer, prompts: Sequence[str], judge: Judge, *, seed: int, temperature: float = TEMPERATURE
) -> JudgedAnswers:
    """Draw one answer to each request and let `judge`, such as `microworld.judge.judge_answer`, judge it."""
    answers = answer(model, tokenizer, prompts, NEW_TOKENS, temperature=temperature, seed=seed)
    return judge_answers(prompts, answers, judge)


def loss_gradients(chosen_rewards: Tensor, rejected_rewards: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The DPO loss's derivatives by the log-probabilities of the chosen and the rejected answers, (batch,) each."""
    weight = beta * torch.sigmoid(rejected_rewards - chosen_rewards)
    return -weight, weight


def relative_losses(
    policy: Tensor, reference: Tensor, lengths: Tensor, beta: float, epsilon: float, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The losses of IPO (per token, as in TRL), robust DPO and SimPO, (batch,) each.

    policy, reference: log-probabilities of whole answers; lengths: in tokens; all (2, batch), chosen answers first.
    Source: Azar et al. 2024; Chowdhury et al. 2024; Meng et al. 2024.
    """
    log_sigmoid, ratios = nn.functional.logsigmoid, policy - reference
    ratio_per_token, log_prob_per_token = ratios / lengths, policy / lengths
    ipo = (ratio_per_token[0] - ratio_per_token[1] - 1 / (2 * beta)) ** 2
    margin = beta * (ratios[0] - ratios[1])
    robust = -((1 - epsilon) * log_sigmoid(margin) - epsilon * log_sigmoid(-margin)) / (1 - 2 * epsilon)
    simpo = -log_sigmoid(beta * (log_prob_per_token[0] - log_prob_per_token[1]) - gamma)
    return ipo, robust, simpo


@torch.inference_mode()
def kl_per_answer(
    policy: nn.Module,
    reference: nn.Module,
    tokenizer,
    prompts: Sequence[str],
    answers: Sequence[str],
    batch_size: int = 64,
) -> Tensor:
    """How far the policy has moved, on answers that it drew: (prompts,) in nats per answer.

    At each token of an answer the whole next-token distributions are compared, sum of p (log p - log q) over the
    vocabulary, and added up over the answer: the exact divergence at each place, so only the places are drawn.
    """
    policy.eval(), reference.eval()
    rows = [_answer_row(tokenizer, *pair) for pair in zip(prompts, answers, strict=True)]
    found = []
    for start in range(0, len(rows), batch_size):
        batch = to_device(collate(rows[start : start + batch_size], tokenizer.pad_token_id), policy)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        ours, theirs = (model(**inputs).logits[:, :-1].log_softmax(dim=-1) for model in (policy, reference))
        apart = (ours.exp() * (ours - theirs)).sum(dim=-1)  # (batch, seq - 1, vocab) -> (batch, seq - 1)
        found.append((apart * (batch["labels"][:, 1:] != IGNORED)).sum(dim=-1).cpu())
    return torch.cat(found)


def _answer_row(tokenizer, prompt: str, text: str) -> Row:
    """A drawn answer with labels on it; unlike `encode` it takes an empty one, since a policy may say nothing."""
    input_ids, hidden = split_conversation(tokenizer, prompt, text)
    return {"input_ids": input_ids, "labels": [IGNORED] * hidden + input_ids[hidden:]}
