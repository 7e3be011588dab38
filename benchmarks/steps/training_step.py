"""Time a training step of the loop of `helpers.training` and of `Trainer`, with the same model, batches and settings.

Only the steps are timed, batches included, not what `Trainer` does once before its first step.
"""

from __future__ import annotations

import copy
import tempfile
import time
from functools import partial

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from benchmarks.steps.harness import Row, Target, by_turns, same_way
from helpers import catalog
from helpers.batches import TokenizedReviews, pad, tokenize
from helpers.training import decay_groups, has_bfloat16, train, warmup_linear

BATCH_SIZE, RATE = 16, 5e-4
STEPS, TOY_STEPS = 20, 2
WITHIN = 0.05  # largest difference between the trained weights, relative to how far they moved
LEFT = (
    "Both sides spend nearly all of a step in the same products and the same optimizer. What the plain loop saves is "
    "Trainer's bookkeeping between them, a few milliseconds of a step: the less, in proportion, the longer the "
    "products take. In float32 they take longest."
)


class Clock(TrainerCallback):
    """Measures the seconds from the start of the first epoch to the end of training."""

    def on_epoch_begin(self, args, state, control, **others) -> None:
        if not hasattr(self, "began"):
            self.began = time.perf_counter()

    def on_train_end(self, args, state, control, **others) -> None:
        self.seconds = time.perf_counter() - self.began


def quiet_settings(kind, folder: str, **others):
    """Return arguments for a trainer that does not save, report or print, and that keeps the rows' order."""
    settings = {
        "output_dir": folder,
        "use_cpu": True,
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "optim": "adamw_torch",  # the plain loop's optimizer in this comparison
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 10**6,  # large, because reading the loss costs time
    }
    return kind(**{**settings, **others})


class Bench:
    """The model and the rows that both sides get, and the weights that each side ends with."""

    def __init__(self, steps: int) -> None:
        self.steps, self.ends = steps, {}
        tokenizer = catalog.tokenizer("encoder", "pocket")
        reviews = catalog.dataset("reviews", "pocket")["train"].select(range(steps * BATCH_SIZE))
        self.rows, self.collate = TokenizedReviews.from_dataset(tokenize(reviews, tokenizer)), pad(tokenizer)
        torch.manual_seed(0)
        self.start = catalog.classifier("pocket")

    def ours(self, half: bool) -> float:
        """Return the seconds of the plain loop."""
        model = copy.deepcopy(self.start)
        batches = DataLoader(self.rows, batch_size=BATCH_SIZE, collate_fn=self.collate)
        optimizer = torch.optim.AdamW(decay_groups(model), lr=RATE)
        with torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False):
            history = train(model, batches, optimizer, warmup_linear(optimizer, self.steps, warmup=0.0))
        self.ends["ours"] = model.head.weight.detach()
        return history.seconds

    def theirs(self, half: bool) -> float:
        """Return the seconds of Trainer's steps."""
        model, clock = copy.deepcopy(self.start), Clock()
        with tempfile.TemporaryDirectory() as folder:
            sizes = {"per_device_train_batch_size": BATCH_SIZE, "weight_decay": 0.01, "bf16": half}
            arguments = quiet_settings(TrainingArguments, folder, **sizes)
            trainer = Trainer(model, arguments, self.collate, train_dataset=self.rows, callbacks=[clock])
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        self.ends["theirs"] = model.head.weight.detach()
        return clock.seconds


def measure(rounds: int, toy: bool) -> list[Row]:
    """Return the ratio of the plain loop's time to Trainer's, over the same steps of lesson 02's fine-tuning.

    It is measured in float32 and, if the processor supports it, in bfloat16, as the lessons train.
    """
    bench, limit = Bench(TOY_STEPS if toy else STEPS), Target("at most", 0.95)
    rows = []
    for half in (False, True) if has_bfloat16(torch.device("cpu")) else (False,):
        turns = by_turns(partial(bench.ours, half), partial(bench.theirs, half), rounds)
        ends = bench.start.head.weight.detach(), bench.ends["ours"], bench.ends["theirs"]
        same_way("training step", *ends, within=WITHIN)
        one, other = turns.milliseconds(bench.steps)
        note = f"{bench.steps} steps of {BATCH_SIZE} reviews, encoder, {'bfloat16' if half else 'float32'}"
        rows.append(Row("training step", f"plain loop, {one}", f"Trainer, {other}", turns.ratio, limit, note))
    return rows
