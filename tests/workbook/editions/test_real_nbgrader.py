"""The real nbgrader, in an environment of its own, takes the course and grades a right and a wrong submission."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from filelock import FileLock

from workbook.editions.cells import read
from workbook.editions.command import main
from workbook.editions.exercises import find_exercises
from workbook.lessons import find
from workbook.lessons.kernel import environment

ROOT = Path(__file__).resolve().parents[3]
PINS = Path(__file__).with_name("nbgrader.txt")
VENV = ROOT / ".nbgrader-venv"  # stays between runs; not in git
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LESSON = "00_start_here"
UNREACHABLE = ("(from versions: none)", "NewConnectionError", "ConnectTimeoutError", "Read timed out", "ProxyError")
GENERATE = """
import sys
from nbgrader.apps import NbGraderAPI
from traitlets.config import PyFileConfigLoader
settings = PyFileConfigLoader("nbgrader_config.py").load_config()
for name in sys.argv[1:]:
    result = NbGraderAPI(config=settings).generate_assignment(name)
    assert result["success"], (name, result)
"""

pytestmark = pytest.mark.slow


def made() -> str:
    """Make the environment unless it stands already; return why it cannot be made, or ''."""
    state = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = VENV / "made-from"
    if stamp.is_file() and stamp.read_text() == state:
        return ""
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    quick = ["--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    result = subprocess.run(
        [BIN / "python", "-m", "pip", "install", *quick, "-r", PINS], capture_output=True, text=True
    )
    if result.returncode:
        said = result.stdout + result.stderr
        if any(word in said for word in UNREACHABLE):
            return "nbgrader is not installed, and pip cannot reach a registry to install it"
        raise AssertionError(said[-3000:])
    stamp.write_text(state)
    return ""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The folder that `make editions` gives an instructor, and a command that runs nbgrader in it."""
    with FileLock(f"{VENV}.lock"):
        missing = made()
    if missing:
        pytest.skip(missing)
    into = tmp_path_factory.mktemp("editions")
    written = CliRunner().invoke(
        main, ["--only", "nbgrader", "--budget", "quick", "--points", "3", "--into", str(into)]
    )
    assert written.exit_code == 0, written.output
    settings = environment(threads=1, run_folder=into / "run")
    settings |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "JUPYTER_PATH": str(kernel(into / "jupyter"))}
    settings |= {f"JUPYTER_{part}_DIR": str(into / part) for part in ("CONFIG", "DATA", "RUNTIME")}

    def nbgrader(*arguments: str, module: tuple[str, ...] = ("-m", "nbgrader")) -> str:
        command = [BIN / "python", *module, *arguments]
        result = subprocess.run(command, cwd=into / "nbgrader", env=settings, capture_output=True, text=True)
        assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
        return result.stdout + result.stderr

    return into / "nbgrader", nbgrader


def kernel(folder: Path) -> Path:
    """A folder of kernels in which `python3` is the workbook's Python, not nbgrader's."""
    spec = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    spec |= {"display_name": "Python 3 (workbook)", "language": "python"}
    (folder / "kernels" / "python3").mkdir(parents=True)
    (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    return folder


def submit(folder: Path, student: str, answer: str) -> None:
    """Hand in the released lesson with this answer in the first cell to fill."""
    notebook = nbformat.read(folder / "release" / LESSON / f"{LESSON}.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution"))
    cell.source = answer
    (folder / "submitted" / student / LESSON).mkdir(parents=True)
    nbformat.write(notebook, folder / "submitted" / student / LESSON / f"{LESSON}.ipynb")


def test_nbgrader_takes_every_lesson_and_leaves_no_solution(course):
    folder, nbgrader = course
    nbgrader(*[lesson.name for lesson in find()], module=("-c", GENERATE))
    for lesson in find():
        released = nbformat.read(folder / "release" / lesson.name / f"{lesson.name}.ipynb", as_version=4)
        told = [cell.source for cell in released.cells]
        filled = [cell.source for cell in released.cells if cell.metadata.get("nbgrader", {}).get("solution")]
        exercises = find_exercises(read(lesson.source))
        assert len(filled) == len(exercises)
        for one, text in zip(exercises, filled, strict=True):
            lines = [line for line in text.splitlines() if "# Your answer goes here" not in line]
            assert "\n".join(lines) == one.blank.source and len(lines) == len(text.splitlines()) - 1
        assert not any("SOLUTION" in text for text in told)


def test_right_gets_all_points_and_wrong_gets_none(course):
    folder, nbgrader = course
    nbgrader("generate_assignment", LESSON, "--force")
    right = find_exercises(read(ROOT / "notebooks" / "source" / f"{LESSON}.py"))[0].solution.source
    submit(folder, "right", right)
    submit(folder, "wrong", right.replace("/ len(labels)", "/ 10"))
    nbgrader("autograde", LESSON)
    nbgrader("export")
    with (folder / "grades.csv").open() as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file) if row["assignment"] == LESSON}
    assert {name: (float(row["score"]), float(row["max_score"])) for name, row in rows.items()} == {
        "right": (3.0, 9.0),
        "wrong": (0.0, 9.0),
    }
    graded = nbformat.read(folder / "autograded" / "wrong" / LESSON / f"{LESSON}.ipynb", as_version=4)
    errors = [out for cell in graded.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    assert [error.ename for error in errors] == ["AssertionError"] * 3 and "00.1: not yet. " in errors[0].evalue
