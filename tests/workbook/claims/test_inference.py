"""Intervals, p-values and the false-discovery rate of the ledger, against simulations and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from workbook.claims.comparison import parse
from workbook.claims.inference import believed, both_needed, estimate, holm, power, rows_needed, seeds_needed


def runs(**metrics) -> list[dict[str, float]]:
    return [dict(zip(metrics, values, strict=True)) for values in zip(*metrics.values(), strict=True)]


def test_without_shared_rows_it_is_students_test():
    values = [0.1, 0.3, 0.2, 0.25, 0.05]
    found = estimate(parse("a > 0.05"), runs(a=values), {})
    theirs = stats.ttest_1samp(values, 0.05)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert found.side == "yes" and not found.exact


def test_the_same_within_a_margin_needs_two_tests():
    values = [0.004, -0.003, 0.002, 0.001, -0.001]
    found = estimate(parse("a = 0 ± 0.01"), runs(a=values), {})
    lower = stats.ttest_1samp(values, -0.01, alternative="greater").pvalue
    upper = stats.ttest_1samp(values, 0.01, alternative="less").pvalue
    assert found.side == "yes" and found.p == pytest.approx(2 * max(lower, upper))
    outside = estimate(parse("a = 0 ± 0.01"), runs(a=[0.1, 0.12, 0.11]), {})
    assert outside.side == "no" and outside.p < 0.01


def test_ratios_are_averaged_in_logarithms():
    found = estimate(parse("a / b > 1"), runs(a=[2.0, 0.5], b=[1.0, 1.0]), {})
    assert found.interval.value == pytest.approx(1.0)
    assert found.interval.low * found.interval.high == pytest.approx(1.0), "an interval of a ratio never reaches 0"


def test_shared_test_rows_widen_and_more_seeds_do_not_remove_them():
    rule, values = parse("accuracy > 0.8"), [0.9, 0.9 + 1e-6] * 50
    rows = {"accuracy": 100}
    found = estimate(rule, runs(accuracy=values), rows)
    half = (found.interval.high - found.interval.low) / 2
    assert half == pytest.approx(1.96 * math.sqrt(0.9 * 0.1 / 100), rel=0.01)


@pytest.mark.parametrize("disagreement", ["by chance", "nested"])
def test_the_interval_of_a_difference_covers_the_truth_over_test_sets(disagreement):
    """Two models, five seeds, one shared test set, drawn anew 300 times: 95 % intervals cover at least 93 %."""
    draw = np.random.default_rng(0)
    rule, covered = parse("a - b > 0"), 0
    for _ in range(300):
        easy = draw.random(400)  # how easy each test row is, the same for all seeds
        right_a = draw.random((5, 400)) < 0.95 * easy**0.1
        if disagreement == "nested":
            right_b = right_a & (draw.random((5, 400)) < 0.97)
            truth = 0.95 * (1 / 1.1) * 0.03
        else:
            right_b = draw.random((5, 400)) < 0.90 * easy**0.1
            truth = 0.05 * (1 / 1.1)
        found = estimate(rule, runs(a=right_a.mean(1), b=right_b.mean(1)), {"a": 400, "b": 400})
        covered += truth in found.interval
    assert covered / 300 > 0.93


def test_what_is_the_same_in_every_seed_is_exact():
    found = estimate(parse("bytes_a / bytes_b < 0.5"), runs(bytes_a=[10, 10], bytes_b=[40, 40]), {})
    assert found.exact and found.side == "yes" and found.interval.low == found.interval.high == pytest.approx(0.25)
    assert estimate(parse("a <= 0"), runs(a=[0, 0]), {}).side == "yes"
    assert estimate(parse("a < 0"), runs(a=[0, 0]), {}).side == "no"


def test_one_seed_has_no_p_and_no_finite_number_gives_nothing():
    assert math.isnan(estimate(parse("a > 0"), runs(a=[0.9]), {}).p)
    assert estimate(parse("a / b > 1"), runs(a=[1.0], b=[0.0]), {}) is None


def test_the_limit_is_that_of_benjamini_and_hochberg():
    draw = np.random.default_rng(1)
    for _ in range(50):
        p_values = draw.random(20) ** 3
        adjusted = stats.false_discovery_control(p_values)
        assert {p for p in p_values if p <= believed(p_values)} == set(p_values[adjusted <= 0.05])
    assert believed([]) == believed([0.5, math.nan]) == 0.0


def test_pure_noise_is_not_believed():
    draw = np.random.default_rng(2)
    rule = parse("a > 0")
    wrong = 0
    for _ in range(60):
        found = [estimate(rule, runs(a=draw.normal(size=5)), {}) for _ in range(40)]
        wrong += any(one.p <= believed([one.p for one in found]) for one in found)
    assert wrong / 60 < 0.15, "in at most 5 % of all ledgers of noise, up to the luck of 60 draws"


def test_holm_is_bonferroni_step_by_step():
    assert holm([0.01, 0.02, 0.9]) == 0.02, "0.01 <= 0.05 / 3 and 0.02 <= 0.05 / 2"
    assert holm([0.02, 0.9, 0.03]) == 0.0 and holm([]) == 0.0


@pytest.mark.parametrize(("formula", "true", "seeds"), [("a > 0", 1.0, 5), ("a > 0", 0.6, 12), ("a = 0 ± 1", 0.3, 20)])
def test_the_power_is_the_share_of_new_studies_with_an_answer(formula, true, seeds):
    """First study: any with this mean and spread. Then 1,500 new ones are drawn from a normal distribution."""
    rule, spread = parse(formula), np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    first = estimate(rule, runs(a=list(true + spread / spread.std(ddof=1))), {})
    draw = np.random.default_rng(3)
    found = (estimate(rule, runs(a=list(draw.normal(true, 1, seeds))), {}) for _ in range(1500))
    answered = sum(one.p <= 0.05 and one.side == first.side for one in found) / 1500
    assert power(first, seeds) == pytest.approx(answered, abs=0.04)


def test_the_power_counts_the_rows_that_all_seeds_share():
    """No number of seeds gets past the test rows."""
    found = estimate(parse("a > 0.8"), runs(a=[0.82, 0.8201, 0.82, 0.8201, 0.82]), {"a": 400})
    error = math.sqrt(0.82 * 0.18 / 400)
    assert power(found, 5) == pytest.approx(stats.norm.sf(1.96 - 0.02 / error), abs=0.01)
    assert power(found, 500) < 0.2 < power(found, 5, rows=3) < power(found, 5, rows=10)
    assert power(found, 5, 0.01) < power(found, 5)


def test_what_would_close_an_open_question():
    """A mean that the seeds leave open needs more seeds; one that its test rows leave open needs more rows."""
    by_seeds = estimate(parse("a > 0"), runs(a=[0.3, -0.1, 0.2, 0.1, -0.05]), {})
    enough = seeds_needed(by_seeds)
    assert rows_needed(by_seeds) is None
    assert power(by_seeds, enough) >= 0.8 > power(by_seeds, enough - 1)
    assert seeds_needed(by_seeds, wanted=0.5) < enough < seeds_needed(by_seeds, 0.01)
    by_rows = estimate(parse("a > 0.8"), runs(a=[0.82, 0.8201, 0.82, 0.8201, 0.82]), {"a": 400})
    assert seeds_needed(by_rows) is None and 2 < rows_needed(by_rows) < 12
    assert both_needed(by_rows) <= rows_needed(by_rows)


def test_independent_errors_never_give_a_shorter_interval():
    rule, rows = parse("a - b > 0"), {"a": 400, "b": 400}
    drawn = runs(a=[0.90, 0.91, 0.90], b=[0.88, 0.90, 0.89])
    near, far = (estimate(rule, drawn, rows, independent=independent).interval for independent in (False, True))
    assert far.low <= near.low and near.high <= far.high
