"""The plain PyTorch training loop, prediction, and accuracy."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from tqdm import tqdm

from helpers.cost import PeakMemory, Stopwatch
from helpers.memory.microbatches import MicrobatchPlan, checkpoint, plan_microbatches, split
from helpers.runtime import UserError

__all__ = [
    "History",
    "PeakMemory",
    "Stopwatch",
    "accuracy",
    "decay_groups",
    "predict",
    "to_device",
    "train",
    "trainable_parameters",
    "warmup_linear",
]


@dataclass
class History:
    """What a training run leaves behind: one loss per step, and its wall-clock seconds."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def mean_loss(self, last: int = 20) -> float:
        """The mean of the last few losses (one batch's loss alone is noisy)."""
        tail = self.losses[-last:]
        return sum(tail) / len(tail)


def train(
    model: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    *,
    epochs: int = 1,
    max_grad_norm: float = 1.0,
    progress: str = "training",
) -> History:
    """Train in place: forward, backward, clip, step, for every batch of every epoch.

    batches: dicts of tensors that `model(**batch)` takes, labels among them; it is iterated once per
    epoch. What does not fit the free memory at once is taken in parts, or with checkpointing. Raises UserError, before
    the weights are touched, when a loss is not finite or not even one row fits.
    """
    model.train()
    history, way = History(), None
    with Stopwatch() as watch:
        for batch in _passes(batches, epochs, progress):
            batch = to_device(batch, model)
            if way is None:
                way = _prepared(model, batch)
            history.losses.append(_backward(model, batch, way.parts, step=len(history.losses) + 1))
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            optimizer.zero_grad()
    history.seconds = watch.seconds
    return history


def decay_groups(model: nn.Module, weight_decay: float = 0.01) -> list[dict]:
    """AdamW's groups as `Trainer` makes them: weight decay for matrices, none for biases and normalisations."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


@torch.inference_mode()
def predict(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Logits (rows, num_labels) and labels (rows,), on the CPU.

    Rows come back in the dataset's own order, also when the batches were sorted by length.
    """
    model.eval()
    logits, labels = [], []
    for batch in batches:
        logits.append(model(**to_device(batch, model)).logits.float().cpu())
        labels.append(batch["labels"].cpu())
    both = torch.cat(logits), torch.cat(labels)
    order = getattr(getattr(batches, "batch_sampler", None), "order", None)
    if order is None:
        return both
    place = torch.argsort(torch.tensor(order))
    return both[0][place], both[1][place]


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of rows whose largest logit is the label's. logits: (rows, classes); labels: (rows,)."""
    if len(labels) == 0:
        raise UserError("There are no rows to measure an accuracy on.")
    return (logits.argmax(dim=-1) == labels).double().mean().item()


def warmup_linear(optimizer: Optimizer, steps: int, warmup: float = 0.1) -> LambdaLR:
    """The learning rate rises from 0 over the first share `warmup` of the steps, then falls to 0.

    The same line as `transformers.get_linear_schedule_with_warmup`.
    """
    rising = math.ceil(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return step / max(1, rising)
        return max(0.0, (steps - step) / max(1, steps - rising))

    return LambdaLR(optimizer, factor)


def trainable_parameters(model: nn.Module) -> int:
    """How many numbers the optimizer may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def to_device(batch: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The batch, on the device of the model's first parameter."""
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in batch.items()}


def _passes(batches: Iterable, epochs: int, progress: str) -> Iterator[dict[str, Tensor]]:
    if epochs < 1:
        raise UserError(f"epochs is {epochs}; it must be at least 1.")
    total = len(batches) * epochs if isinstance(batches, Sized) else None
    # tqdm reads TQDM_DISABLE itself, and shows the seconds that are left.
    with tqdm(total=total, desc=progress, unit="step", leave=False, file=sys.stderr) as bar:
        for _ in range(epochs):
            for batch in batches:
                yield batch
                bar.update()


def _prepared(model: nn.Module, batch: dict[str, Tensor]) -> MicrobatchPlan:
    """How this model takes a step of this size in the memory that is free; says so where it is not the plain way."""
    way = plan_microbatches(model, batch)
    if way.checkpointed:
        checkpoint(model)
    if way != MicrobatchPlan():
        again = ", and computes its blocks twice" if way.checkpointed else ""
        print(f"To fit the memory, each step takes its batch in {way.parts} part(s){again}.")
    return way


def _backward(model: nn.Module, batch: dict[str, Tensor], parts: int, step: int) -> float:
    """Add the gradient of a batch, taken at once or in parts; return its mean loss."""
    if parts == 1:
        loss = model(**batch).loss
        value = _finite(loss.item(), step)
        loss.backward()
        return value
    value = 0.0
    for part, share in split(batch, parts):
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
