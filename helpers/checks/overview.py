"""A learner's progress: when each lesson was last run, and which of its exercises are solved."""

from __future__ import annotations

import pandas as pd

from helpers import progress
from helpers.checks.registry import names
from helpers.paths import NOTEBOOKS

LESSONS = ("[0-9][0-9]_*.ipynb", "source/[0-9][0-9]_*.py")  # also lessons without a built notebook


def overview() -> pd.DataFrame:
    """Return one row per lesson: when it last ran to its end, with which budget, and which exercises are solved."""
    runs, solved = progress.kept(progress.RUN), progress.kept(progress.SOLVED)
    lessons = {path.stem for pattern in LESSONS for path in NOTEBOOKS.glob(pattern)}
    rows = {}
    for lesson in sorted(lessons):
        exercises, run = names(lesson[:2]), runs.get(lesson[:2], {})
        left = [name for name in exercises if name not in solved]
        rows[lesson.replace("_", " ")] = {
            "last run": progress.day(run["when"]) if run else "not yet",
            "budget": run.get("budget", ""),
            "solved": f"{len(exercises) - len(left)} of {len(exercises)}",
            "open": ", ".join(left),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("lesson")
