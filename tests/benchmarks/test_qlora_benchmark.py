"""benchmarks/qlora.py on toy inputs: the grid looks at validation rows, and what it writes is what the lesson reads."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmarks import qlora as benchmark
from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.lessons.lesson_11 import experiment
from helpers.memory.prediction import MemoryLedger
from helpers.reference import has_reference, load_reference

METRICS = {f"accuracy_{name}" for name in ("qlora", *experiment.WAYS)}
METRICS |= {f"{part}_bytes_{method}" for part in (*MemoryLedger.PARTS, "peak") for method in ("lora", "qlora")}


def test_finished_pieces_are_kept_and_the_file_can_be_read(tmp_path, monkeypatch):
    accuracies = {name: 0.5 for name in METRICS if name.startswith("accuracy")}
    monkeypatch.setattr(experiment, "accuracies_on_real_text", lambda seed: {**accuracies, "accuracy_lora": seed / 2})
    monkeypatch.setattr(experiment, "smollm2_ledger", lambda method: MemoryLedger(1, 2, 3, 4, 5))
    monkeypatch.setattr(benchmark, "start", lambda **_: None)
    options = ["real", "--seeds", "2", "--into", str(tmp_path), "--parts", str(tmp_path / "parts")]
    result = CliRunner().invoke(benchmark.main, options)
    assert result.exit_code == 0, result.output
    found = load_reference("lesson_11_real", tmp_path)
    assert found.seeds == [0, 1] and set(found.metrics) == METRICS
    assert found.metrics["accuracy_lora"] == [0, 0.5] and found.metrics["peak_bytes_qlora"] == [5, 5]
    monkeypatch.setattr(experiment, "accuracies_on_real_text", lambda seed: pytest.fail("measured again"))
    assert CliRunner().invoke(benchmark.main, options).exit_code == 0


def test_the_committed_reference_holds_what_the_lesson_shows():
    if not has_reference("lesson_11_real"):
        pytest.skip("not measured yet")
    assert set(load_reference("lesson_11_real").metrics) >= METRICS


@pytest.mark.slow
def test_tuning_looks_at_validation_rows_and_writes_nothing(tmp_path, monkeypatch):
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    whole = benchmark.catalog.dataset("reviews", "pocket")
    cut = {split: rows.select(range(40)) for split, rows in whole.items() if split != "test"}
    monkeypatch.setattr(benchmark.catalog, "dataset", lambda *_: cut)
    monkeypatch.setattr(benchmark, "GRIDS", {"full": (1e-3,), "lora": (1e-3,), "qlora": (1e-3,)})
    monkeypatch.setattr(benchmark.qlora, "LABELS", 32)
    monkeypatch.setattr(benchmark.qlora, "EPOCHS", 1)
    result = CliRunner().invoke(benchmark.main, ["tune", "--seeds", "1", "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "QLoRA" in result.output and not list(tmp_path.iterdir())
