"""`workbook doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

from workbook.doctor.check import Check, show
from workbook.doctor.files import damaged, disk, hashes
from workbook.doctor.installed import kernel, packages, python
from workbook.doctor.machine import graphics, hub, memory, processor
from workbook.doctor.real import real_track

__all__ = [
    "Check",
    "checks",
    "damaged",
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
    "show",
]

from helpers.paths import ROOT


def checks() -> list[Check]:
    """Everything that is looked at, in the order in which it is shown."""
    installed = [python(), packages(ROOT / "requirements.lock"), kernel()]
    return [*installed, *hashes(ROOT / "data"), real_track(), disk(ROOT), memory(), processor(), graphics(), hub()]
