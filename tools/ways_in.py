"""Write the current versions into the files of all ways in: Docker, dev container, Binder, conda, GitHub's workflows.

    python tools/ways_in.py            after `make lock`, which calls this
    python tools/ways_in.py --check    name the files that differ, and end with status 1

The versions come from pyproject.toml and requirements.lock. The script needs only Python's standard library.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_VERSION = r'(python-version: ")[^"]+'
# File -> a pattern for the version (group 1 is the text before it), and whose version it is: Python's or a package's.
PLACES = {
    "Dockerfile": (r"(^ARG PYTHON=)\S+", "python"),
    ".binder/runtime.txt": (r"(^python-)\S+", "python"),
    ".binder/requirements.txt": (r"(^jupyterlab-widgets==)\S+", "jupyterlab-widgets"),
    ".github/workflows/tests.yml": (PYTHON_VERSION, "python"),
    ".github/workflows/drift.yml": (PYTHON_VERSION, "python"),
    "environment.yml": (r"(^  - python=)\S+", "python"),
    "README.md": (r"(\bpy -)3\.\d+", "python"),
    "docs/ways_in.md": (r"(\bpy -)3\.\d+", "python"),
}


def versions(root: Path = ROOT) -> dict[str, str]:
    """Return the oldest Python that pyproject.toml allows, as "python", and the version of each package in the lock."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = re.search(r">=\s*(\d+\.\d+)", project["requires-python"]).group(1)
    lock = (root / "requirements.lock").read_text(encoding="utf-8")
    return {"python": python, **dict(re.findall(r"^([a-z0-9.-]+)==(\S+)$", lock, re.M))}


def write(root: Path = ROOT, check: bool = False) -> list[str]:
    """Write the current versions into every file, or only compare if `check`. Return the names of outdated files.

    Raises:
        SystemExit: a file no longer has a place for its version.
    """
    known, differ = versions(root), []
    for name, (place, whose) in PLACES.items():
        text = (root / name).read_text(encoding="utf-8")
        new, count = re.subn(place, rf"\g<1>{known[whose]}", text, flags=re.M)
        if not count:
            raise SystemExit(f"{name} has no place for the version of {whose}: look at PLACES in tools/ways_in.py.")
        if new != text:
            differ.append(name)
            if not check:
                (root / name).write_text(new, encoding="utf-8", newline="\n")
    return differ


def main(arguments: list[str]) -> int:
    check = arguments == ["--check"]
    differ = write(check=check)
    if differ:
        print(f"{'Differ from' if check else 'Brought to'} pyproject.toml and requirements.lock: {', '.join(differ)}")
    return 1 if check and differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
