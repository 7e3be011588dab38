"""Which committed notebooks are run anew, and what is kept of those that passed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from helpers import record
from tests import verification
from tests.verification import bare, fingerprint, to_run
from workbook.claims.results import LessonResults, Results


@pytest.fixture
def lessons(course, tmp_path, monkeypatch):
    """Three small lessons, and a file of their own for what was verified."""
    monkeypatch.setattr(verification, "VERIFIED", tmp_path / "verified.json")
    monkeypatch.setattr(verification, "QUICK", tmp_path / "verified_quick.json")
    for name in ("00_start", "01_next", "02_last"):
        course.add(name, "print('hello')", "# What it is about")
    made = verification.find(course.folder)
    monkeypatch.setattr(verification, "find", lambda: made)
    monkeypatch.setattr(verification, "quick_problems", lambda lesson: [])
    return made


def change(lesson, old: str, new: str):
    """The lesson with another text in its notebook."""
    lesson.path.write_text(lesson.path.read_text().replace(old, new))
    return verification.Lesson(lesson.path)


def test_prose_comments_and_docstrings_do_not_count(lessons):
    before = fingerprint(lessons[0])
    assert fingerprint(change(lessons[0], "What it is about", "What it is for")) == before
    assert bare('"""What."""\n\n# why\ndef f(x):\n    """Twice."""\n    return 2 * x  # how\n') == bare(
        "def f(x):\n    return 2 * x"
    )


def test_a_model_card_does_not_count_and_its_weights_do(tmp_path):
    sums = tmp_path / verification.SUMS
    seen = set()
    for card, weights in (("1", "1"), ("2", "1"), ("2", "2")):
        sums.write_text(f"{card}  README.md\n{weights}  model.safetensors\n")
        seen.add(verification._without_cards(sums))
    assert len(seen) == 2


def test_code_counts_in_the_lesson_and_in_what_it_reaches(lessons, monkeypatch):
    before = fingerprint(lessons[0])
    assert fingerprint(change(lessons[0], "hello", "goodbye")) != before
    assert fingerprint(change(lessons[0], "goodbye", "hello")) == before
    monkeypatch.setattr(verification, "bare", lambda code: bare(code).replace("metrics.json", "numbers.json"))
    assert fingerprint(lessons[0]) != before, "record.py, which every lesson reaches, is another one"


def test_a_version_of_a_library_counts_and_its_build_does_not(lessons, monkeypatch):
    before, real = fingerprint(lessons[0]), verification.versions()
    monkeypatch.setattr(verification, "versions", lambda: {**real, "torch": real["torch"].partition("+")[0] + "+cu130"})
    assert fingerprint(lessons[0]) == before
    monkeypatch.setattr(verification, "versions", lambda: {**real, "torch": "9.9"})
    assert fingerprint(lessons[0]) != before


def test_what_changed_is_run_and_the_others_by_turns(lessons):
    assert to_run(lessons, turn=0) == lessons, "nothing is verified yet"
    verification.VERIFIED.write_text(json.dumps({lesson.name: fingerprint(lesson) for lesson in lessons}))
    turns = [to_run(lessons, turn) for turn in range(verification.TURNS)]
    assert [chosen for chosen in turns if chosen] == [[lesson] for lesson in lessons], "each has one turn of its own"
    changed = [change(lessons[0], "hello", "goodbye"), *lessons[1:]]
    assert changed[0] in to_run(changed, turn=1)


def test_only_what_passes_is_kept(lessons, monkeypatch):
    monkeypatch.setattr(verification, "verify", lambda lesson: ["cell 3 differs"] if lesson.number == "01" else [])
    result = CliRunner().invoke(verification.main, ["--jobs", "1"])
    assert result.exit_code == 1 and "01_next: differs: its committed outputs" in result.output
    assert "cell 3 differs" in result.output
    assert set(verification.kept()) == {"00_start", "02_last"}
    monkeypatch.setattr(verification, "verify", lambda lesson: [])
    result = CliRunner().invoke(verification.main, [])
    assert result.exit_code == 0 and result.output.count("holds") == 1, "only the one that had not passed is run"
    assert "All of them passed" in CliRunner().invoke(verification.main, []).output


def test_a_lesson_that_fails_with_another_seed_is_not_kept(lessons, monkeypatch):
    monkeypatch.setattr(verification, "verify", lambda lesson: [])
    monkeypatch.setattr(verification, "quick_problems", lambda one: ["quick: cell 3"] if one.number == "00" else [])
    result = CliRunner().invoke(verification.main, [])
    assert result.exit_code == 1 and "00_start: differs: quick" in result.output and "quick: cell 3" in result.output
    assert set(verification.kept(verification.QUICK)) == {"01_next", "02_last"}
    assert len(verification.kept()) == 3 and len(to_run(lessons, 5, verification.QUICK)) == 1


def test_a_notebook_is_built_by_the_very_run_that_is_held_to_the_reference(lessons, monkeypatch):
    held = LessonResults({"accuracy": dict(enumerate([0.9, 0.91, 0.9, 0.89, 0.9]))}, "a toy")
    monkeypatch.setattr(verification, "load_results", lambda: Results({"00": held}))
    built = {}

    def build(lesson, results):
        built[lesson.number] = results
        if lesson.number == "02":
            return "cell 3 of 9 fails"
        record.record(lesson.name, {}, folder=results, accuracy=0.1)
        return ""

    monkeypatch.setattr(verification, "build", build)
    result = CliRunner().invoke(verification.main, ["--build", "--jobs", "1"])
    assert "00_start: differs: its committed outputs and the reference\naccuracy is 0.1, but one" in result.output
    assert "01_next: holds" in result.output and "reference\ncell 3 of 9 fails" in result.output
    assert set(verification.kept()) == {"01_next"} and len(set(built.values())) == 3
