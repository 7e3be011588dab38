"""Write requirements.lock and environment.yml, with the exact versions that pip chooses today for pyproject.toml.

Run with a Python that has a recent pip (`make lock` makes a scratch environment for it).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# torch's default wheel needs these on some machines only. pip adds them there, in the versions that torch pins.
PLATFORM_ONLY = re.compile(r"^(nvidia|cuda|triton)\b")
INSTALLERS = ("pip", "setuptools")

LOCK_HEAD = """\
# Exact versions of everything that the workbook installs, made from pyproject.toml by `make lock`.
# torch comes first: left to itself, pip would take whichever torch is newest.
"""

CONDA_HEAD = """\
# The conda way in:  conda env create -f environment.yml && conda activate fine-tuning-workbook
# Same versions as requirements.lock; made by `make lock`.
name: fine-tuning-workbook
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def resolve() -> dict[str, str]:
    """Return name -> version of pip, and of all that pip would install for this project, its site and its tests."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    wanted = [f"{ROOT}[site,test]", *INSTALLERS]
    report = subprocess.run([*command, *wanted], check=True, stdout=subprocess.PIPE, text=True)
    found = {}
    for item in json.loads(report.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if name != "fine-tuning-workbook" and not PLATFORM_ONLY.match(name):
            found[name] = item["metadata"]["version"].partition("+")[0]  # 2.13.0+cpu is one build of 2.13.0
    return found


def pins(found: dict[str, str]) -> list[str]:
    """Return `name==version` lines: torch first, then the others by name."""
    return [f"{name}=={found[name]}" for name in sorted(found, key=lambda name: (name != "torch", name))]


def main() -> None:
    lines = pins(resolve())
    (ROOT / "requirements.lock").write_text(LOCK_HEAD + "\n".join(lines) + "\n")
    conda = CONDA_HEAD + "".join(f"      - {line}\n" for line in lines if not line.startswith("pip=="))
    (ROOT / "environment.yml").write_text(conda + "      - -e .\n")
    print(f"requirements.lock and environment.yml: {len(lines)} packages")


if __name__ == "__main__":
    main()
