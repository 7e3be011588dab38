"""95 % confidence intervals for a share, a mean over seeds, and a paired difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev
from typing import Literal

import numpy as np

Answer = Literal["yes", "no", "open"]


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; prints as `0.91 [0.89, 0.92]`, or as `0.91` if it has no interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".2f"
        if math.isnan(self.low):  # a single run has no interval
            return f"{self.value:{spec}}"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, "")

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high

    def within(self, low: float, high: float, *, closed: bool = False) -> Answer:
        """Whether the value lies between two bounds: "yes", "no", or "open" if the interval contains a bound.

        closed: whether the bounds themselves count as between.
        """
        if math.isnan(self.low) or math.isnan(self.high):
            return "open"  # a single run has no interval
        if closed:
            inside, outside = low <= self.low and self.high <= high, self.high < low or self.low > high
        else:
            inside, outside = low < self.low and self.high < high, self.high <= low or self.low >= high
        return "yes" if inside else "no" if outside else "open"


def wilson(correct: int, total: int, level: float = 0.95) -> Interval:
    """Return the interval of a share such as an accuracy, from `correct` of `total` rows.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Unlike
    value +- 1.96 standard errors, this interval stays between 0 and 1 and is valid for small totals.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"{correct} correct of {total} is not a share.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = correct / total
    shrink = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # Rounding must not push an end past the share itself.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def mean_t(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of a few runs (seeds) with Student's t interval, whose ends are NaN for a single run.

    Student, "The probable error of a mean", 1908.
    """
    if len(values) == 0:
        raise ValueError("There are no values to average.")
    centre = mean(values)
    if len(values) == 1:
        return Interval(centre, math.nan, math.nan)
    # Imported here because scipy is slow to load and most lessons never need it.
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * stdev(values) / math.sqrt(len(values))
    return Interval(centre, centre - half, centre + half)


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    seed: int = 0,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of a - b with its interval; a[i] and b[i] belong to the same test row (or the same seed).

    Resamples rows with replacement and keeps each row's two scores together, so that a row's difficulty
    cancels out. Efron, "Bootstrap methods: another look at the jackknife", 1979 (percentile).
    """
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"Pairs are needed: got {len(a)} and {len(b)} values.")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, 200):  # in slices, because 2,000 x 2,000 row numbers take 32 MB
        size = (min(200, resamples - start), len(difference))
        drawn = generator.integers(0, len(difference), size=size)
        means[start : start + size[0]] = difference[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference.mean()), float(low), float(high))
