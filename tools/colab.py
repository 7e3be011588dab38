"""Colab: install what it lacks, or print the badge and the setup cell for this copy of the workbook.

    python tools/colab.py          in Colab: the libraries of requirements.lock that lessons import, and the helpers
    python tools/colab.py badge    anywhere: the badge and the setup cell, with the address of the git remote

In Colab, the notebook server and the kernel stay as they are. Needs nothing but Python's standard library.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Colab serves notebooks with versions of its own; replacing them under a running kernel would break it.
COLABS_OWN = {"jupyterlab", "ipykernel", "ipywidgets", "nbformat", "nbclient", "nbconvert", "papermill", "jupytext"}


GITHUB = re.compile(r"(?:git@|ssh://git@|https://)(?:[^@/]+@)?github\.com[:/]([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
FIRST = "notebooks/00_start_here.ipynb"
CELL = """\
!test -d workbook || git clone --depth 1 {address} workbook
!python workbook/tools/colab.py"""
NO_REMOTE = "The git remote of this copy is not on GitHub, from where Colab opens notebooks: push it there first."


def main(words: list[str]) -> int:
    if words == ["badge"]:
        print(badge(remote()))
        return 0
    return install()


def remote() -> str:
    """The address of the git remote `origin`; "" without one."""
    try:
        command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def badge(address: str) -> str:
    """The badge in Markdown and the cell that sets Colab up, for a copy whose remote has this address."""
    found = GITHUB.fullmatch(address)
    if not found:
        return NO_REMOTE
    owner, name = found.groups()
    link = f"https://colab.research.google.com/github/{owner}/{name}/blob/main/{FIRST}"
    cell = CELL.format(address=f"https://github.com/{owner}/{name}")
    return (
        f"Badge for a page in docs/:\n\n[![Open in Colab](open-in-colab.svg)]({link})\n\nFirst cell in Colab:\n\n{cell}"
    )


def install() -> int:
    lacking = missing(wanted())
    if lacking:
        print(f"Installing {', '.join(lacking)}. This takes minutes, once.", flush=True)
        pip(*lacking)
    if not has_helpers():
        pip("--no-deps", "--editable", str(ROOT))
        lacking.append("helpers")
    if lacking:
        print("Ready. Now choose Runtime > Restart session, then run this lesson from its top.", flush=True)
    return 0


def wanted() -> list[str]:
    """The pins `name==version` of what the lessons import."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.match(r"[a-z0-9-]+", line).group() for line in project["dependencies"]} - COLABS_OWN
    locked = re.findall(r"^([a-z0-9.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M)
    return [f"{name}=={number}" for name, number in locked if name in names]


def missing(pins: list[str]) -> list[str]:
    """Those of the pins that are not installed in just that version; a build's own mark (+cpu, +cu128) is no matter."""
    return [pin for pin in pins if have(pin.partition("==")[0]) != pin.partition("==")[2]]


def have(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return ""


def has_helpers() -> bool:
    return bool(have("fine-tuning-workbook"))


def pip(*what: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *what], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
