"""Lesson 08's experiment: a model that knows one task is adapted to another, and watched for what it forgets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers.batches import Batch, FeatureBatches, Row, TokenizedReviews, length_batches
from helpers.cost import Stopwatch
from helpers.ladder import HEAD_BATCH_SIZE, HEAD_EPOCHS, Outcome
from helpers.lora import inject, linear_names
from helpers.models import HeadClassifier, MeanPoolClassifier, blocks, cache_features, freeze_all_but
from helpers.precision import half_precision
from helpers.runtime import seed_everything
from helpers.training import History, predict, to_device, train, trainable_parameters, warmup_linear

Collate = Callable[[list[Row]], Batch]
LABELS, BATCH_SIZE = 2000, 16
FIRST_LABELS, FIRST_EPOCHS, FIRST_RATE = 600, 2, 1e-3  # the task that the model knows before
RANK, ALPHA = 8, 16
RANKS = (1, 2, 4, 8, 16)  # of the cut-off changes
TRAINED_RANKS = (1, 16)  # of the reference, beside RANK
# Chosen on two seeds' validation rows, one grid for LoRA and "full" (benchmarks/lora.py --tune): the fewest epochs
# within a standard error of the method's best, the best rate there. 6 epochs gave "full" 0.4 points more, LoRA 0.9.
RATES = {"head_only": 3e-2, "lora": 2e-3, "full": 5e-4}
EPOCHS = {"head_only": 3, "lora": 6, "full": 3}
TITLES = {"head_only": "head only", "lora": "LoRA", "blocks": "all but the embeddings", "full": "all parameters"}


def block_targets(model: MeanPoolClassifier) -> list[str]:
    """The names of all linear layers inside the transformer blocks, attention and feed-forward alike."""
    return linear_names(blocks(model.body))


def prepare(model: MeanPoolClassifier, method: str, *, rank: int = RANK, alpha: float = ALPHA) -> MeanPoolClassifier:
    """Choose in place what may move: the head alone, LoRA branches and the head, all blocks and the head, or all."""
    if method == "lora":
        inject(model, block_targets(model), rank=rank, alpha=alpha, trained=("head",))
        return model
    return freeze_all_but(model, {"head_only": 0, "blocks": len(blocks(model.body)), "full": None}[method])


def new_head(model: MeanPoolClassifier, num_labels: int, seed: int) -> nn.Linear:
    """Give the model a fresh head in place; returns the old one."""
    seed_everything(seed)
    old = model.head
    model.head = MeanPoolClassifier(model.body, num_labels).head.to(old.weight.device)
    return old


class Watched:
    """Batches that stop now and then, so that somebody can look at the model between two steps.

    look: called `times` times in all, evenly over `steps` steps, the first before any step.
    `seconds` holds what the looking took.
    """

    def __init__(self, batches, look: Callable[[], None], times: int, steps: int) -> None:
        self.batches, self.look = batches, look
        self.stops = {round(index * steps / times) for index in range(times)}
        self.step, self.seconds = 0, 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            if self.step in self.stops:
                with Stopwatch() as watch:
                    self.look()
                self.seconds += watch.seconds
            self.step += 1
            yield batch


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
        """Train what is not frozen; `look` is called `times` times on the way and once at the end."""
        seed_everything(self.seed)
        batches = length_batches(rows, self.collate, BATCH_SIZE, seed=self.seed)
        steps = self.epochs * len(batches)
        free = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(free, lr=learning_rate, weight_decay=0.01)
        watched = Watched(batches, _then_train(look, model), times, steps) if look else batches
        with half_precision(_device(model)):
            history = train(
                model, watched, optimizer, warmup_linear(optimizer, steps), epochs=self.epochs, progress=progress
            )
        if look:
            history.seconds -= watched.seconds
            look()
        return history

    def fit_head(self, model: MeanPoolClassifier, rows: TokenizedReviews, learning_rate: float) -> History:
        """Train the head alone, on features that the frozen body gives once (lesson 02's shortcut)."""
        seed_everything(self.seed)
        with Stopwatch() as watch, half_precision(_device(model)):
            features, labels = cache_features(model, length_batches(rows, self.collate, 64, shuffle=False))
        batches = FeatureBatches(features.float(), labels, HEAD_BATCH_SIZE, seed=self.seed)
        passes = HEAD_EPOCHS if self.epochs > 1 else 2
        optimizer = torch.optim.AdamW(model.head.parameters(), lr=learning_rate, weight_decay=0.01)
        schedule = warmup_linear(optimizer, passes * len(batches))
        history = train(HeadClassifier(model.head), batches, optimizer, schedule, epochs=passes, progress="head")
        history.seconds += watch.seconds
        return history

    def outcome(self, title: str, model: MeanPoolClassifier, rows: TokenizedReviews, history: History) -> Outcome:
        """The predictions on test rows, with what training cost."""
        guesses, labels = self.answers(model, rows)
        cost = {"parameters": trainable_parameters(model), "seconds": history.seconds}
        return Outcome(title, guesses, labels, **cost, losses=tuple(history.losses))

    def answers(
        self, model: MeanPoolClassifier, rows: TokenizedReviews, head: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predicted and true labels, (rows,) each; with another task's head where one is given."""
        own = model.head
        model.head = head or own
        try:
            with half_precision(_device(model)):
                logits, labels = predict(model, length_batches(rows, self.collate, 64, shuffle=False))
        finally:
            model.head = own
        return logits.argmax(dim=-1), labels

    def accuracy(self, model: MeanPoolClassifier, rows: TokenizedReviews, head: nn.Module | None = None) -> float:
        """The share of right predictions."""
        guesses, labels = self.answers(model, rows, head)
        return (guesses == labels).double().mean().item()


def at_matched_accuracy(path: list[tuple[float, float]], accuracy: float) -> float:
    """What a method still knew of its first task when it first reached `accuracy` on the second.

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


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _then_train(look: Callable[[], None], model: nn.Module) -> Callable[[], None]:
    """Looking leaves the model in the state for predicting: put it back."""

    def looked() -> None:
        look()
        model.train()

    return looked
