"""The ways in name the versions of pyproject.toml and requirements.lock, and only commands that exist.

No container, no Binder, no Colab, no Kaggle and no GitHub runner was started: tests/tools/test_linters.py lints the
files, and what they call is called here, with stand-ins for what only those services have.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from workbook.cli import main
from workbook.doctor import python

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("ways_in", ROOT / "tools" / "ways_in.py")
ways_in = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ways_in)

DOCS = (ROOT / "docs" / "ways_in.md").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = [
    ROOT / "Dockerfile",
    ROOT / ".devcontainer" / "devcontainer.json",
    *sorted((ROOT / ".binder").iterdir()),
    *WORKFLOWS,
]
NO_VERSION = re.compile(r"0\.0\.0\.0|127\.0\.0\.1")
CELLS = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)


@pytest.fixture
def copy(tmp_path) -> Path:
    """The files that hold a version, in a folder of their own."""
    for name in (*ways_in.PLACES, "pyproject.toml", "requirements.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_version_is_the_declared_or_the_locked_one():
    assert ways_in.write(check=True) == [], "run `python tools/ways_in.py`"


def test_a_changed_declaration_reaches_every_file(copy):
    declared = (copy / "pyproject.toml").read_text().replace('requires-python = ">=3.11"', 'requires-python = ">=3.12"')
    (copy / "pyproject.toml").write_text(declared)
    lock = re.sub(r"jupyterlab-widgets==\S+", "jupyterlab-widgets==9.9", (copy / "requirements.lock").read_text())
    (copy / "requirements.lock").write_text(lock)
    assert set(ways_in.write(copy, check=True)) == set(ways_in.PLACES)
    assert set(ways_in.write(copy)) == set(ways_in.PLACES)
    assert ways_in.write(copy) == []
    assert "ARG PYTHON=3.12\n" in (copy / "Dockerfile").read_text()
    assert (copy / ".binder" / "runtime.txt").read_text() == "python-3.12\n"
    assert "jupyterlab-widgets==9.9\n" in (copy / ".binder" / "requirements.txt").read_text()
    assert 'python-version: "3.12"' in (copy / ".github" / "workflows" / "tests.yml").read_text()


def test_a_file_that_lost_its_version_is_named(copy):
    (copy / "Dockerfile").write_text("FROM python\n")
    with pytest.raises(SystemExit, match="Dockerfile has no place"):
        ways_in.write(copy)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_no_other_version_stands_in_a_way_in(file):
    text = file.read_text(encoding="utf-8")
    place = ways_in.PLACES.get(file.relative_to(ROOT).as_posix(), (r"(?!)", ""))[0]
    rest = NO_VERSION.sub("", re.sub(place, "", text, flags=re.M))
    assert re.findall(r"\d+\.\d+\S*", rest) == []


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_no_registry_is_named(file):
    """A base image and an action are named without a host; packages come from where pip looks."""
    assert re.findall(r"https?://\S+|\b[\w.-]+\.(?:io|com|org|dev)/\S+", file.read_text(encoding="utf-8")) == []


def test_every_tool_means_the_same_python():
    wanted = ways_in.versions()["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = re.search(r"^OLDEST = (.+)$", (ROOT / "tools" / "setup_venv.py").read_text(), re.M)[1]
    assert ".".join(map(str, ast.literal_eval(oldest))) == wanted
    assert project["tool"]["mypy"]["python_version"] == wanted
    assert project["tool"]["ruff"]["target-version"] == f"py{wanted.replace('.', '')}"
    number = tuple(map(int, wanted.split(".")))
    assert python((*number, 0)).fine and not python((number[0], number[1] - 1, 9)).fine
    assert f"Python {wanted} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_exists():
    known = set(main.commands)
    for file in FILES:
        text = "".join(line for line in file.read_text(encoding="utf-8").splitlines(True) if not line.startswith("#"))
        asked = re.findall(
            r"(?:\bbin/|workbook |learner |-m |^CMD \[\")workbook(?:\.cli)?(?:\", \"| )([a-z]+)", text, re.M
        )
        assert set(asked) <= known, file.name
    assert re.search(r'CMD \["workbook", "lab"', (ROOT / "Dockerfile").read_text())


def test_workflows_call_only_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    asked = {name for file in WORKFLOWS for name in re.findall(r"\bmake ([a-z][a-z-]*)", code(file))}
    assert asked, "no workflow calls make"
    assert {name for name in asked if not re.search(rf"^{name}:", makefile, re.M)} == set()


def code(file: Path) -> str:
    return "".join(line for line in file.read_text(encoding="utf-8").splitlines(True) if not line.startswith("#"))


def test_the_workflow_runs_the_tests_as_make_test_does():
    side = re.search(r"^SIDE \?= (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1]
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert f"-m pytest {side} --durations=20" in text
    assert "runs/browser" in text, "the screenshots are kept"
    for system in ("ubuntu", "macos", "windows"):
        assert f"os: {system}-latest" in text


def test_the_dev_container_uses_a_stage_of_the_dockerfile():
    config = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    stages = re.findall(r"^FROM .+ AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert stages == ["base", "sources", "cuda", "cpu"], "the last one is what `docker build .` makes"
    assert config["build"]["target"] in stages
    assert (ROOT / ".devcontainer" / config["build"]["dockerfile"]).is_file()
    assert all((ROOT / name).is_file() for name in config["customizations"]["codespaces"]["openFiles"])


@pytest.mark.skipif(os.name == "nt", reason="Binder runs Linux")
def test_binders_scripts_set_up_and_start(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("bin/python3", ".venv/bin/python"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{Path(name).name} $* torch=$WORKBOOK_TORCH"\n')
        (tmp_path / name).chmod(0o755)
    settings = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "NB_PYTHON_PREFIX": "/server"}
    made = subprocess.run([ROOT / ".binder" / "postBuild"], cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    first, kernel, learner = made.stdout.splitlines()
    assert first == "python3 tools/setup_venv.py torch=cpu"
    assert "ipykernel install --prefix /server --name python3" in kernel
    assert "workbook.editions --only learner --into ." in learner
    started = subprocess.run(
        [ROOT / ".binder" / "start", "sh", "-c", "echo $HF_HUB_OFFLINE $WORKBOOK_PROGRESS"],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
    )
    assert started.stdout == f"1 {tmp_path}/runs/progress\n"


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    seen: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, **_: seen.append([str(part) for part in command]))
    return seen


def test_the_cell_for_colab_mounts_a_folder_and_keeps_it(commands, monkeypatch, tmp_path):
    mounted = []
    colab = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.chdir(tmp_path)
    exec(CELLS[0], {})
    assert mounted == ["/content/drive"]
    assert [command[1] for command in commands] == ["clone", "workbook/tools/colab.py"]
    assert commands[1][2] == "--keep" and commands[1][3].startswith(mounted[0])


def test_the_cell_for_kaggle_keeps_a_folder_that_outlives_the_session(commands, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PROGRESS", "off")
    exec(CELLS[1], {})
    assert commands[-1][1:] == ["/tmp/workbook/tools/colab.py", "--keep", "/kaggle/working/kept"]
    assert os.environ["WORKBOOK_PROGRESS"].startswith("/kaggle/working/kept/")


def test_the_docs_say_of_every_way_what_was_run():
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", DOCS, re.M)
    told = {name.strip(): run for name, run in rows}
    for way in ("Docker", "Codespaces, VS Code", "Binder", "Colab", "Kaggle", "GitHub Actions", "conda"):
        assert re.search(r"\bnot\b|\bno container\b", told[way]), way
