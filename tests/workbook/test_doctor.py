"""workbook.doctor: each trouble is found and comes with what to do."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from helpers import catalog
from helpers.paths import cache_folder
from helpers.runtime import UserError
from workbook import doctor
from workbook.cli import main
from workbook.doctor import (
    Check,
    cache,
    checks,
    disk,
    hashes,
    hub,
    installed,
    kernel,
    machine,
    packages,
    python,
    requirements,
    show,
)


def test_this_machine_is_looked_at_in_full():
    names = [check.name for check in checks()]
    wanted = {
        "Python",
        "packages",
        "Jupyter kernel",
        "data/microworld",
        "free disk",
        "free memory",
        "cores",
        "GPU",
        "cache",
    }
    assert wanted | {"hub"} <= set(names)
    assert all(check.found and (check.fine or check.advice) for check in checks())


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME"])
def test_a_cache_folder_that_cannot_be_written_is_found_and_named_in_one_sentence(tmp_path, monkeypatch, variable):
    (tmp_path / "a file").write_text("")
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "good"))
    assert cache().fine and str(tmp_path / "good") in cache().found
    monkeypatch.setenv(variable, str(tmp_path / "a file" / "inside"))
    found = cache()
    fix = "et HF_HOME to a folder that you may write (export HF_HOME=~/hf)."
    assert not found.fine and found.needed
    assert (found.found, found.advice) == (f"{tmp_path / 'a file'} is no folder", f"S{fix}")
    with pytest.raises(UserError) as problem:
        catalog.dataset("reviews", "pocket")
    assert str(problem.value) == (
        f"The cache folder {cache_folder()} cannot be used: {tmp_path / 'a file'} is no folder; s{fix}"
    )


def test_a_cache_folder_that_may_not_be_written(tmp_path, monkeypatch):
    """The tests may run as a user to whom nothing is forbidden, so the system's answer is played."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda *_: False)
    assert cache().found == f"{tmp_path} may not be written" and not cache().fine


def test_an_old_python_is_found():
    assert not python((3, 10, 4)).fine and python((3, 11, 0)).fine


def test_a_package_of_another_version_is_found(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.1\nno-such-package==1.0\npip==0.1\n")
    found = packages(lock)
    assert not found.fine and "numpy" in found.found and "no-such-package missing" in found.found
    assert "pip " not in found.found
    assert not packages(tmp_path / "none.lock").fine


def test_without_a_checkout_the_packages_own_requirements_are_compared(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = {check.name: check for check in checks(tmp_path)}
    assert not found["lessons"].fine and not found["lessons"].needed and "clone" in found["lessons"].advice
    assert not {"data", "data/microworld"} & set(found)
    assert "no requirements.lock to compare with" in found["packages"].found
    monkeypatch.setattr(installed, "requires", lambda _: ["numpy<1", "no-such-package", "numpy<1; extra == 'site'"])
    assert requirements().found.startswith("not as asked: no-such-package missing (wanted any), numpy ")
    assert requirements().advice.endswith('no-such-package"`.')
    monkeypatch.undo()
    monkeypatch.setattr(installed, "DISTRIBUTION", "no-such-distribution")
    assert "no-such-distribution is not installed" in requirements().found


def test_what_fixes_the_packages_depends_on_the_environment(monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(installed.ROOT / ".venv"))
    assert "make setup" in installed._fix()
    monkeypatch.setattr(sys, "prefix", "elsewhere")
    assert "pip install -r requirements.lock" in installed._fix()


def _register(folder, *argv: str) -> None:
    place = folder / "kernels" / "python3"
    place.mkdir(parents=True)
    spec = {"argv": list(argv), "display_name": "Python", "language": "python"}
    (place / "kernel.json").write_text(json.dumps(spec))


def test_a_kernel_of_another_python_is_found(tmp_path, monkeypatch):
    _register(tmp_path / "users", "/usr/bin/python3.9", "-m", "ipykernel_launcher")
    _register(tmp_path / "own", "python", "-m", "ipykernel_launcher")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "users"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    assert kernel(tmp_path / "own").fine
    found = kernel(tmp_path / "none")
    assert not found.fine and "python3.9" in found.found and "--sys-prefix" in found.advice


def test_a_damaged_and_a_missing_file_are_found(tmp_path):
    folder = tmp_path / "data" / "models" / "small"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights")
    wanted = hashlib.sha256(b"weights").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{wanted}  model.bin\n")
    assert all(check.fine for check in hashes(tmp_path / "data"))
    (folder / "model.bin").write_bytes(b"weight5")
    assert "damaged: model.bin" in hashes(tmp_path / "data")[0].found
    (folder / "model.bin").unlink()
    assert not hashes(tmp_path / "data")[0].fine
    assert not hashes(tmp_path / "elsewhere")[0].fine


def test_a_folder_that_may_not_be_written_is_found(tmp_path, monkeypatch):
    assert disk(tmp_path).fine
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "may not be written" in disk(tmp_path).found


def test_a_containers_limit_counts_as_memory(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("1000000000\n")
    monkeypatch.setattr(machine, "LIMIT", limit)
    assert machine.memory().found == "1.0 GB" and not machine.memory().fine
    limit.write_text("max\n")
    assert machine.memory().found != "1.0 GB"


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(401)

    def log_message(self, *_):
        pass


def test_a_hub_that_answers_is_reached_whatever_it_says(monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    assert hub().fine and "127.0.0.1 answers" in hub().found
    server.shutdown()
    server.server_close()
    assert not hub().fine and not hub().needed and "refused" in hub().found


def test_a_silent_hub_costs_a_moment_only(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        found = hub(seconds=0.3)
    assert time.monotonic() - began < 5 and not found.fine and "pocket" in found.advice


def test_offline_the_hub_is_not_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub().fine and "not asked" in hub().found


def test_half_an_environment_is_told_not_raised(monkeypatch):
    for name in ("torch", "psutil", "jupyter_client.kernelspec"):
        monkeypatch.setitem(sys.modules, name, None)
    for check in (kernel(), machine.memory(), machine.graphics()):
        assert not check.fine and "missing" in check.found and check.advice


def test_only_what_is_needed_decides(capsys):
    assert show([Check("a", "x"), Check("b", "y", False, "Do this.", needed=False)])
    assert not show([Check("a", "x [red] y", False, "Do that.")])
    said = capsys.readouterr().out
    assert "Do that." in said and "x [red] y" in said


@pytest.mark.parametrize(("fine", "status"), [(True, 0), (False, 1)])
def test_the_command_ends_with_a_status(monkeypatch, fine, status):
    monkeypatch.setattr(doctor, "checks", lambda: [Check("a", "x", fine, "Do this.")])
    assert CliRunner().invoke(main, ["doctor"]).exit_code == status
