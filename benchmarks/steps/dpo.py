"""Time a step of direct preference optimization with lesson 06's code and with `DPOTrainer`, on the same batches.

In the first row, both sides get the reference model's log-probabilities in advance, and set-up before the first step
is not timed. In the second row, `DPOTrainer` runs the reference model at every step, which is its default. Our seconds
then include the reference model's single pass over the pairs.
"""

from __future__ import annotations

import copy
import tempfile
import time

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import PrinterCallback

from benchmarks.steps.harness import Row, Target, by_turns, same_way
from benchmarks.steps.training_step import RATE, WITHIN, Clock, quiet_settings
from helpers import catalog
from helpers.dpo import BATCH_SIZE, DPO, reference_log_probs
from helpers.reward_model import collate, preference_rows
from helpers.training import train, warmup_linear

BETA = 0.1
STEPS, TOY_STEPS = 8, 1
ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


class Bench:
    """The pairs, the model that both sides start from, and the weights that each side ends with."""

    def __init__(self, steps: int) -> None:
        self.steps, self.ends = steps, {}
        self.tokenizer = catalog.tokenizer("instruct", "pocket")
        self.sft = catalog.causal_language_model("pocket", role="instruct").eval()
        rows = catalog.dataset("preferences", "pocket")["train"].select(range(steps * BATCH_SIZE))
        self.pairs = list(enumerate(preference_rows(self.tokenizer, rows)))
        self.talks = Dataset.from_list(
            [{name: [{"role": role, "content": row[name]}] for name, role in ROLES.items()} for row in rows]
        )

    def collate(self, chosen):
        """Collate numbered pairs into the batch that `DPO` takes."""
        numbers, pairs = zip(*chosen, strict=True)
        return collate(pairs, self.tokenizer.pad_token_id) | {"rows": torch.tensor(numbers)}

    def ours(self, reference_counts: bool) -> float:
        """Return the plain loop's seconds, plus the reference model's forward pass if `reference_counts`."""
        began = time.perf_counter()
        reference = reference_log_probs(self.sft, [pair for _, pair in self.pairs], self.tokenizer.pad_token_id)
        before = time.perf_counter() - began
        policy = copy.deepcopy(self.sft)
        batches = DataLoader(self.pairs, batch_size=BATCH_SIZE, collate_fn=self.collate)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
        schedule = warmup_linear(optimizer, self.steps, warmup=0.0)
        history = train(DPO(policy, reference, BETA), batches, optimizer, schedule)
        self.ends["ours"] = policy.get_input_embeddings().weight.detach()
        return history.seconds + before * reference_counts

    def theirs(self, precomputed: bool) -> float:
        """Return the seconds of DPOTrainer's steps."""
        from trl import DPOConfig, DPOTrainer

        policy, clock = copy.deepcopy(self.sft), Clock()
        with tempfile.TemporaryDirectory() as folder:
            sizes = {"per_device_train_batch_size": BATCH_SIZE, "bf16": False, "activation_checkpointing": False}
            others = {"beta": BETA, "precompute_ref_log_probs": precomputed, **sizes}
            trainer = DPOTrainer(
                model=policy,
                ref_model=None if precomputed else copy.deepcopy(self.sft),
                args=quiet_settings(DPOConfig, folder, **others),
                train_dataset=self.talks,
                processing_class=self.tokenizer,
                callbacks=[clock],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        self.ends["theirs"] = policy.get_input_embeddings().weight.detach()
        return clock.seconds


def measure(rounds: int, toy: bool) -> list[Row]:
    """Return the ratio of our step's time to DPOTrainer's, with and without precomputed log-probabilities."""
    bench = Bench(TOY_STEPS if toy else STEPS)
    rows = []
    ways = {True: "reference known beforehand on both sides", False: "DPOTrainer as it comes, with its reference model"}
    for precomputed, title in ways.items():
        turns = by_turns(lambda p=precomputed: bench.ours(not p), lambda p=precomputed: bench.theirs(p), rounds)
        before = bench.sft.get_input_embeddings().weight.detach()
        same_way("DPO", before, bench.ends["ours"], bench.ends["theirs"], within=WITHIN)
        one, other = turns.milliseconds(bench.steps)
        note = f"{bench.steps} steps of {BATCH_SIZE} pairs, float32; {title}"
        limit = Target("at most", 0.95) if precomputed else None
        rows.append(Row("DPO step", f"lesson 06, {one}", f"DPOTrainer, {other}", turns.ratio, limit, note))
    return rows
