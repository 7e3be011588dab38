"""Intervals against published values, scipy, and their own promise: 95 of a hundred hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from helpers.intervals import Interval, mean_t, paired_bootstrap, wilson


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.93, 1])
@pytest.mark.parametrize("total", [1, 2, 8, 300, 2000, 4999])
def test_wilson_is_scipys(total, share, level):
    correct = round(share * total)
    ours = wilson(correct, total, level)
    theirs = stats.binomtest(correct, total).proportion_ci(level, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_wilson_gives_a_textbook_value():
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I: 81 of 263.
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (5, 4), (-1, 10)])
def test_a_share_of_nothing_is_refused(correct, total):
    with pytest.raises(ValueError, match="not a share"):
        wilson(correct, total)


@pytest.mark.parametrize("count", [2, 3, 5, 12])
def test_the_mean_is_scipys(count):
    values = np.random.default_rng(count).normal(0.9, 0.05, size=count).tolist()
    low, high = stats.t.interval(0.95, count - 1, loc=np.mean(values), scale=stats.sem(values))
    ours = mean_t(values)
    assert (ours.low, ours.value, ours.high) == pytest.approx((low, np.mean(values), high))


def test_one_run_has_a_mean_and_no_interval():
    found = mean_t([0.5])
    assert found.value == 0.5 and math.isnan(found.low) and math.isnan(found.high)
    with pytest.raises(ValueError, match="no values"):
        mean_t([])


def test_the_bootstrap_agrees_with_the_normal_interval_on_many_pairs():
    generator = np.random.default_rng(0)
    a = (generator.random(2000) < 0.9).astype(float)
    b = (generator.random(2000) < 0.8).astype(float)
    found = paired_bootstrap(a, b, seed=1)
    half = 1.96 * (a - b).std(ddof=1) / math.sqrt(2000)
    assert found.value == pytest.approx((a - b).mean())
    assert found.low == pytest.approx((a - b).mean() - half, abs=0.003)
    assert found.high == pytest.approx((a - b).mean() + half, abs=0.003)
    assert found == paired_bootstrap(a, b, seed=1)


def test_pairing_takes_out_what_both_have_in_common():
    generator = np.random.default_rng(0)
    hardness = generator.normal(size=200) * 10
    paired = paired_bootstrap(hardness + 1, hardness, seed=0)
    assert (paired.low, paired.high) == pytest.approx((1, 1))
    assert 0 not in paired


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="Pairs are needed"):
        paired_bootstrap([1, 0], [1])
    with pytest.raises(ValueError, match="Pairs are needed"):
        paired_bootstrap([], [])


def test_wilson_holds_the_truth_about_as_often_as_it_says():
    draws = np.random.default_rng(0).binomial(100, 0.9, size=4000)
    held = np.mean([0.9 in wilson(int(draw), 100) for draw in draws])
    assert 0.92 < held < 0.98


def test_an_interval_prints_as_people_write_it():
    found = Interval(0.907, 0.893, 0.9185)
    assert str(found) == "0.91 [0.89, 0.92]"
    assert f"{found:.1%}" == "90.7% [89.3%, 91.8%]" or f"{found:.1%}" == "90.7% [89.3%, 91.9%]"
