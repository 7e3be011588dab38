"""A training step by the plain loop of `helpers.training`, and by `Trainer`: same model, batches, optimizer, precision.

The seconds are those of the steps, batches included. What `Trainer` does once before its first step is left out.
"""

from __future__ import annotations

import copy
import tempfile
import time

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from benchmarks.steps.harness import Row, Target, by_turns, same
from helpers import catalog
from helpers.batches import TokenizedReviews, pad, tokenize
from helpers.training import train, warmup_linear

BATCH_SIZE, RATE = 16, 5e-4
STEPS, TOY_STEPS = 20, 2


class Clock(TrainerCallback):
    """The seconds between the beginning of the first epoch and the end of training."""

    def on_epoch_begin(self, args, state, control, **others) -> None:
        if not hasattr(self, "began"):
            self.began = time.perf_counter()

    def on_train_end(self, args, state, control, **others) -> None:
        self.seconds = time.perf_counter() - self.began


def quiet_settings(kind, folder: str, **others):
    """Arguments for a trainer that neither saves, reports nor prints, and keeps the rows' order."""
    settings = {
        "output_dir": folder,
        "use_cpu": True,
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "optim": "adamw_torch",  # the one that the plain loop has here
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 10**6,  # reading the loss costs time: no more than once
    }
    return kind(**{**settings, **others})


def measure(rounds: int, toy: bool) -> list[Row]:
    """The ratio of the plain loop's time to Trainer's, over the same steps of lesson 02's fine-tuning."""
    steps = TOY_STEPS if toy else STEPS
    tokenizer = catalog.tokenizer("encoder", "pocket")
    reviews = catalog.dataset("reviews", "pocket")["train"].select(range(steps * BATCH_SIZE))
    rows, collate = TokenizedReviews.from_dataset(tokenize(reviews, tokenizer)), pad(tokenizer)
    torch.manual_seed(0)
    start = catalog.classifier("pocket")
    ends = {}

    def ours() -> float:
        model = copy.deepcopy(start)
        batches = DataLoader(rows, batch_size=BATCH_SIZE, collate_fn=collate)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
        history = train(model, batches, optimizer, warmup_linear(optimizer, steps, warmup=0.0))
        ends["ours"] = model.head.weight.detach()
        return history.seconds

    with tempfile.TemporaryDirectory() as folder:
        sizes = {"per_device_train_batch_size": BATCH_SIZE, "weight_decay": 0.01}
        arguments = quiet_settings(TrainingArguments, folder, **sizes)

        def theirs() -> float:
            model, clock = copy.deepcopy(start), Clock()
            trainer = Trainer(model, arguments, collate, train_dataset=rows, callbacks=[clock])
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            ends["theirs"] = model.head.weight.detach()
            return clock.seconds

        turns = by_turns(ours, theirs, rounds)
    same("training step", ends["ours"], ends["theirs"], within=1e-4)
    one, other = turns.milliseconds(steps)
    note = f"{steps} steps of {BATCH_SIZE} reviews, encoder of {start.body.num_parameters():,} parameters, float32"
    return [Row("training step", f"plain loop, {one}", f"Trainer, {other}", turns.ratio, Target("at most", 0.95), note)]
