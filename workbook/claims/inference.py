"""Statistics of a rule over a few seeds: the interval of its number, its p-value, and which p-values count as answers.

The seeds differ in training rows, order and random starts, but all are evaluated on the same test rows. So the variance
of the mean has two parts: the variance between seeds, which more seeds reduce, and the variance from the choice of test
rows, which they do not reduce.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, variance
from typing import Literal

from scipy.special import nctdtr, ndtr, stdtr, stdtrit

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
    distance: from the mean to the nearest threshold.
    beyond: from a mean inside to the other threshold, infinite if there is none. For a ratio, the last four refer to
        logarithms.
    """

    interval: Interval
    side: Side
    p: float
    exact: bool
    seeds: int = 1
    between: float = math.nan
    shared: float = math.nan
    distance: float = math.nan
    beyond: float = math.inf


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
    distance, other = sorted(abs(centre - bound) for bound in (low, high))
    beyond = other if inside else math.inf
    return Estimate(interval, side, min(1.0, 2 * tail), False, len(values), between, shared, distance, beyond)


MOST = 100  # largest factor to consider for seeds or test rows
LEVEL = 0.05  # a follow-up asks one question that was fixed beforehand
POWER = 0.8  # the usual aim of a plan


def power(found: Estimate, seeds: int, level: float = LEVEL, *, rows: float = 1) -> float:
    """Return the chance that new seeds alone give the answer of this mean, if mean and variances are the true ones.

    The test statistic has a noncentral t distribution (Cohen, "Statistical Power Analysis for the Behavioral Sciences",
    1988). Two thresholds have to be passed together; their power is then a lower bound.

    Args:
        seeds: the number of new seeds, at least two. The earlier ones are not counted again.
        level: the p-value that counts as an answer.
        rows: how many times as many test rows.
    """
    between, shared = found.between * found.seeds / seeds, found.shared / rows
    error = math.sqrt(between + shared)
    freedom = (between + shared) ** 2 / (between**2 / (seeds - 1)) if between else math.inf
    missed = sum(_missed(part / error, freedom, level) for part in (found.distance, found.beyond))
    return max(0.0, 1 - missed)


def seeds_needed(found: Estimate, level: float = LEVEL, wanted: float = POWER) -> int | None:
    """Return how many new seeds have this power on the same test rows; None beyond MOST times the seeds so far."""
    counts = range(2, MOST * found.seeds + 1)
    return next((count for count in counts if power(found, count, level) >= wanted), None)


def rows_needed(found: Estimate, level: float = LEVEL, wanted: float = POWER) -> int | None:
    """Return how many times the test rows have this power, with as many new seeds as so far; None beyond MOST times."""
    return next((times for times in range(1, MOST + 1) if power(found, found.seeds, level, rows=times) >= wanted), None)


def both_needed(found: Estimate, level: float = LEVEL, wanted: float = POWER) -> int | None:
    """Return the common factor for (new) seeds and test rows that has this power; None beyond MOST."""
    factors = range(1, MOST + 1)
    return next((n for n in factors if power(found, n * found.seeds, level, rows=n) >= wanted), None)


def _missed(noncentrality: float, freedom: float, level: float) -> float:
    """Return the chance that a t statistic with this noncentrality does not reach the two-sided level."""
    if math.isinf(noncentrality):
        return 0.0
    needed = float(stdtrit(min(freedom, 1e6), 1 - level / 2))
    if freedom > 1e4:  # then the distribution is normal to all digits that matter here
        return float(ndtr(needed - noncentrality))
    return float(nctdtr(freedom, noncentrality, needed))


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
