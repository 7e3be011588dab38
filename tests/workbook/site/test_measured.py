"""workbook.site.measured, minutes and start: what was measured, as pages."""

from __future__ import annotations

import json

import pytest

from workbook.claims.ledger import load_ledger
from workbook.claims.results import LessonResults, Results, load_results
from workbook.claims.verdict import judge
from workbook.lessons import find
from workbook.site import measured, minutes, start

PAGES = {f"notebooks/{lesson.path.name}" for lesson in find()}


@pytest.fixture(scope="module")
def found():
    reference = load_results()
    ledger = load_ledger()
    return reference, list(judge(ledger.claims, reference, ledger.test_rows).values())


def test_the_ledger_has_every_claim_and_links_into_the_lessons(found, tmp_path):
    reference, verdicts = found
    text = measured.ledger_page(verdicts, {}, reference, tmp_path, PAGES)
    for one in verdicts:
        assert f"**{one.claim.short}**" in text
    assert "](notebooks/02_full_vs_last_layer.ipynb#5-four-ways-to-train)" in text
    assert '<img class="measured" src="figures/' in text and '<a href="figures/' in text and 'alt="' in text


def test_the_leaderboard_has_a_table_for_each_setting(found, tmp_path):
    text = measured.leaderboard_page(found[0], tmp_path, PAGES)
    assert text.count("## Lesson ") == 5 and "| LoRA |" in text


def test_new_results_give_new_pages(found, tmp_path):
    one = LessonResults({"accuracy_full": {0: 0.51, 1: 0.52}, "accuracy_head_only": {0: 0.4, 1: 0.41}}, "two seeds")
    text = measured.leaderboard_page(Results({"02": one}), tmp_path, PAGES)
    assert "| all parameters | 0.515" in text and "two seeds" in text
    assert measured.ladder_picture(Results({}), tmp_path) == ""


def test_the_start_page_has_every_question_the_two_commands_and_the_counts(found):
    lessons = [lesson for lesson in find() if lesson.path.is_file()]
    text = start.start_page(lessons, found[1], "FIGURE", ["sweeps.md"])
    for lesson in lessons:
        assert f"[{lesson.title}](notebooks/{lesson.path.name})" in text
    assert "make run" in text and "make test" in text and "FIGURE" in text and "docs/sweeps" in text
    holds = sum(one.word == "holds" for one in found[1])
    assert f"**{holds} hold**" in text


def test_running_time_is_the_measured_one(tmp_path):
    rows = [{"lesson": "02_two", "budget": budget, "seconds": s} for budget, s in (("quick", 5.0), ("standard", 126.0))]
    (tmp_path / "lessons.json").write_text(json.dumps({"lessons": rows}))
    assert minutes.in_words(minutes.running("02_two", tmp_path)) == "2.1 minutes"
    assert minutes.in_words(minutes.running("03_three", tmp_path)) == "not measured yet"
    assert minutes.in_words(41.3) == "41 seconds" and minutes.in_words(120.0) == "2 minutes"
