"""`workbook doctor`: what this machine has, what it lacks, and how to fix it.

In a checkout it compares the packages with requirements.lock and the files of data/ with their hashes. An installed
wheel has neither. There it checks the package's own requirements and says how to get the lessons.
"""

from __future__ import annotations

from pathlib import Path

from helpers.paths import ROOT
from workbook.doctor.check import Check, show
from workbook.doctor.files import cache, disk, hashes
from workbook.doctor.installed import kernel, packages, python, requirements
from workbook.doctor.machine import graphics, hub, memory, processor
from workbook.doctor.real import real_track

__all__ = [
    "Check",
    "cache",
    "checks",
    "disk",
    "graphics",
    "hashes",
    "hub",
    "kernel",
    "memory",
    "packages",
    "processor",
    "python",
    "real_track",
    "requirements",
    "show",
]


def checks(root: Path = ROOT) -> list[Check]:
    """All checks, in the order in which they are shown.

    Args:
        root: the folder that contains the packages; if it has a pyproject.toml, it is a checkout.
    """
    if (root / "pyproject.toml").is_file():
        place = [packages(root / "requirements.lock"), *hashes(root / "data"), real_track(), disk(root), cache()]
    else:
        found = "not here: this is the installed package, without notebooks, data and models"
        advice = "To run lessons, clone the repository and run `make run` there."
        place = [requirements(), Check("lessons", found, False, advice, needed=False), disk(Path.cwd())]
    return [python(), kernel(), *place, memory(), processor(), graphics(), hub()]
