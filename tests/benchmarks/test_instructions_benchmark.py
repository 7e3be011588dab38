"""The reference fine-tunings on a handful of rows: the file that they write is the one that the lesson reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.reference import load_reference

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "instructions.py"


@pytest.fixture(scope="module")
def benchmark():
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["decoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    spec = importlib.util.spec_from_file_location("benchmark_instructions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_what_it_writes_is_what_the_lesson_reads(benchmark, tmp_path):
    result = CliRunner().invoke(benchmark.main, ["--seeds", "2", "--limit", "16", "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = load_reference("instructions", tmp_path)
    assert found.seeds == [0, 1]
    for arm in ("base", "sft", "everything", "without_space"):
        for quantity in ("exact_match_known", "exact_match_skills", "made_up_unknown"):
            assert 0 <= found.interval(f"{quantity}_{arm}").value <= 1


@pytest.mark.slow
def test_tuning_looks_at_validation_rows_and_writes_nothing(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "GRID", (1e-3,))
    judged, looked_at = benchmark.judged, []
    monkeypatch.setattr(benchmark, "judged", lambda *given: looked_at.append(given[1]) or judged(*given))
    options = ["--tune", "--seeds", "1", "--limit", "16", "--into", str(tmp_path)]
    result = CliRunner().invoke(benchmark.main, options)
    assert result.exit_code == 0, result.output
    assert set(looked_at) == {"validation"} and not list(tmp_path.iterdir())


def test_the_template_without_a_space_differs_in_spaces_alone(benchmark):
    tokenizer = benchmark.catalog.tokenizer("decoder", "pocket")
    before = tokenizer.chat_template
    after = benchmark.without_space(tokenizer).chat_template
    assert after != before and after.replace(" ", "") == before.replace(" ", "")
