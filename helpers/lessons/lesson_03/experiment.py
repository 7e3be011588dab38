"""What lesson 03 measures: curves over epochs, what a language model forgets, and two ways to split the same films."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from helpers import catalog
from helpers.batches import Batch, Collate, TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.evaluation import correct_and_loss
from helpers.intervals import Interval, paired_bootstrap
from helpers.language_model import IGNORED, mask_tokens
from helpers.models import MeanPoolClassifier, freeze_all_but, mean_pool
from helpers.own_data import duplicates
from helpers.recipes import recipe
from helpers.reference import Reference
from helpers.runtime import UserError, seed_everything
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
SOURCES = ("films", "products", "editorials", "tweets")  # of the real sentences
REAL_LABELS, REAL_ROWS = 400, 200  # film sentences to train on, and sentences of each source to test on
REAL_PROBED = 100  # sentences among which one has to be found again


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


def early_stop(losses: Sequence[float], patience: int, min_delta: float = 0.0) -> tuple[bool, int]:
    """Whether training stops after these validation losses, and the best pass so far, from 1."""
    best = 0
    for at, loss in enumerate(losses):
        if loss < losses[best] - min_delta:
            best = at
    return len(losses) - 1 - best >= patience, best + 1


def grouped_split(groups: Sequence, share: float, seed: int) -> tuple[list[int], list[int]]:
    """`helpers.own_data.duplicates.grouped_split`, as exercise 03.3 calls it."""
    return duplicates.grouped_split(groups, share, seed)


def epochs_for(labels: int, least: int = 3) -> int:
    """How often `labels` rows are read: at least `least` times, and for at least 75 steps."""
    return max(least, math.ceil(STEPS_FOR_FEW / math.ceil(labels / BATCH_SIZE)))


def masked_batches(
    tokenizer, texts: Sequence[str], seed: int = 0, batch_size: int = 32, max_length: int = 128
) -> list[Batch]:
    """Texts with words hidden once and for all: batches of input_ids, attention_mask, labels, each (batch, seq).

    The same texts and the same seed hide the same words, so that two models can be asked the same questions.
    """
    draws = torch.Generator().manual_seed(seed)
    batches = []
    for first in range(0, len(texts), batch_size):
        part = list(texts[first : first + batch_size])
        read = tokenizer(
            part,
            padding=True,
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
            return_special_tokens_mask=True,
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
def masked_word_loss(language_model: nn.Module, batches: Sequence[Batch]) -> float:
    """The mean masked-word loss in nats per hidden token."""
    language_model.eval()
    total, count = 0.0, 0
    for batch in batches:
        hidden = int((batch["labels"] != IGNORED).sum())
        total += language_model(**to_device(batch, language_model)).loss.item() * hidden
        count += hidden
    return total / count


def domain_losses(language_model: nn.Module, domains: Mapping[str, Sequence[Batch]]) -> dict[str, float]:
    """The mean masked-word loss in nats per hidden token, for each domain's batches."""
    return {domain: masked_word_loss(language_model, batches) for domain, batches in domains.items()}


def outside_body(language_model: Any) -> list[nn.Parameter]:
    """The parameters of a language model's head; output embeddings that are the body's input embeddings are not."""
    inside = {id(parameter) for parameter in language_model.base_model.parameters()}
    return [parameter for parameter in language_model.parameters() if id(parameter) not in inside]


class WithReplay(nn.Module):
    """A classifier whose loss also asks for hidden words of old texts, one batch of them at each step.

    What the language model has outside its body is frozen: the old loss may move the body, and not its own head.
    At a weight of 1.0 the old loss is the louder of the two, and the task is hardly learned (tried on validation rows).
    """

    def __init__(self, classifier: nn.Module, language_model: Any, old: Iterable[Batch], weight: float):
        super().__init__()
        self.classifier, self.language_model, self.weight = classifier, language_model, weight
        self.old, self.steps = list(old), 0
        for parameter in outside_body(language_model):
            parameter.requires_grad_(False)

    def forward(self, **batch: Tensor):
        """The classifier's output; in training its loss has the old texts' masked-word loss added."""
        output = self.classifier(**batch)
        if self.training:
            old = to_device(self.old[self.steps % len(self.old)], self.classifier)
            self.steps += 1
            output.loss = output.loss + self.weight * self.language_model(**old).loss
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


def refit_head(language_model: Any, batches: Sequence[Batch], rate: float = RATE) -> nn.Module:
    """Train what a masked language model has outside its body, on masked texts; the body stays as it is."""
    language_model.requires_grad_(False)
    for parameter in outside_body(language_model):
        parameter.requires_grad_(True)
    fit_adamw(language_model, batches, rate, epochs=1, progress="the masked-word head")
    return language_model


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


def average_weights(new: dict[str, Tensor], old: dict[str, Tensor], share: float = 0.5) -> dict[str, Tensor]:
    """The weighted mean of two state dictionaries: share of `new`, the rest of `old`.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
    """
    return {
        name: share * value + (1 - share) * old[name] if value.is_floating_point() else value
        for name, value in new.items()
    }


