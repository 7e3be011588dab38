"""Verdicts on toy results: what the intervals over seeds say, and nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.intervals import Interval, mean_t
from workbook.claims.comparison import parse
from workbook.claims.ledger import Claim
from workbook.claims.results import LessonResults, Results
from workbook.claims.verdict import verdict

HIGH, LOW, MIXED = (0.95, 0.96, 0.94), (0.60, 0.61, 0.62), (0.2, 0.99, 0.6)
NUMBERS = st.floats(-1e3, 1e3)


def results(**metrics) -> Results:
    """Lesson 02's results; metric=values over the seeds."""
    found = {name: dict(enumerate(values)) for name, values in metrics.items()}
    return Results({"02": LessonResults(found, "a toy")})


def claim(*trials, **fields) -> Claim:
    """A claim with these trials, each a list of rules."""
    made = [{"lesson": "02", "setting": "here", "rules": rules} for rules in trials]
    others = {"id": "toy", "short": "toy", "group": "Toys", "claim": "So.", "covers": ["1.1"], "kind": "measured"}
    others |= {"shown": [{"lesson": "02", "section": 1}], "condition": "if it is warm", "reason": "it is cold"}
    return Claim.model_validate(others | {"trials": made} | fields)


def above(metric, threshold=0.8):
    return f"{metric} > {threshold!r}"


def word(one: Claim, **metrics) -> str:
    return verdict(one, results(**metrics)).word


def test_the_words():
    both = claim([above("a")], [above("b")])
    assert word(both, a=HIGH, b=HIGH) == "holds"
    assert word(both, a=HIGH, b=LOW) == word(both, a=LOW, b=HIGH) == "holds with a condition"
    assert word(both, a=HIGH, b=MIXED) == "holds with a condition"
    assert word(both, a=LOW, b=LOW) == word(both, a=MIXED, b=LOW) == "not at this scale"
    assert word(both, c=HIGH) == "not measured yet"


def test_trials_without_figures_do_not_count_but_are_told():
    found = verdict(claim([above("a")], [above("b")]), results(a=HIGH))
    assert (found.word, found.missing) == ("holds", 1)
    assert found.text == "So far 1 of 2 trials have figures."


def test_in_a_trial_every_rule_has_to_hold():
    one = claim([above("a"), above("b")])
    assert word(one, a=HIGH, b=HIGH) == "holds"
    assert word(one, a=HIGH, b=LOW) == "not at this scale"
    assert word(one, a=HIGH) == "not measured yet"
    assert word(one, a=LOW) == "not at this scale", "one rule that fails settles it"


def test_a_single_seed_shows_nothing():
    assert word(claim([above("a")]), a=[0.99]) == "not at this scale"


def test_at_best_lowers_a_verdict_and_never_raises_one():
    careful = claim([above("a")], [above("b")], at_best="holds with a condition")
    assert word(careful, a=HIGH, b=HIGH) == word(careful, a=HIGH, b=LOW) == "holds with a condition"
    assert word(careful, a=LOW, b=LOW) == "not at this scale"


def test_what_no_run_can_measure_is_not_judged():
    near = {"lesson": "02", "metric": "a", "words": "the nearest thermometer"}
    one = claim(kind="unmeasured", condition="", closest=near)
    for values in (HIGH, LOW):
        assert word(one, a=values) == "not measurable", "what comes closest decides nothing"
        assert verdict(one, results(a=values)).closest == values
    assert verdict(one, results()).text == "it is cold" and verdict(one, results()).closest == ()


def test_the_condition_or_the_reason_goes_with_the_word():
    one = claim([above("a")], [above("b")])
    assert verdict(one, results(a=HIGH, b=HIGH)).text == ""
    assert verdict(one, results(a=HIGH, b=LOW)).text == "if it is warm"
    assert verdict(one, results(a=LOW, b=LOW)).text == "it is cold"
    open_one = verdict(one, results(a=MIXED, b=MIXED))
    assert (open_one.word, open_one.text) == ("not at this scale", "These seeds cannot tell. it is cold")
    assert open_one.undecided and not verdict(one, results(a=LOW, b=MIXED)).undecided


def test_pairs_are_compared_seed_by_seed():
    """What makes a seed hard for both cancels out; only seeds that both have count."""
    harder = "a - b > 0"
    a, b = (0.95, 0.80, 0.65), (0.93, 0.77, 0.63)
    assert mean_t(a).low < mean_t(b).high
    assert word(claim([harder]), a=a, b=b) == "holds"
    figure = verdict(claim([harder]), results(a=a, b=b[:2])).trials[0].measurements[0]
    assert figure.seeds == 2 and figure.interval.value == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("formula", "number", "needs"),
    [
        ("a > 0.8", 0.7, "above 0.8"),
        ("a >= 0.8", 0.7, "at least 0.8"),
        ("a = 0.8 ± 0.1", 0.7, "0.8 ± 0.1"),
        ("a - b > 0.1", 0.5, "difference above 0.1"),
        ("a - b = 0 ± 0.1", 0.5, "difference 0 ± 0.1"),
        ("a / b > 2", 3.5, "ratio above 2"),
        ("a / b < 2", 3.5, "ratio below 2"),
        ("(a - b) / (c - b) > 0.5", 0.625, "share of the way above 0.5"),
        ("a + 2 * b <= 0", 1.1, "at most 0"),
    ],
)
def test_the_number_of_a_run(formula, number, needs):
    one = parse(formula)
    values = {"a": 0.7, "b": 0.2, "c": 1.0}
    assert one.evaluate(values) == pytest.approx(number)
    assert one.metrics == tuple(name for name in values if name in formula)
    assert (one.formula, one.needs) == (formula, needs)


def test_nothing_is_divided_by_zero():
    assert word(claim(["a / b > 2"]), a=HIGH, b=(0.0, 0.0, 0.0)) == "not measured yet"
    assert word(claim(["(a - b) / (b - b) > 0.5"]), a=HIGH, b=LOW) == "not measured yet"


def test_a_limit_may_be_reached():
    exact = claim(["a <= 0"])
    assert word(exact, a=(0, 0, 0)) == "holds"
    assert word(exact, a=(0, 0, 1)) == "not at this scale"


@given(middle=NUMBERS, half=st.floats(0, 1e3), threshold=NUMBERS)
def test_an_answer_follows_from_where_the_whole_interval_lies(middle, half, threshold):
    interval = Interval(middle, middle - half, middle + half)
    answer = parse(above("a", threshold)).answer(interval)
    assert (answer == "yes") == (interval.low > threshold)
    assert (answer == "no") == (interval.high <= threshold)
    assert answer in ("yes", "no", "open")


@given(middle=NUMBERS, half=st.floats(0, 1e3), wider=st.floats(0, 1e3), by=st.floats(1e-3, 1e3))
def test_a_wider_interval_never_turns_an_answer_around(middle, half, wider, by):
    rule = parse(f"a - b = 0 ± {by!r}")
    narrow = rule.answer(Interval(middle, middle - half, middle + half))
    wide = rule.answer(Interval(middle, middle - half - wider, middle + half + wider))
    assert wide in (narrow, "open")


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=6), threshold=st.floats(-1, 2))
def test_a_threshold_and_its_opposite_never_both_hold(values, threshold):
    found = results(a=values, b=[threshold] * len(values))
    more = claim(["a - b > 0"])
    less = claim(["b - a > 0"])
    assert {verdict(more, found).word, verdict(less, found).word} != {"holds"}


def test_no_interval_is_open():
    assert parse(above("a")).answer(Interval(0.9, math.nan, math.nan)) == "open"
