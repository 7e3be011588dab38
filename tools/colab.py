"""On Colab or Kaggle, install the missing libraries; or print the badge and the setup cell for this copy.

    python tools/colab.py                  installs helpers, and the lessons' libraries as in requirements.lock
    python tools/colab.py --keep FOLDER    also keeps results and progress in FOLDER, which outlives the session
    python tools/colab.py badge            prints the badge and the setup cell, with the address of the git remote

The service's notebook server and kernel are not changed. The script needs only Python's standard library.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from setup_venv import torch_source  # noqa: E402

PROGRESS = Path.home() / ".local" / "share" / "fine-tuning-workbook"  # helpers.progress saves here on Linux
# Colab runs notebooks with its own versions of these. Replacing them under a running kernel would break the kernel.
COLABS_OWN = {"jupyterlab", "ipykernel", "ipywidgets", "nbformat", "nbclient", "nbconvert", "papermill", "jupytext"}


GITHUB = re.compile(r"(?:git@|ssh://git@|https://)(?:[^@/]+@)?github\.com[:/]([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
FIRST = "notebooks/00_start_here.ipynb"
CELL = """\
!test -d workbook || git clone --depth 1 {address} workbook
!python workbook/tools/colab.py"""
NO_REMOTE = "The git remote of this copy is not on GitHub, from where Colab opens notebooks: push it there first."


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "command", nargs="?", choices=["badge"], help="print the badge and the setup cell; install nothing"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep results and progress in this folder")
    asked = parser.parse_args(arguments)
    if asked.command == "badge":
        print(badge(remote()))
        return 0
    if asked.keep:
        keep(ROOT / "runs", asked.keep / "runs")
        keep(PROGRESS, asked.keep / "progress")
        print(f"Results and progress are kept in {asked.keep}.", flush=True)
    return install()


def remote() -> str:
    """Return the address of the git remote `origin`, or "" if there is none."""
    try:
        command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def badge(address: str) -> str:
    """Return the badge in Markdown and the cell that sets Colab up, for a copy whose remote has this address."""
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
        torch = [pin for pin in lacking if pin.startswith("torch==")]
        if torch and (index := torch_source("", torch[0]).index):
            pip("--index-url", index, *torch)  # no GPU here, so take the build without CUDA, gigabytes smaller
        pip(*lacking)
    if not has_helpers():
        pip("--no-deps", "--editable", str(ROOT))
        lacking.append("helpers")
    if lacking:
        print("Ready. Now restart the session (Colab: Runtime > Restart session; Kaggle: Run > Restart).", flush=True)
        print("Then run this lesson from its top.", flush=True)
    return 0


def keep(place: Path, kept: Path) -> None:
    """Replace `place` by a link to the folder `kept`, and move the files of `place` there."""
    kept.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        shutil.copytree(place, kept, dirs_exist_ok=True)
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(kept, target_is_directory=True)


def wanted() -> list[str]:
    """Return the pins `name==version` of the libraries that the lessons import."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.match(r"[a-z0-9-]+", line).group() for line in project["dependencies"]} - COLABS_OWN
    locked = re.findall(r"^([a-z0-9.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M)
    return [f"{name}=={number}" for name, number in locked if name in names]


def missing(pins: list[str]) -> list[str]:
    """Return the pins that are not installed in exactly that version, whatever the build's suffix (+cpu, +cu128)."""
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
