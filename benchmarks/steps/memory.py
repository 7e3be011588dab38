"""Compare the peak memory of each lesson's training step, by torch's allocator, with the formula of `helpers.memory`.

A lesson's kernel also holds several hundred megabytes of Python, libraries and data, which the formula does not count.
So this module measures only the heaviest training step: the lesson's own model, method, loss and batch size, with
texts of 64 tokens. If the formula does not cover a lesson's method, the result names that lesson.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.steps.harness import Row, Spread, Target
from helpers import catalog, dpo, qlora, reward_model, sft, training
from helpers.lessons.lesson_08.experiment import prepare
from helpers.lessons.lesson_09 import experiment
from helpers.memory.architecture import Architecture
from helpers.memory.measurement import measure as measured_ledger
from helpers.memory.prediction import Plan, predict

WITHIN = Target("within", 0.15)
LENGTH = 64
NOT_KNOWN = {
    "00": "trains nothing",
    "01": "a masked-word loss, whose scores the formula does not count",
    "07": "adapters, prefixes, soft prompts",
    "10": "weights are measured on disk",
    "12": "trains nothing",
}

LEFT = (
    "What is compared is the heaviest training step, not the whole kernel, whose Python and libraries take several "
    "hundred megabytes. Not compared: " + "; ".join(f"lesson {name} ({why})" for name, why in NOT_KNOWN.items()) + "."
)


@dataclass(frozen=True)
class Case:
    """One lesson's heaviest training step: a function that makes its model, and the plan of batch and formula."""

    lesson: str
    what: str
    model: Callable[[], nn.Module]
    plan: Plan


class Scored(nn.Module):
    """A reward model whose loss is lesson 05's Bradley-Terry loss on pairs, not the model's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, labels, **batch):
        """Return the loss. batch: (2 * pairs, seq), the chosen answers first."""
        chosen, rejected = reward_model.pair_scores(self.model, batch)
        loss = reward_model.bradley_terry_loss(chosen, rejected)
        return type("Output", (), {"loss": loss})


def reward_learner() -> nn.Module:
    """Return lesson 05's reward model, made from the instruct model."""
    source = catalog.model_source("instruct", "pocket")
    return Scored(reward_model.new_reward_model(source, catalog.tokenizer("instruct", "pocket")))


def policy() -> nn.Module:
    """Return lesson 06's DPO model. Zeros take the place of the reference model's log-probabilities."""
    model = dpo.DPO(
        catalog.causal_language_model("pocket", role="instruct"), torch.zeros(64, 2), dpo.BETA, dpo.SFT_WEIGHT
    )
    model.config = model.policy.config
    return model


def with_peft() -> nn.Module:
    """Return lesson 09's model with plain LoRA on every linear layer."""
    qlora.drop_two_notices()
    return experiment.with_peft(catalog.classifier("pocket"), experiment.VARIANTS["lora"])


def cases(length: int = LENGTH) -> list[Case]:
    """Return the cases of all lessons whose training the formula covers."""

    def plan(method: str, batch: int, rank: int = 8, classes: int = 2) -> Plan:
        return Plan(method, batch=batch, length=length, rank=rank, classes=classes)

    pairs = 2 * dpo.BATCH_SIZE
    full = training.BATCH_SIZE
    return [
        Case("02", "all parameters", lambda: catalog.classifier("pocket"), plan("full", full)),
        Case("03", "all parameters", lambda: catalog.classifier("pocket"), plan("full", full)),
        Case(
            "04",
            "next token, all parameters",
            lambda: catalog.causal_language_model("pocket"),
            plan("full", sft.RECIPE.batch_size, classes=0),
        ),
        Case("05", "reward model, pairs", reward_learner, plan("full", 2 * reward_model.BATCH_SIZE, classes=1)),
        Case("06", "DPO, pairs", policy, plan("full", pairs, classes=0)),
        Case("08", "LoRA by hand", lambda: prepare(catalog.classifier("pocket"), "lora"), plan("lora", full)),
        Case("09", "LoRA by peft", with_peft, plan("lora", experiment.BATCH_SIZE, experiment.RANK)),
        *(
            Case("11", qlora.TITLES[method], lambda m=method: qlora.classifier(m, "pocket"), plan(method, 16))
            for method in qlora.METHODS
        ),
    ]


def batch_of(case: Case) -> dict[str, torch.Tensor]:
    """Return random tokens without padding, with the labels that this case needs."""
    config, plan = case.model().config, case.plan
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, config.vocab_size, (plan.batch, plan.length), generator=generator)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch["labels"] = torch.zeros(plan.batch, dtype=torch.long) if plan.classes else ids.clone()
    return batch | ({"rows": torch.arange(plan.batch // 2)} if case.lesson == "06" else {})


def measure(rounds: int, toy: bool) -> list[Row]:
    """Return the ratio of measured to predicted peak. The allocator's count never varies, so one round is enough."""
    rows = []
    for case in cases(8)[:1] if toy else cases():
        torch.manual_seed(0)
        model = case.model()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        found = measured_ledger(model, batch_of(case), optimizer).peak
        wanted = predict(Architecture.of(model.config), case.plan).peak
        note = f"lesson {case.lesson}: {case.what}, {case.plan.batch} texts of {case.plan.length} tokens"
        sides = f"measured {found / 1e6:.1f} MB", f"formula {wanted / 1e6:.1f} MB"
        rows.append(Row(f"memory, lesson {case.lesson}", *sides, Spread.of([found / wanted]), WITHIN, note))
    return rows
