"""What became of an attempt, from how its process ended and what it left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

from helpers import files, record
from helpers.runtime import UserError
from workbook.sweeps.ledger import CANNOT_WRITE, REPORT, Ending
from workbook.sweeps.trouble import DISK, explained, is_memory


def judge(folder: Path, how: str, status: int, seconds: float) -> Ending:
    """An attempt's ending; "halt" when the disk takes nothing more.

    Args:
        how: "ended", "timeout" after `seconds`, or "lost" with its starter.
        status: what its process ended with, negative for a signal.
    """
    if how == "timeout":
        return Ending("failed", 0.0, error=f"It took longer than {seconds:g} s and was ended.")
    if how == "lost" or status < 0 or not (folder / REPORT).is_file():
        if status == CANNOT_WRITE:
            return Ending("halt", 0.0, error=_why_not_written(folder))
        return Ending("crashed", 0.0, error="Its process was killed; most often the memory was not enough.")
    report = json.loads((folder / REPORT).read_text())
    times = {"seconds_kernel": report["seconds_kernel"], "seconds_cells": report["seconds_cells"]}
    if report["error"]:
        return _failed(report, times)
    try:
        metrics = record.read(folder / record.FILE)["metrics"]
    except UserError as error:
        return Ending("failed", 0.0, error=f"Incomplete: {error}", notes=report["notes"], **times)
    return Ending("done", 0.0, metrics=metrics, notes=report["notes"], **times)


def _failed(report: dict, times: dict) -> Ending:
    error = report["error"]
    text = error["message"] if error["name"] in ("UserError", "") else f"{error['name']}: {error['message']}"
    text = text.strip().removesuffix(":")
    if re.search(DISK, text):
        return Ending("halt", 0.0, error=text)
    status = "crashed" if error.get("crashed") or is_memory(text) else "failed"
    return Ending(status, 0.0, error["cell"], explained(text), trace=error["trace"], notes=report["notes"], **times)


def _why_not_written(folder: Path) -> str:
    """The reason, asked of the disk itself: the log may have had no room for it either."""
    try:
        files.write_text(folder / REPORT, " " * 1_000_000).unlink()
    except UserError as error:
        return str(error)
    log = folder / "log.txt"
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else "The results cannot be written."
