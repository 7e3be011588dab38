"""helpers.doctor: each trouble is found and comes with what to do."""

from __future__ import annotations

import hashlib

import pytest
from click.testing import CliRunner

from helpers import doctor
from helpers.cli import main
from helpers.doctor import Check, checks, hashes, packages, python, show


def test_this_machine_is_looked_at_in_full():
    names = [check.name for check in checks()]
    assert {"Python", "packages", "Jupyter kernel", "free disk", "free memory", "cores", "GPU"} <= set(names)
    assert all(check.found and (check.fine or check.advice) for check in checks())


def test_an_old_python_is_found():
    assert not python((3, 10, 4)).fine and python((3, 11, 0)).fine


def test_a_package_of_another_version_is_found(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.1\nno-such-package==1.0\n")
    found = packages(lock)
    assert not found.fine and "numpy" in found.found and "no-such-package missing" in found.found
    assert not packages(tmp_path / "none.lock").fine


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


def test_only_what_is_needed_decides(capsys):
    assert show([Check("a", "x"), Check("b", "y", False, "Do this.", needed=False)])
    assert not show([Check("a", "x", False, "Do that.")])
    assert "Do that." in capsys.readouterr().out


@pytest.mark.parametrize(("fine", "status"), [(True, 0), (False, 1)])
def test_the_command_ends_with_a_status(monkeypatch, fine, status):
    monkeypatch.setattr(doctor, "checks", lambda: [Check("a", "x", fine, "Do this.")])
    assert CliRunner().invoke(main, ["doctor"]).exit_code == status
