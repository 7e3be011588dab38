"""The learner's own runs: which count, which are left out and why, and where they are looked for."""

from __future__ import annotations

import json
import math

import pytest

from helpers.intervals import mean_t
from helpers.paths import ROOT
from helpers.record import record
from helpers.runtime import UserError
from workbook.claims import own_runs
from workbook.claims.results import LessonResults, Results
from workbook.lessons import find, select
from workbook.lessons.parameters import declared

LESSON = "02_full_vs_last_layer"


def run(folder, stamp, value=0.9, lesson=LESSON, **parameters):
    defaults = declared(select(["02"], find())[0])
    record(lesson, {**defaults, **parameters}, folder=folder / stamp / lesson, accuracy_full=value, curve=[1.0])


def test_without_runs(tmp_path):
    for folder in (None, tmp_path, tmp_path / "not there"):
        found = own_runs.load_own_runs(folder)
        assert not found.results.lessons and not found.left_out
        assert found.words.startswith("No runs of your own yet")


def test_the_newest_run_of_a_seed_counts(tmp_path, monkeypatch):
    run(tmp_path, "b", 0.8)
    path = tmp_path / "b" / LESSON / "metrics.json"
    older = json.loads(path.read_text()) | {"finished": "2020-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(older))
    run(tmp_path, "a", 0.9)
    run(tmp_path, "c", 0.7, seed=3)
    found = own_runs.load_own_runs(tmp_path)
    assert found.results.lessons["02"].metrics["accuracy_full"] == {0: 0.9, 3: 0.7}
    assert found.results.values("02", "curve") == []
    assert found.words == "Your own runs that can be compared: lessons 02."


def test_seeds_of_the_reference_are_no_new_evidence(tmp_path):
    reference = Results({"02": LessonResults({"accuracy_full": dict.fromkeys(range(5), 0.9)}, "reference")})
    run(tmp_path, "a", 0.9)
    found = own_runs.load_own_runs(tmp_path, reference)
    assert found.repeated == {"02": [0]} and not found.fresh.lessons and found.results.lessons
    assert "no independent evidence: lesson 02, seed 0. Use --seed 5 or higher." in found.words
    run(tmp_path, "b", 0.8, seed=5)
    found = own_runs.load_own_runs(tmp_path, reference)
    assert found.fresh.lessons["02"].metrics == {"accuracy_full": {5: 0.8}} and found.repeated == {"02": [0]}
    assert found.fresh.lessons["02"].seeds == {5}
    assert own_runs.load_own_runs(tmp_path).repeated == {}, "without a reference nothing is repeated"


def test_what_cannot_be_compared_is_counted(tmp_path):
    run(tmp_path, "a", budget="quick")
    run(tmp_path, "b", labels=50)
    run(tmp_path, "c", labels=60)
    run(tmp_path, "d", lesson="77_elsewhere")
    (tmp_path / "e" / LESSON).mkdir(parents=True)
    (tmp_path / "e" / LESSON / "metrics.json").write_text('{"notebook": ')
    found = own_runs.load_own_runs(tmp_path)
    assert not found.results.lessons
    assert found.left_out == {
        "unreadable": 1, 'with the budget "quick"': 1, "with other parameters": 2, "of lessons that are not here": 1
    }  # fmt: skip
    assert "2 with other parameters" in found.words


def test_where_runs_lie(monkeypatch, tmp_path):
    monkeypatch.delenv("WORKBOOK_RUN_DIR", raising=False)
    assert own_runs.folder_of_runs() == ROOT / "runs"
    monkeypatch.setenv("WORKBOOK_RUN_DIR", str(tmp_path / "2026-01-01_120000" / "12_course_conclusion"))
    assert own_runs.folder_of_runs() == tmp_path
    assert own_runs.folder_of_runs(str(tmp_path)) == tmp_path
    with pytest.raises(UserError, match='runs is "nowhere", but there is no such folder'):
        own_runs.folder_of_runs("nowhere")
    monkeypatch.setenv("WORKBOOK_RUN_DIR", str(tmp_path / "some" / "tmpab12"))
    assert own_runs.folder_of_runs() is None, "a build of the notebooks shows nobody's runs"


def test_one_more_run_is_expected_in_a_wider_range_than_the_mean():
    values = [0.90, 0.92, 0.94]
    wide, narrow = own_runs.expected(values), mean_t(values)
    assert wide.value == narrow.value
    assert wide.high - wide.value == pytest.approx((narrow.high - narrow.value) * math.sqrt(3 + 1))
    assert math.isnan(own_runs.expected([0.9]).low) and 0.9 not in own_runs.expected([0.9])
