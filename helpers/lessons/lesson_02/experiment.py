"""Lesson 02: how much of a model is trained. One recipe for the lesson and its reference; kinds of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datasets import Dataset

from helpers.batches import Collate, TokenizedReviews
from helpers.cost import PeakMemory
from helpers.evaluation import Outcome, evaluate
from helpers.models import MeanPoolClassifier, freeze_all_but
from helpers.recipes import origin_of, recipe
from helpers.runtime import seed_everything
from helpers.training import train_on_features, train_on_text

LABELS = 2000
EPOCHS = 3
THIRDS = ("short", "middling", "long")


@dataclass(frozen=True)
class FreezeStrategy:
    """One way to train: what starts pretrained and what is trainable; the rates are in `helpers.recipes`."""

    name: str  # the ending of its metrics: accuracy_head_only
    title: str
    pretrained: bool
    trainable_blocks: int | None  # None: every parameter

    @property
    def learning_rate(self) -> float:
        """A pocket model's, the best of a grid on the validation rows; `fit_and_evaluate` takes the loaded model's."""
        return recipe(self.name).learning_rate


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        FreezeStrategy("scratch", "random start, all trained", False, None),
        FreezeStrategy("head_only", "pretrained, head only", True, 0),
        FreezeStrategy("last_block", "pretrained, last block + head", True, 1),
        FreezeStrategy("full", "pretrained, all trained", True, None),
    )
}


@dataclass(frozen=True)
class Task:
    """What is the same for every strategy: model, rows and device."""

    new_model: Callable[[bool], MeanPoolClassifier]  # takes `pretrained`
    train_rows: TokenizedReviews
    test_rows: TokenizedReviews
    collate: Collate
    device: str = "cpu"


def fit_and_evaluate(
    strategy: FreezeStrategy, task: Task, *, epochs: int, seed: int, rate_scale: float = 1.0
) -> Outcome:
    """Train with one strategy and predict the test rows.

    The seconds and the memory are those of training; for the head alone they include running the
    frozen body once over the rows.
    """
    seed_everything(seed)
    model = freeze_all_but(task.new_model(strategy.pretrained).to(task.device), strategy.trainable_blocks)
    fit = train_on_features if strategy.trainable_blocks == 0 else train_on_text
    rate = recipe(strategy.name, origin_of(model.config)).learning_rate * rate_scale
    with PeakMemory() as memory:
        history = fit(model, task.train_rows, task.collate, rate, epochs=epochs, seed=seed, progress=strategy.title)
    return evaluate(strategy.title, model, task.test_rows, task.collate, history, peak_bytes=memory.added)


def rows_by_kind(dataset: Dataset, column: str = "phenomena", least: int = 1) -> dict[str, list[int]]:
    """Row numbers by what `column` (a list of names in each row) says; a row may be of several kinds.

    Data that lack the column are cut into three parts by the length of their text instead.
    Kinds of fewer than `least` rows are left out. Returned with the largest kind first.
    """
    if column in dataset.column_names:
        kinds: dict[str, list[int]] = {}
        for row, names in enumerate(dataset[column]):
            for name in names:
                kinds.setdefault(name, []).append(row)
    else:
        kinds = _by_length(dataset["text"])
    large = {name: rows for name, rows in kinds.items() if len(rows) >= least}
    return dict(sorted(large.items(), key=lambda item: (-len(item[1]), item[0])))


def _by_length(texts: list[str]) -> dict[str, list[int]]:
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    third = -(-len(order) // len(THIRDS))
    parts = (order[start : start + third] for start in range(0, len(order), third))
    return {name: sorted(rows) for name, rows in zip(THIRDS, parts, strict=False)}
