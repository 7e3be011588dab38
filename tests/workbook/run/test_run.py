"""Lessons executed through the real command: side by side, with everything that can go wrong on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workbook.lessons.kernel import cores, environment

pytestmark = pytest.mark.slow


def start(course, *arguments: str, **options) -> subprocess.Popen:
    folders = ["--notebooks", str(course.folder), "--into", str(course.folder.parent / "runs")]
    if "--resume" in arguments:
        folders = folders[2:]
    return subprocess.Popen(
        [sys.executable, "-m", "workbook.cli", "run", *arguments, *folders],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def run(course, *arguments: str) -> tuple[int, str]:
    process = start(course, *arguments)
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, said


def folder(course) -> Path:
    return max((course.folder.parent / "runs").iterdir())


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


LATE = """\
import time
kernel = get_ipython().kernel
published = kernel._publish_status
def late(status, *rest, **more):
    time.sleep(6 if status == "idle" else 0)
    published(status, *rest, **more)
kernel._publish_status = late
print("trained")"""


def test_a_kernel_whose_messages_are_late_does_not_fail(course):
    course.add("00_start_here", LATE)
    status, said = run(course)
    assert status == 0, said


def test_good_lessons_give_notebooks_pages_and_figures(course):
    course.add("00_start_here", "print('hello')", "# Next\n\n[on](01_next.ipynb), $x^2$")
    course.add("01_next", "import os\nprint(os.environ['OMP_NUM_THREADS'], os.environ['HF_HUB_OFFLINE'])")
    status, said = run(course, "--seed", "7", "--jobs", "2")
    assert status == 0, said
    assert "accuracy full: 0.57" in said and "index.html" in said
    made = folder(course)
    for name in ("00_start_here", "01_next"):
        assert {"metrics.json", "outcome.json", f"{name}.ipynb", f"{name}.html"} <= {
            path.name for path in (made / name).iterdir()
        }
    text = (made / "01_next" / "01_next.ipynb").read_text()
    assert f"{max(1, cores() // 2)} 1" in text
    page = (made / "00_start_here" / "00_start_here.html").read_text()
    assert 'href="../01_next/01_next.html"' in page and "<math" in page


def test_no_page_asks_the_network_for_anything(course):
    course.add(
        "00_start_here", "import ipywidgets\nipywidgets.VBox([ipywidgets.IntSlider(3), ipywidgets.HTML('<p>3</p>')])"
    )
    status, said = run(course)
    assert status == 0, said
    for page in folder(course).rglob("*.html"):
        text = page.read_text().replace("http://www.w3.org/1998/Math/MathML", "")
        assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//|@import|url\(\s*["']?http|<script""", text), page


def test_a_failing_lesson_is_named_and_the_others_go_on(course):
    course.add("00_raises", "x = 1", "x / 0")
    course.add("01_leaves", "import sys; sys.exit(0)")
    course.add("02_dies", "import os; os.kill(os.getpid(), 9)")
    course.add("03_silent", record=False)
    course.add("04_sentence", "from helpers.runtime import *\nshow_user_errors()\nraise UserError('Do this.')")
    course.add("05_good")
    status, said = run(course, "--jobs", "2")
    assert status == 1
    assert "00_raises: FAILED in cell [3]: ZeroDivisionError: division by zero" in said
    assert "01_leaves: FAILED: Incomplete" in said and "03_silent: FAILED: Incomplete" in said
    assert "02_dies: FAILED: The kernel died" in said
    assert "04_sentence: FAILED in cell [2]: Do this." in said
    assert "05_good: done" in said
    assert (folder(course) / "00_raises" / "00_raises.html").is_file()
    index = (folder(course) / "index.html").read_text()
    assert index.count('class="failed"') == 5 and index.count('class="done"') == 1


def test_a_lesson_that_looks_at_runs_waits_for_the_others(course):
    see = "import os\nfrom pathlib import Path\nbeside = Path(os.environ['WORKBOOK_RUN_DIR']).parent"
    looking = course.add("00_looks", f"{see}\nassert (beside / '01_trains' / 'metrics.json').is_file()")
    looking.write_text(looking.read_text().replace("seed = 0", "runs = ''\\nseed = 0"))
    course.add("01_trains", "import time; time.sleep(2)")
    status, said = run(course, "--jobs", "2")
    assert status == 0, said


def test_resuming_runs_only_what_is_not_done(course):
    flag = course.folder.parent / "fixed"
    course.add("00_good", "import time; print(time.time())")
    course.add("01_fixed", f"from pathlib import Path\nassert Path({str(flag)!r}).exists()")
    assert run(course)[0] == 1
    first = (folder(course) / "00_good" / "metrics.json").stat().st_mtime_ns
    flag.touch()
    status, said = run(course, "--resume")
    assert status == 0, said
    assert "1 of 2 lessons to run" in said
    assert (folder(course) / "00_good" / "metrics.json").stat().st_mtime_ns == first


