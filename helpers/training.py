"""Trains PyTorch models: the training loop, the optimizer and schedule, and functions that the lessons call."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from helpers.batches import Batch, Collate, FeatureBatches, TokenizedReviews, length_batches
from helpers.cost import Stopwatch
from helpers.did_it_train import TrainingWatch, embedding_rows, frozen, row_keys, useless_batch
from helpers.guard import tell_stuck
from helpers.memory.microbatches import MicrobatchPlan, checkpoint, plan_microbatches, split
from helpers.models import HeadClassifier, MeanPoolClassifier, cache_features, device_of
from helpers.runtime import UserError

BATCH_SIZE = 16  # with few labels, small batches give more steps, and the first steps only find the direction
HEAD_BATCH_SIZE = 64
FUSED_FROM = (
    5_000_000  # trainable parameters. On a CPU, fused AdamW is ten times as fast, which saves a third of a MiniLM step
)
HEAD_EPOCHS = 40  # for the head on cached features, where an epoch costs about a thousandth of one of the whole model


@dataclass
class History:
    """The result of a training run: one loss per step, and its wall-clock seconds."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    notice: str = ""  # the notice of `helpers.guard`, if any
    seen: frozenset[int] = frozenset()  # `row_keys` of the training rows, if known

    def mean_loss(self, last: int = 20) -> float:
        """Return the mean of the last few losses, because the loss of a single batch is noisy."""
        tail = self.losses[-last:]
        return sum(tail) / len(tail)


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    *,
    epochs: int = 1,
    max_grad_norm: float = 1.0,
    progress: str = "training",
    on_step: Callable[[int], None] | None = None,
) -> History:
    """Train in place: forward, backward, clip, step, for every batch of every epoch.

    If a batch does not fit the free memory, it is split into microbatches or uses checkpointing. Mistakes that make
    training useless without an error are reported in a sentence (`helpers.did_it_train`).

    Args:
        batches: dicts of tensors for `model(**batch)`, including labels; iterated once per epoch.
        on_step: called before each step with its number, from 0. Its time does not count as training.

    Raises:
        UserError: when the optimizer cannot change the model, a batch has nothing to learn from, a loss is not finite,
            or not even one row fits the memory. The step that raises does not change the weights.
    """
    model.train()
    history, plan, paused = History(), None, 0.0
    if useless := frozen(model, optimizer):
        raise UserError(f"{progress}: {useless}")
    guards = TrainingWatch(model, progress, len(batches) * epochs if isinstance(batches, Sized) else 0)
    known = embedding_rows(model)
    with Stopwatch() as watch:
        for step, batch in enumerate(_batches_of_epochs(batches, epochs, progress)):
            if on_step is not None:
                paused += _call_back(on_step, step, model)
            if useless := useless_batch(batch, known):
                raise UserError(f"{progress}: {useless}")
            batch = to_device(batch, model)
            if plan is None:
                plan = _plan(model, batch)
            history.losses.append(_backward(model, batch, plan.microbatches, step + 1))
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            guards.step(optimizer)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            optimizer.zero_grad()
    guards.end()
    history.seconds = watch.seconds - paused
    return history


def fit_adamw(
    model: nn.Module,
    batches: Any,
    learning_rate: float,
    *,
    epochs: int,
    weight_decay: float = 0.01,
    progress: str = "training",
    on_step: Callable[[int], None] | None = None,
) -> History:
    """Call `train` with AdamW on the trainable parameters, and a learning rate that warms up and then decays to 0.

    batches: as for `train`, but with a length.
    """
    if useless := frozen(model, None):
        raise UserError(f"{progress}: {useless}")
    trainable = [p for p in model.parameters() if p.requires_grad]
    large = sum(p.numel() for p in trainable) >= FUSED_FROM
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=weight_decay, fused=large or None)
    scheduler = warmup_linear(optimizer, steps=epochs * len(batches))
    return train(model, batches, optimizer, scheduler, epochs=epochs, progress=progress, on_step=on_step)


def train_on_text(
    model: nn.Module,
    rows: TokenizedReviews,
    collate: Collate,
    learning_rate: float,
    *,
    epochs: int,
    seed: int = 0,
    progress: str = "training",
    on_step: Callable[[int], None] | None = None,
) -> History:
    """Call `fit_adamw` on tokenized rows; each step runs the whole model on a batch of rows of similar length."""
    batches = length_batches(rows, collate, BATCH_SIZE, seed=seed)
    history = fit_adamw(model, batches, learning_rate, epochs=epochs, progress=progress, on_step=on_step)
    history.seen = row_keys(rows.input_ids)
    if isinstance(model, MeanPoolClassifier):  # other models may add a second loss
        history.notice = tell_stuck(progress, history.losses, rows.labels, epochs, learning_rate)
    return history


