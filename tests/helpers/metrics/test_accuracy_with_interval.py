"""The local metric loads offline through `evaluate` and says what `helpers.intervals` says."""

from __future__ import annotations

import evaluate
import pytest
from sklearn.metrics import accuracy_score

from helpers.intervals import wilson
from helpers.metrics import path


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return evaluate.load(path("accuracy_with_interval"), cache_dir=str(tmp_path_factory.mktemp("cache")))


def test_it_is_accuracy_with_wilsons_interval(metric):
    guesses, truths = [0, 1, 1, 0, 1], [0, 1, 0, 0, 1]
    found = metric.compute(predictions=guesses, references=truths)
    assert found["accuracy"] == accuracy_score(truths, guesses)
    assert (found["low"], found["high"]) == (wilson(4, 5).low, wilson(4, 5).high)


def test_batches_may_be_added_one_by_one(metric):
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add_batch(predictions=[1], references=[1])
    assert metric.compute()["accuracy"] == pytest.approx(2 / 3)
