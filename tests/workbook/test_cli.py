"""The command `workbook`: help that reads well, and one sentence for what is wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from workbook.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "every claim of the course"),
        (["doctor"], "tell you what to fix"),
        (["lab"], "Open JupyterLab on your own copy of the lessons"),
        (["run"], "workbook run --budget quick"),
    ],
)
def test_help_reads_well(arguments, said):
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    assert said in " ".join(result.output.split())


def test_an_unknown_command_suggests_the_nearest():
    result = CliRunner().invoke(main, ["docter"])
    assert result.exit_code != 0
    assert 'no command "docter". Did you mean "doctor"' in result.output


def test_resume_takes_nothing_beside_it():
    result = CliRunner().invoke(main, ["run", "--resume", "02"])
    assert result.exit_code != 0
    assert "takes nothing beside it" in result.output


def test_help_does_not_wait_for_torch():
    code = "import workbook.cli, sys; sys.exit('torch' in sys.modules or 'papermill' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
