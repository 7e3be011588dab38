"""Lesson 08: how low the rank of a weight's change is; and a model of one task adapted to another, watched on the way.

What the lesson teaches is written there too; a test keeps the two the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from helpers.batches import Batch, Collate, TokenizedReviews
from helpers.evaluation import Outcome, evaluate, predict_rows
from helpers.linear_layers import linear_layers, linear_names
from helpers.lora import inject
from helpers.models import MeanPoolClassifier, blocks, device_of, freeze_all_but
from helpers.recipes import origin_of, recipe
from helpers.runtime import seed_everything
from helpers.training import (
    BATCH_SIZE,
    HEAD_EPOCHS,
    History,
    half_precision,
    to_device,
    train_on_features,
    train_on_text,
)

LABELS = 2000
FIRST_LABELS, FIRST_EPOCHS, FIRST_RATE = 600, 2, 1e-3  # the task that the model knows before
RANK, ALPHA = 8, 16
RANKS = (1, 2, 4, 8, 16)  # of the cut-off changes
TRAINED_RANKS = (1, 16)  # of the reference, beside RANK
# Chosen on two seeds' validation rows, one grid for LoRA and "full" (benchmarks/lora.py --tune): the fewest epochs
# within a standard error of the method's best, the best rate there. 6 epochs gave "full" 0.4 points more, LoRA 0.9.
RATES = {name: recipe(name, lesson="08").learning_rate for name in ("head_only", "lora", "full")}  # a pocket model's
EPOCHS = {"head_only": 3, "lora": 6, "full": 3}
TITLES = {"head_only": "head only", "lora": "LoRA", "blocks": "all but the embeddings", "full": "all parameters"}


REAL_LABELS, REAL_TEST_ROWS, REAL_EPOCHS = 480, 500, 2  # of the section on real text


def recipes_for(config: Any, budget: str, rate_scale: float) -> tuple[dict[str, float], dict[str, int]]:
    """Learning rates and epochs by method, for a model that is one of this repository's or a published one.

    config: the model's `transformers` configuration. The head reads features that are computed once.
    """
    if origin_of(config) == "pocket":
        rates, epochs = {"topics": FIRST_RATE, **RATES}, dict(EPOCHS)
    else:
        found = {name: recipe(name, "published") for name in RATES}
        rates = {"topics": found["full"].learning_rate, **{name: one.learning_rate for name, one in found.items()}}
        epochs = {name: one.epochs for name, one in found.items()}
    epochs |= {"topics": FIRST_EPOCHS, "head_only": HEAD_EPOCHS}
    if budget == "quick":
        epochs = dict.fromkeys(epochs, 1)
    return {name: rate * rate_scale for name, rate in rates.items()}, epochs


def block_targets(model: MeanPoolClassifier) -> list[str]:
    """The names of all linear layers inside the transformer blocks, attention and feed-forward alike."""
    return linear_names(blocks(model.body))


def prepare(model: MeanPoolClassifier, method: str, *, rank: int = RANK, alpha: float = ALPHA) -> MeanPoolClassifier:
    """Choose in place what is trainable: the head alone, LoRA layers and the head, all blocks and the head, or all."""
    if method == "lora":
        inject(model, block_targets(model), rank=rank, alpha=alpha, modules_to_save=("head",))
        return model
    return freeze_all_but(model, {"head_only": 0, "blocks": len(blocks(model.body)), "full": None}[method])


def new_head(model: MeanPoolClassifier, num_labels: int, seed: int) -> nn.Linear:
    """Give the model a fresh head in place; returns the old one."""
    seed_everything(seed)
    old = model.head
    model.head = MeanPoolClassifier(model.body, num_labels).head.to(old.weight.device)
    return old


def truncate(change: Tensor, rank: int) -> Tensor:
    """The closest matrix of this rank: the `rank` largest singular values and their directions.

    change: (out, in). Source: Eckart and Young 1936, "The approximation of one matrix by another of lower rank".
    """
    left, sizes, right = torch.linalg.svd(change, full_matrices=False)
    return left[:, :rank] * sizes[:rank] @ right[:rank]  # (out, rank) @ (rank, in)


def pissa(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """The frozen rest, A (rank, in) and B (out, rank) with which a LoRA starts on the weight's largest directions.

    weight: (out, in). Source: Meng et al. 2024, "PiSSA", equations 2 to 4; the scale is taken out as in `peft`.
    """
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    root = (sizes[:rank] / scale).sqrt()  # each side takes half of the size
    A, B = root.unsqueeze(1) * right[:rank], left[:, :rank] * root
    return weight - scale * B @ A, A, B


def share_of_energy(change: Tensor) -> Tensor:
    """Of the squared entries of a matrix (out, in), the share that its closest matrix of rank 1, 2, ... holds."""
    squares = torch.linalg.svdvals(change) ** 2
    return squares.cumsum(0) / squares.sum()


def rank_for(change: Tensor, share: float = 0.9) -> int:
    """The smallest rank whose truncation holds this share of the energy."""
    return int((share_of_energy(change) < share).sum()) + 1


def linear_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every linear layer's weight (out, in), by its path."""
    return {path: layer.weight.detach().clone() for path, layer in linear_layers(model).items()}


