"""Direct preference optimization (DPO): log-probabilities of answers, the loss, and the training.

Lesson 06 writes out the functions that it teaches; a test checks that both versions agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from helpers.batches import Batch
from helpers.cost import PeakMemory
from helpers.language_model import IGNORED
from helpers.models import device_of
from helpers.recipes import recipe
from helpers.reward_model import SIDES, Pair, preference_batches
from helpers.training import fit_adamw, to_device

PAIRS = 3200
BATCH_SIZE = 16
LEARNING_RATE = recipe("dpo").learning_rate  # for the pocket models
BETA = 1.0
BETAS = (0.1, 0.3, 1.0, 3.0)
SFT_WEIGHT = 1.0


def sequence_log_probs(model: nn.Module, batch: Batch) -> Tensor:
    """Return the log-probability of each row's answer: (batch,), in nats, summed over the answer's tokens.

    batch: input_ids, attention_mask and labels, each (batch, seq); labels are -100 outside the answer.
    """
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    log_probs = logits[:, :-1].log_softmax(dim=-1)  # (batch, seq - 1, vocab): each position predicts the next token
    labels = batch["labels"][:, 1:]  # (batch, seq - 1)
    answer = labels != IGNORED
    chosen = log_probs.gather(-1, labels.where(answer, 0).unsqueeze(-1)).squeeze(-1)  # (batch, seq - 1)
    return (chosen * answer).sum(dim=-1)


def dpo_loss(
    policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of each pair and the implicit rewards of its two answers, each (batch,).

    The first four arguments are log-probabilities of whole answers, (batch,). A reward is beta times the policy's
    log-probability minus the reference's. Source: Rafailov et al. 2023, equation 7.
    """
    chosen_rewards = beta * (policy_chosen - reference_chosen)
    rejected_rewards = beta * (policy_rejected - reference_rejected)
    losses = -nn.functional.logsigmoid(chosen_rewards - rejected_rewards)
    return losses, chosen_rewards, rejected_rewards


@torch.inference_mode()
def reference_log_probs(model: nn.Module, pairs: Sequence[Pair], pad_id: int, batch_size: int = 64) -> Tensor:
    """Return the log-probabilities of both answers of each pair, in the pairs' order: (pairs, 2), chosen first.

    The reference never changes, so it runs once over the pairs and need not stay in memory during training.
    """
    model.eval()
    found = torch.empty(len(pairs), len(SIDES))
    for batch in preference_batches(pairs, pad_id, batch_size, shuffle=False):
        rows = batch.pop("rows")
        found[rows] = sequence_log_probs(model, to_device(batch, model)).view(2, -1).T.float().cpu()
    return found


def win_rate(ours: Tensor, theirs: Tensor) -> float:
    """Return the share of prompts where `ours` scores higher (a tie counts half). Both: (prompts,), one judge."""
    return ((ours > theirs).double() + 0.5 * (ours == theirs).double()).mean().item()


class DPO(nn.Module):
    """Wraps a policy: takes a batch of pairs and returns their loss, so that `helpers.training` can train it.

    reference: (pairs, 2) log-probabilities from `reference_log_probs`. sft_weight: weight of the chosen answers'
    cross-entropy per token, which keeps them probable (Pang et al. 2024; in TRL loss_type=["sigmoid", "sft"]).
    `log` keeps, for each step, the means of the DPO loss, rewards and log-probabilities, named as TRL logs them.
    """

    reference: Tensor

    def __init__(self, policy: nn.Module, reference: Tensor, beta: float, sft_weight: float = 0.0) -> None:
        super().__init__()
        self.policy, self.beta, self.sft_weight = policy, beta, sft_weight
        self.register_buffer("reference", reference)
        self.log: list[dict[str, float]] = []

    def forward(self, rows: Tensor, **batch: Tensor) -> SimpleNamespace:
        """rows: (pairs,) indices of the batch's pairs; batch: (2 * pairs, seq) tensors from `reward_model.collate`."""
        chosen, rejected = sequence_log_probs(self.policy, batch).chunk(2)
        reference_chosen, reference_rejected = self.reference[rows].T
        losses, *rewards = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, self.beta)
        names = ("loss", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")
        values = (losses, *rewards, chosen, rejected)
        step = {name: value.mean().item() for name, value in zip(names, values, strict=True)}
        step["rewards/accuracies"] = (rewards[0] > rewards[1]).double().mean().item()
        self.log.append(step)
        tokens = (batch["labels"][: len(chosen)] != IGNORED).sum()
        return SimpleNamespace(loss=losses.mean() - self.sft_weight * chosen.sum() / tokens)


@dataclass(frozen=True)
class DPORun:
    """The result of a DPO run: its log, its seconds, and the peak memory that it added."""

    log: list[dict[str, float]]
    seconds: float
    peak_bytes: int

    def curve(self, name: str) -> list[float]:
        """Return the logged value `name` of each step."""
        return [step[name] for step in self.log]


def train_dpo(
    policy: nn.Module,
    pairs: Sequence[Pair],
    reference: Tensor,
    pad_id: int,
    *,
    beta: float = BETA,
    sft_weight: float = SFT_WEIGHT,
    learning_rate: float = LEARNING_RATE,
    epochs: int = 1,
    seed: int = 0,
) -> DPORun:
    """Train the policy in place on the pairs; reference: (pairs, 2) log-probabilities, in the pairs' order."""
    batches = preference_batches(pairs, pad_id, BATCH_SIZE, seed=seed)
    learner = DPO(policy, reference, beta, sft_weight).to(device_of(policy))
    with PeakMemory() as memory:
        progress = f"DPO, beta {beta:g}"
        history = fit_adamw(learner, batches, learning_rate, epochs=epochs, weight_decay=0.0, progress=progress)
    return DPORun(learner.log, history.seconds, memory.added)
