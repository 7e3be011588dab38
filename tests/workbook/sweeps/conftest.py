"""A small laboratory for sweeps: throw-away notebooks, sweep files, and the real command to run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml

RECORD = """
from helpers.record import record
record("lesson", {"seed": seed}, accuracy_full=0.5 + seed / 100, seconds_full=1.0)
"""
PARAMETERS = {"track": "pocket", "budget": "quick", "seed": 0, "rate": 0.1, "labels": 100, "mode": "good", "sizes": [1]}
PARAMETERS |= {"model": "", "data": ""}


class Lab:
    """A folder of notebooks, a folder of sweep files, a folder of results."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.notebooks, self.into, self.scratch = folder / "notebooks", folder / "sweeps", folder / "t"
        self.before: list[str] = []  # a command that starts the command, such as nice
        self.command = [sys.executable, "-m", "workbook.cli"]
        self.notebooks.mkdir()
        self.scratch.mkdir()

    def notebook(self, *cells: str, name: str = "00_tiny", record: bool = True, kernel: str = "python3") -> Path:
        """Write a notebook: a parameters cell, the cells given, a record."""
        lines = "\n".join(f"{key} = {value!r}" for key, value in PARAMETERS.items())
        made = [nbformat.v4.new_code_cell(lines, metadata={"tags": ["parameters"]})]
        made += [nbformat.v4.new_code_cell(text) for text in (*cells, *([RECORD] if record else []))]
        metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
        path = self.notebooks / f"{name}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)
        return path

    def sweep(self, name: str = "tiny", **fields: object) -> Path:
        """Write a sweep's file."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"question": "Does it hold?", "notebook": "00", **fields}, sort_keys=False))
        return path

    def start(self, verb: str, *arguments: object, **options: object) -> subprocess.Popen:
        """Start `workbook sweep`; its processes are known by their folder for temporary files."""
        folders = ["--into", self.into] + (["--notebooks", self.notebooks] if verb == "run" else [])
        command = [*self.before, *self.command, "sweep", verb, *arguments, *folders]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        options["env"] = {**options.get("env", os.environ), "TMPDIR": str(self.scratch)}
        return subprocess.Popen([str(part) for part in command], **{**pipes, **options})

    def run(self, verb: str, *arguments: object, **options: object) -> tuple[int, str]:
        """Run `workbook sweep` to its end: exit status and what it said."""
        process = self.start(verb, *arguments, **options)
        try:
            said, _ = process.communicate(timeout=180)
        finally:
            process.kill()
        return process.returncode, said

    def attempts(self, **parameters: object) -> list[Path]:
        """The folders of attempts whose parameters include those given, oldest first."""
        found = []
        for path in sorted(self.into.glob("*/runs/*/*attempt-*")):
            started = path / "started.json"
            given = json.loads(started.read_text())["parameters"] if started.is_file() else {}
            if parameters.items() <= given.items():
                found.append(path)
        return found

    def outcome(self, **parameters: object) -> dict:
        """The outcome of the last attempt with these parameters, {} when it has none."""
        path = self.attempts(**parameters)[-1] / "outcome.json"
        return json.loads(path.read_text()) if path.is_file() else {}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


def wait_until(condition: Callable[[], object], seconds: float = 180) -> object:
    """Wait until `condition()` is true; return what it said."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
    return found


def processes_below(pid: int, words: str = "") -> list[psutil.Process]:
    """Descendants of a process whose command line holds `words`."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if words in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


SERVER = "multiprocessing.forkserver"


def parts_of(lab: Lab) -> dict[str, list[psutil.Process]]:
    """The processes of a sweep by what they are; those that outlived their parents are among them."""
    found: dict[str, list[psutil.Process]] = {part: [] for part in ("server", "worker", "kernel")}
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") != str(lab.scratch):
                continue
            command, above = " ".join(process.cmdline()), psutil.Process(process.ppid())
            if "ipykernel_launcher" in command:
                found["kernel"].append(process)
            elif SERVER in command:  # workers are copies of it, kernels are copies of workers
                generation = [SERVER in " ".join(one.cmdline()) for one in (above, *above.parents()[:1])]
                found[("server", "worker", "kernel")[sum(generation)]].append(process)
        except (psutil.Error, OSError):
            continue
    return found


def strays(folder: Path) -> list[psutil.Process]:
    """Processes that were started for a run below `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            run = process.environ().get("WORKBOOK_RUN_DIR", "")
            if run.startswith(str(folder)) or str(folder) in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return [process for process in found if process.pid != os.getpid()]


@pytest.fixture
def until():
    return wait_until


@pytest.fixture
def below():
    return processes_below


@pytest.fixture
def parts():
    return parts_of


@pytest.fixture
def left_over():
    return strays


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes of killing or of lessons is `faults`: `make test-faults` runs it, `make test` does not."""
    for item in items:
        if item.path.name in ("test_deaths.py", "test_soak.py") and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.faults)
