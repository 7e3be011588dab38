"""benchmarks/blocks.py: what lesson 02 recorded about some of the last blocks, one value for each seed."""

from __future__ import annotations

from click.testing import CliRunner

from benchmarks import blocks as benchmark
from helpers.lessons.lesson_02.experiment import chosen_settings
from helpers.reference import load_reference


def test_only_the_numbers_of_some_blocks_are_kept():
    recorded = {"accuracy_blocks_2": 0.9, "seconds_blocks_4": 3.0, "accuracy_full": 0.93, "accuracy_probe_layer_2": 0.7}
    assert benchmark.blocks_only(recorded) == {"accuracy_blocks_2": 0.9, "seconds_blocks_4": 3.0}
    assert chosen_settings(benchmark.SETTINGS) == ("blocks_2", "blocks_3", "blocks_4")


def test_finished_seeds_are_not_measured_again(monkeypatch, tmp_path):
    seen = []

    def measure(seed, budget, threads):
        seen.append(seed)
        return {"accuracy_blocks_2": 0.9 + seed / 100}

    monkeypatch.setattr(benchmark, "measure", measure)
    options = ["--into", str(tmp_path), "--parts", str(tmp_path / "parts"), "--seeds"]
    for seeds in ("2", "3"):
        result = CliRunner().invoke(benchmark.main, [*options, seeds])
        assert result.exit_code == 0, result.output
    assert seen == [0, 1, 2]
    assert load_reference("blocks", tmp_path).metrics == {"accuracy_blocks_2": [0.9, 0.91, 0.92]}
