"""Colab, as far as it can be pretended: badge, setup cell and what it installs. Nothing was run in Colab itself."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("colab", ROOT / "tools" / "colab.py")
colab = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(colab)


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    seen: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, **_: seen.append(list(command)))
    return seen


ADDRESSES = [
    "https://github.com/somebody/course",
    "https://github.com/somebody/course.git",
    "https://user:secret@github.com/somebody/course.git",
    "git@github.com:somebody/course.git",
    "ssh://git@github.com/somebody/course.git",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_badge_and_cell_have_the_address_of_the_remote(address, monkeypatch, capsys):
    monkeypatch.setattr(colab, "remote", lambda: address)
    assert colab.main(["badge"]) == 0
    said = capsys.readouterr().out
    assert "(https://colab.research.google.com/github/somebody/course/blob/main/notebooks/00_start_here.ipynb)" in said
    assert "git clone --depth 1 https://github.com/somebody/course workbook\n" in said and "secret" not in said
    assert (ROOT / colab.FIRST).is_file() and (ROOT / "docs" / "open-in-colab.svg").is_file()


@pytest.mark.parametrize("address", ["", "/srv/course.git", "https://gitlab.com/somebody/course", "git@github.com:x"])
def test_a_copy_that_is_not_on_github_gets_no_badge(address):
    assert colab.badge(address) == colab.NO_REMOTE


def test_the_remote_is_gits_own(monkeypatch, tmp_path):
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert colab.remote() == ""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", ADDRESSES[0]], check=True)
    assert colab.remote() == ADDRESSES[0]


def test_no_page_names_an_account_that_does_not_exist():
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/source/*.py")]:
        assert "github/OWNER" not in path.read_text(encoding="utf-8"), path


def test_colabs_own_server_and_kernel_stay():
    names = {pin.partition("==")[0] for pin in colab.wanted()}
    assert {"torch", "transformers", "peft", "matplotlib", "psutil"} <= names
    assert not names & colab.COLABS_OWN


def test_only_what_is_lacking_is_installed(monkeypatch, commands, capsys):
    assert colab.missing(["pytest==0.1", "no-such-package==1"]) == ["pytest==0.1", "no-such-package==1"]
    monkeypatch.setattr(colab, "missing", lambda pins: ["numpy==9"])
    colab.main([])
    assert commands[0][-1] == "numpy==9" and "Restart session" in capsys.readouterr().out
    commands.clear()
    monkeypatch.setattr(colab, "missing", lambda pins: [])
    colab.main([])
    assert commands == [] and capsys.readouterr().out == ""
