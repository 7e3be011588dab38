"""`workbook lab`: the first lesson's address, this environment's kernel, no question about news."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from workbook.cli import main
from workbook.lessons import kernel, lab


def test_it_opens_at_the_first_lesson(course):
    course.add("01_second")
    course.add("00_first")
    made = lab.command(course.folder.parent, ["--no-browser"])
    assert made[:3] == [sys.executable, "-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/notebooks/00_first.ipynb" in made and made[-1] == "--no-browser"
    assert f"--ServerApp.root_dir={course.folder.parent}" in made


def test_without_lessons_it_still_opens(tmp_path):
    assert not any("default_url" in word for word in lab.command(tmp_path))


def test_the_command_becomes_jupyterlab(monkeypatch):
    seen = []
    monkeypatch.setattr(os, "execve", lambda *call: seen.append(call))
    monkeypatch.setattr(os, "chdir", lambda folder: seen.append(folder))
    CliRunner().invoke(main, ["lab", "--no-browser"])
    root, (program, command, environment) = seen
    assert (Path(root) / "notebooks").is_dir() and program == sys.executable
    assert any(word.endswith("notebooks/00_start_here.ipynb") for word in command) and "--no-browser" in command
    assert environment["TOKENIZERS_PARALLELISM"] == "false" and "TQDM_DISABLE" not in environment


def test_on_windows_the_command_waits_for_jupyterlab(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab.os, "name", "nt")
    monkeypatch.setattr(lab, "command", lambda *_: ["jupyterlab"])
    monkeypatch.setattr(lab, "settings", dict)
    monkeypatch.setattr(lab.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 3))
    assert lab.open_lab(tmp_path) == 3


@pytest.mark.parametrize("settings", [lab.settings, lambda: kernel.environment(threads=1)], ids=["lab", "run"])
def test_a_users_python3_of_long_ago_is_not_the_kernel(settings, monkeypatch, tmp_path):
    wrong = tmp_path / "kernels" / "python3"
    wrong.mkdir(parents=True)
    spec = {"argv": ["/usr/bin/python3.9", "-m", "ipykernel_launcher"], "display_name": "Old", "language": "python"}
    (wrong / "kernel.json").write_text(json.dumps(spec))
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    code = "from jupyter_client.kernelspec import KernelSpecManager as M; print(M().get_kernel_spec('python3').argv[0])"
    found = {
        name: subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.strip()
        for name, env in {"theirs": dict(os.environ), "ours": settings()}.items()
    }
    assert found["theirs"] == "/usr/bin/python3.9"  # else this test could not fail
    assert found["ours"] in ("python", sys.executable)


def test_the_search_path_does_not_grow(monkeypatch):
    own = kernel.with_own_kernels("")
    assert kernel.with_own_kernels(own) == own
    assert kernel.with_own_kernels(os.pathsep.join(["other", own])).split(os.pathsep) == [own, "other"]


def test_jupyter_asks_for_no_news():
    overrides = json.loads((lab.CONFIG / "labconfig" / "default_setting_overrides.json").read_text(encoding="utf-8"))
    assert overrides["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    assert str(lab.CONFIG) in lab.settings()["JUPYTER_CONFIG_PATH"].split(os.pathsep)
