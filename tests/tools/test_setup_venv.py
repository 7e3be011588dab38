"""Setting up: the lock and the conda file agree, an install resumes, and every refusal is a sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"[a-z0-9-]+==[A-Za-z0-9.]+")

BACKEND = """
import zipfile
from pathlib import Path

def _wheel(folder, editable):
    name = "project-1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        info = "project-1.0.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: project\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _wheel(wheel_directory, True)
"""


def pins(text: str) -> list[str]:
    return [
        line.strip().removeprefix("- ") for line in text.splitlines() if PIN.fullmatch(line.strip().removeprefix("- "))
    ]


def test_the_lock_is_exact_and_starts_with_torch():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(PIN.fullmatch(line) for line in lines), [line for line in lines if not PIN.fullmatch(line)]
    assert lines[0].startswith("torch==")
    assert len({line.partition("==")[0] for line in lines}) == len(lines)


def test_the_lock_holds_all_that_the_project_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    locked = {pin.partition("==")[0] for pin in pins((ROOT / "requirements.lock").read_text())}
    assert {re.split(r"[=<>]", name)[0].lower() for name in wanted} <= locked


def test_conda_installs_what_the_lock_says():
    locked = set(pins((ROOT / "requirements.lock").read_text()))
    conda = (ROOT / "environment.yml").read_text()
    # conda brings a pip of its own
    assert set(pins(conda)) == {pin for pin in locked if not pin.startswith("pip==")}
    assert conda.rstrip().endswith("- -e .")


@pytest.fixture
def project(tmp_path) -> Path:
    """A project in miniature: three packages in its lock, found in a folder of wheels; installed one by one."""
    (tmp_path / "tools").mkdir()
    script = (ROOT / "tools" / "setup_venv.py").read_text().replace("BATCH = 10", "BATCH = 1")
    (tmp_path / "tools" / "setup_venv.py").write_text(script)
    (tmp_path / "requirements.lock").write_text("# exact\ntorch==1.0\nalpha==1.0\nbeta==1.0\n")
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "project"\nversion = "1.0"\n'
    )
    for name in ("torch", "alpha"):
        wheel(tmp_path / "wheels", name)
    return tmp_path


def wheel(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        info = f"{name}-1.0.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def set_up(project: Path, **settings: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "WORKBOOK_"))}
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project / "wheels"), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, str(project / "tools" / "setup_venv.py")]
    return subprocess.run(command, env={**kept, **pip, **settings}, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="not tried there")
def test_a_failed_install_goes_on_where_it_stopped(project):
    failed = set_up(project)
    assert failed.returncode == 1, failed.stdout
    assert "Installing stopped: ERROR: No matching distribution found for beta==1.0" in failed.stderr
    assert "run the same command again" in failed.stderr and "Traceback" not in failed.stderr

    wheel(project / "wheels", "beta")
    resumed = set_up(project)
    assert resumed.returncode == 0, resumed.stderr
    assert "1 of 3 packages to install" in resumed.stdout and "Ready" in resumed.stdout

    again = set_up(project)
    assert (again.returncode, again.stdout) == (0, "")

    shutil.rmtree(project / "wheels")
    (project / "requirements.lock").write_text("torch==1.0\nalpha==2.0\n")
    assert set_up(project).returncode == 1, "a changed lock has to be noticed"


def test_a_python_that_is_too_old_is_one_sentence(project):
    script = project / "tools" / "setup_venv.py"
    script.write_text(script.read_text().replace("OLDEST = (3, 11)", "OLDEST = (3, 90)"))
    refused = set_up(project)
    assert refused.returncode == 1
    assert "needs Python 3.90 or newer, and this is Python" in refused.stderr and "Traceback" not in refused.stderr
    assert not (project / ".venv").exists()


def test_an_unknown_build_of_torch_is_one_sentence(project):
    refused = set_up(project, WORKBOOK_TORCH="gpu")
    assert refused.returncode == 1
    assert 'the only build it can name is "cpu"' in refused.stderr


def test_the_installer_is_readable_by_an_old_python():
    """No syntax younger than Python 3.6, or it could not say that Python is too old."""
    import ast

    ast.parse((ROOT / "tools" / "setup_venv.py").read_text(), feature_version=(3, 6))


def test_nothing_sends_pip_elsewhere_by_default():
    texts = [(ROOT / name).read_text() for name in ("Makefile", ".ci/run", "requirements.lock", "environment.yml")]
    assert not any(re.search(r"--(index-url|no-index|extra-index-url|find-links)", text) for text in texts)


def test_ci_calls_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert "make test" in (ROOT / "README.md").read_text()
