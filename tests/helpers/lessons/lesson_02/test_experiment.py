"""Lesson 02: which settings it trains, their recipes, and a lesson whose own code does what helpers do."""

from __future__ import annotations

import ast
import math
import random
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import BertConfig, BertModel, get_linear_schedule_with_warmup
from transformers.modeling_outputs import SequenceClassifierOutput

from helpers import models
from helpers.batches import TokenizedReviews, length_batches, pad
from helpers.checks import verdict
from helpers.evaluation import Outcome
from helpers.lessons.lesson_02 import experiment
from helpers.lessons.lesson_02.experiment import (
    LABELS,
    SETTINGS,
    Task,
    chosen_settings,
    finite,
    how_much,
    paired,
    ratio,
    recipes_of,
    rows_by_kind,
)
from helpers.models import MeanPoolClassifier
from helpers.recipes import recipe
from helpers.runtime import UserError, check_number, start
from helpers.training import fit_adamw, train, warmup_linear
from workbook.lessons import find
from workbook.lessons.parameters import declared
from workbook.notebooks import from_source

LESSON = next(lesson for lesson in find() if lesson.number == "02")


class Padding:
    pad_token_id = 0


def bert() -> BertModel:
    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return BertModel(config, add_pooling_layer=False)


def reviews(count: int, seed: int) -> TokenizedReviews:
    """Rows whose label is the token that they open with."""
    draw = random.Random(seed)
    labels = [row % 2 for row in range(count)]
    rows = [[5 + label, *(draw.randint(8, 29) for _ in range(draw.randint(1, 6)))] for label in labels]
    return TokenizedReviews(rows, labels)


@pytest.fixture(scope="module")
def task() -> Task:
    torch.manual_seed(0)
    weights = bert().state_dict()

    def new_model(pretrained: bool) -> MeanPoolClassifier:
        body = bert()
        if pretrained:
            body.load_state_dict(weights)
        return MeanPoolClassifier(body)

    return Task(new_model, reviews(64, 0), reviews(40, 1), pad(Padding()))


def test_settings_are_chosen_by_name():
    assert chosen_settings("all") == SETTINGS and chosen_settings("none") == ()
    assert chosen_settings("full, head_only") == ("head_only", "full")
    with pytest.raises(UserError, match='Did you mean "full"'):
        chosen_settings("head_only,ful")


def test_some_of_the_last_blocks_can_be_chosen_too():
    assert chosen_settings("all, blocks_10,blocks_2") == (*SETTINGS, "blocks_2", "blocks_10")
    assert chosen_settings("blocks_3,full") == ("full", "blocks_3")
    with pytest.raises(UserError, match='Did you mean "blocks_2"'):
        chosen_settings("blocks_1")
    assert experiment.between(3) == {"blocks_2": 2, "blocks_3": 3} and experiment.between(1) == {}
    with pytest.raises(UserError, match="this model has 3 blocks; take at most blocks_3"):
        experiment.between(3, ("full", "blocks_4"))
    assert experiment.title("blocks_3") == "pretrained, last 3 blocks + head"
    assert experiment.title("full") == experiment.TITLES["full"]
    found = recipes_of(("full", "blocks_2"), "pocket", "standard", rate_scale=2.0)
    assert found["blocks_2"] == found["full"]


def test_the_recipes_follow_the_parameters():
    found = recipes_of(SETTINGS, "pocket", "standard")
    assert [found[name].epochs for name in SETTINGS] == [40, 3, 3, 6]
    assert found["full"] == recipe("full", "pocket")
    own = recipes_of(SETTINGS, "published", "full", epochs=4, rate_scale=0.5)
    assert [own[name].epochs for name in SETTINGS] == [80, 8, 8, 8]
    assert own["full"].learning_rate == 0.5 * recipe("full", "published").learning_rate
    assert [one.epochs for one in recipes_of(SETTINGS, "pocket", "quick").values()] == [5, 1, 1, 1]


def test_the_head_on_features_is_the_frozen_model_trained_whole(task):
    """Caching changes the time and nothing else: same batches in, same weights out."""
    cut, whole = (models.freeze_all_but(task.new_model(True), 0) for _ in range(2))
    whole.load_state_dict(cut.state_dict())
    batches = list(length_batches(task.train_rows, task.collate, 8, seed=0))
    cached = [dict(zip(("features", "labels"), models.cache_features(cut, [batch]), strict=True)) for batch in batches]
    for model, seen in ((models.HeadClassifier(cut.head), cached), (whole, batches)):
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        train(model, seen, optimizer, warmup_linear(optimizer, len(seen)))
    assert torch.allclose(cut.head.weight, whole.head.weight, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(cut.body.parameters(), whole.body.parameters(), strict=True))


def test_a_training_that_diverges_is_reported():
    assert finite([0.7, 0.5]) == [0.7, 0.5]
    with pytest.raises(UserError, match="nan at step 2: training has diverged"):
        finite([0.7, float("nan")])


def test_an_outcome_counts_and_records():
    outcome = Outcome("x", torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]), 7, 2.0, 99)
    assert outcome.correct.tolist() == [1, 1, 0, 1] and outcome.accuracy.value == 0.75
    assert outcome.metrics("full") == {
        "accuracy_full": 0.75,
        "seconds_full": 2.0,
        "trainable_parameters_full": 7,
        "peak_memory_bytes_full": 99,
    }
    untrained = Outcome("x", outcome.predictions, outcome.labels)
    assert untrained.metrics("majority") == {"accuracy_majority": 0.75}


