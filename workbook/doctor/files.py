"""Checks that data and models are undamaged, and that results can be written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from helpers.files import changed_files, committed_sums
from helpers.paths import OTHER_CACHE, cache_folder, unwritable
from workbook.doctor.check import Check

GIGABYTE = 1e9


def hashes(data: Path) -> list[Check]:
    """Do the files of each folder still match the hashes in its list?"""
    found = []
    for sums in committed_sums(data):
        wrong = [file.name for file in changed_files(sums.parent)]
        count = len(sums.read_text(encoding="utf-8").splitlines())
        shown = "damaged: " + ", ".join(wrong) if wrong else f"{count} files whole"
        folder = sums.parent.relative_to(data.parent)
        advice = f"Restore it with `git checkout {folder.as_posix()}`."
        found.append(Check(folder.as_posix(), shown, not wrong, advice))
    return found or [Check("data", "no data folder with hashes", False, "Restore it with `git checkout data`.")]


def disk(folder: Path) -> Check:
    """Is there disk space for runs, and may this user write them?"""
    free = shutil.disk_usage(folder).free / GIGABYTE
    if not os.access(folder, os.W_OK):
        return Check("free disk", f"{folder} may not be written", False, "Move to a folder that you may write.")
    return Check("free disk", f"{free:.1f} GB", free > 1, "Runs want 1 GB: make room, or remove old folders of runs/.")


def _from_home(path: Path) -> str:
    return f"~/{path.relative_to(Path.home()).as_posix()}" if path.is_relative_to(Path.home()) else str(path)


def cache() -> Check:
    """May this user write the cache folder, in which `datasets` stores the converted micro-world?"""
    wrong = unwritable(cache_folder())
    return Check("cache", wrong or _from_home(cache_folder()), not wrong, f"{OTHER_CACHE[0].upper()}{OTHER_CACHE[1:]}")
