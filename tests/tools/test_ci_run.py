"""`.ci/run`: it gets a Chromium when it may, says so when it may not, and runs the tests in any case."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APT = "test $1 = update && exit 0; echo installed ${@: -1}"


@pytest.fixture
def ci(tmp_path):
    """Run a copy of the script, in a folder of its own, with commands that only pretend."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".venv").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("bash", "env", "dirname", "rm"):
        (commands / name).symlink_to(shutil.which(name))

    def run(**pretended: str) -> subprocess.CompletedProcess:
        for name, code in {"make": "echo make $@", **pretended}.items():
            file = commands / name.replace("_", "-")
            file.write_text(f"#!{shutil.which('bash')}\n{code}\n")
            file.chmod(0o755)
        return subprocess.run(
            [str(tmp_path / ".ci" / "run")], env={"PATH": str(commands)}, capture_output=True, text=True
        )

    return run


def test_with_a_chromium_nothing_is_installed(ci, tmp_path):
    result = ci(chromium="exit 1", id="echo 0", apt_get="exit 1")
    assert (result.returncode, result.stdout, result.stderr) == (0, "make test\n", "")
    assert not (tmp_path / ".venv").exists()


def test_root_installs_debians(ci):
    result = ci(id="echo 0", apt_get=APT)
    assert result.stdout == "installed chromium\nmake test\n" and result.returncode == 0


def test_without_the_right_it_says_what_will_be_skipped(ci):
    result = ci(id="echo 1000", apt_get=APT)
    assert "apt install chromium" in result.stderr and result.stdout == "make test\n"


def test_an_install_that_fails_is_told(ci):
    result = ci(id="echo 0", apt_get="exit 100")
    assert "could not be installed" in result.stderr and result.stdout == "make test\n" and result.returncode == 0
