"""The trials on real text: known claims, numbers that a lesson measures, and a verdict wherever there are figures."""

from __future__ import annotations

import re

import pytest

from helpers.paths import ROOT
from workbook.claims.ledger import load_ledger, rows_behind
from workbook.claims.real_trials import TRIALS, on_real_text
from workbook.claims.results import REAL_TABLE, LessonResults, Results, load_results
from workbook.claims.verdict import judge

LEDGER = load_ledger()
SOURCES = {path.name[:2]: path.read_text(encoding="utf-8") for path in (ROOT / "notebooks" / "source").glob("*.py")}


def test_every_claim_is_in_the_ledger_and_is_an_empirical_one():
    kinds = {claim.id: claim.kind for claim in LEDGER.claims}
    assert {kinds.get(name) for name in TRIALS} == {"empirical"}
    assert all(any(not trial.hard for trial in trials) for trials in TRIALS.values())


def test_each_lesson_has_a_section_on_real_text():
    for trials in TRIALS.values():
        for trial in trials:
            assert re.search(r'real_reference\("' + trial.lesson, SOURCES[trial.lesson]), trial.lesson


def test_what_the_reference_holds_is_read_under_its_name():
    results = load_results(REAL_TABLE)
    for trials in TRIALS.values():
        for trial in trials:
            for rule in trial.rules if trial.lesson in results.lessons else ():
                assert results.runs(trial.lesson, rule.metrics), f"lesson {trial.lesson} has no {rule.formula}"


def test_shares_of_rows_have_their_rows():
    for trials in TRIALS.values():
        for trial in trials:
            for rule in trial.rules:
                shares = [name for name in rule.metrics if name.startswith(("accuracy_", "found_"))]
                assert set(rows_behind(shares, LEDGER.test_rows_real[trial.lesson])) == set(shares) if shares else True


@pytest.mark.parametrize(("full", "word"), [((0.8, 0.81, 0.8), "contradicted"), ((0.96, 0.97, 0.96), "holds")])
def test_a_verdict_follows_from_the_figures(full, word):
    figures = {"accuracy_full": dict(enumerate(full)), "accuracy_head_only": {0: 0.7, 1: 0.71, 2: 0.7}}
    results = Results({lesson: LessonResults(figures, "real") for lesson in ("02", "07")})
    found = judge(on_real_text(LEDGER.claims), results, LEDGER.test_rows_real)
    assert found["full-90-percent"].word == word
    assert found["rlhf"].word == found["adapts-to-domain"].word == "not measured yet"
