"""The ladder of lesson 02: how much of a model is trained, with one recipe for the lesson and its reference table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.batches import Batch, FeatureBatches, Row, TokenizedReviews, length_batches
from helpers.intervals import Interval, wilson
from helpers.models import HeadClassifier, MeanPoolClassifier, cache_features, freeze_all_but
from helpers.runtime import seed_everything
from helpers.training import History, PeakMemory, Stopwatch, predict, train, trainable_parameters, warmup_linear

LABELS = 2000
EPOCHS = 3
BATCH_SIZE = 16  # few labels: small batches give more steps, and the first of them only find the direction
HEAD_BATCH_SIZE = 64
# Passes over the cached features: a pass of the head alone costs about a thousandth of one of the whole model.
HEAD_EPOCHS = 40


@dataclass(frozen=True)
class Rung:
    """One way to train: what starts pretrained, what may change, and how fast."""

    name: str  # the ending of its metrics: accuracy_head_only
    title: str
    pretrained: bool
    trainable_blocks: int | None  # None: every parameter
    learning_rate: float  # the best of a grid on the validation rows, the same grid for every rung


RUNGS = {
    rung.name: rung
    for rung in (
        Rung("scratch", "random start, all trained", False, None, 5e-4),
        Rung("head_only", "pretrained, head only", True, 0, 3e-2),
        Rung("last_block", "pretrained, last block + head", True, 1, 2e-3),
        Rung("full", "pretrained, all trained", True, None, 1e-3),
    )
}


@dataclass(frozen=True)
class Task:
    """What every rung is given alike."""

    new_model: Callable[[bool], MeanPoolClassifier]  # takes `pretrained`
    train_rows: TokenizedReviews
    test_rows: TokenizedReviews
    collate: Callable[[list[Row]], Batch]
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """What a rung gave on the test rows, and what it cost.

    predictions, labels: (rows,) class numbers in the order of the test rows.
    """

    title: str
    predictions: Tensor
    labels: Tensor
    parameters: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    losses: tuple[float, ...] = ()

    @property
    def correct(self) -> Tensor:
        """1.0 where the prediction is the label, else 0.0: (rows,)."""
        return (self.predictions == self.labels).double()

    @property
    def accuracy(self) -> Interval:
        """The share of right predictions with Wilson's 95 % interval."""
        return wilson(int(self.correct.sum()), len(self.labels))

    def metrics(self, name: str) -> dict[str, float]:
        """What is recorded of it: accuracy_NAME and, where there was training, its cost."""
        found = {f"accuracy_{name}": self.accuracy.value}
        if self.parameters:
            found |= {f"seconds_{name}": self.seconds, f"trainable_parameters_{name}": int(self.parameters)}
        if self.peak_bytes:
            found[f"peak_memory_bytes_{name}"] = self.peak_bytes
        return found


def climb(rung: Rung, task: Task, *, epochs: int, seed: int, rate_scale: float = 1.0, progress: str = "") -> Outcome:
    """Train one rung and predict the test rows.

    The seconds and the memory are those of training; for the head alone they include running the
    frozen body once over the rows.
    """
    seed_everything(seed)
    model = freeze_all_but(task.new_model(rung.pretrained).to(task.device), rung.trainable_blocks)
    fit = train_on_features if rung.trainable_blocks == 0 else train_on_text
    with PeakMemory() as memory:
        history = fit(model, task, rung.learning_rate * rate_scale, epochs, seed, progress or rung.title)
    logits, labels = predict(model, length_batches(task.test_rows, task.collate, 64, shuffle=False))
    return Outcome(
        title=rung.title,
        predictions=logits.argmax(dim=-1),
        labels=labels,
        parameters=trainable_parameters(model),
        seconds=history.seconds,
        peak_bytes=memory.added,
        losses=tuple(history.losses),
    )


def train_on_text(
    model: MeanPoolClassifier, task: Task, learning_rate: float, epochs: int, seed: int, progress: str
) -> History:
    """Every step runs the whole model on a batch of token ids, and updates what is not frozen."""
    batches = length_batches(task.train_rows, task.collate, BATCH_SIZE, seed=seed)
    return _fit(model, batches, learning_rate, epochs, progress)


def train_on_features(
    model: MeanPoolClassifier, task: Task, learning_rate: float, epochs: int, seed: int, progress: str
) -> History:
    """A frozen body gives the same features at every pass: run it once, then train the head on them.

    `epochs` is how often the other rungs see the rows; at 1 (a trial run) the head's passes are few too.
    """
    rows = length_batches(task.train_rows, task.collate, 64, shuffle=False)
    with Stopwatch() as watch:
        features, labels = cache_features(model, rows)
    batches = FeatureBatches(features, labels, HEAD_BATCH_SIZE, seed=seed)
    passes = HEAD_EPOCHS if epochs > 1 else 2
    history = _fit(HeadClassifier(model.head), batches, learning_rate, passes, progress)
    history.seconds += watch.seconds
    return history


def _fit(model: torch.nn.Module, batches, learning_rate: float, epochs: int, progress: str) -> History:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    scheduler = warmup_linear(optimizer, steps=epochs * len(batches))
    return train(model, batches, optimizer, scheduler, epochs=epochs, progress=progress)
