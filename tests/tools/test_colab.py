"""Colab, as far as it can be pretended: the setup cell and what it installs. Nothing here was run in Colab itself."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest

from workbook.lessons import find
from workbook.notebooks import from_source

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("colab", ROOT / "tools" / "colab.py")
colab = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(colab)


@pytest.fixture
def setup_cell() -> str:
    cells = from_source(find()[0].source).cells
    return next(cell.source for cell in cells if cell.cell_type == "code")


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    seen: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, **_: seen.append(list(command)))
    return seen


def test_the_setup_cell_does_nothing_elsewhere(setup_cell, commands):
    assert "google.colab" not in sys.modules
    exec(setup_cell, {})
    assert commands == []


def test_in_colab_the_setup_cell_fetches_and_installs(setup_cell, commands, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="account that publishes"):
        exec(setup_cell, {})
    exec(setup_cell.replace("com/OWNER/", "com/somebody/"), {})
    assert [command[1] for command in commands] == ["clone", "workbook/tools/colab.py"]
    (tmp_path / "workbook").mkdir()
    exec(setup_cell.replace("com/OWNER/", "com/somebody/"), {})
    assert [command[1] for command in commands][2:] == ["workbook/tools/colab.py"]


def test_colabs_own_server_and_kernel_stay():
    names = {pin.partition("==")[0] for pin in colab.wanted()}
    assert {"torch", "transformers", "peft", "matplotlib", "psutil"} <= names
    assert not names & colab.COLABS_OWN


def test_only_what_is_lacking_is_installed(monkeypatch, commands, capsys):
    assert colab.missing(["pytest==0.1", "no-such-package==1"]) == ["pytest==0.1", "no-such-package==1"]
    monkeypatch.setattr(colab, "missing", lambda pins: ["numpy==9"])
    colab.main()
    assert commands[0][-1] == "numpy==9" and "Restart session" in capsys.readouterr().out
    commands.clear()
    monkeypatch.setattr(colab, "missing", lambda pins: [])
    colab.main()
    assert commands == [] and capsys.readouterr().out == ""
