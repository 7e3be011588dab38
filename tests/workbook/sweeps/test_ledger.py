"""The ledger on the disk: damaged, full, held by somebody else, or of another version of the code."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import nbformat
import psutil
import pytest

from helpers.runtime import UserError
from workbook.engine import identity, worker
from workbook.engine.ledger import Outcome
from workbook.engine.owner import FILE, locked, owner, whoami
from workbook.engine.task import Task
from workbook.lessons import Lesson, find

slow = pytest.mark.slow


@slow
def test_case_13_damaged_results_are_set_aside_and_run_again(lab):
    lab.notebook()
    assert lab.run("run", lab.sweep(seeds=[0, 1, 2, 3]), "--workers", "2")[0] == 0
    cut, changed, forgotten = (lab.attempts(seed=seed)[0] for seed in (1, 2, 3))
    for path in (cut / "metrics.json", forgotten / "outcome.json"):
        path.write_text(path.read_text()[: path.stat().st_size // 2])
    (changed / "metrics.json").write_text((changed / "metrics.json").read_text().replace("0.52", "0.99"))
    status, said = lab.run("status", "tiny")
    assert status == 1 and all(f"damaged: seed={seed}" in said for seed in (1, 2, 3))
    status, said = lab.run("resume", "tiny", "--workers", "2")
    assert status == 0, said
    assert "1 of them done already" in said and len(lab.attempts(seed=0)) == 1
    for seed in (1, 2, 3):
        assert [folder.name for folder in lab.attempts(seed=seed)] == ["attempt-002", "damaged-attempt-001"]


@contextlib.contextmanager
def small_disk(folder: Path, options: str):
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk needs root")


@slow
@root
@pytest.mark.parametrize("whose", ["the notebook's", "the record's"])
def test_case_14_a_full_disk_stops_the_sweep_and_spares_what_is_done(lab, whose):
    fills = (
        "print('x' * 900_000)"
        if whose == "the notebook's"
        else "from pathlib import Path\nimport os\n"
        + ("Path(os.environ['WORKBOOK_RUN_DIR'], 'model').write_bytes(bytes(900_000))")
    )
    lab.notebook(f"if seed > 0:\n    {fills.replace(chr(10), chr(10) + '    ')}")
    file = lab.sweep(seeds=[0, 1, 2, 3])
    with small_disk(lab.into, "size=700k"):
        status, said = lab.run("run", file, "--workers", "1")
        assert status == 1 and "No space left on device" in said and "Traceback" not in said
        assert "1 of 4 runs are done and kept" in said
        assert lab.outcome(seed=0)["status"] == "done"
        assert len(lab.attempts(seed=1)) == 1 and not lab.attempts(seed=2) and not lab.attempts(seed=3)
        assert lab.run("status", "tiny")[0] == 1


@slow
@root
def test_case_14_a_disk_that_cannot_be_written(lab):
    lab.notebook()
    file = lab.sweep(seeds=[0, 1])
    with small_disk(lab.into, "size=4m"):
        assert lab.run("run", file, "--workers", "1")[0] == 0
        subprocess.run(["mount", "-o", "remount,ro", str(lab.into)], check=True)
        status, said = lab.run("run", file, "--workers", "1")
        assert status == 1 and "Read-only file system" in said and "Traceback" not in said
        assert all(lab.outcome(seed=seed)["status"] == "done" for seed in (0, 1))


@slow
def test_case_15_a_second_command_is_refused_until_the_first_is_dead(lab, until, below):
    lab.notebook("import time; time.sleep(20 if seed == 1 else 0)")
    file = lab.sweep(seeds=[0, 1])
    first = lab.start("run", file, "--workers", "1")
    until(lambda: lab.attempts(seed=1))
    for verb, what in (("run", file), ("resume", "tiny")):
        status, said = lab.run(verb, what)
        assert status == 1 and "is being run by" in said and f"process {first.pid}" in said
    status, said = lab.run("status", "tiny")
    assert status == 1 and f"(process {first.pid})" in said
    family = below(first.pid)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    psutil.wait_procs(family, timeout=60)
    lab.notebook("import time; time.sleep(20 if seed == 1 else 0)")  # the same code, other cell identifiers
    status, said = lab.run("resume", "tiny", "--workers", "1")
    assert status == 0 and "1 of them done already" in said, said


def test_case_15_an_owner_on_another_host_is_never_pushed_aside(tmp_path):
    for who, taken in (
        ({**whoami(), "host": "elsewhere", "user": "ada"}, False),
        ({**whoami(), "pid": 2**22 + 1, "user": "ada"}, True),
        ({**whoami(), "born": 1.0, "user": "ada"}, True),
    ):
        (tmp_path / FILE).write_text(json.dumps(who))
        if taken:
            with locked(tmp_path, "mine"):
                assert owner(tmp_path)["nonce"] == "mine"
            assert owner(tmp_path) == {}
        else:
            with pytest.raises(UserError, match="ada on elsewhere.*remove"), locked(tmp_path, "mine"):
                pass
            assert owner(tmp_path)["host"] == "elsewhere"


@slow
def test_case_16_another_notebook_is_another_sweep(lab):
    path = lab.notebook("a = 1")
    file = lab.sweep(seeds=[0, 1])
    assert lab.run("run", file, "--workers", "1")[0] == 0
    old = lab.attempts()
    lab.notebook("a = 2")
    status, said = lab.run("resume", "tiny")
    assert status == 1 and "notebook changed since tiny was started" in said
    status, said = lab.run("run", file, "--workers", "1")
    assert status == 0, said
    assert "2 runs of another version" in said and len(lab.attempts()) == 4
    assert set(old) < set(lab.attempts()) and path.exists()
    assert lab.run("results", "tiny", "--sql", "select count(*) as rows from runs")[1].split()[-2:] != ["4"]


@slow
def test_case_16_other_helpers_make_another_sweep(lab):
    project = lab.folder / "project"
    shutil.copytree(identity.ROOT / "helpers", project / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    there = {"cwd": project, "env": {**os.environ, "PYTHONPATH": str(project)}}
    lab.notebook("from helpers.intervals import wilson")
    file = lab.sweep(seeds=[0])
    assert lab.run("run", file, **there)[0] == 0
    with (project / "helpers" / "intervals.py").open("a") as module:
        module.write("\nchanged = True\n")
    status, said = lab.run("resume", "tiny", **there)
    assert status == 1 and "helpers changed since tiny was started" in said
    status, said = lab.run("run", file, **there)
    assert status == 0 and "1 run of another version" in said and len(lab.attempts()) == 2, said


@slow
def test_case_16_a_notebook_that_changes_during_the_sweep(lab, until):
    lab.notebook("import time; time.sleep(3)")
    process = lab.start("run", lab.sweep(seeds=[0, 1]), "--workers", "1")
    until(lambda: lab.attempts())
    lab.notebook("import time; time.sleep(4)")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 1 and "notebook changed while a run was at work" in said
    assert not list(lab.into.rglob("outcome.json"))


@slow
def test_case_16_a_file_of_ones_own_that_changes_during_the_sweep(lab, until, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("text,label\n")
    lab.notebook("import time; time.sleep(3)")
    process = lab.start("run", lab.sweep(fixed={"data": str(mine)}, seeds=[0, 1]), "--workers", "1")
    until(lambda: lab.attempts())
    mine.write_text("text,label\nfixed,1\n")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 1 and "a file that data names changed while a run was at work" in said
    assert not list(lab.into.rglob("outcome.json"))


def test_case_16_what_belongs_to_a_run(lab, tmp_path, monkeypatch):
    shutil.copytree(identity.ROOT / "helpers", tmp_path / "project" / "helpers")
    monkeypatch.setattr(identity, "ROOT", tmp_path / "project")
    lesson = Lesson(lab.notebook("from helpers.intervals import wilson"))
    first = identity.state_of(lesson)
    assert {path.name for path in identity.files(lesson)} >= {"intervals.py", "record.py", "runtime.py", "redaction.py"}

    (tmp_path / "project" / "helpers" / "ladder.py").write_text("changed = 'not imported by this notebook'")
    notebook = nbformat.read(lesson.path, as_version=4)
    notebook.cells[0].id, notebook.cells[1].outputs = "other", [nbformat.v4.new_output("stream", text="x")]
    nbformat.write(notebook, lesson.path)
    assert identity.state_of(Lesson(lesson.path)) == first

    with (tmp_path / "project" / "helpers" / "intervals.py").open("a") as file:
        file.write("\nchanged = True\n")
    assert identity.difference(first, identity.state_of(Lesson(lesson.path))) == "helpers"
    notebook.cells[1].metadata["tags"] = ["solution"]
    nbformat.write(notebook, lesson.path)
    assert "notebook" in identity.difference(first, identity.state_of(Lesson(lesson.path)))


def test_every_parameter_belongs_to_a_run(lab):
    state = {"notebook": "a"}
    names = {identity.run_identity(state, values) for values in ({}, {"seed": 0}, {"seed": 1}, {"rate": 0.0})}
    assert len(names) == 4
    assert identity.run_identity(state, {"a": 1, "b": 2}) == identity.run_identity(state, {"b": 2, "a": 1})


def test_a_file_of_ones_own_belongs_to_the_run_by_its_content(tmp_path):
    state, file, folder = {"notebook": "a"}, tmp_path / "mine.csv", tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    file.write_text("text,label\n")
    parameters = {"data": f"{file}?text=Body", "model": str(folder)}
    first = identity.run_identity(state, parameters)
    assert identity.run_identity(state, parameters) == first
    file.write_text("text,label\nfixed,1\n")
    second = identity.run_identity(state, parameters)
    (folder / "config.json").write_text('{"other": 1}')
    assert len({first, second, identity.run_identity(state, parameters)}) == 3
    assert identity.run_identity(state, {"data": "owner/name"}) == identity._hash([state, {"data": "owner/name"}])[:12]


def test_a_run_on_the_real_track_belongs_to_the_fetched_files(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_REAL_DIR", str(tmp_path))
    sums = tmp_path / "texts" / "SHA256SUMS"
    sums.parent.mkdir()
    found = {}
    for text in ("a" * 64, "b" * 64):
        sums.write_text(f"{text}  counts.json\n")
        found[text] = [identity.run_identity({}, {"track": track}) for track in ("real", "pocket")]
    (real_before, pocket_before), (real_after, pocket_after) = found.values()
    assert real_before != real_after
    assert pocket_before == pocket_after


def test_metrics_that_are_loaded_by_their_path_count_as_helpers():
    [lesson] = [one for one in find() if one.number == "02"]
    assert any("metrics" in path.parts and path.name != "__init__.py" for path in identity.files(lesson))


@pytest.mark.parametrize("then", ["NameError: no", "The download failed."])
def test_only_downloads_are_tried_again_after_one_that_failed(tmp_path, monkeypatch, then):
    outcomes = [Outcome("failed", error="The download failed.")] + [Outcome("failed", error=then)] * 9
    monkeypatch.setattr(worker, "_attempt", lambda *_: outcomes.pop(0))
    monkeypatch.setattr(worker, "is_download", lambda error: "download" in error)
    monkeypatch.setattr(worker.time, "sleep", lambda _: None)
    task = Task("run", str(tmp_path), "n.ipynb", {}, str(tmp_path / "stop"), threads=1, retries=1)
    assert worker.run_task(task).error == then
    assert len(outcomes) == (8 if then.startswith("Name") else 10 - worker.TRIES_OF_A_DOWNLOAD)


@slow
def test_a_sweep_of_the_earlier_version_is_resumed_or_refused_in_a_sentence(lab):
    """Its plan and outcomes are read; its code has changed since, which is said."""
    lab.notebook()
    assert lab.run("run", lab.sweep(seeds=[0]), "--workers", "1")[0] == 0
    folder = lab.into / "tiny"
    (folder / "lock.json").write_text("{}")  # what the earlier version left of its lock
    outcome = json.loads((lab.attempts()[0] / "outcome.json").read_text())
    fields = ("status", "seconds", "cell", "error", "trace", "notes", "seconds_kernel", "seconds_cells", "sha256")
    assert set(outcome) == set(fields)
    status, said = lab.run("resume", "tiny")
    assert status == 0 and "1 of them done already" in said, said
    saved = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps({**saved, "state": {**saved["state"], "helpers": "older"}}))
    status, said = lab.run("resume", "tiny")
    assert status == 1 and "helpers changed since tiny was started" in said and "Traceback" not in said
