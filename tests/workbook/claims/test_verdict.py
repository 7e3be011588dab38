"""Verdicts on toy results: which word follows from the answers of plain and hard trials, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbook.claims.comparison import parse
from workbook.claims.ledger import Claim
from workbook.claims.results import LessonResults, Results
from workbook.claims.verdict import Verdict, judge

HIGH, LOW, MIXED = (0.95, 0.96, 0.94), (0.60, 0.61, 0.62), (0.2, 0.99, 0.9)


def results(**metrics) -> Results:
    """Lesson 02's results; metric=values over the seeds."""
    found = {name: dict(enumerate(values)) for name, values in metrics.items()}
    return Results({"02": LessonResults(found, "a toy")})


def claim(plain, hard=("hard > 0.8",), **fields) -> Claim:
    """A claim with a plain and a hard trial, each a list of rules; hard=None: true by construction."""
    made = [{"lesson": "02", "setting": "plain", "rules": [plain] if isinstance(plain, str) else plain}]
    made += [{"lesson": "02", "setting": "hard", "rules": list(hard), "hard": True}] if hard else []
    others = {"id": "toy", "short": "toy", "group": "Toys", "claim": "So.", "covers": ["1.1"]}
    others |= {"kind": "empirical" if hard else "construction", "shown": [{"lesson": "02", "section": 1}]}
    return Claim.model_validate(others | {"trials": made} | fields)


def above(metric, threshold=0.8):
    return f"{metric} > {threshold!r}"


def found_of(one: Claim, **metrics) -> Verdict:
    return judge([one], results(**metrics), {})[one.id]


def word(one: Claim, **metrics) -> str:
    return found_of(one, **metrics).word


def test_the_words():
    one = claim(above("a"))
    assert word(one, a=HIGH, hard=HIGH) == "holds"
    assert word(one, a=HIGH, hard=LOW) == word(one, a=HIGH, hard=MIXED) == "holds with a condition"
    assert word(one, a=LOW, hard=HIGH) == word(one, a=LOW, hard=MIXED) == "contradicted", "the plain trial decides"
    assert word(one, a=MIXED, hard=HIGH) == word(one, a=MIXED, hard=LOW) == "cannot tell"
    assert word(one, hard=HIGH) == word(one, other=HIGH) == "not measured yet"
    assert word(one, a=LOW) == "contradicted"


def test_a_claim_that_was_never_tried_hard_does_not_simply_hold():
    found = found_of(claim(above("a")), a=HIGH)
    assert (found.word, found.missing) == ("holds with a condition", 1)
    assert found.text == "It holds for: plain. So far 1 of 2 trials have figures."


def test_in_a_trial_every_rule_has_to_hold():
    one = claim([above("a"), above("b")])
    assert word(one, a=HIGH, b=HIGH, hard=HIGH) == "holds"
    assert word(one, a=HIGH, b=LOW, hard=HIGH) == "contradicted"
    assert word(one, a=HIGH, hard=HIGH) == "not measured yet"
    assert word(one, a=LOW, hard=HIGH) == "contradicted", "one rule that fails settles it"


def test_a_single_seed_shows_nothing():
    assert word(claim(above("a")), a=[0.99], hard=[0.99]) == "cannot tell"


def test_by_construction_every_seed_has_to_agree():
    one = claim("a <= 0.0001", hard=None)
    assert word(one, a=(1e-7, 0, 3e-6)) == "true by construction"
    assert word(one, a=(1e-7, 0, 3e-3)) == "contradicted", "a single exception is one too many"
    assert word(one) == "not measured yet"


def test_what_no_run_can_measure_is_not_judged():
    one = claim("a > 0", kind="unmeasured", trials=[], reason="it is a name")
    for values in (HIGH, LOW):
        assert word(one, a=values) == "not measurable"
    assert found_of(one).text == "it is a name"


def test_the_words_of_a_condition_name_the_trials():
    found = found_of(claim(above("a")), a=HIGH, hard=LOW)
    assert found.text == "It holds for: plain. It fails for: hard."
    assert found_of(claim(above("a")), a=HIGH, hard=MIXED).text == "It holds for: plain. Open for: hard."
    assert found_of(claim(above("a")), a=HIGH, hard=HIGH).text == ""


def test_the_more_is_asked_the_stronger_an_answer_has_to_be():
    weak = claim(above("a", 0.85), hard=(above("a", 0.85),))
    values = (0.93, 0.90, 0.95, 0.89)
    assert word(weak, a=values) == "holds"
    noise = [claim(above("noise"), hard=(above("noise"),), id=f"noise-{number}") for number in range(40)]
    crowd = judge([weak, *noise], results(a=values, noise=(0.1, 0.9, 0.95, 1.3)), {})
    assert crowd["toy"].word == "cannot tell"


def test_pairs_are_compared_seed_by_seed():
    """What makes a seed hard for both cancels out; only seeds that both have count."""
    harder = claim("a - b > 0", hard=("a - b > 0",))
    a, b = (0.95, 0.80, 0.65), (0.93, 0.77, 0.63)
    assert word(harder, a=a, b=b) == "holds"
    figure = found_of(harder, a=a, b=b[:2]).trials[0].measurements[0]
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
    assert word(claim("a / b > 2"), a=HIGH, b=(0.0, 0.0, 0.0)) == "not measured yet"
    assert word(claim("(a - b) / (b - b) > 0.5"), a=HIGH, b=LOW) == "not measured yet"


def test_a_limit_may_be_reached():
    exact = claim("a <= 0", hard=None)
    assert word(exact, a=(0, 0, 0)) == "true by construction"
    assert word(exact, a=(0, 0, 1)) == "contradicted"


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=6), threshold=st.floats(-1, 2))
def test_a_sentence_and_its_opposite_never_both_hold(values, threshold):
    found = {"a": values, "b": [threshold] * len(values), "hard": HIGH}
    assert {word(claim("a - b > 0"), **found), word(claim("b - a > 0"), **found)} != {"holds"}
