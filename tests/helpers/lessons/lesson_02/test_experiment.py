"""Lesson 02: what each strategy trains, the same recipe for all, and a lesson that defines what helpers hold."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import BertConfig, BertModel

from helpers import models
from helpers.batches import TokenizedReviews, length_batches, pad
from helpers.evaluation import Outcome
from helpers.lessons.lesson_02.experiment import EPOCHS, LABELS, STRATEGIES, Task, fit_and_evaluate, rows_by_kind
from helpers.models import MeanPoolClassifier
from helpers.runtime import UserError, check_number, start
from helpers.training import train, warmup_linear
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


@pytest.fixture(scope="module")
def outcomes(task) -> dict[str, Outcome]:
    return {
        name: fit_and_evaluate(strategy, task, epochs=20, seed=0, rate_scale=50)
        for name, strategy in STRATEGIES.items()
    }


def test_the_strategies_train_what_they_say(outcomes):
    whole = sum(parameter.numel() for parameter in MeanPoolClassifier(bert()).parameters())
    block = sum(parameter.numel() for parameter in bert().encoder.layer[0].parameters())
    counts = {name: outcome.parameters for name, outcome in outcomes.items()}
    assert counts == {"scratch": whole, "head_only": 34, "last_block": block + 34, "full": whole}


def test_training_everything_learns_the_task(outcomes):
    assert outcomes["full"].accuracy.value > 0.8
    assert all(len(outcome.predictions) == 40 for outcome in outcomes.values())
    assert all(outcome.seconds > 0 for outcome in outcomes.values())


def test_the_same_seed_gives_the_same_predictions_and_losses(task, outcomes):
    again = fit_and_evaluate(STRATEGIES["last_block"], task, epochs=20, seed=0, rate_scale=50)
    other = fit_and_evaluate(STRATEGIES["last_block"], task, epochs=20, seed=1, rate_scale=50)
    assert again.losses == outcomes["last_block"].losses != other.losses
    assert torch.equal(again.predictions, outcomes["last_block"].predictions)


def test_the_head_on_features_is_the_frozen_model_trained_whole(task):
    """The short cut changes the time and nothing else: same batches in, same weights out."""
    cut, whole = (models.freeze_all_but(task.new_model(True), 0) for _ in range(2))
    whole.load_state_dict(cut.state_dict())
    batches = list(length_batches(task.train_rows, task.collate, 8, seed=0))
    cached = [dict(zip(("features", "labels"), models.cache_features(cut, [batch]), strict=True)) for batch in batches]
    for model, seen in ((models.HeadClassifier(cut.head), cached), (whole, batches)):
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        train(model, seen, optimizer, warmup_linear(optimizer, len(seen)))
    assert torch.allclose(cut.head.weight, whole.head.weight, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(cut.body.parameters(), whole.body.parameters(), strict=True))


def test_a_rate_that_diverges_stops_in_words(task):
    with pytest.raises(UserError, match="lower learning rate"):
        fit_and_evaluate(STRATEGIES["full"], task, epochs=3, seed=0, rate_scale=1e30)


@pytest.mark.parametrize("scale", [float("nan"), -1.0])
def test_a_rate_that_is_none_is_refused(task, scale):
    with pytest.raises((UserError, ValueError)):
        fit_and_evaluate(STRATEGIES["head_only"], task, epochs=2, seed=0, rate_scale=scale)


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
    assert (values["labels"], values["epochs"], values["rate_scale"]) == (LABELS, EPOCHS, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("labels", 0, "labels is 0"),
        ("labels", -5, "labels is -5"),
        ("labels", 2.5, "a whole number"),
        ("epochs", 0, "epochs is 0"),
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
    scope = {"check_number": check_number, "start": start}
    exec(cells[place].source, scope)
    scope[name] = value
    with pytest.raises(UserError, match=said):
        exec(cells[place + 1].source, scope)


def lesson_code(*wanted: str) -> dict:
    """The lesson's own definitions of these names, executed."""
    tree = ast.parse(Path(LESSON.source).read_text(encoding="utf-8"))
    kept = [node for node in tree.body if getattr(node, "name", None) in wanted]
    scope = {"torch": torch, "nn": nn, "blocks": models.blocks, "run": type("Run", (), {"device": "cpu"})}
    exec(compile(ast.Module(kept, []), LESSON.name, "exec"), scope)
    return scope


def test_the_lessons_classifier_is_helpers():
    theirs = MeanPoolClassifier(bert()).eval()
    ours = lesson_code("MeanPoolClassifier")["MeanPoolClassifier"](theirs.body, 2)
    ours.head = theirs.head
    batch = pad(Padding())([reviews(5, 0)[row] for row in range(5)])
    assert torch.equal(ours(batch["input_ids"], batch["attention_mask"]), theirs(**batch).logits)


@pytest.mark.parametrize("count", [None, 0, 1, 2])
def test_the_lessons_freezing_is_helpers(count):
    freeze = lesson_code("freeze_all_but")["freeze_all_but"]
    ours, theirs = freeze(MeanPoolClassifier(bert()), count), models.freeze_all_but(MeanPoolClassifier(bert()), count)
    assert [p.requires_grad for p in ours.parameters()] == [p.requires_grad for p in theirs.parameters()]


def test_the_lessons_loop_is_helpers(task):
    first, second = (task.new_model(True) for _ in range(2))
    second.load_state_dict(first.state_dict())
    batches = list(length_batches(task.train_rows, task.collate, 8, seed=0))
    losses = []
    for model, loop in ((first, lesson_code("train_by_hand")["train_by_hand"]), (second, train)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        found = loop(model, batches, optimizer, warmup_linear(optimizer, len(batches)))
        losses.append(getattr(found, "losses", found))
    assert losses[0] == losses[1]


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
