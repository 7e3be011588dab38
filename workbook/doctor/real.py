"""Checks the real track's files. No lesson needs them, because lessons can use the pocket models."""

from __future__ import annotations

from helpers.paths import ROOT
from helpers.real import COMMAND, MISSING, PARTS, WHOLE, real_folder, state
from workbook.doctor.check import Check


def real_track() -> Check:
    """Are the downloaded models and texts complete?"""
    folder = real_folder()
    shown = folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else folder
    states = {part: state(part, folder) for part in PARTS}
    wrong = {part: found for part, found in states.items() if found != WHOLE}
    if not wrong:
        return Check("real track", f"{len(states)} parts complete in {shown}")
    advice = f'Only `track = "real"` needs it: `{COMMAND}` fetches what is missing or damaged (180 MB in all).'
    if set(states.values()) == {MISSING}:
        return Check("real track", "not fetched", False, advice, needed=False)
    found = ", ".join(f"{part} is {how}" for part, how in wrong.items())
    return Check("real track", f"{found} in {shown}", False, advice, needed=False)
