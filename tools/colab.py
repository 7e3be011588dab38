"""What Colab and Kaggle lack: the lessons' libraries in the versions of requirements.lock, and the helpers package.

Lesson 00's setup cell runs this, with Colab's own Python. The service's notebook server and kernel stay as they are:
only what the lessons import is brought to the lock. Needs nothing but Python's standard library.

    python tools/colab.py --keep FOLDER    also keeps results and progress in FOLDER, which outlives the session
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

PROGRESS = Path.home() / ".local" / "share" / "fine-tuning-workbook"  # where helpers.progress keeps it on Linux
# Colab serves notebooks with versions of its own; replacing them under a running kernel would break it.
COLABS_OWN = {"jupyterlab", "ipykernel", "ipywidgets", "nbformat", "nbclient", "nbconvert", "papermill", "jupytext"}


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep results and progress there")
    folder = parser.parse_args(arguments).keep
    if folder:
        keep(ROOT / "runs", folder / "runs")
        keep(PROGRESS, folder / "progress")
        print(f"Results and progress are kept in {folder}.", flush=True)
    lacking = missing(wanted())
    if lacking:
        print(f"Installing {', '.join(lacking)}. This takes minutes, once.", flush=True)
        torch = [pin for pin in lacking if pin.startswith("torch==")]
        if torch and (index := torch_source("", torch[0]).index):
            pip("--index-url", index, *torch)  # no GPU here: without CUDA it is smaller by gigabytes
        pip(*lacking)
    if not has_helpers():
        pip("--no-deps", "--editable", str(ROOT))
        lacking.append("helpers")
    if lacking:
        print("Ready. Now restart the session (Colab: Runtime > Restart session; Kaggle: Run > Restart).", flush=True)
        print("Then run this lesson from its top.", flush=True)
    return 0


def keep(place: Path, kept: Path) -> None:
    """Make `place` a link to the folder `kept`; what lies at `place` moves there."""
    kept.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        shutil.copytree(place, kept, dirs_exist_ok=True)
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(kept, target_is_directory=True)


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
