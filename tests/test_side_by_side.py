"""Tests that share something long stay on one process; lessons do not wait for each other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.side_by_side import group_of


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/test_batches.py::test_padding[0]", "tests/test_batches.py"),
        ("tests/workbook/sweeps/test_runs.py::test_case_7", "sweeps"),
        ("tests/workbook/site/test_reading.py::test_search", "browser"),
        ("tests/browser/test_lessons.py::test_opens[02_full]", "browser"),
        ("tests/test_notebooks.py::test_nbval_finds_the_committed_outputs[02_full_vs_last_layer]", "lesson 02"),
        ("tests/test_notebooks.py::test_a_fresh_run_is_where_it_should_be[02_full_vs_last_layer]", "lesson 02"),
        ("tests/test_notebooks.py::test_local_figures_are_there[02_full_vs_last_layer]", "tests/test_notebooks.py"),
    ],
)
def test_the_group_of_a_test(nodeid, group):
    assert group_of(nodeid) == group


@pytest.mark.slow
def test_the_tests_of_a_file_run_on_one_process():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "2",
        "-v",
        "-p",
        "no:cacheprovider",
        __file__,
        "-k",
        "the_group_of",
    ]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    workers = {line.split("]")[0] for line in said.splitlines() if line.startswith("[gw")}
    assert "7 passed" in said and len(workers) == 1, said
