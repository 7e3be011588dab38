"""What lesson 03 measures: curves over epochs, what a language model forgets, and two ways to split the same films."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from helpers.batches import Batch, Collate, TokenizedReviews, length_batches
from helpers.intervals import Interval
from helpers.language_model import IGNORED, mask_tokens
from helpers.models import MeanPoolClassifier, freeze_all_but
from helpers.recipes import recipe
from helpers.runtime import UserError
from helpers.training import BATCH_SIZE, History, fit_adamw, to_device

SIZES = (25, 50, 100, 200, 400)  # labels of the lesson's curve; the reference goes on to more
STEPS_FOR_FEW = 75  # a handful of labels is read again and again until it has had this many steps
FILMS = 10  # liked, and as many disliked, in the test of leakage
FILM_EPOCHS = 12  # long enough to learn the rows by heart, names and all
OPENING_WORDS = 25
CAPITALISED = re.compile(r"\b[A-Z][\w'-]*")
RATE = recipe("full").learning_rate  # a pocket model's
REFIT_STEPS = 60  # of the masked-word head on a body that stays as it is
NEXT_LABELS = 100  # of the task that comes after the fine-tuning


@dataclass(frozen=True)
class Remedy:
    """How to fine-tune so that less is forgotten; by itself it is the plain fine-tuning.

    rate: times the usual learning rate. blocks: trainable ones, from the top; None for all. replay: the weight of the
    old loss. decay: AdamW's weight decay. rank: of LoRA on all linear layers; 0 for none.
    """

    rate: float = 1.0
    blocks: int | None = None
    replay: float = 0.0
    decay: float = 0.01
    rank: int = 0


# Each curve runs from the plain fine-tuning to the setting that holds the model back most.
CURVES = {
    "learning rate": {"1/2": Remedy(0.5), "1/4": Remedy(0.25)},
    "trainable blocks": {"2": Remedy(blocks=2), "1": Remedy(2, blocks=1)},
    "replay weight": {"0.03": Remedy(replay=0.03), "0.1": Remedy(replay=0.1), "0.3": Remedy(replay=0.3)},
    "weight decay": {"1": Remedy(decay=1.0), "10": Remedy(decay=10.0)},
    "LoRA rank": {"8": Remedy(2, rank=8), "2": Remedy(2, rank=2)},
}
SHARES = (0.75, 0.5, 0.25)  # of the new weights in an average


def epochs_for(labels: int, least: int = 3) -> int:
    """How often `labels` rows are read: at least `least` times, and for at least 75 steps."""
    return max(least, math.ceil(STEPS_FOR_FEW / math.ceil(labels / BATCH_SIZE)))


def masked_batches(tokenizer, texts: Sequence[str], seed: int = 0, batch_size: int = 32) -> list[Batch]:
    """Texts with words hidden once and for all: batches of input_ids, attention_mask, labels, each (batch, seq).

    The same texts and the same seed hide the same words, so that two models can be asked the same questions.
    """
    draws = torch.Generator().manual_seed(seed)
    batches = []
    for first in range(0, len(texts), batch_size):
        part = list(texts[first : first + batch_size])
        read = tokenizer(
            part, padding=True, truncation=True, max_length=128, return_tensors="pt", return_special_tokens_mask=True
        )
        sizes = {"mask_id": tokenizer.mask_token_id, "vocab_size": len(tokenizer)}
        ids, labels = mask_tokens(read["input_ids"], read["special_tokens_mask"], **sizes, generator=draws)
        batches.append({"input_ids": ids, "attention_mask": read["attention_mask"], "labels": labels})
    return batches


def domain_batches(tokenizer, corpus: Dataset, count: int, seed: int = 0) -> dict[str, list[Batch]]:
    """For each domain of the corpus the batches of `masked_batches`, of its first `count` texts."""
    texts: dict[str, list[str]] = {}
    for row in corpus:
        texts.setdefault(row["domain"], []).append(row["text"])
    return {domain: masked_batches(tokenizer, own[:count], seed) for domain, own in texts.items()}


@torch.inference_mode()
def domain_losses(language_model: nn.Module, domains: dict[str, list[Batch]]) -> dict[str, float]:
    """The mean masked-word loss in nats per hidden token, for each domain's batches."""
    language_model.eval()
    losses = {}
    for domain, batches in domains.items():
        total, count = 0.0, 0
        for batch in batches:
            hidden = int((batch["labels"] != IGNORED).sum())
            total += language_model(**to_device(batch, language_model)).loss.item() * hidden
            count += hidden
        losses[domain] = total / count
    return losses


class WithReplay(nn.Module):
    """A classifier whose loss also asks for hidden words of old texts, one batch of them at each step.

    At a weight of 1.0 the old loss is the louder of the two, and the task is hardly learned (tried on validation rows).
    """

    def __init__(self, classifier: nn.Module, language_model: nn.Module, old: Iterable[Batch], weight: float = 0.1):
        super().__init__()
        self.classifier, self.language_model, self.weight = classifier, language_model, weight
        self.old = list(old)
        self.steps = 0

    def forward(self, **batch: Tensor):
        """The classifier's output; in training its loss has the old texts' masked-word loss added."""
        output = self.classifier(**batch)
        if self.training:
            old = self.old[self.steps % len(self.old)]
            self.steps += 1
            output.loss = output.loss + self.weight * self.language_model(**to_device(old, self)).loss
        return output


