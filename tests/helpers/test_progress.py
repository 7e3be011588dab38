"""What a learner has run and solved: theirs alone, whole or not at all, and never written by a machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import progress
from helpers.checks import overview, registry
from helpers.checks.registry import check, solved, verdict
from helpers.record import record
from workbook.lessons.kernel import environment

AT_A_NOTEBOOK = {"JPY_SESSION_NAME": "notebooks/02.ipynb"}
posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no numbers for users")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A learner's folder of progress, not made yet."""
    monkeypatch.setenv("WORKBOOK_PROGRESS", str(tmp_path / "kept"))
    monkeypatch.delenv("WORKBOOK_RUN_DIR", raising=False)
    for name in ("_passed", "_tried"):
        monkeypatch.setattr(registry, name, set())
    return progress.folder()


def right(predictions, labels):
    return sum(one == other for one, other in zip(predictions, labels, strict=True)) / len(labels)


def test_what_is_solved_and_run_is_kept_and_deleting_the_folder_resets_it(place):
    check("00.1", right)
    progress.keep_run("02_full_vs_last_layer", "quick")
    rows = overview()
    assert rows.loc["00 start here", "solved"] == "1 of 3" and rows.loc["00 start here", "open"] == "00.2, 00.3"
    assert rows.loc["02 full vs last layer", "budget"] == "quick"
    assert rows.loc["02 full vs last layer", "last run"].startswith("20")
    assert rows.loc["02 full vs last layer", "open"] == "02.1, 02.2, 02.3, 02.4"
    assert rows.loc["01 pretrained transformers", "last run"] == "not yet"
    shutil.rmtree(place)
    assert set(overview()["last run"]) == {"not yet"} and progress.kept("solved") == {}


def test_a_new_session_knows_what_an_earlier_one_solved(place, monkeypatch, capsys):
    check("00.1", right)
    monkeypatch.setattr(registry, "_passed", set())
    solved("00")
    assert "1 of 3 exercises solved\n00.1  solved before (20" in capsys.readouterr().out


def test_wrong_answers_and_blanks_are_not_kept_and_the_first_time_counts(place):
    check("00.1", lambda *_: 0.25)
    check("00.1", ...)
    verdict("00.1", right)
    assert progress.kept("solved") == {}
    check("00.1", right)
    file = place / "solved" / "00.1.json"
    file.write_text(json.dumps({"when": "2026-01-01T00:00:00+00:00"}))
    check("00.1", right)
    assert progress.kept("solved") == {"00.1": {"when": "2026-01-01T00:00:00+00:00"}}


def test_a_lesson_that_comes_to_its_record_was_run(place, monkeypatch, tmp_path):
    monkeypatch.setattr("helpers.record.ROOT", tmp_path)
    record("02_full_vs_last_layer", {"budget": "quick"}, accuracy_full=0.9)
    assert progress.kept("run")["02"]["budget"] == "quick"
    record("03_fine_tuning_pitfalls", {}, folder=tmp_path / "elsewhere", accuracy_full=0.9)
    assert list(progress.kept("run")) == ["02"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {**AT_A_NOTEBOOK, "CI": "true"},
        {**AT_A_NOTEBOOK, "PYTEST_VERSION": "9"},
        {**AT_A_NOTEBOOK, "WORKBOOK_PROGRESS": "off"},
        {**AT_A_NOTEBOOK, "WORKBOOK_RUN_DIR": "somewhere"},
        {"WORKBOOK_PROGRESS": "somewhere", "WORKBOOK_RUN_DIR": "somewhere"},
        environment(threads=1, run_folder=Path("somewhere")),
    ],
    ids=["no notebook", "CI", "tests", "off", "a run", "a run, folder named", "the environment of runs and builds"],
)
def test_a_run_that_no_learner_started_keeps_nothing(environ, monkeypatch, tmp_path):
    assert progress.folder(environ) is None
    monkeypatch.setattr(progress, "folder", lambda: None)
    progress.keep_run("02")
    check("00.1", right)
    assert progress.kept("solved") == progress.kept("run") == {} and "not in this run" in progress.where()


@pytest.mark.parametrize("shown_by", progress.SHOWN_BY)
def test_at_a_notebook_the_folder_is_the_users(shown_by):
    place = progress.folder({shown_by: "1"})
    assert place.is_relative_to(Path.home()) and "fine-tuning-workbook" in str(place)


