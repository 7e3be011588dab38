"""The reference script of lesson 07 on toy inputs: the file that it writes is the one that the lesson reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.reference import load_reference

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "peft_methods.py"
NAMES = ("head_only", "bitfit", "last_block", "adapter", "ia3", "soft_prompt", "prefix", "lora", "full")


@pytest.fixture
def small(monkeypatch):
    """The real script with two sizes in the sweeps and one text per domain."""
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    spec = importlib.util.spec_from_file_location("benchmark_peft_methods", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TEXTS", 1)
    monkeypatch.setattr(module.experiment, "SIZES", (1, 8))
    return module


@pytest.mark.slow
def test_what_it_writes_is_what_the_lesson_reads_and_what_is_kept_is_not_measured_again(small, tmp_path, monkeypatch):
    options = ["--seeds", "1", "--labels", "16", "--epochs", "1", "--test-rows", "20", "--keep", str(tmp_path / "kept")]
    result = CliRunner().invoke(small.main, [*options, "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = load_reference("peft_methods", tmp_path)
    assert found.settings["labels"] == 16 and found.settings["sizes"] == [1, 8]
    for name in NAMES:
        assert 0 <= found.interval(f"accuracy_{name}").value <= 1
        for metric in ("trainable_parameters", "checkpoint_bytes", "seconds", "loss_rise"):
            assert len(found.metrics[f"{metric}_{name}"]) == 1
    for name in ("soft_prompt", "lora"):
        assert found.metrics[f"accuracy_{name}_8"] == found.metrics[f"accuracy_{name}"]  # the table's own size
    assert found.metrics["loss_rise_head_only"] == [0.0]
    monkeypatch.setattr(small.Bench, "fine_tune", lambda *_: pytest.fail("measured again"))
    (tmp_path / "peft_methods.json").unlink()
    assert CliRunner().invoke(small.main, [*options, "--into", str(tmp_path)]).exit_code == 0
    assert load_reference("peft_methods", tmp_path).metrics == found.metrics


@pytest.mark.slow
def test_tuning_looks_at_validation_rows_and_writes_nothing(small, tmp_path, monkeypatch):
    monkeypatch.setattr(small, "GRID", (1e-2,))
    judged, bench = [], small.Bench
    monkeypatch.setattr(small, "Bench", lambda *given: judged.append(given[2]) or bench(*given))
    options = ["--tune", "--only", "head_only", "--seeds", "1", "--labels", "16", "--epochs", "1"]
    result = CliRunner().invoke(small.main, [*options, "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert judged == ["validation"] and not list(tmp_path.iterdir())


def test_more_labels_than_there_are_is_one_sentence(small, tmp_path):
    result = CliRunner().invoke(small.main, ["--labels", "100000", "--into", str(tmp_path)])
    assert result.exit_code == 1
    assert "labels is 100000; choose a number from 2 to" in result.output
    assert not list(tmp_path.iterdir())


def test_rates_on_real_sentences_have_a_file_of_their_own(small, tmp_path, monkeypatch):
    monkeypatch.setattr(small, "real_rates", lambda seed: {f"accuracy_full_{rate:g}": 0.5 for rate in small.REAL_RATES})
    result = CliRunner().invoke(small.main, ["--real", "--seeds", "2", "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = load_reference("peft_real_rates", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["peft_real_rates.json"]
    assert all(len(found.metrics[f"accuracy_full_{rate:g}"]) == 2 for rate in found.settings["rates"])
