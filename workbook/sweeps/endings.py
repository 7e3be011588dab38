"""Metrics that one run measured at several numbers, told by their names' endings: `accuracy_nf4_*` at 2, 3, 4 bits.

accuracy_nf4_2 = 0.71                 bits   accuracy_nf4
accuracy_nf4_3 = 0.88   ----------->     2           0.71
accuracy_nf4_4 = 0.90                    3           0.88  ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pyarrow import parquet

from helpers.intervals import Interval
from helpers.runtime import UserError, nearest
from workbook.sweeps.results import Cell, cells

STAR = "_*"


def has_endings(metrics: Sequence[str]) -> bool:
    """Whether these are patterns such as `accuracy_nf4_*`, and not metrics."""
    return any(metric.endswith(STAR) for metric in metrics)


def cells_by_ending(path: Path, by: Sequence[str], patterns: Sequence[str]) -> list[Cell]:
    """Like `cells`, with a cell for each number; it stands after the values of `by`.

    Raises:
        UserError: no metric fits a pattern.
    """
    known = parquet.read_schema(path).names
    fitting = {pattern.removesuffix(STAR): _fitting(pattern, known) for pattern in patterns}
    numbers = sorted({number for found in fitting.values() for number in found})
    made = []
    for cell in cells(path, by, [metric for found in fitting.values() for metric in found.values()]):
        for number in numbers:
            means: dict[str, Interval | None] = {
                family: cell.means.get(found.get(number, "")) for family, found in fitting.items()
            }
            made.append(Cell((*cell.values, number), cell.runs, means))
    return made


def _fitting(pattern: str, known: Sequence[str]) -> dict[int, str]:
    """Number -> the metric that ends with it."""
    start = re.escape(pattern.removesuffix("*"))
    found = {int(name[len(pattern) - 1 :]): name for name in known if re.fullmatch(rf"{start}\d+", name)}
    if not found:
        raise UserError(f'No run recorded a metric "{pattern}".{nearest(pattern, known)}')
    return found
