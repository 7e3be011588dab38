"""What Colab lacks: the lessons' libraries in the versions of requirements.lock, and the helpers package itself.

Lesson 00's setup cell runs this, with Colab's own Python. Colab's notebook server and kernel stay as they are: only
what the lessons import is brought to the lock. Needs nothing but Python's standard library.
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


def main() -> int:
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
    sys.exit(main())
