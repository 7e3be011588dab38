"""Setting up: the lock and the conda file agree, an install resumes, and every refusal is a sentence."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
import types
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("setup_venv", ROOT / "tools" / "setup_venv.py")
setup_venv = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(setup_venv)
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
    # No index is asked for torch, and no uv of this machine is found: a test that wants one names it.
    alone = {"WORKBOOK_TORCH": "cuda", "PATH": str(project / "commands")}
    command = [sys.executable, str(project / "tools" / "setup_venv.py")]
    return subprocess.run(command, env={**kept, **pip, **alone, **settings}, capture_output=True, text=True)


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
    assert 'the builds it can name are "cpu" and "cuda"' in refused.stderr


class Index(BaseHTTPRequestHandler):
    """PyTorch's index in miniature: one page with wheels, and their sizes."""

    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    page = f'<a href="/whl/torch-2.0.0%2Bcpu-{python}-{python}-linux_{platform.machine()}.whl#sha256=0">torch</a>'

    def do_GET(self):
        self.answer(self.page.encode())

    def do_HEAD(self):
        self.answer(b"", 187_000_000)

    def answer(self, text: bytes, size: int = 0):
        self.send_response(200 if self.path.startswith("/whl") else 404)
        self.send_header("Content-Length", str(size or len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def index(monkeypatch):
    """The address of such an index; this machine seems to have no NVIDIA device."""
    server = HTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/whl/cpu"
    monkeypatch.setattr(setup_venv, "CPU_INDEX", address)
    monkeypatch.setattr(setup_venv, "NVIDIA", ())
    monkeypatch.setattr(sys, "platform", "linux")
    yield address
    server.shutdown()
    server.server_close()


def test_without_a_gpu_the_cpu_build_is_taken_and_its_size_is_said(index):
    found = setup_venv.torch_source("", "torch==2.0.0")
    assert found.index == index and found.small
    assert found.said == (
        "This machine has no NVIDIA GPU. Taking torch's CPU build: 187 MB to download, unless a cache has it."
    )


def test_a_gpu_or_the_variable_keeps_pips_usual_places(index, monkeypatch, tmp_path):
    assert setup_venv.torch_source("cuda", "torch==2.0.0").index == ""
    monkeypatch.setattr(setup_venv, "NVIDIA", (str(tmp_path),))
    assert setup_venv.torch_source("", "torch==2.0.0").index == ""
    assert setup_venv.torch_source("cpu", "torch==2.0.0").index == index
    monkeypatch.setattr(setup_venv, "NVIDIA", ())
    monkeypatch.setattr(sys, "platform", "darwin")
    found = setup_venv.torch_source("", "torch==2.0.0")
    assert found.index == "" and found.small, "there torch has no CUDA anyway"


def test_an_index_that_does_not_have_it_or_does_not_answer_is_one_sentence(index, monkeypatch):
    found = setup_venv.torch_source("", "torch==3.0.0")
    assert found.index == "" and "has no torch==3.0.0 for this Python: torch comes from" in found.said
    monkeypatch.setattr(setup_venv, "CPU_INDEX", index.replace("/whl/", "/gone/"))
    assert "cannot be reached (Not Found)" in setup_venv.torch_source("", "torch==2.0.0").said
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(setup_venv, "CPU_INDEX", f"http://127.0.0.1:{silent.getsockname()[1]}/whl")
        monkeypatch.setattr(setup_venv, "PATIENCE", 0.2)
        began = time.monotonic()
        said = setup_venv.torch_source("", "torch==2.0.0").said
    assert time.monotonic() - began < 5
    assert said.endswith("index cannot be reached (timed out): torch comes from where pip usually looks.")


PIP_CONFIG = r"""
:env:.find-links='/here /there'
global.constraint='/limits.txt'
global.extra-index-url='file:///one\nfile:///two'
global.find-links='/elsewhere'
global.index-url='file:///first'
install.no-index='true'
"""


def test_uv_looks_where_pip_is_configured_to(monkeypatch):
    monkeypatch.setattr(subprocess, "check_output", lambda *_, **__: PIP_CONFIG)
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    pip = setup_venv.pip_settings()
    assert pip["find-links"] == "/here /there" and pip["no-index"] == "true"
    settings = setup_venv.uv_settings(pip)
    assert settings["UV_FIND_LINKS"] == "/here,/there"
    assert settings["UV_EXTRA_INDEX_URL"] == "file:///one file:///two"
    assert (settings["UV_DEFAULT_INDEX"], settings["UV_CONSTRAINT"]) == ("file:///first", "/limits.txt")
    monkeypatch.setenv("UV_FIND_LINKS", "/mine")
    assert setup_venv.uv_settings(pip)["UV_FIND_LINKS"] == "/mine", "the user's own setting stays"


def uv(project: Path, code: str) -> dict[str, str]:
    """Put a `uv` on the path that runs this shell code; return the settings for it."""
    (project / "commands").mkdir()
    (project / "commands" / "uv").write_text(f"#!/bin/sh\n{code}\n")
    (project / "commands" / "uv").chmod(0o755)
    return {"PATH": str(project / "commands")}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the stand-in for uv is a shell script")
def test_uv_is_used_when_it_is_there(project):
    done = set_up(project, **uv(project, 'echo "Downloading big (9.0MiB)"; echo "$*" "$UV_FIND_LINKS" >> "$0.log"'))
    assert done.returncode == 0, done.stderr
    assert "Using uv" in done.stdout and "    Downloading big (9.0MiB)" in done.stdout and "Ready" in done.stdout
    lock, own = (project / "commands" / "uv.log").read_text().splitlines()
    assert "--no-index" in lock and f"-r {project / 'requirements.lock'} {project / 'wheels'}" in lock
    assert f"--no-deps --no-build-isolation -e {project}" in own


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the stand-in for uv is a shell script")
def test_when_uv_stops_pip_goes_on(project):
    wheel(project / "wheels", "beta")
    done = set_up(project, **uv(project, "echo 'error: no such index' >&2; exit 2"))
    assert done.returncode == 0, done.stderr
    assert "uv stopped (error: no such index). Going on with pip." in done.stdout and "Ready" in done.stdout


@pytest.mark.slow
def test_another_build_of_torch_replaces_the_installed_one(project):
    wheel(project / "wheels", "beta")
    assert set_up(project).returncode == 0
    info = next((project / ".venv").rglob("torch-1.0.dist-info"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0+cpu\n")
    record = info / "RECORD"  # which says what an uninstall removes
    record.write_text(record.read_text().replace("torch-1.0.dist", "torch-1.0+cpu.dist"))
    info.rename(info.with_name("torch-1.0+cpu.dist-info"))
    (project / ".venv" / "workbook-stamp").unlink()
    again = set_up(project)
    assert again.returncode == 0, again.stderr
    assert "1 of 3 packages to install" in again.stdout
    assert next((project / ".venv").rglob("torch-1.0.dist-info")) and not list((project / ".venv").rglob("*+cpu*"))


def test_the_disk_that_is_needed_and_free_is_said(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(setup_venv, "VENV", tmp_path)
    setup_venv.check_disk(0.0)
    setup_venv.check_disk(1e9)
    enough, short = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\.venv takes up to 0\.0 GB of disk; [\d.]+ GB are free\.", enough)
    assert short.endswith("That may be too little.")


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


def test_the_size_of_a_download_leaves_out_what_is_on_this_disk(index, monkeypatch):
    found = [{"download_info": {"url": url}} for url in (f"{index}/torch.whl", f"{index}/cuda.whl", "file:///big.whl")]
    said = types.SimpleNamespace(stdout=json.dumps({"install": found}).encode())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    assert setup_venv.download_size(["torch==2.0.0"]) == 2 * 187_000_000
    said.stdout = b"pip is too old for this"
    assert setup_venv.download_size(["torch==2.0.0"]) == 0