def add_lora(body: nn.Module, rank: int) -> nn.Module:
    """Freeze a body and put LoRA matrices beside all linear layers of its blocks, in place; alpha is 16."""
    from peft import LoraConfig, inject_adapter_in_model  # slow to import

    names = {name.rpartition(".")[2] for name, part in body.named_modules() if isinstance(part, nn.Linear)}
    config = LoraConfig(r=rank, lora_alpha=16, target_modules=sorted(names))
    return inject_adapter_in_model(config, body)


def fine_tune(
    remedy: Remedy,
    language_model: nn.Module,
    classifier: MeanPoolClassifier,
    rows: TokenizedReviews,
    collate: Collate,
    old: Sequence[Batch],
    *,
    rate: float = RATE,
    epochs: int = 3,
    seed: int = 0,
) -> History:
    """Fine-tune a classifier whose body `language_model` shares; `old` holds batches of masked old texts for replay."""
    if remedy.rank:
        add_lora(classifier.body, remedy.rank)
    elif remedy.blocks is not None:
        freeze_all_but(classifier, remedy.blocks)
    trained = WithReplay(classifier, language_model, old, remedy.replay) if remedy.replay else classifier
    batches = length_batches(rows, collate, BATCH_SIZE, seed=seed)
    return fit_adamw(trained, batches, remedy.rate * rate, epochs=epochs, weight_decay=remedy.decay)


def refit_head(language_model: nn.Module, batches: Sequence[Batch], rate: float = RATE) -> nn.Module:
    """Train what a masked language model has outside its body, on masked texts; the body stays as it is."""
    inside = {id(parameter) for parameter in language_model.base_model.parameters()}
    for parameter in language_model.parameters():
        parameter.requires_grad_(id(parameter) not in inside)  # the output embeddings are often the body's own
    fit_adamw(language_model, batches, rate, epochs=1, progress="the masked-word head")
    return language_model


def resampled_gap(gaps: np.ndarray, seed: int = 0, resamples: int = 2000) -> Interval:
    """The mean of a table of gaps, (seeds, groups), with the 95 % interval when seeds and groups are both drawn again.

    Source: Owen and Eckles 2012, "Bootstrapping data arrays of arbitrary order".
    """
    draws = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        rows, columns = (draws.integers(0, size, size) for size in gaps.shape)
        means.append(np.nanmean(gaps[np.ix_(rows, columns)]))
    low, high = np.nanquantile(means, [0.025, 0.975])
    return Interval(float(np.nanmean(gaps)), float(low), float(high))


def gap_by_group(first: Sequence[float], second: Sequence[float], groups: Sequence[str]) -> Mapping[str, float]:
    """Group -> the mean of first - second over its rows, in alphabetical order."""
    difference, names = np.asarray(first, float) - np.asarray(second, float), np.asarray(groups)
    return {name: float(difference[names == name].mean()) for name in sorted(set(groups))}


def lopsided_films(rows: Dataset, count: int) -> tuple[list[str], list[str]]:
    """The `count` films of which the smallest, and of which the largest share of reviews is positive."""
    if "film" not in rows.column_names:
        raise UserError('The column "film" is missing: without it nobody can tell which rows belong together.')
    scores: dict[str, list[int]] = {}
    for film, label in zip(rows["film"], rows["label"], strict=True):
        scores.setdefault(film, []).append(label)
    if len(scores) < 2 * count:
        raise UserError(f"count is {count}, but there are only {len(scores)} films; choose at most {len(scores) // 2}.")
    ordered = sorted(scores, key=lambda film: (sum(scores[film]) / len(scores[film]), film))
    return ordered[:count], ordered[-count:]


def two_halves(films: Sequence[str], groups: Sequence[Iterable[str]], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal the films out to two sides, and each side's rows to training and test: two pairs of row numbers.

    films: the film of each row; groups: films of one kind each (the disliked, the liked), dealt out evenly.
    """
    draws = np.random.default_rng(seed)
    sides = (set(), set())  # type: tuple[set[str], set[str]]
    for group in groups:
        order = draws.permutation(sorted(group)).tolist()
        sides[0].update(order[: len(order) // 2])
        sides[1].update(order[len(order) // 2 :])
    pairs = []
    for side in sides:
        own = draws.permutation([row for row, film in enumerate(films) if film in side])
        pairs.append((own[: len(own) // 2], own[len(own) // 2 :]))
    return pairs


def opening(text: str, words: int = OPENING_WORDS) -> str:
    """How a text begins."""
    return " ".join(text.split()[:words])


def hide_names(text: str) -> str:
    """Every word with a capital becomes "Name": titles, people and towns cannot be told apart any more."""
    return CAPITALISED.sub("Name", text)


def average_weights(one: dict[str, Tensor], other: dict[str, Tensor], share: float = 0.5) -> dict[str, Tensor]:
    """The weighted mean of two state dictionaries: share of `one`, the rest of `other`.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
    """
    return {
        name: share * value + (1 - share) * other[name] if value.is_floating_point() else value
        for name, value in one.items()
    }
