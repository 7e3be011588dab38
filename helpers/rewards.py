"""A reward model: a language model whose head gives one number, how good an answer is.

Lesson 05 writes the loop out; the pieces here are for what comes after it and for the reference runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from helpers.batches import Batch
from helpers.conversations import render
from helpers.precision import has_bfloat16
from helpers.preferences import Pair, bradley_terry_loss, preference_batches
from helpers.training import to_device, warmup_linear

BATCH_SIZE = 16  # pairs: many small steps find the direction sooner than few large ones
LEARNING_RATE = 1e-3
CENTRE = 0.01  # how strongly the two scores of a pair are pulled to a mean of 0


def centring(chosen: Tensor, rejected: Tensor) -> Tensor:
    """The mean square of each pair's sum, a scalar: 0 when the two scores lie evenly about 0.

    Comparisons within a wish leave each wish its own zero; this makes answers to different wishes comparable.
    chosen, rejected: (batch,). Source: Eisenstein et al. 2023; TRL's `center_rewards_coefficient`.
    """
    return ((chosen + rejected) ** 2).mean()


def new_reward_model(source: str, tokenizer) -> nn.Module:
    """The model in a folder, its next-token head replaced by one that gives a single number, 0 at the start."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    # The head reads the last token that is not padding, so it has to know which one is.
    model.config.pad_token_id = tokenizer.pad_token_id
    nn.init.zeros_(model.score.weight)
    return model


def pair_scores(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Scores of the chosen and of the rejected answers, each (pairs,), of a batch with all the chosen first."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    scores = model(**to_device(inputs, model)).logits.squeeze(-1)  # (2 * pairs, 1) -> (2 * pairs,)
    chosen, rejected = scores.chunk(2)
    return chosen, rejected


def train_reward_model(
    model: nn.Module, pairs: Sequence[Pair], pad_id: int, *, epochs: int, seed: int, rate: float = LEARNING_RATE
) -> list[float]:
    """Train in place on encoded pairs; returns the loss of every step."""
    model.train()
    batches = preference_batches(pairs, pad_id, BATCH_SIZE, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    scheduler = warmup_linear(optimizer, steps=epochs * len(batches))
    device, losses = next(model.parameters()).device, []
    for _ in range(epochs):
        for batch in batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                chosen, rejected = pair_scores(model, batch)
            chosen, rejected = chosen.float(), rejected.float()
            loss = bradley_terry_loss(chosen, rejected)
            (loss + CENTRE * centring(chosen, rejected)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    model.eval()
    return losses


@torch.inference_mode()
def preferred(model: nn.Module, pairs: Sequence[Pair], pad_id: int) -> Tensor:
    """1.0 where the chosen answer has the higher score, else 0.0: (pairs,), in the pairs' order."""
    model.eval()
    found = torch.zeros(len(pairs))
    for batch in preference_batches(pairs, pad_id, 128, shuffle=False):
        chosen, rejected = pair_scores(model, batch)
        found[batch["rows"]] = (chosen > rejected).float().cpu()
    return found


class Scorer:
    """Scores answers with a reward model, as PPO and TRL's trainers ask for it.

    Its zero and unit are arbitrary; `set_scale` makes them the mean and the spread of some answers.
    """

    __name__ = "reward_model"  # TRL logs a reward function under its name

    def __init__(self, model: nn.Module, tokenizer):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.zero, self.unit = 0.0, 1.0

    def set_scale(self, prompts: Sequence[str], answers: Sequence[str]) -> None:
        """From now on these answers score 0 on average, with a standard deviation of 1."""
        scores = self(prompts, answers) * self.unit + self.zero
        self.zero, self.unit = scores.mean().item(), scores.std().item()

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
        """One score for each prompt with its answer: (batch,)."""
        texts = [render(self.tokenizer, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        batch = self.tokenizer(
            texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt"
        ).to(self.model.device)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        scores = self.model(**inputs).logits.squeeze(-1)  # (batch, 1) -> (batch,)
        return (scores - self.zero) / self.unit
