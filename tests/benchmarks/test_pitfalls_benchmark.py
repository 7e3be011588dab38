"""The reference of lesson 03 on toy inputs: the file that it writes is the one that the lesson reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.catalog import MICROWORLD, POCKET_MODELS, ROOT
from helpers.reference import load_reference

SCRIPT = ROOT / "benchmarks" / "pitfalls.py"
METHODS = ("plain", "lower_rate", "last_block_only", "replay", "average")


@pytest.fixture(scope="module")
def benchmark():
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    spec = importlib.util.spec_from_file_location("benchmark_pitfalls", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_what_it_writes_is_what_the_lesson_reads(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "TEXTS", 4)
    monkeypatch.setattr(benchmark, "EPOCHS", 1)
    monkeypatch.setattr(benchmark, "LABELS", 32)
    monkeypatch.setattr(benchmark.experiment, "STEPS_FOR_FEW", 2)
    monkeypatch.setattr(benchmark.experiment, "FILM_EPOCHS", 1)
    options = ["--seeds", "1", "--sizes", "32,16", "--test-rows", "20", "--films", "2", "--into", str(tmp_path)]
    result = CliRunner().invoke(benchmark.main, options)
    assert result.exit_code == 0, result.output
    found = load_reference("pitfalls", tmp_path)
    assert found.seeds == [0] and found.settings["sizes"] == [16, 32] and found.settings["films"] == 2
    for name in [f"full_{size}_labels" for size in (16, 32)] + [f"scratch_{size}_labels" for size in (16, 32)]:
        assert 0 <= found.interval(f"accuracy_{name}").value <= 1
    for name in METHODS:
        assert {f"accuracy_forgetting_{name}", f"loss_rise_forgetting_{name}"} <= set(found.metrics)
    assert {"accuracy_full_random_split", "accuracy_full_film_split"} <= set(found.metrics)


@pytest.mark.parametrize(("option", "said"), [("25,many", "sizes: "), ("1,100000", "choose a number from 2 to")])
def test_wrong_sizes_are_one_sentence(benchmark, tmp_path, option, said):
    result = CliRunner().invoke(benchmark.main, ["--sizes", option, "--into", str(tmp_path)])
    assert result.exit_code == 1 and said in result.output, result.output
    assert not list(Path(tmp_path).iterdir())


def test_the_committed_reference_has_what_the_lesson_asks_for():
    found = load_reference("pitfalls")
    assert len(found.seeds) >= 3 and len(found.settings["sizes"]) >= 5
    names = [f"accuracy_{start}_{size}_labels" for start in ("full", "scratch") for size in found.settings["sizes"]]
    names += [f"{part}_forgetting_{name}" for part in ("accuracy", "loss_rise") for name in METHODS]
    for name in [*names, "accuracy_full_random_split", "accuracy_full_film_split"]:
        assert len(found.metrics[name]) == len(found.seeds)
    gap = [a - b for a, b in zip(*(found.metrics[f"accuracy_full_{s}_split"] for s in ("random", "film")), strict=True)]
    assert sum(gap) / len(gap) > 0


@pytest.mark.slow
def test_the_controls_have_what_the_lesson_asks_for(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(benchmark, "EPOCHS", 1)
    monkeypatch.setattr(benchmark, "LABELS", 16)
    monkeypatch.setattr(benchmark.experiment, "STEPS_FOR_FEW", 2)
    monkeypatch.setattr(benchmark.experiment, "REFIT_STEPS", 2)
    monkeypatch.setattr(benchmark.experiment, "FILM_EPOCHS", 1)
    monkeypatch.setattr(benchmark, "overfitting", lambda bench: {})
    options = ["--controls", "--seeds", "1", "--films", "2", "--into", str(tmp_path)]
    result = CliRunner().invoke(benchmark.main, options)
    assert result.exit_code == 0, result.output
    found = load_reference("pitfalls_controls", tmp_path)
    assert benchmark.experiment.curves_of(found) and "loss_rise_refit" in found.metrics
    assert {f"gap_{kind}_film_{number:02}" for kind in ("names", "no_names") for number in range(4)} <= set(
        found.metrics
    )
