"""Lesson 09: which layers a variant adapts, LoRA+ and its rates, and full precision after training."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from peft.optimizers import create_loraplus_optimizer

from helpers.batches import TokenizedReviews, pad
from helpers.lessons.lesson_09 import experiment
from helpers.runtime import UserError
from tests.helpers.lessons.lesson_08.test_experiment import Tokens
from tests.helpers.test_lora import tiny


@pytest.fixture
def rows():
    ids = torch.randint(5, 50, (40, 6), generator=torch.Generator().manual_seed(0)).tolist()
    return TokenizedReviews(ids, [int(row[0] > 27) for row in ids])


def test_attention_or_every_layer_of_the_blocks():
    every, attention, others = (
        experiment.block_linear_paths(tiny(), part) for part in ("", "attention", "feed-forward")
    )
    assert len(every) == 12 and len(attention) == 8 and set(attention) | set(others) == set(every)
    assert not set(attention) & set(others)
    assert not any("head" in path for path in every)


@pytest.mark.parametrize("name", [*experiment.VARIANTS, "pissa"])
def test_every_variant_learns_and_predicts_in_full_precision(name, rows):
    variant = (experiment.VARIANTS | experiment.MORE)[name]
    both = {"train": rows, "test": rows}
    model, outcome = experiment.fine_tune(variant, tiny(), both, pad(Tokens), epochs=2)
    assert len(outcome.losses) == 6 and outcome.parameters > 0 and len(outcome.predictions) == 40
    batch = pad(Tokens)([rows[i] for i in range(4)])
    assert model(**batch).logits.dtype == torch.float32
    assert "_original_forward" not in vars(model)  # accelerate's wrapper in bfloat16 is gone


def test_the_scales_are_what_the_variants_say():
    scales = {}
    for name in ("lora", "rslora"):
        model = experiment.with_peft(tiny(), experiment.VARIANTS[name], rank=4, alpha=6)
        layer = model.base_model.model.get_submodule("body.encoder.layer.0.output.dense")
        scales[name] = layer.scaling["default"]
    assert scales == {"lora": 6 / 4, "rslora": 6 / 2}


def test_the_matched_variants_train_as_many_parameters():
    """128 in attention, 128 to 512 and back: rank 8 everywhere, 18 in attention, 14 in the feed-forward layers."""
    everywhere, attention, feed_forward = 8 * (4 * 256 + 2 * 640), 18 * 4 * 256, 14 * 2 * 640
    assert attention == everywhere and abs(feed_forward - everywhere) / everywhere < 0.03
    assert [experiment.MORE[f"{part}_matched"].rank for part in ("attention", "feed_forward")] == [18, 14]


def test_a_published_model_has_published_rates():
    every = experiment.VARIANTS | experiment.MORE
    rates = {name: [one.learning_rate(origin) for origin in ("pocket", "published")] for name, one in every.items()}
    assert rates["lora"] == [2e-3, 1e-3] and all(pocket > published for pocket, published in rates.values())


def test_a_rank_that_is_too_large_is_one_sentence():
    with pytest.raises(UserError, match="rank is 17, but it has to lie from 1 to 16"):
        experiment.with_peft(tiny(), experiment.VARIANTS["lora"], rank=17)


def test_lora_plus_gives_pefts_rates():
    model = experiment.with_peft(tiny(), experiment.VARIANTS["lora"])
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=4.0)
    ours = experiment.optimizer_for(model, 1e-3, ratio=4.0)
    rates = [
        {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
        for optimizer in (ours, theirs)
    ]
    assert rates[0] == rates[1] and set(rates[0].values()) == {1e-3, 4e-3}


def test_trainer_and_a_plain_loop_take_the_same_first_step(rows, tmp_path):
    """The parity of lesson 09, at toy size."""
    model = tiny()
    few = rows.select(range(16))
    options = {"learning_rate": 1e-2, "epochs": 1, "seed": 0, "bfloat16": False, "sampling": "sequential"}
    trainer = experiment.plain_trainer(model, few, pad(Tokens), folder=str(tmp_path), **options)
    trainer.train()
    found = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    wanted = tiny()(**pad(Tokens)([few[i] for i in range(16)])).loss.item()
    assert found == pytest.approx([wanted], abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "names", "count", "expected"),
    [
        ([1, 0, 1], ["bad", "good"], 2, {"b": "bad", "a": "good"}),
        ([3, 1, 3, 2], ["w", "x", "y", "z"], 2, {"b": "x", "d": "y"}),  # the first two classes that occur
        ([3, 0, 2], ["w", "x"], 2, {"b": "w"}),  # the others are not of the task
        ([5], list("abcdef"), 2, {"a": "f"}),
    ],
)
def test_one_text_of_each_class(labels, names, count, expected):
    dataset = Dataset.from_dict({"text": list("abcd")[: len(labels)], "label": labels})
    assert experiment.one_of_each(dataset, names, count) == expected


def test_a_difference_over_seeds_is_paired_and_none_where_nothing_was_recorded(monkeypatch):
    kept = {"one": [0.5, 0.7], "other": [0.4, 0.6]}
    monkeypatch.setattr(experiment, "recorded", lambda lesson, metric: kept.get(metric, []))
    found = experiment.over_seeds("one", minus="other")
    assert found is not None and found.value == pytest.approx(0.1) and found.low == pytest.approx(0.1)
    assert experiment.over_seeds("missing") is None and experiment.over_seeds("one", minus="missing") is None
