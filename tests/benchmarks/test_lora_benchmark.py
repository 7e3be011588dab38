"""`python -m benchmarks.lora` on toy inputs: the lesson reads what it writes, and it goes on where it stopped."""

from __future__ import annotations

import importlib

import pytest
from click.testing import CliRunner

from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.lessons.lesson_08 import experiment
from helpers.reference import load_reference


@pytest.fixture
def small(monkeypatch):
    """The real rows, a few of them, and few ranks."""
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    module = importlib.import_module("benchmarks.lora")
    whole = {name: module.catalog.dataset(name, "pocket") for name in ("topics", "reviews")}
    cut = {name: {split: rows.select(range(32)) for split, rows in found.items()} for name, found in whole.items()}
    monkeypatch.setattr(module.catalog, "dataset", lambda name, *_: cut[name])
    monkeypatch.setattr(experiment, "TRAINED_RANKS", (2,))
    monkeypatch.setattr(module, "LOOKS", 8)
    monkeypatch.setattr(experiment, "FIRST_LABELS", 16)
    return module


@pytest.mark.slow
def test_what_it_writes_is_what_the_lesson_reads(small, tmp_path, monkeypatch):
    where = ["--into", str(tmp_path), "--parts", str(tmp_path / "parts")]
    options = ["--seeds", "2", "--labels", "16", "--epochs", "1", *where]
    result = CliRunner().invoke(small.main, options)
    assert result.exit_code == 0, result.output
    found = load_reference("lora", tmp_path)
    assert found.seeds == [0, 1] and found.settings["labels"] == 16
    for name in ("full", "head_only", "blocks", "lora", "lora_rank_2"):
        assert 0 <= found.interval(f"accuracy_{name}").value <= 1
        assert 0 <= found.interval(f"accuracy_topics_{name}").value <= 1
    for name in ("full", "lora"):
        assert f"accuracy_topics_{name}_matched" in found.metrics
    assert found.metrics["accuracy_truncated_rank_16"] and found.metrics["accuracy_truncated_whole"]
    trained = []
    monkeypatch.setattr(small, "measure", lambda *given: trained.append(given) or {})
    assert CliRunner().invoke(small.main, options).exit_code == 0 and not trained  # everything is kept
    monkeypatch.setitem(experiment.RATES, "lora", 1.1e-3)  # other settings: what was kept is not theirs
    assert CliRunner().invoke(small.main, options).exit_code != 0 and trained[0][1] == "lora"


@pytest.mark.slow
def test_tuning_writes_nothing(small, tmp_path, monkeypatch):
    for name, values in (("HEAD_RATES", (1e-2,)), ("RATES", (1e-3,)), ("EPOCHS", (1,))):
        monkeypatch.setattr(small, name, values)
    parts = tmp_path / "parts"
    options = ["--tune", "--seeds", "1", "--labels", "16", "--into", str(tmp_path), "--parts", str(parts)]
    result = CliRunner().invoke(small.main, options)
    assert result.exit_code == 0, result.output
    assert "lora        1 epochs  1.0e-03" in result.output and not list(tmp_path.glob("*.json"))
