"""A reward model, that is, a language model with a scalar head that scores answers, and its training on pairs.

Lessons 05 and 06 write out the functions that they teach; a test checks that both versions agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification

from helpers import sft
from helpers.batches import Batch, grouped_batches
from helpers.own_data.table import same_answer
from helpers.pretrained import load_model
from helpers.recipes import recipe
from helpers.runtime import UserError
from helpers.sft import render
from helpers.training import to_device, warmup_linear

COLUMNS = ("prompt", "chosen", "rejected")
SIDES = ("chosen", "rejected")
Pair = dict[str, sft.Row]
BATCH_SIZE = 16  # pairs; small batches give many steps, which learn sooner than few large ones
LEARNING_RATE = recipe("reward_model").learning_rate  # for the pocket models
CENTERING = 0.01  # weight of the penalty that pulls the mean of a pair's two scores to 0


def check_preferences(rows: Iterable[Mapping], field: str = "preferences") -> None:
    """Raise a UserError for the first invalid pair: a missing column, an empty answer, or two equal answers."""
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
        if same_answer(row["chosen"], row["rejected"]):
            raise UserError(
                f'{field}: chosen and rejected are equal in row {count} ("{row["chosen"][:40]}"); such a pair '
                "prefers nothing, so leave it out."
            )
    if not count:
        raise UserError(f"{field}: there are no rows; at least one pair is needed.")


def about_films(rows: Dataset) -> Dataset:
    """Return the pairs that can be checked exactly: those of the micro-world, which name a film."""
    return rows if all(rows["film"]) else rows.filter(lambda row: bool(row["film"]))


def preference_rows(tokenizer, rows: Iterable[Mapping], max_length: int = 256) -> list[Pair]:
    """Encode each pair as two conversations, {"chosen": ..., "rejected": ...}, with labels only on the answers.

    Raises:
        UserError: as `check_preferences` and `sft.encode`.
    """
    rows = list(rows)
    check_preferences(rows)
    encoded = partial(sft.encode, tokenizer, max_length=max_length)
    return [{side: encoded(row["prompt"], row[side]) for side in SIDES} for row in rows]


def collate(pairs: Sequence[Pair], pad_id: int) -> Batch:
    """Collate pairs to a batch, with all chosen answers first: input_ids, attention_mask, labels (2 * pairs, seq)."""
    return sft.collate([pair[side] for side in SIDES for pair in pairs], pad_id)


def preference_batches(
    pairs: Sequence[Pair], pad_id: int, batch_size: int = 32, seed: int = 0, shuffle: bool = True
) -> DataLoader:
    """Return padded batches of pairs of similar length, made by `collate`; each pass has a new order.

    Each batch also contains `rows` (pairs,): the indices of its pairs.
    """
    lengths = [max(len(pair[side]["input_ids"]) for side in SIDES) for pair in pairs]

    def numbered_collate(chosen: Sequence[tuple[int, Pair]]) -> Batch:
        rows, those = zip(*chosen, strict=True)
        return collate(those, pad_id) | {"rows": torch.tensor(rows)}

    return grouped_batches(list(enumerate(pairs)), lengths, numbered_collate, batch_size, shuffle=shuffle, seed=seed)


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return the negative log-likelihood of the preferences: mean of -log sigmoid(chosen - rejected), a scalar.

    chosen, rejected: (batch,) scores of the better and the worse answer. Source: Bradley and Terry 1952;
    as the loss of a reward model, Ouyang et al. 2022, equation 1.
    """
    return -nn.functional.logsigmoid(chosen - rejected).mean()


def centering_penalty(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return the mean square of each pair's sum of scores, a scalar: 0 if the two scores of each pair have mean 0.

    Pairwise comparisons determine the scores only up to a constant per prompt. The penalty centers them at 0, so that
    scores of different prompts are comparable.
    chosen, rejected: (batch,). Source: Eisenstein et al. 2023; TRL's `center_rewards_coefficient`.
    """
    return ((chosen + rejected) ** 2).mean()


def reward_loss(chosen: Tensor, rejected: Tensor, margins: Tensor | float = 0.0, centering: float = 0.0) -> Tensor:
    """Return the Bradley-Terry loss with a margin for each pair, plus the centering penalty, a scalar.

    chosen, rejected, margins: (batch,). The chosen answer should score higher than the rejected one by the margin.
    Source: Touvron et al. 2023, equation 2 (margins); TRL's `RewardTrainer` computes the same.
    """
    return bradley_terry_loss(chosen - margins, rejected) + centering * centering_penalty(chosen, rejected)


def new_reward_model(source: str, tokenizer) -> Any:
    """Load the model in a folder with a new scalar head instead of its next-token head; it is initialized to 0."""
    model = load_model(AutoModelForSequenceClassification, source, num_labels=1)
    # The head reads the last token that is not padding, so the config needs the padding id.
    model.config.pad_token_id = tokenizer.pad_token_id
    nn.init.zeros_(model.score.weight)
    return model


def pair_scores(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the scores of the chosen and the rejected answers, each (pairs,), for a batch made by `collate`."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    scores = model(**to_device(inputs, model)).logits.squeeze(-1)  # (2 * pairs, 1) -> (2 * pairs,)
    chosen, rejected = scores.chunk(2)
    return chosen, rejected


def train_reward_model(
    model: nn.Module, pairs: Sequence[Pair], pad_id: int, *, epochs: int, seed: int, rate: float = LEARNING_RATE
) -> list[float]:
    """Train in place, in float32, on encoded pairs; return the loss of every step."""
    model.train()
    batches = preference_batches(pairs, pad_id, BATCH_SIZE, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    scheduler = warmup_linear(optimizer, steps=epochs * len(batches))
    losses = []
    for _ in range(epochs):
        for batch in batches:
            chosen, rejected = pair_scores(model, batch)
            reward_loss(chosen, rejected, centering=CENTERING).backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(bradley_terry_loss(chosen, rejected).item())
    model.eval()
    return losses


@torch.inference_mode()
def preferred(model: nn.Module, pairs: Sequence[Pair], pad_id: int) -> Tensor:
    """Return 1.0 for each pair whose chosen answer has the higher score, else 0.0: (pairs,), in the pairs' order."""
    model.eval()
    found = torch.zeros(len(pairs))
    for batch in preference_batches(pairs, pad_id, 128, shuffle=False):
        chosen, rejected = pair_scores(model, batch)
        found[batch["rows"]] = (chosen > rejected).float().cpu()
    return found


class Scorer:
    """Scores answers with a reward model, through the interface that PPO and TRL's trainers call.

    The zero and unit of a reward model's scores are arbitrary; `set_scale` standardizes them on some answers.
    """

    __name__ = "reward_model"  # TRL uses this name in its logs

    def __init__(self, model: nn.Module, tokenizer):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.zero, self.unit = 0.0, 1.0

    def set_scale(self, prompts: Sequence[str], answers: Sequence[str]) -> None:
        """Rescale all later scores so that these answers have mean 0 and standard deviation 1."""
        scores = self(prompts, answers) * self.unit + self.zero
        self.zero, self.unit = scores.mean().item(), scores.std().item()

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Return one score for each prompt with its answer: (batch,)."""
        texts = [render(self.tokenizer, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        batch = self.tokenizer(
            texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt"
        ).to(self.model.device)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        scores = self.model(**inputs).logits.squeeze(-1)  # (batch, 1) -> (batch,)
        return (scores - self.zero) / self.unit
