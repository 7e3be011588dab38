"""Lesson 08: what is trainable, looking on the way, and forgetting at matched accuracy."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from helpers.batches import TokenizedReviews, pad
from helpers.lessons.lesson_08 import experiment
from helpers.lora import lora_layers
from helpers.training import trainable_parameters
from tests.helpers.test_lora import tiny


class Tokens:
    pad_token_id = 0


@pytest.fixture
def rows():
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (40, 6), generator=draws).tolist()
    return TokenizedReviews(ids, [int(row[0] > 27) for row in ids])


def test_what_may_move():
    sizes = {name: trainable_parameters(experiment.prepare(tiny(), name, rank=2)) for name in experiment.RATES}
    assert sizes["head_only"] == 34 < sizes["lora"] < sizes["full"]
    model = experiment.prepare(tiny(), "lora", rank=2, alpha=6)
    assert len(lora_layers(model)) == 12 and {layer.scaling for layer in lora_layers(model).values()} == {3.0}


def test_rates_and_epochs_follow_the_model():
    pocket = SimpleNamespace(model_type="bert", hidden_size=128, num_hidden_layers=4)
    published = SimpleNamespace(model_type="bert", hidden_size=384, num_hidden_layers=6)
    rates, epochs = experiment.recipes_for(pocket, "standard", 2.0)
    assert rates == {"topics": 2e-3, "head_only": 6e-2, "lora": 4e-3, "full": 1e-3}
    assert epochs == {"topics": 2, "head_only": 40, "lora": 6, "full": 3}
    assert experiment.recipes_for(published, "standard", 1.0)[0]["full"] == 1e-4
    assert set(experiment.recipes_for(published, "quick", 1.0)[1].values()) == {1}


def test_looking_on_the_way_changes_nothing(rows):
    learner = experiment.Learner(pad(Tokens), epochs=2, seed=3)
    looks, results = [], []
    for watching in ({}, {"look": lambda: looks.append(learner.accuracy(results[-1], rows)), "times": 4}):
        model = experiment.prepare(tiny(), "full")
        results.append(model)
        history = learner.fit(model, rows, 1e-2, **watching)
    plain, watched = (torch.cat([value.flatten() for value in model.parameters()]) for model in results)
    assert torch.equal(plain, watched)
    assert len(looks) == 5 and len(history.losses) == 6 and history.seconds > 0


def test_training_sees_its_own_updates_in_half_precision(rows):
    """Autocast's cache would keep the weights of the first step, and the loss would stand still."""
    model = experiment.prepare(tiny(), "full")
    history = experiment.Learner(pad(Tokens), epochs=40).fit(model, rows, 1e-2)
    assert history.mean_loss(5) < 0.5 * math.log(2)


def test_another_head_is_put_on_and_taken_off(rows):
    model = tiny()
    learner = experiment.Learner(pad(Tokens))
    old = experiment.new_head(model, 3, seed=1)
    own = model.head
    assert own.out_features == 3 and old.out_features == 2
    guesses, labels = learner.answers(model, rows, old)
    assert guesses.max() <= 1 and model.head is own and labels.tolist() == rows.labels
    outcome = learner.outcome("x", model, rows, learner.fit(experiment.prepare(model, "head_only"), rows, 1e-2))
    assert outcome.parameters == 3 * 17 and outcome.title == "x"


@pytest.mark.parametrize(
    ("path", "accuracy", "kept"),
    [
        ([(0.5, 1.0), (0.7, 0.8), (0.9, 0.4)], 0.8, 0.6),
        ([(0.5, 1.0), (0.7, 0.8), (0.6, 0.2), (0.9, 0.1)], 0.7, 0.8),
        ([(0.5, 1.0), (0.7, 0.8)], 0.5, 1.0),
        ([(0.5, 1.0), (0.7, 0.8)], 0.71, math.nan),
    ],
)
def test_what_was_kept_at_a_matched_accuracy(path, accuracy, kept):
    assert experiment.at_matched_accuracy(path, accuracy) == pytest.approx(kept, nan_ok=True)
