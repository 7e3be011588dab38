"""Learning from pairs: which of two answers is better, as rows, as log-probabilities, and as losses.

What lesson 06 teaches is written there too; a test keeps the two the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader

from helpers import conversations
from helpers.batches import Batch, LengthSampler
from helpers.conversations import encode
from helpers.language_models import IGNORED
from helpers.runtime import UserError
from helpers.training import to_device

COLUMNS = ("prompt", "chosen", "rejected")
SIDES = ("chosen", "rejected")
Pair = dict[str, conversations.Row]
# Prompt and answer in; a verdict out that has `tone`, `film`, `form`, `good` (bool) and `score` (float).
Judge = Callable[[str, str], Any]


def sequence_log_probs(model: nn.Module, batch: Batch) -> Tensor:
    """The log-probability of each row's answer: (batch,), in nats, summed over its tokens.

    batch: input_ids, attention_mask and labels, each (batch, seq); labels are -100 outside the answer.
    """
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    log_probs = logits[:, :-1].log_softmax(dim=-1)  # (batch, seq - 1, vocab): each place predicts the next token
    labels = batch["labels"][:, 1:]  # (batch, seq - 1)
    answer = labels != IGNORED
    chosen = log_probs.gather(-1, labels.where(answer, 0).unsqueeze(-1)).squeeze(-1)  # (batch, seq - 1)
    return (chosen * answer).sum(dim=-1)


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """How improbable the observed preferences are: the mean of -log sigmoid(chosen - rejected), a scalar.

    chosen, rejected: (batch,) scores of the better and the worse answer. Source: Bradley and Terry 1952;
    as the loss of a reward model, Ouyang et al. 2022, equation 1.
    """
    return -nn.functional.logsigmoid(chosen - rejected).mean()


def dpo_loss(
    policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each pair and the implicit rewards of its two answers, each (batch,).

    The first four: (batch,) log-probabilities of whole answers. A reward is beta times how much likelier the
    policy makes an answer than the reference does. Source: Rafailov et al. 2023, equation 7.
    """
    chosen_rewards = beta * (policy_chosen - reference_chosen)
    rejected_rewards = beta * (policy_rejected - reference_rejected)
    losses = -nn.functional.logsigmoid(chosen_rewards - rejected_rewards)
    return losses, chosen_rewards, rejected_rewards


def check_preferences(rows: Iterable[Mapping], field: str = "preferences") -> None:
    """Raise a UserError that names the first fault: a missing column, an empty side, or two equal sides."""
    count = 0
    for count, row in enumerate(rows, start=1):
        missing = [name for name in COLUMNS if name not in row]
        if missing:
            raise UserError(
                f"{field}: there is no column {missing[0]}, only {', '.join(row)}; a pair needs prompt, chosen and "
                "rejected, so rename the columns that hold them."
            )
        for side in SIDES:
            if not isinstance(row[side], str) or not row[side].strip():
                raise UserError(f"{field}: {side} is empty in row {count}; write an answer or leave the row out.")
        if row["chosen"].strip() == row["rejected"].strip():
            raise UserError(
                f'{field}: chosen and rejected are equal in row {count} ("{row["chosen"][:40]}"); such a pair '
                "prefers nothing, so leave it out."
            )
    if not count:
        raise UserError(f"{field}: there are no rows; at least one pair is needed.")


def about_films(rows: Dataset) -> Dataset:
    """The pairs that an exact judge can follow: those of the micro-world, which name a film."""
    return rows if all(rows["film"]) else rows.filter(lambda row: bool(row["film"]))


def preference_rows(tokenizer, rows: Iterable[Mapping], max_length: int = 256) -> list[Pair]:
    """Each pair as two encoded conversations, {"chosen": ..., "rejected": ...}, with labels on the answers only.

    Raises:
        UserError: as `check_preferences` and `conversations.encode` do.
    """
    rows = list(rows)
    check_preferences(rows)
    encoded = partial(encode, tokenizer, max_length=max_length)
    return [{side: encoded(row["prompt"], row[side]) for side in SIDES} for row in rows]


def collate(pairs: Sequence[Pair], pad_id: int) -> Batch:
    """Pairs as one batch, all the chosen answers first: input_ids, attention_mask, labels (2 * pairs, seq)."""
    return conversations.collate([pair[side] for side in SIDES for pair in pairs], pad_id)


def preference_batches(
    pairs: Sequence[Pair], pad_id: int, batch_size: int = 32, seed: int = 0, shuffle: bool = True
) -> DataLoader:
    """Padded batches of pairs of like length, as `collate` makes them; each pass gives a new order.

    Each batch also holds `rows` (pairs,): which pairs these are.
    """
    lengths = [max(len(pair[side]["input_ids"]) for side in SIDES) for pair in pairs]
    sampler = LengthSampler(lengths, batch_size, shuffle=shuffle, seed=seed)
    numbered = list(enumerate(pairs))

    def numbered_collate(chosen: Sequence[tuple[int, Pair]]) -> Batch:
        rows, those = zip(*chosen, strict=True)
        return collate(those, pad_id) | {"rows": torch.tensor(rows)}

    # A generator of its own, so that loading batches never moves the global random state.
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(numbered, batch_sampler=sampler, collate_fn=numbered_collate, generator=generator)


@torch.inference_mode()
def reference_log_probs(model: nn.Module, pairs: Sequence[Pair], pad_id: int, batch_size: int = 64) -> Tensor:
    """Log-probabilities of both answers of each pair, in the pairs' order: (pairs, 2), chosen first.

    The reference never changes, so it runs once over the pairs, and need not stay in memory while the policy learns.
    """
    model.eval()
    found = torch.empty(len(pairs), len(SIDES))
    for batch in preference_batches(pairs, pad_id, batch_size, shuffle=False):
        rows = batch.pop("rows")
        found[rows] = sequence_log_probs(model, to_device(batch, model)).view(2, -1).T.float().cpu()
    return found


def win_rate(ours: Tensor, theirs: Tensor) -> float:
    """How often our answer has the higher score, a tie counting half. Both: (prompts,) scores of the same judge."""
    return ((ours > theirs).double() + 0.5 * (ours == theirs).double()).mean().item()
