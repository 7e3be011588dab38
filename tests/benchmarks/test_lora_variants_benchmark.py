"""`python -m benchmarks.lora_variants` on toy inputs: what it writes is read, and it goes on where it stopped."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
from click.testing import CliRunner

from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.lessons.lesson_09 import experiment
from helpers.reference import load_reference


@pytest.fixture
def small(monkeypatch):
    """The real rows, a few of them, and two variants."""
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    module = importlib.import_module("benchmarks.lora_variants")
    whole = module.catalog.dataset("reviews", "pocket")
    cut = {split: rows.select(range(32)) for split, rows in whole.items()}
    monkeypatch.setattr(module.catalog, "dataset", lambda *_: cut)
    variants = {name: experiment.VARIANTS[name] for name in ("lora", "dora")}
    monkeypatch.setattr(experiment, "VARIANTS", variants)
    return module


@pytest.mark.slow
def test_what_it_writes_is_what_the_lesson_reads(small, tmp_path, monkeypatch):
    where = ["--into", str(tmp_path), "--parts", str(tmp_path / "parts")]
    options = ["--seeds", "2", "--labels", "16", "--epochs", "1", *where]
    result = CliRunner().invoke(small.main, options)
    assert result.exit_code == 0, result.output
    found = load_reference("lora_variants", tmp_path)
    assert found.seeds == [0, 1] and found.settings["labels"] == 16
    for name in ("head_only", "lora", "dora"):
        assert 0 <= found.interval(f"accuracy_{name}").value <= 1
        assert found.interval(f"trainable_parameters_{name}").value > 0
    monkeypatch.setattr(small, "trained", lambda *_, **__: pytest.fail("measured again"))
    assert CliRunner().invoke(small.main, options).exit_code == 0  # everything is kept
    assert load_reference("lora_variants", tmp_path).metrics == found.metrics


def test_a_piece_of_other_settings_is_not_used_again(small, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(small, "trained", lambda name, rate, **_: measured.append(rate) or {f"accuracy_{name}": 0.5})
    others = {"seed": 0, "labels": 16, "epochs": 1, "judged": "test"}
    for again in (0, 1):
        small.piece(tmp_path, "lora", **others)
        small.piece(tmp_path, "lora", 1e-3, **others)
        small.piece(tmp_path, "lora", 1e-3, **others | {"labels": 17})
        assert len(measured) == 3, again
    variant = replace(experiment.VARIANTS["lora"], ratio=2.0)
    monkeypatch.setattr(experiment, "VARIANTS", {"lora": variant})
    small.piece(tmp_path, "lora", **others)
    assert len(measured) == 4


@pytest.mark.slow
def test_tuning_writes_nothing(small, tmp_path, monkeypatch):
    monkeypatch.setattr(small, "GRID", (1e-3,))
    options = ["--tune", "--seeds", "1", "--labels", "16", "--epochs", "1", "--into", str(tmp_path / "into")]
    result = CliRunner().invoke(small.main, [*options, "--parts", str(tmp_path / "parts")])
    assert result.exit_code == 0, result.output
    assert "best 1e-03" in result.output and not (tmp_path / "into").exists()
    assert all("-validation-" in path.name for path in (tmp_path / "parts").rglob("*.json"))
