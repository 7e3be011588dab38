"""`python -m benchmarks.lora_grid` on toy inputs: the lesson reads what it writes, and it goes on where it stopped."""

from __future__ import annotations

import importlib

import pytest
from click.testing import CliRunner

from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.reference import load_reference


@pytest.fixture
def small(monkeypatch):
    """Few rows, one rank and one rate."""
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    module = importlib.import_module("benchmarks.lora_grid")
    few = {"LABELS": 32, "JUDGED": 16, "EPOCHS": 1, "EARLY": 1, "RANKS": (2,), "RATES": (1e-3,), "FULL_RATES": (5e-4,)}
    for name, value in few.items():
        monkeypatch.setattr(module, name, value)
    module.rows_of.cache_clear()
    return module


def test_every_cell_has_a_name_of_its_own():
    cells = importlib.import_module("benchmarks.lora_grid").cells()
    assert len(cells) == 3 * 4 + 4 + 4
    assert cells["lora_64_0.001"] == ("lora", 64, 16.0, 1e-3) and cells["wide_64_0.001"][2] == 128.0


@pytest.mark.slow
def test_what_it_writes_is_what_the_lesson_reads(small, tmp_path, monkeypatch):
    options = ["--seeds", "1", "--into", str(tmp_path), "--parts", str(tmp_path / "parts")]
    result = CliRunner().invoke(small.main, options)
    assert result.exit_code == 0, result.output
    found = load_reference("lora_grid", tmp_path)
    for cell in ("lora_2_0.001", "wide_2_0.001", "full_0.0005"):
        assert 0 <= found.interval(f"accuracy_{cell}").value <= 1
        assert found.metrics[f"size_{cell}"][0] > 0 and found.metrics[f"loss_0_{cell}"][0] > 0
    monkeypatch.setattr(small, "measure", lambda *_: pytest.fail("measured again"))
    assert CliRunner().invoke(small.main, options).exit_code == 0
