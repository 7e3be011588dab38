"""When does somebody stop who tests again and again while the seeds come in?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import mean, stdev

from scipy.special import stdtr


def stops_after(values: Sequence[float], looks: Iterable[int], level: float = 0.05) -> int | None:
    """Return the first of these looks at which a two-sided t-test of the mean against 0 has p <= level, or None.

    Args:
        values: one difference for each seed, in the order in which the seeds were run.
        looks: how many seeds are there at each test, at least two, in rising order.
    """
    for count in looks:
        seen = values[:count]
        t = mean(seen) / (stdev(seen) / math.sqrt(count))
        if 2 * float(stdtr(count - 1, -abs(t))) <= level:
            return count
    return None