def verdict(gap: Interval) -> str:
    """What a difference with its 95 % interval allows one to say."""
    return "higher" if gap.low > 0 else "lower" if gap.high < 0 else "not clearly different"


def curves_of(controls: Reference) -> dict[str, dict[str, tuple[Interval, Interval]]]:
    """Remedy -> setting -> the rise of the old loss and the accuracy over the seeds, from the plain fine-tuning on."""

    def point(name: str) -> tuple[Interval, Interval]:
        return controls.interval(f"loss_rise_curve_{name}"), controls.interval(f"accuracy_curve_{name}")

    curves = {"share of new weights": {f"{share:g}": point(f"share_of_new_weights_{share}") for share in SHARES}}
    for curve, settings in CURVES.items():
        curves[curve] = {setting: point(f"{curve.replace(' ', '_')}_{setting}") for setting in settings}
    return {curve: {"plain": point("plain"), **points} for curve, points in curves.items()}


def points_of(controls: Reference) -> dict[str, tuple[list[float], list[float]]]:
    """Setting -> its accuracies and its rises of the old loss, one for each seed; the plain fine-tuning first."""
    names = {name: name.replace("_", " ") for name in ("plain", *settings())}
    return {
        title: (controls.metrics[f"accuracy_curve_{name}"], controls.metrics[f"loss_rise_curve_{name}"])
        for name, title in names.items()
    }


def best_setting(points: Mapping[str, tuple[Sequence[float], Sequence[float]]], budget: float) -> str | None:
    """The setting with the highest mean accuracy among those whose rise is at most `budget` with every seed."""
    allowed = {name: float(np.mean(accuracies)) for name, (accuracies, rises) in points.items() if max(rises) <= budget}
    return max(allowed, key=allowed.__getitem__, default=None)


def fixed_report(first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]]) -> str:
    """Which of two models is right more often on the same test rows: "first", "second" or "neither"."""
    said = verdict(paired_bootstrap(first["test"], second["test"]))
    return {"higher": "first", "lower": "second"}.get(said, "neither")


def settings() -> list[str]:
    """The settings of all curves but the plain fine-tuning, as the reference names them."""
    shares = [f"share_of_new_weights_{share}" for share in SHARES]
    return shares + [f"{curve.replace(' ', '_')}_{setting}" for curve, own in CURVES.items() for setting in own]


def on_real_text(
    found_again: Callable[[nn.Module, list[str], object], float],
    learn: Callable[[str, MeanPoolClassifier, TokenizedReviews, Collate], None],
    seed: int,
    labels: int = REAL_LABELS,
    rows: int = REAL_ROWS,
) -> dict[str, float]:
    """Fine-tune MiniLM on film sentences; for each source: accuracy, and what its body finds again before and after.

    found_again: the probe, of a body, texts and a tokenizer. learn: trains "head_only" or "full" on tokenized rows.
    """
    tokenizer = catalog.tokenizer("encoder", "real")
    collate = pad(tokenizer)
    reviews, topics = catalog.dataset("reviews", "real"), catalog.dataset("topics", "real")
    train = _tokenized(sample_rows(reviews["train"], labels, seed), tokenizer)
    tested = {"films": reviews["test"].select(range(rows))}
    for number, source in enumerate(SOURCES[1:], start=1):
        own = topics["train"].filter(lambda row, number=number: row["label"] == number and abs(row["rating"]) >= 0.5)
        own = own.select(range(min(rows, len(own))))
        tested[source] = own.map(lambda row: {"label": int(row["rating"] > 0)}, features=reviews["test"].features)
    found: dict[str, float] = {}
    for name in ("head_only", "full"):
        seed_everything(seed)
        classifier = catalog.classifier("real")
        for source, part in tested.items() if name == "full" else ():
            found[f"found_before_{source}"] = found_again(classifier.body.eval(), part["text"][:REAL_PROBED], tokenizer)
        learn(name, classifier, train, collate)
        for source, part in tested.items():
            right, _ = correct_and_loss(classifier, _tokenized(part, tokenizer), collate)
            found[f"accuracy_{name}_{source}"] = right.mean().item()
            if name == "full":
                probed = part["text"][:REAL_PROBED]
                found[f"found_after_{source}"] = found_again(classifier.body.eval(), probed, tokenizer)
    return found


def _tokenized(rows: Dataset, tokenizer) -> TokenizedReviews:
    return TokenizedReviews.from_dataset(tokenize(rows, tokenizer))


@torch.inference_mode()
def found_again(body: nn.Module, texts: Sequence[str], tokenizer) -> float:
    """The share of texts whose shortened version, without every third word, is nearest to them among all texts."""

    def embed(texts: Sequence[str]) -> Tensor:
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")
        hidden = body(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        return nn.functional.normalize(mean_pool(hidden, batch["attention_mask"]), dim=-1)  # (batch, hidden)

    shorter = [" ".join(word for at, word in enumerate(text.split()) if at % 3 != 2) for text in texts]
    similar = embed(shorter) @ embed(texts).T  # (texts, texts)
    return (similar.argmax(dim=1) == torch.arange(len(texts))).double().mean().item()
