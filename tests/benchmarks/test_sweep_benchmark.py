"""benchmarks.sweep: its figures are what the clock and the notebooks say."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmarks import sweep as benchmark
from benchmarks.sweep import Measured


def test_the_figures_of_four_runs_on_two_lanes():
    measured = Measured(seconds=30.0, lanes=2, kernel=[13.0, 14.0, 13.0, 14.0], cells=[12.0] * 4)
    assert (measured.per_minute, measured.overhead) == (8.0, 3.0)
    assert measured.outside == pytest.approx(0.1)


@pytest.mark.slow
def test_a_run_that_fails_is_told(course, monkeypatch):
    course.add("00_tiny", "raise ValueError('no good')")
    monkeypatch.setattr(benchmark, "sweep", None)
    result = CliRunner().invoke(benchmark.main, ["--lesson", "00", "--runs", "1", "--notebooks", str(course.folder)])
    assert result.exit_code == 1 and "loop failed" in result.output and "no good" in result.output


@pytest.mark.slow
def test_both_ways_are_measured_and_kept(course, tmp_path):
    course.add("00_tiny", "import time; time.sleep(0.5)")
    options = ["--lesson", "00", "--budget", "quick", "--runs", "2", "--notebooks", str(course.folder)]
    result = CliRunner().invoke(benchmark.main, [*options, "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "2 runs of 00_tiny, budget quick" in result.output
    page = (tmp_path / "RESULTS.md").read_text()
    assert "2 runs of lesson 00, budget quick" in page and "| throughput |" in page and "| outside kernels |" in page