def test_jupyters_server_says_that_a_person_looks():
    server = pytest.importorskip("jupyter_server.services.sessions.sessionmanager")
    given = server.SessionManager.get_kernel_env(server.SessionManager, "02.ipynb")
    assert set(progress.SHOWN_BY) & set(given)


@posix
def test_two_learners_who_share_everything_do_not_share_their_progress(place, monkeypatch):
    check("00.1", right)
    assert place.stat().st_mode & 0o777 == 0o700
    assert progress.where().endswith("for you alone; delete that folder to start anew.")
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert progress.folder() != place and progress.kept("solved") == {}


@posix
def test_a_folder_that_somebody_else_made_is_not_trusted(place, monkeypatch):
    other = os.getuid() + 1
    squatted = place.with_name(f"progress-{other}")
    (squatted / "solved").mkdir(parents=True)
    (squatted / "solved" / "00.1.json").write_text('{"when": "2026-01-01T00:00:00+00:00"}')
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert progress.folder() == squatted
    progress.keep_run("02")
    assert progress.kept("solved") == {} and not (squatted / "run").exists()
    assert "WORKBOOK_PROGRESS" in progress.where()


@posix
def test_a_folder_made_by_hand_is_closed_to_others(place):
    place.mkdir(parents=True, mode=0o755)
    progress.keep_run("02")
    assert place.stat().st_mode & 0o777 == 0o700


def half(place):
    (place / "solved").mkdir(parents=True)
    (place / "solved" / "00.1.json").write_text('{"when": "20')


def no_fact(place):
    (place / "solved").mkdir(parents=True)
    for name, text in {"00.1": "[]", "01.1": '{"when": 3}', "01.2": "{}", "notes": "{}"}.items():
        (place / "solved" / f"{name}.json").write_text(text)
    (place / "solved" / "02.1.json").write_bytes(b"\xff\xfe\x00")
    (place / "solved" / "03.1.json").mkdir()


def a_file_in_place_of_the_folder(place):
    place.parent.mkdir()
    place.write_text("")


def a_file_in_place_of_a_part(place):
    place.mkdir(parents=True)
    for what in ("solved", "run"):
        (place / what).write_text("")


@pytest.mark.parametrize("breaks", [half, no_fact, a_file_in_place_of_the_folder, a_file_in_place_of_a_part])
def test_broken_progress_never_breaks_a_lesson(breaks, place, capsys):
    breaks(place)
    assert progress.kept("solved") == {} and len(overview())
    check("00.1", right)
    progress.keep_run("02")
    solved("00")
    assert "00.1: right!\n1 of 3" in capsys.readouterr().out
    assert progress.where()


def test_names_that_are_no_exercise_write_nothing(place):
    progress.keep_solved("../../02.1")
    progress.keep_run("..")
    assert not place.exists() or not list(place.rglob("*.json"))


MANY = """
import sys
from helpers import progress
from helpers.checks import overview
for number in range(int(sys.argv[1]), 60, 2):
    progress.keep_solved(f"99.{number}")
    progress.keep_run("02", sys.argv[1] * 2000)
    assert len(progress.kept("run")) == 1
"""


def test_two_kernels_at_once_lose_nothing(place):
    both = [subprocess.Popen([sys.executable, "-c", MANY, start]) for start in ("0", "1")]
    assert [process.wait(120) for process in both] == [0, 0]
    assert set(progress.kept("solved")) == {f"99.{number}" for number in range(60)}
    assert len(set(progress.kept("run")["02"]["budget"])) == 1
    assert not [path for path in place.rglob("*") if path.is_file() and path.suffix != ".json"]


@pytest.mark.slow
@pytest.mark.parametrize(("shown", "kept"), [({}, False), (AT_A_NOTEBOOK, True)], ids=["papermill", "a learner"])
def test_papermill_alone_keeps_nothing(shown, kept, course, tmp_path):
    path = course.add("02_tiny", "from helpers import progress\nprogress.keep_run('02')", record=False)
    machine = ("CI", "PYTEST_VERSION", "PYTEST_CURRENT_TEST", "WORKBOOK_RUN_DIR", "WORKBOOK_PROGRESS")
    clean = {name: value for name, value in os.environ.items() if name not in (*machine, *progress.SHOWN_BY)}
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-m", "papermill", str(path), str(tmp_path / "out.ipynb"), "-k", "python3"]
    result = subprocess.run(command, env={**clean, **home, **shown}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert bool(list((tmp_path / "data").rglob("progress-*/run/02.json"))) == kept
