"""Every lesson on the hub track, quick, through the real command, against a hub on loopback."""

from __future__ import annotations

import pytest

from helpers.catalog import HUB_DATASETS, HUB_MODELS
from tests import verification
from tests.quick_runs import on_the_hub_track
from workbook.lessons import find

LESSONS = find()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The lessons that were not verified with this very code, and those whose turn it is on this commit."""
    anew = verification.to_run(LESSONS, verification.turn_of_commit(), verification.QUICK)
    return anew, on_the_hub_track(anew, tmp_path_factory.mktemp("hub")) if anew else None


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_the_lesson_runs_on_the_hub_track(lesson, runs):
    anew, made = runs
    if lesson not in anew:
        pytest.skip(verification.PASSED.format(lesson.number))
    assert made.problem(lesson) == ""
    assert made.unsaid_on_the_hub(lesson) == ""


@pytest.mark.parametrize("role", sorted({*HUB_MODELS, *HUB_DATASETS}))
def test_a_lesson_reads_what_the_catalogue_names(role):
    sources = [lesson.source.read_text(encoding="utf-8") for lesson in LESSONS]
    assert any(f'"{role}"' in source for source in sources)
