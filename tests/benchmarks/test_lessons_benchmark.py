"""benchmarks/lessons.py: what it reports is what was there."""

from __future__ import annotations

import json
import subprocess
import sys

import nbformat
import pytest
from click.testing import CliRunner

from benchmarks import lessons as benchmark
from workbook.lessons import find


def test_shares_are_of_the_seconds_before_each_cell(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("", metadata={"papermill": {"duration": seconds}}) for seconds in (1.0, 2.0, 1.0)
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(""), *cells]), tmp_path / "a.ipynb")
    assert benchmark.shares(tmp_path / "a.ipynb") == [0.0, 0.0, 0.25, 0.75]


def test_peak_memory_sees_what_a_child_held():
    def peak(code: str) -> int:
        command = [sys.executable, "-c", f"import time; {code}; time.sleep(0.8)"]
        return benchmark.peak_memory(lambda: subprocess.run(command, check=True))

    assert peak("held = bytearray(200_000_000)") - peak("held = 0") > 150_000_000


@pytest.mark.slow
def test_a_lesson_is_measured_at_each_budget(course, monkeypatch, tmp_path):
    course.add("00_tiny", "held = bytearray(50_000_000)")
    course.add("01_broken", "1 / 0")
    monkeypatch.setattr(benchmark, "find", lambda: find(course.folder))
    monkeypatch.setattr(benchmark, "REFERENCE", tmp_path / "lessons.json")
    result = CliRunner().invoke(benchmark.main, ["--into", str(tmp_path / "made")])
    assert result.exit_code == 1 and "01_broken at quick: ZeroDivisionError" in result.output
    assert result.output.count("00_tiny") == 2 and "GB" in result.output  # what was measured before is shown and kept
    assert json.loads((tmp_path / "made" / "00_tiny" / "outcome.json").read_text())["status"] == "done"
    kept = json.loads((tmp_path / "lessons.json").read_text())
    assert [row["budget"] for row in kept["lessons"]] == ["quick", "standard"] and set(kept["shares"]) == {"00_tiny"}


def test_a_lesson_measured_anew_leaves_the_others_alone():
    def row(lesson: str, seconds: float) -> dict:
        return {"lesson": lesson, "budget": "quick", "seconds": seconds, "shares": [0.0, seconds]}

    before = benchmark.reference(row("01_two", 2.0), benchmark.reference(row("00_one", 1.0), {}))
    after = benchmark.reference(row("01_two", 3.0), before)
    assert [kept["seconds"] for kept in after["lessons"]] == [1.0, 3.0]
    assert after["shares"] == {"00_one": {"quick": [0.0, 1.0]}, "01_two": {"quick": [0.0, 3.0]}}
