"""Estimates the duration and the disk use of a run before it starts."""

from __future__ import annotations

import heapq
import json
import shutil

from workbook.engine.ledger import RunLedger
from workbook.engine.screen import duration
from workbook.lessons.kernel import cores
from workbook.run.plan import FILE, Run
from workbook.run.progress import measured

MEASURED_THREADS = 2  # `make bench` gives a lesson both cores of its machine
RESULTS = 3  # bytes of results per byte of the committed notebook; lessons 01 and 08 wrote 2.9 and 2.8


def forecast(run: Run) -> str:
    """A text with the expected time and its source, the disk space that the results need, and the free disk space."""
    seconds, source = expected(run)
    free = shutil.disk_usage(run.folder).free
    disk = f"The results take about {_size(results_bytes(run))}; {_size(free)} are free."
    return f"Expected time: {duration(seconds)} ({source}). {disk}" if seconds else disk


def expected(run: Run) -> tuple[float, str]:
    """The expected seconds and the source of the estimate; (0.0, "") if a lesson was never measured.

    If a lesson ran on this machine before, the estimate is the seconds of its latest run. For other lessons, it is the
    reference's seconds, scaled by the number of threads and by this machine's pace.
    """
    own = earlier(run)
    model = {name: _modelled(run, name) for name in run.campaign.left}
    known = [name for name, seconds in model.items() if seconds and name in own]
    pace = sum(own[name] for name in known) / sum(model[name] or 0.0 for name in known) if known else 1.0
    each = {name: own.get(name) or (seconds or 0.0) * pace for name, seconds in model.items()}
    if not each or not all(each.values()):
        return 0.0, ""
    source = "estimated from a two-core machine's times"
    if known:
        source = "as in earlier runs here" if len(known) == len(model) else "at the pace of earlier runs here"
    return sum(side_by_side([each[name] for name in names], run.jobs) for names in run.rounds), source


def earlier(run: Run) -> dict[str, float]:
    """Seconds of each lesson's latest finished run on this machine with the same parameters, apart from the seed."""
    found = {}
    for plan in sorted(run.folder.parent.glob(f"*/{FILE}")):
        try:
            kept = json.loads(plan.read_text(encoding="utf-8"))
            jobs, parameters = int(kept["jobs"]), dict(kept["parameters"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # skip a damaged plan
        if plan.parent == run.folder or max(1, cores() // jobs) != run.threads:
            continue
        for name, given in parameters.items():
            state = RunLedger(plan.parent / name, numbered=False).state()
            if state.status == "done" and state.outcome and _compared(given) == _compared(run.parameters.get(name)):
                found[name] = state.outcome.seconds
    return found


def side_by_side(seconds: list[float], jobs: int) -> float:
    """The time at which the last task ends, if each task starts as soon as one of `jobs` slots is free."""
    places = [0.0] * jobs
    for one in seconds:
        heapq.heapreplace(places, places[0] + one)
    return max(places)


def results_bytes(run: Run) -> int:
    """The bytes that the unfinished lessons will write, estimated from the sizes of their notebooks."""
    return RESULTS * sum(lesson.path.stat().st_size for lesson in run.lessons if lesson.name in run.campaign.left)


def _modelled(run: Run, name: str) -> float | None:
    """The reference's seconds, scaled as if all work ran in threads; with fewer threads this is an upper bound."""
    given = run.parameters[name]
    if given.get("track", "pocket") != "pocket":
        return None  # only the pocket track was measured
    found = measured(name, str(given.get("budget", "standard")))
    return found.seconds * MEASURED_THREADS / min(run.threads, MEASURED_THREADS) if found else None


def _compared(parameters: dict | None) -> dict:
    return {name: value for name, value in (parameters or {}).items() if name != "seed"}


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
