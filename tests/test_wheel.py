"""The wheel: built, installed and used from another folder, where neither a lock, notebooks nor data are at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("helpers", "workbook", "microworld")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def run(command: list[str | Path], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a command in `folder` with an environment in which no path leads to this checkout."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WORKBOOK_"))}
    settings = {**plain, "HF_HUB_OFFLINE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the sources: setuptools would leave its build folder beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "sources" / name, ignore=LEFT_OUT)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "sources" / name)
    command = [sys.executable, "-m", "pip", "wheel", folder / "sources", "--no-deps", "--no-build-isolation"]
    ended = run([*command, "--no-index", "--wheel-dir", folder], folder)
    assert ended.returncode == 0, ended.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> tuple[Path, Path]:
    """(programs of an environment with the wheel, another folder); other libraries are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-deps", "--no-index", wheel]
    ended = run(pip, folder)
    assert ended.returncode == 0, ended.stderr
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run([programs / "python", "-c", where], folder).stdout.strip())
    # A folder that a .pth file names is searched, but .pth files in it are not read: an editable install stays unseen.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "elsewhere").mkdir()
    return programs, folder / "elsewhere"


def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    there = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True)
    wanted = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    if not wanted:
        pytest.skip("this copy of the sources is no git repository")
    assert [name for name in wanted if name not in there] == []


def test_the_packages_come_from_the_wheel_and_the_judge_judges(installed):
    programs, elsewhere = installed
    code = (
        "import helpers, microworld, workbook\n"
        "from microworld.judge import judge_answer\n"
        "from microworld.world import World\n"
        "title = World().told[0].title\n"
        "prompt = f'Write a kind line about {title}.'\n"
        "print(judge_answer(prompt, f'{title} is a wonderful film.').good)\n"
        "print(judge_answer(prompt, f'{title} is a terrible film.').good)\n"
        "print(helpers.__file__, microworld.__file__, workbook.__file__, sep='\\n')"
    )
    ended = run([programs / "python", "-c", code], elsewhere)
    assert ended.returncode == 0, ended.stderr
    good, bad, *files = ended.stdout.splitlines()
    assert (good, bad) == ("True", "False")
    assert len(files) == 3
    for file in files:
        assert Path(file).is_relative_to(programs.parent) and not Path(file).is_relative_to(ROOT)


def test_the_doctor_says_what_it_can(installed):
    programs, elsewhere = installed
    ended = run([programs / "workbook", "doctor"], elsewhere)
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said
    lines = [line.strip() for line in said.splitlines()]
    assert any(line.startswith("so-so  lessons: not here: this is the installed package") for line in lines), said
    assert any(line.startswith("ok  packages: ") and "no requirements.lock to compare with" in line for line in lines)
    assert not any("git checkout" in line for line in lines), "there is no repository to restore a file from"
    wrong = [line for line in lines if line.startswith("no  ")]  # memory may be short while other tests run
    assert (ended.returncode == 0) == (wrong == []), said
    assert all(line.startswith("no  free ") for line in wrong), said


def test_commands_that_need_a_checkout_say_so(installed):
    programs, elsewhere = installed
    ended = run([programs / "workbook", "run", "02"], elsewhere)
    assert ended.returncode and "Traceback" not in ended.stderr
    assert "There is no lesson here" in ended.stderr
