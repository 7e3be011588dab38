"""`make reference` on toy inputs: the file that it writes is the one that the lesson reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.reference import load_reference

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "ladder.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_ladder", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(benchmark, monkeypatch):
    """The real reviews, cut to a few test rows."""
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    whole = benchmark.catalog.dataset("reviews", "pocket")
    cut = {split: rows.select(range(min(200, len(rows)))) for split, rows in whole.items()}
    monkeypatch.setattr(benchmark.catalog, "dataset", lambda *_: cut)
    return benchmark


@pytest.mark.slow
def test_what_it_writes_is_what_the_lesson_reads(small, tmp_path):
    options = ["--seeds", "2", "--labels", "32", "--epochs", "1", "--into"]
    result = CliRunner().invoke(small.main, [*options, str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = load_reference("ladder", tmp_path)
    assert found.seeds == [0, 1] and found.settings == {"labels": 32, "epochs": 1, "test_rows": 200}
    for name in ("majority", "bag_of_words", "scratch", "head_only", "last_block", "full"):
        assert 0 <= found.interval(f"accuracy_{name}").value <= 1
    assert found.metrics["trainable_parameters_head_only"][0] < found.metrics["trainable_parameters_last_block"][0]


@pytest.mark.slow
def test_tuning_looks_at_validation_rows_and_writes_nothing(small, tmp_path, monkeypatch):
    monkeypatch.setattr(small, "GRID", (1e-3,))
    monkeypatch.setattr(small, "HEAD_GRID", (1e-2,))
    judged = []
    task_of = small.task_of
    monkeypatch.setattr(small, "task_of", lambda *given: judged.append(given[-1]) or task_of(*given))
    options = ["--tune", "--seeds", "1", "--labels", "32", "--epochs", "1", "--into"]
    result = CliRunner().invoke(small.main, [*options, str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert set(judged) == {"validation"}
    assert "pretrained, all trained" in result.output
    assert not list(tmp_path.iterdir())


def test_more_labels_than_there_are_is_one_sentence(small, tmp_path):
    result = CliRunner().invoke(small.main, ["--labels", "100000", "--into", str(tmp_path)])
    assert result.exit_code == 1
    assert "labels is 100000; choose a number from 2 to 200." in result.output
    assert not list(tmp_path.iterdir())
