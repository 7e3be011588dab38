"""A fresh run is held to the reference: what is ordinary passes, what broke is named."""

from __future__ import annotations

import random

import pytest

from tests.workbook.claims.guard import guarded, outside, ranges
from workbook.claims.results import LessonResults

SEEDS = range(5)
REFERENCE = LessonResults(
    {
        "accuracy_full": dict(zip(SEEDS, (0.93, 0.928, 0.934, 0.931, 0.929), strict=True)),
        "trainable_parameters_lora": dict.fromkeys(SEEDS, 4096.0),
        "difference_lora_peft": dict.fromkeys(SEEDS, 0.0),
        "seconds_full": dict.fromkeys(SEEDS, 43.0),
        "speedup_int8_wide_batch_1": dict.fromkeys(SEEDS, 4.0),
        "slowdown_with_branches": dict.fromkeys(SEEDS, 1.4),
        "peak_memory_bytes_full": dict.fromkeys(SEEDS, 1e9),
        "accuracy_of_few_runs": {0: 0.5, 1: 0.6},
        "clear_accuracy_lora": dict.fromkeys(SEEDS, 1.0),
    },
    "a toy",
)
FRESH = {"accuracy_full": 0.932, "trainable_parameters_lora": 4096, "difference_lora_peft": 3e-8, "seconds_full": 900.0}


def test_an_ordinary_run_is_inside():
    assert outside(FRESH, REFERENCE) == []


def test_the_machine_and_what_too_few_runs_tell_are_left_out():
    assert set(guarded(REFERENCE)) == {"accuracy_full", "trainable_parameters_lora", "difference_lora_peft"}


@pytest.mark.parametrize(
    ("metric", "value"),
    [("accuracy_full", 0.88), ("trainable_parameters_lora", 4160), ("difference_lora_peft", 1e-3)],
)
def test_what_broke_is_named(metric, value):
    found = outside({**FRESH, metric: value}, REFERENCE)
    assert len(found) == 1 and found[0].startswith(f"{metric} is {value:.4g}, but one more run is expected at")


def test_what_is_no_longer_recorded_is_named():
    less = {name: value for name, value in FRESH.items() if name != "accuracy_full"}
    assert outside(less, REFERENCE) == ["accuracy_full is in the reference and was not recorded."]


def test_luck_alone_is_rare_however_many_numbers_there_are():
    chance = random.Random(0)
    fallen = 0
    for _ in range(300):
        many = {f"m{number}": {seed: chance.gauss(0, 1) for seed in SEEDS} for number in range(40)}
        fallen += bool(outside({name: chance.gauss(0, 1) for name in many}, LessonResults(many, "")))
    assert fallen <= 9, "about 3 of 300 are expected"


def test_the_level_rises_with_the_numbers():
    few = LessonResults({"accuracy_full": REFERENCE.metrics["accuracy_full"]}, "")
    assert ranges(few)["accuracy_full"].high < ranges(REFERENCE)["accuracy_full"].high
