"""What a few seeds say about a rule: the interval of its number, how surprising it is, and which rules may be believed.

The seeds differ in training rows, order and random starts, and all of them are scored on the same test rows. So the
variance of the mean has two parts: that between the seeds, which more seeds reduce, and that of the test rows, which
they do not.
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

FALSE_DISCOVERIES = 0.05  # the share of wrong answers that we accept among those that are given
Side = Literal["yes", "no"]


@dataclass(frozen=True)
class Estimate:
    """What the seeds say about one rule.

    interval: 95 %, in the rule's own unit; for a ratio around the geometric mean.
    side: where the mean lies, as the claim wants it ("yes") or not.
    p: how often, at most, chance would put the mean so far to that side of the threshold, two-sided.
    exact: all seeds gave the same number, and no test row could change it: nothing is left to chance.
    seeds: how many seeds there are.
    between, shared: the variance of the mean that comes from the seeds, and from the test rows that they share.
    distance: from the mean to the nearest threshold. The last three are in logarithms for a ratio.
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
    """What these runs, one for each seed, say about a rule; None where its number is not finite in any of them.

    Args:
        rows: metric -> the number of test rows behind it, for metrics that are shares of rows.
        independent: take the variance of the test rows as if the models' errors were independent, which is too much
            for models that err on the same rows; else it is estimated.
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
    # Satterthwaite's degrees of freedom; those of the rows are so many that they count as known.
    freedom = (between + shared) ** 2 / (between**2 / (len(values) - 1)) if between else math.inf
    half = float(stdtrit(min(freedom, 1e6), 0.975)) * error
    tail = _outside(centre, low, high, error, freedom) if inside else _inside(centre, low, high, error, freedom)
    interval = Interval(back(centre), back(centre - half), back(centre + half))
    distance = min(abs(centre - bound) for bound in (low, high))
    return Estimate(interval, side, min(1.0, 2 * tail), False, len(values), between, shared, distance)


MOST = 100  # times as many seeds or test rows: beyond that nobody would measure


def seeds_needed(found: Estimate, limit: float) -> int | None:
    """How many seeds would give p <= limit if mean and variances stayed; None where MOST times as many would not."""
    return _first(found, limit, lambda times: (found.between / times, found.shared))


def rows_needed(found: Estimate, limit: float) -> int | None:
    """How many times the test rows would give p <= limit with the same seeds; None where MOST times would not."""
    return _first(found, limit, lambda times: (found.between, found.shared / times), of_rows=True)


def both_needed(found: Estimate, limit: float) -> int | None:
    """How many times the seeds and the test rows, together, would give p <= limit; None where MOST times would not."""
    times = _first(found, limit, lambda times: (found.between / times, found.shared / times))
    return times and math.ceil(times / found.seeds)


def _first(
    found: Estimate, limit: float, parts: Callable[[float], tuple[float, float]], of_rows: bool = False
) -> int | None:
    """The first number of seeds (of_rows: of times the rows) that is enough."""
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
    """The variance that the choice of test rows gives to the rule's number, the same in every seed.

    By the delta method, as if the errors of several models were independent. Models that err on the same rows differ
    by less than that. Two models that disagree on a share d of N rows differ by a variance of d / N at most. No d was
    recorded, but it is at least their difference, and rows on which they disagree by chance also move the seeds apart.
    So `estimate` takes the larger of these two where it is smaller than what independent errors would give.
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
    """The chance to see a mean so far inside if the truth lay outside (two one-sided tests: Schuirmann, 1987)."""
    return max(_tail((centre - low) / error, freedom), _tail((high - centre) / error, freedom))


def _inside(centre: float, low: float, high: float, error: float, freedom: float) -> float:
    """The chance to see a mean so far outside if the truth lay inside."""
    return _tail(max(low - centre, centre - high) / error, freedom)


def _tail(t: float, freedom: float) -> float:
    return float(stdtr(min(freedom, 1e6), -t)) if math.isfinite(t) else 0.0


def _log(bound: float) -> float:
    return math.log(bound) if 0 < bound < math.inf else -math.inf if bound <= 0 else math.inf


def believed(p_values: Sequence[float], rate: float = FALSE_DISCOVERIES) -> float:
    """The largest p that may be believed when all of these are asked at once; 0 where none may.

    Of the answers that are given, a share of `rate` at most is expected to be wrong (Benjamini and Hochberg,
    "Controlling the false discovery rate", 1995; for the direction of the answer: Benjamini and Yekutieli, 2005).
    """
    ordered = sorted(p for p in p_values if not math.isnan(p))
    passed = [p for place, p in enumerate(ordered, start=1) if p <= place / len(ordered) * rate]
    return max(passed, default=0.0)


def holm(p_values: Sequence[float], rate: float = FALSE_DISCOVERIES) -> float:
    """The same, so that with a chance of 1 - `rate` not one answer is wrong (Holm, 1979)."""
    limit, ordered = 0.0, sorted(p for p in p_values if not math.isnan(p))
    for place, p in enumerate(ordered):
        if p > rate / (len(ordered) - place):
            break
        limit = p
    return limit


def each_alone(p_values: Sequence[float], rate: float = FALSE_DISCOVERIES) -> float:
    """The same as if every question were the only one: no correction."""
    return rate
