"""benchmarks/full_vs_last_layer.py on a few rows: the files that it writes are those that lesson 02 reads."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmarks import full_vs_last_layer as benchmark
from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.reference import has_reference, load_reference

OPTIONS = ["scratch", "--seeds", "2"]


@pytest.fixture
def small(monkeypatch):
    """The micro-world's reviews, cut to a few."""
    if not (MICROWORLD / "README.md").is_file() or not POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    whole = benchmark.catalog.dataset("reviews", "pocket")
    cut = {split: rows.select(range(40)) for split, rows in whole.items()}
    monkeypatch.setattr(benchmark.catalog, "dataset", lambda *_: cut)
    monkeypatch.setattr(benchmark, "LABELS", 32)
    monkeypatch.setattr(benchmark, "PASSES", (1, 2))
    benchmark.rows_of.cache_clear()
    benchmark.task.cache_clear()
    yield
    benchmark.rows_of.cache_clear()
    benchmark.task.cache_clear()


@pytest.mark.slow
def test_finished_pieces_are_kept_and_the_file_can_be_read(small, tmp_path, monkeypatch):
    options = [*OPTIONS, "--into", str(tmp_path), "--parts", str(tmp_path / "parts")]
    result = CliRunner().invoke(benchmark.main, options)
    assert result.exit_code == 0, result.output
    found = load_reference("lesson_02_random_start", tmp_path)
    assert found.seeds == [0, 1] and set(found.metrics) == {"accuracy_1_passes", "accuracy_2_passes"}
    monkeypatch.setattr(benchmark, "trained", lambda *_: pytest.fail("measured again"))
    again = CliRunner().invoke(benchmark.main, options)
    assert again.exit_code == 0 and load_reference("lesson_02_random_start", tmp_path).metrics == found.metrics


@pytest.mark.parametrize("name", ["lesson_02_real", "lesson_02_random_start"])
def test_the_committed_references_hold_what_the_lesson_shows(name):
    if not has_reference(name):
        pytest.skip("not measured yet")
    found = load_reference(name)
    wanted = [f"{passes}_passes" for passes in benchmark.PASSES]
    if name.endswith("real"):
        wanted = ["bag_of_words", *benchmark.SETTINGS]
    assert {f"accuracy_{one}" for one in wanted} <= set(found.metrics)
    assert found.seeds
