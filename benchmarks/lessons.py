"""Measure each lesson's seconds and peak memory, alone on the machine, for a table and data/reference/lessons.json.

    make bench                      all lessons, quick and standard
    make bench ARGS="02 --budget quick"    lesson 02 again; the other rows stay
    python benchmarks/lessons.py --budget standard --into runs/measured
                                    also keeps the lessons' output, for `python -m benchmarks.steps whole_course`

The live view of `workbook run` estimates the minutes left from lessons.json.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from itertools import accumulate
from pathlib import Path

import click
import nbformat
import psutil
from rich.live import Live
from rich.table import Table

from helpers.files import write_json
from helpers.runtime import BUDGETS
from workbook.engine.ledger import Outcome, RunLedger
from workbook.engine.task import Task
from workbook.engine.worker import run_task
from workbook.lessons import find, select
from workbook.lessons.kernel import cores

REFERENCE = Path(__file__).resolve().parent.parent / "data" / "reference" / "lessons.json"
EVERY = 0.1


def peak_memory(work: Callable[[], None]) -> int:
    """Run `work`. Return the peak resident bytes of all child processes together (the kernel and its children)."""
    ended, peak = threading.Event(), 0

    def watch() -> None:
        nonlocal peak
        while not ended.wait(EVERY):
            peak = max(peak, sum(_resident(child) for child in psutil.Process().children(recursive=True)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        ended.set()
        watcher.join()
    return peak


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def shares(notebook: Path) -> list[float]:
    """For each cell of an executed notebook, the share of all seconds that had passed before it began."""
    cells = nbformat.read(notebook, as_version=4).cells
    seconds = [cell.metadata.get("papermill", {}).get("duration") or 0.0 for cell in cells]
    total = sum(seconds) or 1.0
    return [round((passed - own) / total, 3) for passed, own in zip(accumulate(seconds), seconds, strict=True)]


def measure(lesson, budget: str, threads: int, into: Path | None = None) -> dict:
    """Run one lesson alone, and return its row. into: a folder in which to keep the lesson's output."""
    with nullcontext(into) if into else tempfile.TemporaryDirectory() as folder:
        made = Path(folder).resolve() / lesson.name
        stop, given = made.with_name("stop"), {"budget": budget}
        task = Task(lesson.name, str(made), str(lesson.path), given, str(stop), threads, numbered=False)
        RunLedger(made, numbered=False).past_attempts()  # forgets earlier measurements in this folder
        outcomes: list[Outcome] = []
        began = time.perf_counter()
        peak = peak_memory(lambda: outcomes.append(run_task(task)))
        seconds = time.perf_counter() - began
        if outcomes[0].status != "done":
            raise click.ClickException(f"{lesson.name} at {budget}: {outcomes[0].error}")
        passed = shares(made / lesson.path.name)
    row = {"lesson": lesson.name, "budget": budget, "date": date.today().isoformat(), "threads": threads}
    return {**row, "seconds": round(seconds, 1), "peak_memory_bytes": peak, "shares": passed}


@click.command()
@click.argument("lessons", nargs=-1, metavar="[NN]...")
@click.option("--budget", "budgets", multiple=True, type=click.Choice(BUDGETS), default=("quick", "standard"))
@click.option(
    "--threads", type=click.IntRange(1), default=cores, help="Number of threads for the lesson.  [default: every core]"
)
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), help="Keep the lessons' output in this folder."
)
def main(lessons: tuple[str, ...], budgets: tuple[str, ...], threads: int, into: Path | None) -> None:
    """Measure the lessons NN (all, if none is named), one after the other."""
    chosen = select(lessons, find())
    table = Table("lesson", "budget", "seconds", "peak memory")
    with Live(table, auto_refresh=False) as live:
        for lesson in chosen:
            for budget in budgets:
                row = measure(lesson, budget, threads, into)
                keep(row)
                memory = f"{row['peak_memory_bytes'] / 1e9:.2f} GB"
                table.add_row(row["lesson"], row["budget"], f"{row['seconds']:.0f}", memory)
                live.refresh()


def keep(row: dict) -> None:
    """Write a row at once, so that a quarter of an hour of measuring is not lost if the next lesson fails."""
    write_json(REFERENCE, reference(row, json.loads(REFERENCE.read_text()) if REFERENCE.is_file() else {}))


def reference(row: dict, before: dict) -> dict:
    """Return the new content of lessons.json: machine, table with dates, and the shares that the live view reads.

    before: the present content, whose other rows stay.
    """
    lesson, budget = row["lesson"], row["budget"]
    found: dict[str, dict] = {name: dict(shares) for name, shares in before.get("shares", {}).items()}
    found.setdefault(lesson, {})[budget] = row["shares"]
    machine = {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": cores(),
        "load": os.getloadavg()[0],
    }
    kept = {(each["lesson"], each["budget"]): each for each in before.get("lessons", [])}
    kept[lesson, budget] = {name: value for name, value in row.items() if name != "shares"}
    return {"machine": machine, "lessons": [kept[key] for key in sorted(kept)], "shares": found}


if __name__ == "__main__":
    main()