def test_a_run_of_the_earlier_version_is_resumed(course):
    """Its outcomes held their metrics and no hash, and its failed lessons nothing of who ran them."""
    course.add("00_good")
    flag = course.folder.parent / "fixed"
    course.add("01_fixed", f"from pathlib import Path\nassert Path({str(flag)!r}).exists()")
    assert run(course)[0] == 1
    for name, older in (("00_good", {"metrics": {}}), ("01_fixed", {"cell": 2, "error": "AssertionError"})):
        outcome = json.loads((folder(course) / name / "outcome.json").read_text())
        kept = {"status": outcome["status"], "seconds": 1.0, "cell": None, "error": "", "metrics": {}, **older}
        (folder(course) / name / "outcome.json").write_text(json.dumps(kept))
        (folder(course) / name / "started.json").unlink()
    flag.touch()
    status, said = run(course, "--resume")
    assert status == 0 and "1 of 2 lessons to run" in said and "accuracy full: 0.5" in said, said


@pytest.mark.parametrize("what", ["{", "[]", '{"lessons": ["00_good.ipynb"], "parameters": {}, "jobs": 1}'])
def test_a_damaged_plan_is_refused_in_a_sentence(course, what):
    (course.folder.parent / "runs" / "2026-01-01_000000").mkdir(parents=True)
    (course.folder.parent / "runs" / "2026-01-01_000000" / "run.json").write_text(what)
    status, said = run(course, "--resume")
    assert status == 1 and "is damaged" in said and "Traceback" not in said


def test_a_secret_is_redacted_and_a_flood_is_capped(course, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "correct horse battery")
    course.add("00_tells", "import os; print(os.environ['MY_API_KEY'])", "print('x' * 5_000_000)", "1 / 0")
    assert run(course)[0] == 1
    text = "".join(path.read_text() for path in folder(course).rglob("*") if path.is_file())
    assert "correct horse" not in text and "[redacted]" in text
    assert (folder(course) / "00_tells" / "00_tells.ipynb").stat().st_size < 4_500_000
    assert "the rest was left out" in text


def test_ctrl_c_keeps_results_ends_children_and_says_how_to_go_on(course):
    course.add("00_quick")
    course.add("01_long", "import time; time.sleep(600)")
    process = start(course, "--jobs", "1")
    until(lambda: list(course.folder.parent.glob("runs/*/01_long/unfinished.ipynb")))
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "1 of 2 lessons are finished" in said and "workbook run --resume" in said
    assert json.loads((folder(course) / "00_quick" / "outcome.json").read_text())["status"] == "done"
    assert not (folder(course) / "01_long" / "outcome.json").exists()
    assert below and not psutil.wait_procs(below, timeout=10)[1]


def test_a_run_that_is_still_at_work_is_not_resumed(course):
    course.add("00_long", "import time; time.sleep(600)")
    process = start(course)
    try:
        until(lambda: list(course.folder.parent.glob("runs/*/00_long/unfinished.ipynb")))
        status, said = run(course, "--resume")
        assert status != 0 and "is being run by" in said, said
        assert process.poll() is None and (folder(course) / "00_long" / "unfinished.ipynb").is_file()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert not (folder(course) / "lock.json").exists() and not list(folder(course).glob("stop-*"))


def test_children_die_with_a_killed_parent(course):
    course.add("00_long", "import time; time.sleep(600)")
    process = start(course)
    until(lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 2)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(below, timeout=15)[1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_said_and_finished_results_stay(course):
    disk = course.folder.parent / "runs"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        course.add("00_small")
        course.add("01_fills", "print('x' * 1_000_000)")
        status, said = run(course, "--jobs", "1")
        assert status == 1, said
        assert "No space left on device" in said and "Traceback" not in said
        assert json.loads((folder(course) / "00_small" / "metrics.json").read_text())["metrics"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["7"], 'no lesson "7"'),
        (["--budget", "quik"], 'Did you mean "quick"'),
        (["-p", "track", "hubb"], 'Did you mean "hub"'),
        (["-p", "sede", "1"], 'Did you mean "seed"'),
        (["--seed", "one"], "whole number"),
        (["--jobs", "0"], "0 is not in the range"),
        (["--resume"], "no earlier run"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_runs(course, arguments, said):
    course.add("00_start_here")
    status, text = run(course, *arguments)
    assert status != 0
    assert said in text and "Traceback" not in text
    assert not (course.folder.parent / "runs").exists()


def test_the_environment_is_set_before_the_kernel(tmp_path):
    settings = environment(threads=3, run_folder=tmp_path)
    assert settings["OMP_NUM_THREADS"] == "3" and settings["WORKBOOK_RUN_DIR"] == str(tmp_path)
    assert settings["HF_HUB_OFFLINE"] == "1" and settings["PYTHONHASHSEED"] == "0"


def test_a_model_is_kept_only_where_it_is_asked_for(course):
    code = "import os\nprint('asked:', os.environ.get('WORKBOOK_KEEP_MODEL'))"
    course.add("00_keeps", f"{code}  # keep_model(")
    course.add("01_does_not", code)
    status, said = run(course, "01", "--keep-model")
    assert status == 1 and "no lesson of this run keeps its model; these lessons do: 00." in said
    for arguments, asked in (((), "asked: None"), (("--keep-model",), "asked: 1")):
        status, said = run(course, "00", *arguments)
        assert status == 0, said
        assert asked in (folder(course) / "00_keeps" / "00_keeps.ipynb").read_text()
