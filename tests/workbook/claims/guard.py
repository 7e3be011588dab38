"""Does a fresh run of a lesson still give what the reference gives? One more run is one more draw.

Each number has a range in which one more run is expected (`own_runs.expected`). A lesson records some dozens of
numbers, and each has its own chance to fall outside by luck; the level of each range is raised so that all of them
together do so in one run of a hundred (Bonferroni; Dunn, "Multiple comparisons among means", 1961).
"""

from __future__ import annotations

from collections.abc import Mapping

from helpers.intervals import Interval
from workbook.claims.own_runs import expected
from workbook.claims.results import FEWEST, LessonResults

BY_LUCK = 0.01
# Another machine has others: times, ratios of times (int8 products depend on the processor's instructions), memory.
# Lines of this repository's own code are no draw either: every change of the code changes them.
MACHINE = ("seconds", "speedup_", "slowdown_", "peak_memory", "checks_", "lines_")
# Whether an interval leaves out 0 (1, -1 or 0). The numbers behind it are held; five equal answers leave no range.
VERDICTS = ("clear_",)
# Another processor sums in another order, and a row at the edge of two classes may change sides.
ROUNDING, RELATIVE = 1e-4, 2e-3


def guarded(reference: LessonResults) -> dict[str, list[float]]:
    """The metrics that a fresh run is held to: metric -> its values over the seeds."""
    return {
        metric: list(values.values())
        for metric, values in reference.metrics.items()
        if len(values) >= FEWEST and not metric.startswith((*MACHINE, *VERDICTS))
    }


def ranges(reference: LessonResults) -> dict[str, Interval]:
    """Where each number of one more run is expected."""
    values = guarded(reference)
    level = 1 - BY_LUCK / max(1, len(values))
    return {metric: _widened(expected(known, level)) for metric, known in values.items()}


def _widened(interval: Interval) -> Interval:
    slack = ROUNDING + RELATIVE * abs(interval.value)
    return Interval(interval.value, interval.low - slack, interval.high + slack)


def outside(metrics: Mapping[str, object], reference: LessonResults) -> list[str]:
    """A sentence for every number that is not where it is expected, or is no longer recorded; [] when all are."""
    found = []
    for metric, interval in ranges(reference).items():
        value = metrics.get(metric)
        if not isinstance(value, int | float):
            found.append(f"{metric} is in the reference and was not recorded.")
        elif value not in interval:
            found.append(f"{metric} is {value:.4g}, but one more run is expected at {interval:.4g}.")
    return found