def linear_changes(before: Mapping[str, Tensor], after: nn.Module) -> dict[str, Tensor]:
    """What training added to each weight of `before`, by path."""
    return {path: weight - before[path] for path, weight in linear_weights(after).items() if path in before}


@torch.no_grad()
def with_changes(model: nn.Module, before: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> nn.Module:
    """Set the weights to what they were before plus the given changes, in place."""
    layers = linear_layers(model)
    for path, change in changes.items():
        layers[path].weight.copy_(before[path] + change)
    return model


@dataclass
class Learner:
    """How every method is trained: the same batches, optimizer and schedule; only the learning rate differs."""

    collate: Collate
    epochs: int = 3
    seed: int = 0

    def fit(
        self,
        model: MeanPoolClassifier,
        rows: TokenizedReviews,
        learning_rate: float,
        *,
        look: Callable[[], None] | None = None,
        times: int = 0,
        progress: str = "training",
    ) -> History:
        """Train what is not frozen.

        Args:
            look: called `times` times, evenly over the steps, the first before any step; and once at the end. Its
                time does not count as training.
        """
        steps = self.epochs * math.ceil(len(rows) / BATCH_SIZE)
        stops = {round(index * steps / times) for index in range(times)}

        def on_step(step: int) -> None:
            if look and step in stops:
                look()

        seed_everything(self.seed)
        with half_precision(device_of(model)):
            history = train_on_text(
                model,
                rows,
                self.collate,
                learning_rate,
                epochs=self.epochs,
                seed=self.seed,
                progress=progress,
                on_step=on_step if look else None,
            )
        if look:
            look()
        return history

    def fit_head(self, model: MeanPoolClassifier, rows: TokenizedReviews, learning_rate: float) -> History:
        """Train the head alone, on features that the frozen body computes once."""
        seed_everything(self.seed)
        return train_on_features(
            model, rows, self.collate, learning_rate, epochs=self.epochs, seed=self.seed, bfloat16_features=True
        )

    def outcome(self, title: str, model: MeanPoolClassifier, rows: TokenizedReviews, history: History) -> Outcome:
        """The predictions on test rows, with what training cost."""
        return evaluate(title, model, rows, self.collate, history, bfloat16=True)

    def answers(
        self, model: MeanPoolClassifier, rows: TokenizedReviews, head: nn.Linear | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predicted and true labels, (rows,) each; with another task's head where one is given."""
        own = model.head
        model.head = head or own
        try:
            logits, labels = predict_rows(model, rows, self.collate, bfloat16=True)
        finally:
            model.head = own
        return logits.argmax(dim=-1), labels

    def accuracy(self, model: MeanPoolClassifier, rows: TokenizedReviews, head: nn.Linear | None = None) -> float:
        """The share of right predictions."""
        guesses, labels = self.answers(model, rows, head)
        return (guesses == labels).double().mean().item()


def at_matched_accuracy(path: list[tuple[float, float]], accuracy: float) -> float:
    """The accuracy on the first task when the method first reached `accuracy` on the second.

    path: (new, old) accuracies in the order of training. Between two looks the line is straight; nan when it
    never got there.
    """
    for (new, old), (later_new, later_old) in itertools.pairwise(path):
        if new < accuracy <= later_new:
            return old + (later_old - old) * (accuracy - new) / (later_new - new)
    return path[0][1] if path[0][0] >= accuracy else float("nan")


def logits_of(model: MeanPoolClassifier, batch: Batch) -> Tensor:
    """Scores (batch, classes) in full precision, for comparing to the bit."""
    model.eval()
    with torch.inference_mode():
        return model(**to_device(batch, model)).logits
