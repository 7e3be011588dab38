"""benchmarks/qlora.py on toy inputs, and what lesson 11 shows of real text."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmarks import qlora as benchmark
from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.lessons.lesson_11 import experiment
from helpers.memory.prediction import MemoryLedger
from helpers.reference import real_reference

NO_SEEDS_YET = {"qlora_merged_file_4_bits", "qlora_without_adapter"}  # the lesson shows them of its own run
METRICS = {f"accuracy_{name}" for name in ("qlora", *experiment.WAYS) if name not in NO_SEEDS_YET}
METRICS |= {f"{part}_bytes_{method}" for part in (*MemoryLedger.PARTS, "peak") for method in ("lora", "qlora")}


def test_the_committed_reference_holds_what_the_lesson_shows():
    measured = real_reference("11")
    if measured is None:
        pytest.skip("not measured yet")
    assert set(measured.metrics) >= METRICS


@pytest.mark.slow
def test_tuning_looks_at_validation_rows(monkeypatch):
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    whole = benchmark.catalog.dataset("reviews", "pocket")
    cut = {split: rows.select(range(40)) for split, rows in whole.items() if split != "test"}
    monkeypatch.setattr(benchmark.catalog, "dataset", lambda *_: cut)
    monkeypatch.setattr(benchmark, "GRIDS", {"full": (1e-3,), "lora": (1e-3,), "qlora": (1e-3,)})
    monkeypatch.setattr(benchmark.qlora, "LABELS", 32)
    monkeypatch.setattr(benchmark.qlora, "EPOCHS", 1)
    result = CliRunner().invoke(benchmark.main, ["--seeds", "1"])
    assert result.exit_code == 0, result.output
    assert "QLoRA" in result.output
