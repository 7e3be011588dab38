"""The browser tests can fail: planted troubles are seen, and a machine without a Chromium is told how to get one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from tests.browser.learner import changed
from workbook.notebooks import METADATA

ROOT = Path(__file__).resolve().parents[2]
UNREADABLE = "# Planted\n\n$$\\begin{nothing}x\\end{nothing}$$"
RAISING = 'raise ValueError("planted")'


@pytest.mark.slow
def test_planted_troubles_are_seen(learner, folder):
    cells = [
        nbformat.v4.new_markdown_cell("# Planted\n\n$$\\begin{nothing}x\\end{nothing}$$"),
        nbformat.v4.new_code_cell(RAISING),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), folder / "notebooks" / "planted.ipynb")
    learner.open("planted.ipynb")
    learner.page.locator("mjx-container").wait_for()
    assert learner.trouble() == ["a formula that cannot be read"]
    learner.page.evaluate("fetch('http://127.0.0.1:9/elsewhere').catch(() => null)")
    learner.page.evaluate("setTimeout(() => { throw new Error('of the page') })")
    learner.run_all()
    trouble = learner.trouble()
    assert {"a cell that raised", "a request to http://127.0.0.1:9/elsewhere"} <= set(trouble)
    assert any("of the page" in each for each in trouble)


def test_a_figure_that_stays_is_noticed():
    figure = np.zeros((20, 30, 3), dtype=int)
    assert changed(figure, figure + 20) == 0  # a shade of antialiasing is no change
    moved = figure.copy()
    moved[:2] = 255
    assert changed(figure, moved) == 0.1 and changed(figure, moved[:10]) == 1


@pytest.mark.slow
def test_without_a_chromium_the_tests_say_how_to_get_one():
    command = [sys.executable, "-m", "pytest", "tests/browser/test_lessons.py", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:]
    told = [line for line in result.stdout.splitlines() if line.startswith("SKIPPED")]
    assert told and all("apt install chromium" in line for line in told)
    assert "passed" not in result.stdout.splitlines()[-1]
