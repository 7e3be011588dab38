"""`make reference REFERENCES=qlora` on toy inputs: the file that it writes is the one that the lesson reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.reference import load_reference

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "qlora.py"


@pytest.fixture
def small(monkeypatch):
    """The script, with the real reviews cut to a few rows to judge on."""
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    spec = importlib.util.spec_from_file_location("benchmark_qlora", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    whole = script.catalog.dataset("reviews", "pocket")
    cut = {split: rows.select(range(min(100, len(rows)))) for split, rows in whole.items()}
    monkeypatch.setattr(script.catalog, "dataset", lambda *_: cut)
    return script


@pytest.mark.slow
def test_what_it_writes_is_what_the_lesson_reads(small, tmp_path):
    options = ["--seeds", "2", "--labels", "32", "--epochs", "1", "--into", str(tmp_path)]
    result = CliRunner().invoke(small.main, options)
    assert result.exit_code == 0, result.output
    found = load_reference("qlora", tmp_path)
    assert found.seeds == [0, 1] and found.settings["labels"] == 32 and found.settings["test_rows"] == 100
    for method in ("full", "lora", "qlora"):
        assert 0 <= found.interval(f"accuracy_{method}").value <= 1
    assert found.metrics["trainable_parameters_lora"] == found.metrics["trainable_parameters_qlora"]


@pytest.mark.slow
def test_tuning_looks_at_validation_rows_and_writes_nothing(small, tmp_path, monkeypatch):
    monkeypatch.setattr(small, "GRIDS", {"full": (1e-3,), "lora": (1e-3,), "qlora": (1e-3,)})
    judged, rows_of = [], small.rows_of
    monkeypatch.setattr(small, "rows_of", lambda *given: judged.append(given[-1]) or rows_of(*given))
    options = ["--tune", "--seeds", "1", "--labels", "32", "--epochs", "1", "--into", str(tmp_path)]
    result = CliRunner().invoke(small.main, options)
    assert result.exit_code == 0, result.output
    assert judged == ["validation"] and "QLoRA" in result.output
    assert not list(tmp_path.iterdir())


def test_more_labels_than_there_are_is_one_sentence(small, tmp_path):
    result = CliRunner().invoke(small.main, ["--labels", "100000", "--into", str(tmp_path)])
    assert result.exit_code == 1 and "labels is 100000; choose a number from 2 to 100." in result.output
    assert not list(tmp_path.iterdir())