def test_the_lessons_defaults_are_the_references():
    values = declared(LESSON) if LESSON.path.is_file() else {}
    if not values:
        pytest.skip("the notebook is not built yet")
    assert (values["labels"], values["epochs"], values["settings"], values["rate_scale"]) == (LABELS, 0, "all", 1.0)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("labels", 0, "labels is 0"),
        ("labels", -5, "labels is -5"),
        ("labels", 2.5, "a whole number"),
        ("epochs", -1, "epochs is -1"),
        ("settings", "ful", 'Did you mean "full"'),
        ("max_length", 4, "max_length is 4"),
        ("rate_scale", float("nan"), "rate_scale is nan"),
        ("rate_scale", -1.0, "rate_scale is -1.0"),
        ("rate_scale", "fast", "rate_scale is 'fast'"),
        ("budget", "quik", 'Did you mean "quick"'),
        ("track", "pockets", 'Did you mean "pocket"'),
    ],
)
def test_the_lesson_refuses_a_parameter_in_words(name, value, said):
    cells = [cell for cell in from_source(LESSON.source).cells if cell.cell_type == "code"]
    place = next(at for at, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    scope = {"check_number": check_number, "start": start, "experiment": experiment}
    exec(cells[place].source, scope)
    scope[name] = value
    with pytest.raises(UserError, match=said):
        exec(cells[place + 1].source, scope)


def lesson_code(*wanted: str) -> dict:
    """The lesson's own definitions of these names, executed."""
    tree = ast.parse(Path(LESSON.source).read_text(encoding="utf-8"))
    kept = [node for node in tree.body if getattr(node, "name", None) in wanted]
    scope = {"torch": torch, "nn": nn, "math": math, "tqdm": lambda batches, **_: batches, "experiment": experiment}
    scope |= {"run": type("Run", (), {"device": "cpu"}), "SequenceClassifierOutput": SequenceClassifierOutput}
    scope |= {"get_linear_schedule_with_warmup": get_linear_schedule_with_warmup}
    exec(compile(ast.Module(kept, []), LESSON.name, "exec"), scope)
    return scope


def test_the_lessons_classifier_is_helpers():
    theirs = MeanPoolClassifier(bert()).eval()
    ours = lesson_code("MeanPoolClassifier")["MeanPoolClassifier"](theirs.body, 2)
    ours.head = theirs.head
    batch = pad(Padding())([reviews(5, 0)[row] for row in range(5)])
    assert torch.equal(ours(**batch).logits, theirs(**batch).logits)
    assert torch.equal(ours(**batch).loss, theirs(**batch).loss)


def test_the_lessons_loop_is_helpers(task):
    first, second = (task.new_model(True) for _ in range(2))
    second.load_state_dict(first.state_dict())
    batches = list(length_batches(task.train_rows, task.collate, 8, seed=0))
    by_hand = lesson_code("training_step", "fit")["fit"](first, batches, 1e-3, 2)
    assert by_hand == fit_adamw(second, batches, 1e-3, epochs=2).losses


@pytest.mark.parametrize("name", ["training_step", "layer_features"])
def test_what_the_lesson_goes_on_with_without_an_answer_passes_its_check(name):
    exercise = {"training_step": "02.2", "layer_features": "02.3"}[name]
    assert verdict(exercise, getattr(experiment, name)).passed


def test_rows_are_sorted_by_what_they_hold():
    dataset = Dataset.from_dict(
        {"text": list("abcd"), "phenomena": [["plain"], ["plain", "plot"], ["plot"], ["plain"]]}
    )
    assert rows_by_kind(dataset) == {"plain": [0, 1, 3], "plot": [1, 2]}
    assert rows_by_kind(dataset, least=3) == {"plain": [0, 1, 3]}


def test_data_without_phenomena_are_cut_by_length():
    dataset = Dataset.from_dict({"text": ["x" * length for length in (9, 1, 5, 2, 7, 3, 8)]})
    assert rows_by_kind(dataset) == {"middling": [2, 4, 5], "short": [1, 3], "long": [0, 6]} or sum(
        map(len, rows_by_kind(dataset).values())
    ) == len(dataset)


DEPTHS = {"head_only": [0.6, 0.62, 0.58], "last_block": [0.8, 0.81, 0.79], "blocks_2": [], "full": [0.9, 0.91, 0.89]}


def test_the_lesson_says_how_many_blocks_are_enough():
    said = how_much(DEPTHS)
    assert "The head alone is 0.300 below everything" in said and "the last block 67%" in said
    assert "stays clearly below everything" in said and said.endswith("Not measured: the last 2 blocks.")
    said = how_much(DEPTHS | {"blocks_2": [0.9, 0.9, 0.9]})
    assert "not clearly below everything: the last 2 blocks (gap +0.000 [" in said and said.endswith("], 3 seeds).")
    assert how_much(DEPTHS | {"last_block": []}).startswith("Not enough seeds")


def test_gaps_and_ratios_are_taken_seed_by_seed():
    assert paired([0.5, 0.7, 0.9], [0.4, 0.6]).value == pytest.approx(0.1)  # the third seed has no partner
    assert ratio([2.0, 9.0], [1.0, 3.0]).value == pytest.approx(2.5)
