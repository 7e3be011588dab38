"""A training that learned nothing says so: at once, in the record and on the run's page; one that learned is silent."""

from __future__ import annotations

import json
import math

import pytest
import torch

from helpers import guard
from helpers.batches import TokenizedReviews, pad
from helpers.evaluation import evaluate
from helpers.guard import NOTICES, constant_loss, tell_chance, tell_stuck
from helpers.intervals import wilson
from helpers.models import MeanPoolClassifier, freeze_all_but
from helpers.record import FILE, record
from helpers.runtime import start
from helpers.training import History, train_on_features, train_on_text
from tests.helpers.lessons.lesson_02.test_experiment import Padding, bert, reviews
from workbook.engine.execution import Report
from workbook.engine.verdict import judge


@pytest.fixture(autouse=True)
def no_notices():
    NOTICES.clear()
    yield
    NOTICES.clear()


def fitted(rate: float, fit=train_on_text, epochs: int = 12) -> tuple[MeanPoolClassifier, History]:
    """A tiny classifier trained on rows whose label is their first token."""
    torch.manual_seed(0)
    model = MeanPoolClassifier(bert())
    if fit is train_on_features:
        freeze_all_but(model, 0)
    return model, fit(model, reviews(64, 0), pad(Padding()), rate, epochs=epochs, progress="everything")


def test_a_training_that_learns_says_nothing(capsys):
    model, history = fitted(5e-3)
    evaluate("everything", model, reviews(200, 1), pad(Padding()), history)
    assert not NOTICES and not capsys.readouterr().out and not history.notice


@pytest.mark.parametrize("rate", [10.0, 1e-7], ids=["too high", "too low"])
def test_a_wrong_rate_is_told_once_with_a_remedy(rate, capsys):
    model, history = fitted(rate)
    evaluate("everything", model, reviews(200, 1), pad(Padding()), history)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith("everything: the training loss ended at ")
    assert f"the 0.693 of a constant guess, so nothing was learned. Try a tenth of the learning rate {rate:g}" in said
    assert NOTICES == [history.notice] == [said.strip()]


def test_a_head_that_learns_nothing_is_told_too():
    _, history = fitted(1e-9, train_on_features)
    assert "nothing was learned" in history.notice


def test_a_loss_that_fell_and_a_result_at_chance_are_told(capsys):
    """Rows learned by heart whose labels mean nothing."""
    rows = reviews(40, 2)
    shuffled = TokenizedReviews(rows.input_ids, [0, 0, 1, 1] * 10)
    model, history = fitted(5e-3)
    evaluate("noise", model, shuffled, pad(Padding()), history)
    said = capsys.readouterr().out
    assert said.startswith("noise: the accuracy 0.") and "most frequent class gives 0.500. Try a tenth" in said


def test_a_model_with_a_second_loss_is_left_alone():
    class Louder(MeanPoolClassifier):
        pass

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = MeanPoolClassifier(bert())

        def forward(self, **batch):
            output = self.inner(**batch)
            output.loss = output.loss + 5
            return output

    assert not train_on_text(Wrapped(), reviews(64, 0), pad(Padding()), 1e-9, epochs=2).notice
    assert train_on_text(Louder(bert()), reviews(64, 0), pad(Padding()), 1e-9, epochs=2).notice


def test_a_constant_guess_costs_the_labels_entropy():
    assert constant_loss([0, 1]) == pytest.approx(math.log(2))
    assert constant_loss([3, 3, 3]) == 0
    assert constant_loss([0] * 9 + [1]) == pytest.approx(0.3251, abs=1e-4)


def test_only_the_last_epoch_counts_and_one_class_is_no_failure():
    assert not tell_stuck("x", [0.7] * 10 + [0.2] * 10, [0, 1], 2, 1e-3)
    assert tell_stuck("x", [0.2] * 10 + [0.7] * 10, [0, 1], 2, 1e-3)
    assert not tell_stuck("x", [0.8] * 10 + [0.2] * 10, [0, 1], 1, 1e-3)
    assert not tell_stuck("x", [0.0] * 4, [1, 1], 1, 1e-3) and not tell_chance("x", wilson(9, 9), [1, 1])


def test_an_unbalanced_set_is_held_to_its_majority():
    assert tell_chance("x", wilson(180, 200), [0] * 180 + [1] * 20)
    assert not tell_chance("y", wilson(197, 200), [0] * 180 + [1] * 20)


def test_the_record_and_the_runs_outcome_have_it(tmp_path):
    guard.tell("everything: nothing was learned.")
    record("02_x", {"seed": 0}, folder=tmp_path, accuracy_full=0.5)
    assert json.loads((tmp_path / FILE).read_text())["notices"] == ["everything: nothing was learned."]
    assert judge(tmp_path, Report()).notes == ["everything: nothing was learned."]


def test_a_lesson_begins_without_old_notices():
    guard.tell("old")
    start(track="pocket", budget="quick", seed=0)
    assert not NOTICES
