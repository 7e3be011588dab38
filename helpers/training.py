"""The plain PyTorch training loop, prediction, and what both cost."""

from __future__ import annotations

import ctypes
import gc
import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field

import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from tqdm import tqdm

from helpers.runtime import UserError


@dataclass
class History:
    """What a training run leaves behind: one loss per step, and its wall-clock seconds."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def mean_loss(self, last: int = 20) -> float:
        """The mean of the last few losses (one batch's loss alone is noisy)."""
        tail = self.losses[-last:]
        return sum(tail) / len(tail)


class Stopwatch:
    """`with Stopwatch() as watch: ...` then `watch.seconds` (waits for a GPU to finish)."""

    seconds: float = 0.0

    def __enter__(self) -> Stopwatch:
        _finish_gpu_work()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        _finish_gpu_work()
        self.seconds = time.perf_counter() - self._start


class PeakMemory:
    """The most memory that a block of code added to this process, in bytes.

    On a CPU a thread reads the resident memory every few milliseconds; memory that earlier work has
    freed is first handed back to the system, else it would hide what this block needs. On a GPU it
    is the allocator's own peak. Read `added` (bytes above the start) after the block.
    """

    added: int = 0

    def __init__(self, every: float = 0.005) -> None:
        self.every = every

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self._gpu = torch.cuda.is_available()
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()
            self._start = torch.cuda.memory_allocated()
            return self
        _release_freed_memory()
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(self.every):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        if self._gpu:
            self.added = torch.cuda.max_memory_allocated() - self._start
            return
        self._stop.set()
        self._thread.join()
        self._peak = max(self._peak, self._process.memory_info().rss)
        self.added = self._peak - self._start


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
    epoch. Raises UserError, before the weights are touched, when a loss is not finite.
    """
    model.train()
    history = History()
    with Stopwatch() as watch:
        for batch in _passes(batches, epochs, progress):
            loss = model(**to_device(batch, model)).loss
            history.losses.append(_finite(loss.item(), step=len(history.losses) + 1))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            optimizer.zero_grad()
    history.seconds = watch.seconds
    return history


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


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise UserError(
            f"The loss became {loss} at step {step}: training has diverged. "
            "A lower learning rate is the first thing to try."
        )
    return loss


def _finish_gpu_work() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _release_freed_memory() -> None:
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # another C library: the figure is then a little low
            return
