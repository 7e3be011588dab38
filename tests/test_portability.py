"""What can be checked here of Windows and macOS: names of files, imports without Unix's own modules, spawned processes.

Nothing here was run on Windows or macOS.
"""

from __future__ import annotations

import ast
import multiprocessing
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path, PureWindowsPath

import pytest
from click.testing import CliRunner

from helpers.intervals import wilson
from workbook.cli import main
from workbook.lessons.kernel import environment

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = re.compile(r'[<>:"\\|?*\x00-\x1f]|[. ]$')
LONGEST = 180  # with a folder such as C:\Users\somebody\fine-tuning-workbook it stays below Windows' 260

# Takes away what Windows lacks, then imports every module anew; libraries are loaded before, they have their own ways.
WITHOUT_UNIX = """
import importlib, os, pkgutil, signal, sys
import helpers, microworld, workbook
OWN = ("helpers", "microworld", "workbook")

def every():
    found = (pkgutil.walk_packages(sys.modules[own].__path__, own + ".") for own in OWN)
    return [*OWN, *(one.name for part in found for one in part)]

names = [name for name in every() if not name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
    del sys.modules[name]
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for module, lacking in ((os, "fork killpg getuid geteuid sched_getaffinity setsid waitid getpgid"),
                        (signal, "SIGKILL SIGHUP SIGCHLD pthread_sigmask")):
    for name in lacking.split():
        vars(module).pop(name, None)
for name in names:
    importlib.import_module(name)
from workbook.lessons.kernel import cores
print(len(names), cores())
"""
UNIX_ONLY = {
    "os": {"fork", "killpg", "setsid", "waitid", "getpgid", "getuid", "geteuid", "sched_getaffinity", "mkfifo"},
    "signal": {"SIGKILL", "SIGHUP", "SIGCHLD", "SIGALRM", "alarm", "pthread_sigmask", "setitimer"},
}
# Each with what happens elsewhere.
STATED = {
    "workbook/engine/kernel.py": "kernels that are copies of their worker: elsewhere than on Linux, new processes",
    "workbook/lessons/kernel.py": "cores: os.cpu_count",
    "helpers/progress.py": "the user's number: the user's name",
}


def faults_of(name: str) -> list[str]:
    """What Windows would not take of a relative path."""
    path = PureWindowsPath(name)
    bad = [part for part in path.parts if FORBIDDEN.search(part)]
    return bad + ([name] if path.is_reserved() or path.drive or len(name) > LONGEST else [])


@pytest.mark.parametrize("name", ["a:b.json", "runs/12:30/x", "aux.py", "folder./x", "what?.md", "x" * 181])
def test_a_name_that_windows_refuses_is_noticed(name):
    assert faults_of(name)


def test_every_tracked_file_has_a_name_for_windows():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if name]
    if listed.returncode != 0:
        pytest.skip("This copy has no git, which knows the files.")
    assert names and [fault for name in names for fault in faults_of(name)] == []
    lowered = [name.lower() for name in names]
    assert len(set(lowered)) == len(lowered), "two names differ in capitals only"


@pytest.mark.slow
def test_what_a_run_writes_has_names_for_windows(course, tmp_path):
    course.add("00_first", "print(1)")
    asked = ["run", "--notebooks", str(course.folder), "--into", str(tmp_path / "runs")]
    assert CliRunner().invoke(main, asked).exit_code == 0
    written = [path.relative_to(tmp_path / "runs").as_posix() for path in (tmp_path / "runs").rglob("*")]
    assert written and [fault for name in written for fault in faults_of(name)] == []


def test_whatever_was_written_under_runs_has_names_for_windows():
    written = [path.relative_to(ROOT).as_posix() for path in (ROOT / "runs").rglob("*")]
    assert [fault for name in written for fault in faults_of(name)] == []


@pytest.mark.slow
def test_every_module_is_imported_without_what_windows_lacks():
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_UNIX], capture_output=True, text=True, env=environment(threads=1), cwd=ROOT
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout.split()[-2]) > 50


def test_nothing_is_unixs_own_without_a_fallback():
    found = {}
    folders = ("helpers", "workbook", "microworld", "notebooks/source")
    for file in [file for folder in folders for file in (ROOT / folder).rglob("*.py")]:
        name = file.relative_to(ROOT).as_posix()
        used = unix_only(file.read_text(encoding="utf-8"))
        if used:
            found[name] = used
    assert set(found) == set(STATED), found


def unix_only(code: str) -> set[str]:
    """The names that only Unix has, in this code."""
    used = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used |= {f"{node.value.id}.{node.attr}"} if node.attr in UNIX_ONLY.get(node.value.id, ()) else set()
        if isinstance(node, ast.Import) and any(
            each.name in ("fcntl", "pwd", "grp", "resource") for each in node.names
        ):
            used.add(node.names[0].name)
    return used


def test_a_use_of_unixs_own_is_noticed():
    assert unix_only("import os, signal\nos.killpg(1, signal.SIGKILL)") == {"os.killpg", "signal.SIGKILL"}
    assert unix_only("import fcntl") == {"fcntl"}


@pytest.mark.slow
def test_helpers_work_in_a_spawned_process():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert str(pool.submit(wilson, 90, 100).result(timeout=120)) == str(wilson(90, 100))


def test_files_are_read_in_the_encoding_they_were_written_in():
    assert environment(threads=1)["PYTHONUTF8"] == "1"
    attributes = (ROOT / ".gitattributes").read_text(encoding="utf-8")
    assert "data/** -text" in attributes and "eol=lf" in attributes