def train_on_features(
    model: MeanPoolClassifier,
    rows: TokenizedReviews,
    collate: Collate,
    learning_rate: float,
    *,
    epochs: int,
    seed: int = 0,
    progress: str = "training",
    bfloat16_features: bool = False,
) -> History:
    """Train only the head: run the frozen body once over the rows, then call `fit_adamw` with the cached features.

    Args:
        epochs: the epochs of other methods. The head trains for `HEAD_EPOCHS` epochs, or for 2 if this is 1.
        bfloat16_features: compute the features with `half_precision`.
    """
    precision = half_precision(device_of(model)) if bfloat16_features else nullcontext()
    with Stopwatch() as watch, precision:
        features, labels = cache_features(model, length_batches(rows, collate, 64, shuffle=False))
    batches = FeatureBatches(features.float(), labels, HEAD_BATCH_SIZE, seed=seed)
    head_epochs = HEAD_EPOCHS if epochs > 1 else 2
    history = fit_adamw(HeadClassifier(model.head), batches, learning_rate, epochs=head_epochs, progress=progress)
    history.seconds += watch.seconds
    history.seen = row_keys(rows.input_ids)
    history.notice = tell_stuck(progress, history.losses, rows.labels, head_epochs, learning_rate)
    return history


def quiet_trainer(
    model: nn.Module,
    rows: TokenizedReviews,
    collate: Collate,
    folder: str,
    *,
    optimizers: tuple[Optimizer | None, LambdaLR | None] = (None, None),
    **arguments: Any,
) -> Any:
    """Return a `transformers.Trainer` that prints, saves and reports nothing.

    Args:
        folder: a folder for temporary files.
        arguments: other arguments of `TrainingArguments`, such as `num_train_epochs` and `seed`.
    """
    from transformers import PrinterCallback, Trainer, TrainingArguments  # slow to import

    settings = TrainingArguments(
        output_dir=folder,
        use_cpu=device_of(model).type == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **arguments,
    )
    trainer = Trainer(model=model, args=settings, train_dataset=rows, data_collator=collate, optimizers=optimizers)
    trainer.remove_callback(PrinterCallback)
    return trainer


def decay_groups(model: nn.Module, weight_decay: float = 0.01) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups as in `Trainer`: weight decay for matrices, none for biases and norms."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def warmup_linear(optimizer: Optimizer, steps: int, warmup: float = 0.1) -> LambdaLR:
    """Return a schedule with a linear rise from 0 over the share `warmup` of the steps, then a linear decay to 0."""
    return get_linear_schedule_with_warmup(optimizer, math.ceil(warmup * steps), steps)


def trainable_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def to_device(batch: Batch, model: nn.Module) -> Batch:
    """Return the batch on the device of the model's first parameter."""
    device = device_of(model)
    return {name: value.to(device) for name, value in batch.items()}


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 products; without them, bfloat16 is slower than float32.

    On CPUs, this means AVX512_BF16 (see `lscpu`). A processor with only AVX2 trains in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def half_precision(device: torch.device) -> AbstractContextManager:
    """Return a context that computes matrix products in bfloat16 if the device has instructions for them.

    On such devices, a pocket classifier trains in about half the time, to the same accuracy. Autocast's cache is off,
    because it would keep the first step's weights when the context surrounds a whole training run.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device), cache_enabled=False)


def _batches_of_epochs(batches: Iterable[Batch], epochs: int, progress: str) -> Iterator[Batch]:
    if epochs < 1:
        raise UserError(f"epochs is {epochs}; it must be at least 1.")
    total = len(batches) * epochs if isinstance(batches, Sized) else None
    # tqdm itself reads TQDM_DISABLE and shows the remaining seconds.
    with tqdm(total=total, desc=progress, unit="step", leave=False, file=sys.stderr) as bar:
        for _ in range(epochs):
            for batch in batches:
                yield batch
                bar.update()


def _call_back(on_step: Callable[[int], None], step: int, model: nn.Module) -> float:
    """Call `on_step`, which may switch the model to evaluation; return the seconds it took."""
    with Stopwatch() as watch:
        on_step(step)
    model.train()
    return watch.seconds


def _plan(model: nn.Module, batch: Batch) -> MicrobatchPlan:
    """Return the plan for a step of this size in the free memory; print it unless it is the default plan."""
    plan = plan_microbatches(model, batch)
    if plan.checkpointed:
        checkpoint(model)
    if plan != MicrobatchPlan():
        again = ", and computes its blocks twice" if plan.checkpointed else ""
        print(f"To fit the memory, each step takes its batch in {plan.microbatches} part(s){again}.")
    return plan


def _backward(model: nn.Module, batch: Batch, microbatches: int, step: int) -> float:
    """Compute the gradient of a batch, at once or in microbatches; return its mean loss."""
    if microbatches == 1:
        loss = model(**batch).loss
        value = _finite(loss.item(), step)
        loss.backward()
        return value
    value = 0.0
    for part, share in split(batch, microbatches):
        loss = model(**part).loss * share
        value += _finite(loss.item(), step)
        loss.backward()
    return value


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise UserError(
            f"The loss became {loss} at step {step}: training has diverged. "
            "A lower learning rate is the first thing to try."
        )
    return loss
