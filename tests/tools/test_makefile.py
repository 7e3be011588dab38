"""`make run`: it fetches the published models first, may leave them out, and goes on without them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make_run(tmp_path):
    """`make run` with a command `workbook` that only writes down how it was called."""
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    command = tmp_path / "workbook"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n[ "$1" != real ] || exit ${{FAILS:-0}}\n')
    command.chmod(0o755)

    def run(*options: str, fails: int = 0) -> tuple[int, list[str], str]:
        arguments = ["make", "-o", "setup", f"BIN={tmp_path}", f"FAILS={fails}", "run", "ARGS=02", *options]
        ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
        return ended.returncode, (tmp_path / "called").read_text().splitlines(), ended.stdout

    return run


def test_the_models_are_fetched_before_the_lessons_run(make_run):
    assert make_run()[:2] == (0, ["real", "run 02"])


def test_they_can_be_left_out(make_run):
    assert make_run("WORKBOOK_REAL=no")[:2] == (0, ["run 02"])


def test_the_run_goes_on_when_they_cannot_be_had(make_run):
    status, called, said = make_run(fails=1)
    assert status == 0 and called == ["real", "run 02"] and "The run goes on" in said
