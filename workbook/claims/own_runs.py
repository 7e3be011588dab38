"""Reads the learner's own runs: every `metrics.json` that `workbook run` and JupyterLab wrote.

A run can be compared with the reference only if it is on the pocket track and differs from the lesson's own parameters
in nothing but the seed. Other runs are left out; the summary says how many, and why. A run with a seed that the
reference has, too, repeats the reference: it tests the machine, but it is no independent evidence.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers import record
from helpers.intervals import Interval, mean_t
from helpers.paths import ROOT
from helpers.runtime import UserError
from workbook.claims.results import FEWEST, LessonResults, Results, by_lesson, rows_of
from workbook.lessons import find
from workbook.lessons.parameters import declared


@dataclass(frozen=True)
class OwnRuns:
    """The runs that can be compared, and the number of other runs by reason.

    repeated: lesson -> the seeds of these runs that the reference has, too.
    unused: the smallest seed that no lesson of the reference has; it and all above give independent runs.
    """

    results: Results
    left_out: Mapping[str, int]
    repeated: Mapping[str, Sequence[int]] = field(default_factory=dict)
    unused: int = FEWEST

    @property
    def fresh(self) -> Results:
        """The runs whose seeds the reference does not have."""
        found = {}
        for lesson, one in self.results.lessons.items():
            known = set(self.repeated.get(lesson, ()))
            metrics = {
                name: kept
                for name, values in one.metrics.items()
                if (kept := {seed: value for seed, value in values.items() if seed not in known})
            }
            if metrics:
                found[lesson] = LessonResults(metrics, one.label)
        return Results(found)

    @property
    def words(self) -> str:
        """A summary for the learner."""
        if not self.results.lessons and not self.left_out:
            return "No runs of your own yet: the figures below are the reference's alone."
        lessons = ", ".join(sorted(self.results.lessons)) or "none"
        apart = "; ".join(f"{count} {why}" for why, count in self.left_out.items())
        said = f"Your own runs that can be compared: lessons {lessons}." + (f" Left out: {apart}." if apart else "")
        if not self.repeated:
            return said
        same = "; ".join(
            f"lesson {lesson}, seed {', '.join(map(str, seeds))}" for lesson, seeds in self.repeated.items()
        )
        return (
            f"{said} The reference has these seeds, too, so they repeat it and are no independent evidence: {same}. "
            f"Use --seed {self.unused} or higher."
        )


def folder_of_runs(given: str = "") -> Path | None:
    """Return the folder of this learner's runs; None in a run that is saved elsewhere, such as a notebook build.

    `workbook run` gives each lesson the folder RUNS/TIME/LESSON. In JupyterLab, the runs are in the project's `runs`.

    Raises:
        UserError: the given folder does not exist.
    """
    if given:
        if not Path(given).expanduser().is_dir():
            raise UserError(f'runs is "{given}", but there is no such folder; "" takes the usual one.')
        return Path(given).expanduser()
    current = os.environ.get("WORKBOOK_RUN_DIR")
    if not current:
        return ROOT / "runs"
    folder = Path(current)
    return folder.parent.parent if folder.name.startswith("12_") else None


def load_own_runs(folder: Path | None, reference: Results | None = None) -> OwnRuns:
    """Read the runs in FOLDER/*/LESSON/metrics.json; of two with the same seed, the newer one counts.

    reference: the results whose seeds are not new; without it, all seeds count as new.
    """
    defaults = {lesson.name: declared(lesson) for lesson in find() if lesson.path.is_file()}
    left: Counter[str] = Counter()
    read, rows = [], []
    for path in sorted(folder.glob(f"*/*/{record.FILE}")) if folder else []:
        try:
            read.append(record.read(path))
        except UserError:
            left["unreadable"] += 1
    for run in sorted(read, key=lambda one: one["finished"]):
        why = _unlike(run["parameters"], defaults.get(run["notebook"]))
        if why:
            left[why] += 1
        else:
            rows += rows_of(run)
    lessons = {lesson: LessonResults(metrics, "your own runs") for lesson, metrics in by_lesson(rows).items()}
    known = {lesson: one.seeds for lesson, one in (reference.lessons if reference else {}).items()}
    repeated = {lesson: sorted(one.seeds & known.get(lesson, set())) for lesson, one in sorted(lessons.items())}
    unused = max(set().union(*known.values()), default=FEWEST - 1) + 1
    return OwnRuns(Results(lessons), dict(left), {name: seeds for name, seeds in repeated.items() if seeds}, unused)


def _unlike(parameters: Mapping[str, object], defaults: Mapping[str, object] | None) -> str:
    """Return why a run cannot be compared with the reference, or '' if it can."""
    if defaults is None:
        return "of lessons that are not here"
    if parameters.get("budget") == "quick":
        return 'with the budget "quick"'
    changed = {name for name, value in parameters.items() if name != "seed" and defaults.get(name, value) != value}
    return "with other parameters" if changed else ""


def expected(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the prediction interval for one more run, given the values of earlier runs (normal distribution).

    It is wider than the interval of the mean, because a single run adds its own variance (Hahn and Meeker,
    "Statistical Intervals", 1991). A single value gives no interval (nan).
    """
    mean = mean_t(values, level)
    half = (mean.high - mean.value) * math.sqrt(len(values) + 1)
    return Interval(mean.value, mean.value - half, mean.value + half)
