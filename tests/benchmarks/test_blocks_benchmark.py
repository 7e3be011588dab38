"""benchmarks/blocks.py: what lesson 02 recorded about some of the last blocks, one value for each seed."""

from __future__ import annotations

import nbformat
from click.testing import CliRunner

from benchmarks import blocks as benchmark
from helpers.lessons.lesson_02.experiment import chosen_settings
from helpers.reference import load_reference
from workbook.lessons import find, select


def test_only_the_numbers_of_the_setting_are_kept():
    recorded = {"accuracy_blocks_2": 0.9, "seconds_blocks_2": 3.0, "accuracy_full": 0.93, "accuracy_blocks_4": 0.92}
    assert benchmark.about("blocks_2", recorded) == {"accuracy_blocks_2": 0.9, "seconds_blocks_2": 3.0}
    assert chosen_settings(", ".join(benchmark.SETTINGS)) == ("blocks_2", "blocks_3", "blocks_4")


def test_the_run_ends_after_the_lessons_cell_that_trains():
    (lesson,) = select(("02",), find())
    whole = nbformat.read(lesson.path, as_version=4)
    cut = benchmark.until_trained(nbformat.read(lesson.path, as_version=4))
    assert benchmark.TRAINS in cut.cells[-2].source and "record(" in cut.cells[-1].source
    assert len(cut.cells) < len(whole.cells) and cut.cells[:-1] == whole.cells[: len(cut.cells) - 1]


def test_finished_seeds_are_not_measured_again(monkeypatch, tmp_path):
    seen = []

    def measure(setting, seed, budget, threads):
        seen.append((setting, seed))
        return {f"accuracy_{setting}": 0.9 + seed / 100}

    monkeypatch.setattr(benchmark, "measure", measure)
    options = ["--into", str(tmp_path), "--parts", str(tmp_path / "parts"), "--seeds"]
    for seeds in ("2", "3"):
        result = CliRunner().invoke(benchmark.main, [*options, seeds])
        assert result.exit_code == 0, result.output
    assert sorted(seen) == [(setting, seed) for setting in sorted(benchmark.SETTINGS) for seed in range(3)]
    assert load_reference("blocks", tmp_path).metrics["accuracy_blocks_3"] == [0.9, 0.91, 0.92]
