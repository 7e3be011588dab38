"""Direct preference optimization: one recipe for lesson 06 and its reference table, and how its result is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from helpers.conversations import Row, answer, collate, render
from helpers.language_models import IGNORED
from helpers.preferences import Judge, Pair, dpo_loss, preference_batches, sequence_log_probs
from helpers.training import History, PeakMemory, to_device, train, warmup_linear

PAIRS = 3200
BATCH_SIZE = 16
LEARNING_RATE = 2e-4
BETA = 1.0
BETAS = (0.1, 0.3, 1.0, 3.0)
ANCHOR = 1.0
TEMPERATURE = 0.6  # of the answers that are judged: at 1.0 slips of the pen drown what was learnt
NEW_TOKENS = 24  # the longest line of the grammar takes a few less


class DPO(nn.Module):
    """A policy that takes pairs and returns their loss, so that the ordinary loop can train it.

    reference: (pairs, 2) log-probabilities from `preferences.reference_log_probs`. anchor: the weight of the chosen
    answers' own loss per token, which keeps them probable (Pang et al. 2024; in TRL loss_type=["sigmoid", "sft"]).
    `trace` keeps, for each step, the means of the DPO loss, rewards and log-probabilities, named as TRL logs them.
    """

    def __init__(self, policy: nn.Module, reference: Tensor, beta: float, anchor: float = 0.0) -> None:
        super().__init__()
        self.policy, self.beta, self.anchor = policy, beta, anchor
        self.register_buffer("reference", reference)
        self.trace: list[dict[str, float]] = []

    def forward(self, rows: Tensor, **batch: Tensor) -> SimpleNamespace:
        """rows: (pairs,) which pairs these are; batch: as `preferences.collate` makes it, (2 * pairs, seq)."""
        chosen, rejected = sequence_log_probs(self.policy, batch).chunk(2)
        losses, *rewards = dpo_loss(chosen, rejected, *self.reference[rows].T, self.beta)
        names = ("loss", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")
        values = (losses, *rewards, chosen, rejected)
        step = {name: value.mean().item() for name, value in zip(names, values, strict=True)}
        step["rewards/accuracies"] = (rewards[0] > rewards[1]).double().mean().item()
        self.trace.append(step)
        tokens = (batch["labels"][: len(chosen)] != IGNORED).sum()
        return SimpleNamespace(loss=losses.mean() - self.anchor * chosen.sum() / tokens)


@dataclass(frozen=True)
class Trained:
    """What a run of DPO leaves behind: its trace, and what it cost."""

    trace: list[dict[str, float]]
    seconds: float
    peak_bytes: int

    def curve(self, name: str) -> list[float]:
        """One value per step."""
        return [step[name] for step in self.trace]


def train_dpo(
    policy: nn.Module,
    pairs: Sequence[Pair],
    reference: Tensor,
    pad_id: int,
    *,
    beta: float = BETA,
    anchor: float = ANCHOR,
    learning_rate: float = LEARNING_RATE,
    epochs: int = 1,
    seed: int = 0,
) -> Trained:
    """Train the policy in place on the pairs; reference: (pairs, 2) log-probabilities, in the pairs' order."""
    batches = preference_batches(pairs, pad_id, BATCH_SIZE, seed=seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    scheduler = warmup_linear(optimizer, steps=epochs * len(batches))
    learner = DPO(policy, reference, beta, anchor).to(next(policy.parameters()).device)
    with PeakMemory() as memory:
        history: History = train(learner, batches, optimizer, scheduler, epochs=epochs, progress=f"DPO, beta {beta:g}")
    return Trained(learner.trace, history.seconds, memory.added)


@dataclass(frozen=True)
class Judged:
    """Answers to wishes, and what the exact judge says of each: four tensors (prompts,) of 0/1 or a score."""

    answers: list[str]
    tone: Tensor
    film: Tensor
    form: Tensor
    score: Tensor

    @property
    def good(self) -> Tensor:
        """1.0 where the answer grants the wish: tone, film and form."""
        return self.tone * self.film * self.form

    def rates(self) -> dict[str, float]:
        """The share of answers that are right in each way, and in all."""
        return {name: getattr(self, name).mean().item() for name in ("good", "tone", "film", "form")}


def judge_policy(
    model: nn.Module, tokenizer, prompts: Sequence[str], judge: Judge, *, seed: int, temperature: float = TEMPERATURE
) -> Judged:
    """Draw one answer to each wish and have it judged by `judge`, such as `microworld.judge.judge_answer`."""
    answers = answer(model, tokenizer, prompts, NEW_TOKENS, temperature=temperature, seed=seed)
    verdicts = [judge(prompt, text) for prompt, text in zip(prompts, answers, strict=True)]
    names = ("tone", "film", "form", "score")
    return Judged(answers, *(torch.tensor([float(getattr(one, name)) for one in verdicts]) for name in names))


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
    start = tokenizer(render(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    whole = tokenizer(render(tokenizer, prompt, text), add_special_tokens=False)["input_ids"]
    return {"input_ids": whole, "labels": [IGNORED] * len(start) + whole[len(start) :]}
