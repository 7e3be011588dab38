"""Statistics of a rule over a few seeds: the interval of its number, its p-value, and which p-values count as answers.

The seeds differ in training rows, order and random starts, but all are evaluated on the same test rows. So the variance
of the mean has two parts: the variance between seeds, which more seeds reduce, and the variance from the choice of test
rows, which they do not reduce.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, variance
from typing import Literal

from scipy.special import stdtr, stdtrit

from helpers.intervals import Interval
from workbook.claims.comparison import Comparison

FALSE_DISCOVERIES = 0.05  # accepted share of wrong answers among all answers
Side = Literal["yes", "no"]


@dataclass(frozen=True)
class Estimate:
    """What the seeds say about one rule.

    interval: 95 %, in the rule's own unit; for a ratio, around the geometric mean.
    side: "yes" if the mean lies in the rule's range, else "no".
    p: two-sided p-value, the largest chance of a mean so far on that side if the truth were on the other side.
    exact: whether all seeds gave the same number and no test row could change it, so chance plays no role.
    seeds: the number of seeds.
    between, shared: the variance of the mean that comes from the seeds, and from the test rows that they share.
    distance: from the mean to the nearest threshold. For a ratio, the last three refer to logarithms.
    """

    interval: Interval
    side: Side
    p: float
    exact: bool
    seeds: int = 1
    between: float = math.nan
    shared: float = math.nan
    distance: float = math.nan


def estimate(
    rule: Comparison, runs: Sequence[Mapping[str, float]], rows: Mapping[str, int], *, independent: bool = False
) -> Estimate | None:
    """Return what these runs (one per seed) say about a rule, or None if no run gives a finite number for it.

    Args:
        rows: metric -> its number of test rows, for metrics that are shares of rows.
        independent: whether to compute the variance from the test rows as if the models' errors were independent. This
            overestimates it for models that err on the same rows, so by default it is estimated.
    """
    numbers = [number for number in (rule.evaluate(run) for run in runs) if math.isfinite(number)]
    if not numbers:
        return None
    logarithms = rule.is_ratio and min(numbers) > 0 and rule.bounds[1] > 0
    values = [math.log(number) for number in numbers] if logarithms else numbers
    low, high = (_log(bound) if logarithms else bound for bound in rule.bounds)
    centre = mean(values)
    between = variance(values) / len(values) if len(values) > 1 else math.nan
    back = math.exp if logarithms else float
    inside = low <= centre <= high if rule.closed else low < centre < high
    side: Side = "yes" if inside else "no"
    if len(values) == 1:
        return Estimate(Interval(back(centre), math.nan, math.nan), side, math.nan, exact=False)
    middle = {metric: mean(run[metric] for run in runs) for metric in rule.metrics}
    shared = _variance_of_rows(rule, middle, rows) / (math.exp(2 * centre) if logarithms else 1)
    if len(rows) > 1 and not independent:
        shared = min(shared, max(variance(values), abs(centre) / max(rows.values())))
    error = math.sqrt(between + shared)
    if error <= 1e-12 * max(1.0, abs(centre)):
        return Estimate(Interval(back(centre), back(centre), back(centre)), side, 0.0, exact=True)
    # Satterthwaite's degrees of freedom. There are so many test rows that their variance counts as known.
    freedom = (between + shared) ** 2 / (between**2 / (len(values) - 1)) if between else math.inf
    half = float(stdtrit(min(freedom, 1e6), 0.975)) * error
    tail = _outside(centre, low, high, error, freedom) if inside else _inside(centre, low, high, error, freedom)
    interval = Interval(back(centre), back(centre - half), back(centre + half))
    distance = min(abs(centre - bound) for bound in (low, high))
    return Estimate(interval, side, min(1.0, 2 * tail), False, len(values), between, shared, distance)


MOST = 100  # largest factor to consider for seeds or test rows


def seeds_needed(found: Estimate, limit: float) -> int | None:
    """Return how many seeds give p <= limit if mean and variances stay the same; None beyond MOST times as many."""
    return _first(found, limit, lambda times: (found.between / times, found.shared))


def rows_needed(found: Estimate, limit: float) -> int | None:
    """Return how many times the test rows, with the same seeds, give p <= limit; None beyond MOST times."""
    return _first(found, limit, lambda times: (found.between, found.shared / times), of_rows=True)


def both_needed(found: Estimate, limit: float) -> int | None:
    """Return the common factor for seeds and test rows that gives p <= limit; None beyond MOST."""
    times = _first(found, limit, lambda times: (found.between / times, found.shared / times))
    return times and math.ceil(times / found.seeds)


def _first(
    found: Estimate, limit: float, parts: Callable[[float], tuple[float, float]], of_rows: bool = False
) -> int | None:
    """Return the smallest number of seeds (or, if `of_rows`, the smallest factor of the rows) that gives p <= limit."""
    step = 1 if of_rows else found.seeds
    for count in range(step + 1, MOST * step + 1):
        between, shared = parts(count / step)
        seeds = found.seeds if of_rows else count
        error = math.sqrt(between + shared)
        freedom = (between + shared) ** 2 / (between**2 / (seeds - 1)) if between else math.inf
        if error and 2 * _tail(found.distance / error, freedom) <= limit:
            return count
    return None


def _variance_of_rows(rule: Comparison, middle: Mapping[str, float], rows: Mapping[str, int]) -> float:
    """Return the variance of the rule's number that comes from the choice of test rows, which all seeds share.

    The delta method gives this variance as if the errors of several models were independent. It is smaller for models
    that err on the same rows: if two models disagree on a share d of N rows, their difference has a variance of at most
    d / N. No run records d. But d is at least the difference, and rows on which models disagree by chance also raise
    the variance between seeds. So `estimate` uses at most the larger of difference / N and that variance.
    """
    total = 0.0
    for metric in rule.metrics:
        share = middle[metric]
        if metric not in rows or not 0 <= share <= 1:
            continue
        step = 1e-6
        slope = (rule.evaluate({**middle, metric: share + step}) - rule.evaluate({**middle, metric: share - step})) / 2
        total += (slope / step) ** 2 * share * (1 - share) / rows[metric]
    return total if math.isfinite(total) else 0.0


def _outside(centre: float, low: float, high: float, error: float, freedom: float) -> float:
    """Return the chance of a mean so far inside if the truth lies outside (two one-sided tests: Schuirmann, 1987)."""
    return max(_tail((centre - low) / error, freedom), _tail((high - centre) / error, freedom))


def _inside(centre: float, low: float, high: float, error: float, freedom: float) -> float:
    """Return the chance of a mean so far outside if the truth lies inside."""
    return _tail(max(low - centre, centre - high) / error, freedom)


def _tail(t: float, freedom: float) -> float:
    return float(stdtr(min(freedom, 1e6), -t)) if math.isfinite(t) else 0.0


def _log(bound: float) -> float:
    return math.log(bound) if 0 < bound < math.inf else -math.inf if bound <= 0 else math.inf


def believed(p_values: Sequence[float], rate: float = FALSE_DISCOVERIES) -> float:
    """Return the largest p-value that counts as an answer when all are tested together, or 0 if none does.

    Among the answers that count, a share of at most `rate` is expected to be wrong (Benjamini and Hochberg,
    "Controlling the false discovery rate", 1995; for the direction of the answer: Benjamini and Yekutieli, 2005).
    """
    ordered = sorted(p for p in p_values if not math.isnan(p))
    passed = [p for place, p in enumerate(ordered, start=1) if p <= place / len(ordered) * rate]
    return max(passed, default=0.0)


def holm(p_values: Sequence[float], rate: float = FALSE_DISCOVERIES) -> float:
    """Like `believed`, but stricter: with a chance of at least 1 - `rate`, no answer is wrong (Holm, 1979)."""
    limit, ordered = 0.0, sorted(p for p in p_values if not math.isnan(p))
    for place, p in enumerate(ordered):
        if p > rate / (len(ordered) - place):
            break
        limit = p
    return limit


def each_alone(p_values: Sequence[float], rate: float = FALSE_DISCOVERIES) -> float:
    """Like `believed`, but without a correction for several tests."""
    return rate
