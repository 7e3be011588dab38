"""Judges an attempt from papermill's report and the run's files, and explains frequent errors."""

from __future__ import annotations

import re
from pathlib import Path

from helpers import record
from helpers.runtime import UserError
from workbook.engine.execution import Report
from workbook.engine.ledger import Outcome

DISK = re.compile(r"No space left on device|Read-only file system|Disk quota exceeded")
DOWNLOAD = re.compile(
    r"ConnectionError|ConnectionRefused|Connection refused|ConnectTimeout|ReadTimeout|ChunkedEncodingError|"
    r"IncompleteRead|RemoteProtocolError|ContentTooShort|URLError|HfHubHTTPError|"
    r"LocalEntryNotFound|Consistency check failed|NonMatchingChecksum|NonMatchingSplits|"
    r"cannot be fetched from the hub|peer closed connection|Max retries exceeded"
)
MEMORY = re.compile(r"MemoryError|OutOfMemoryError|can't allocate memory|Cannot allocate memory")
DENIED = re.compile(r"PermissionError|Permission denied|\[Errno 13\]")


def judge(folder: Path, report: Report) -> Outcome:
    """An attempt's outcome; "halt" if the disk is full or read-only."""
    outcome = _failed(report) if report.error or report.error_name else _recorded(folder)
    outcome.notes += report.notes
    outcome.seconds_kernel, outcome.seconds_cells = report.seconds_kernel, report.seconds_cells
    return outcome


def _recorded(folder: Path) -> Outcome:
    try:
        found = record.read(folder / record.FILE)
        return Outcome("done", metrics=found["metrics"], notes=list(found.get("notices", ())))
    except UserError as error:
        return Outcome("failed", error=f"Incomplete: {error}")


def _failed(report: Report) -> Outcome:
    text = report.error if report.error_name in ("UserError", "") else f"{report.error_name}: {report.error}"
    text = text.strip().removesuffix(":")
    if DISK.search(text):
        return Outcome("halt", error=text)
    status = "crashed" if report.died or MEMORY.search(text) else "failed"
    return Outcome(status, cell=report.cell, error=explained(text), trace=report.trace)


def is_download(error: str) -> bool:
    """Whether the error of a run is a download that was refused, interrupted or damaged."""
    return bool(DOWNLOAD.search(error))


def explained(error: str) -> str:
    """The error, with advice if its cause is known."""
    if is_download(error):
        return (
            f"{error}\nThe download failed. Look at the network and its proxy, find damaged files with "
            "`hf cache verify`, remove half-fetched ones with `hf cache prune`, or set `track: pocket`, which "
            "downloads nothing; then resume."
        )
    if MEMORY.search(error):
        return (
            f"{error}\nThere was not enough memory: run one at a time (sweep: `--workers 1`, run: `--jobs 1`); "
            "then resume."
        )
    if DENIED.search(error):
        return (
            f"{error}\nThat path belongs to another user: set HF_HOME to a folder of your own, or ask for write "
            "permission; then resume."
        )
    return error
