"""The reference runs of lesson 06 on toy inputs: the file that they write is the one that the lesson reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.reference import load_reference

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "dpo.py"


@pytest.fixture
def benchmark(monkeypatch):
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["instruct"].is_dir():
        pytest.skip("the pocket track is not made yet")
    spec = importlib.util.spec_from_file_location("benchmark_dpo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    whole = module.catalog.dataset
    cut = lambda role, *given: {split: rows.select(range(64)) for split, rows in whole(role, *given).items()}  # noqa: E731
    monkeypatch.setattr(module.catalog, "dataset", cut)
    monkeypatch.setattr(module.dpo, "BETAS", (0.1, 1.0))
    return module


OPTIONS = ["--seeds", "2", "--pairs", "32", "--wishes", "8", "--updates", "1", "--into"]


@pytest.mark.slow
def test_what_it_writes_is_what_the_lesson_reads(benchmark, tmp_path):
    result = CliRunner().invoke(benchmark.main, [*OPTIONS, str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = load_reference("dpo", tmp_path)
    assert found.seeds == [0, 1] and found.settings["pairs"] == 32
    for name in ("sft", "dpo", "rlhf"):
        for way in ("good", "form"):
            assert 0 <= found.interval(f"{way}_rate_{name}").value <= 1
    for name in ("dpo", "dpo_without_sft", "rlhf", "dpo_beta_0_1"):
        assert 0 <= found.interval(f"win_rate_{name}").value <= 1 and found.interval(f"kl_{name}").value >= 0


@pytest.mark.slow
def test_on_validation_films_nothing_is_written(benchmark, tmp_path):
    result = CliRunner().invoke(benchmark.main, ["--judged", "validation", *OPTIONS, str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "win_rate_dpo" in result.output and not list(tmp_path.iterdir())
