"""Whoever takes part in a sweep is killed in the middle of it: no result is lost, nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.slow

# Each run leaves a beat on the disk while it works, so that a writer that outlived its worker would be seen.
WORK = """
import time
from pathlib import Path
for _ in range(round(rate * 10)):
    (Path({folder!r}) / "beats" / f"{{seed}}-{{time.time_ns()}}").touch()
    time.sleep(0.1)
"""


@pytest.fixture
def work(lab):
    """A notebook that works for `rate` seconds."""
    (lab.folder / "beats").mkdir()
    lab.notebook(WORK.format(folder=str(lab.folder)))
    return lab


def seeds_at_work(lab, until) -> None:
    until(lambda: list((lab.folder / "beats").iterdir()))


def beating(lab) -> bool:
    before = len(list((lab.folder / "beats").iterdir()))
    time.sleep(0.5)
    return len(list((lab.folder / "beats").iterdir())) > before


def done(lab) -> list:
    return [
        path
        for path in lab.into.glob("*/runs/*/attempt-*/outcome.json")
        if json.loads(path.read_text())["status"] == "done"
    ]


def test_case_11_a_killed_worker_is_replaced_and_its_run_begins_again(work, until, parts, left_over):
    file = work.sweep(fixed={"rate": 3.0}, seeds=[0])
    process = work.start("run", file, "--workers", "1")
    seeds_at_work(work, until)
    found = parts(work)
    assert len(found["worker"]) == len(found["kernel"]) == 1
    found["worker"][0].kill()
    assert not psutil.wait_procs(found["kernel"], timeout=60)[1]
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    first, second = work.attempts(seed=0)
    assert not (first / "outcome.json").exists() and not (first / "metrics.json").exists()
    assert json.loads((second / "outcome.json").read_text())["status"] == "done"
    assert not left_over(work.folder) and not beating(work)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a kernel's children outlive its worker")
def test_case_11_what_a_kernel_detached_ends_when_its_worker_is_killed(lab, until, parts, left_over):
    lab.notebook("import subprocess, time; subprocess.Popen(['sleep', '987'], start_new_session=True); time.sleep(3)")
    process = lab.start("run", lab.sweep(seeds=[0]), "--workers", "1")
    until(lambda: any("987" in one.cmdline() for one in left_over(lab.folder)))
    parts(lab)["worker"][0].kill()
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0 and len(lab.attempts()) == 2, said
    assert not left_over(lab.folder)


def test_case_11_a_run_whose_worker_dies_again_and_again_is_given_up(work, until, parts):
    process = work.start("run", work.sweep(fixed={"rate": 30.0}, seeds=[0]), "--workers", "1")
    for tries in (1, 2, 3):
        until(lambda tries=tries: len(work.attempts()) == tries and parts(work)["kernel"])
        parts(work)["worker"][0].kill()
        until(lambda: not parts(work)["kernel"])
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 1 and "its worker died again and again" in said, said


def test_case_11_a_killed_server_costs_no_run_and_is_replaced_when_needed(work, until, parts, left_over):
    process = work.start("run", work.sweep(fixed={"rate": 2.0}, seeds=[0, 1]), "--workers", "1")
    seeds_at_work(work, until)
    parts(work)["server"][0].kill()
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert len(done(work)) == len(work.attempts()) == 2
    assert not psutil.wait_procs([one for some in parts(work).values() for one in some], timeout=60)[1]
    assert not left_over(work.folder)


def test_two_layers_of_processes_lie_between_the_command_and_a_notebook(work, until, parts):
    process = work.start("run", work.sweep(fixed={"rate": 3.0}, seeds=[0, 1]), "--workers", "2")
    until(lambda: len(parts(work)["kernel"]) == 2)
    found = parts(work)
    assert {part: len(processes) for part, processes in found.items()} == {"server": 1, "worker": 2, "kernel": 2}
    assert {kernel.ppid() for kernel in found["kernel"]} == {worker.pid for worker in found["worker"]}
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert not list(work.scratch.glob("workbook-*"))


SPAWNED = """
from workbook.engine import local
local.METHOD = "spawn"
from workbook.cli import main
if __name__ == "__main__":
    main()
"""


def test_nothing_needs_fork(work, until, left_over):
    """As on Windows and macOS: every worker is a new process that imports all of it, and is ended like others."""
    script = work.folder / "spawned.py"
    script.write_text(SPAWNED)
    work.command = [sys.executable, str(script)]
    status, said = work.run("run", work.sweep(fixed={"rate": 0.5}, seeds=[0, 1]), "--workers", "2")
    assert status == 0 and len(done(work)) == 2, said
    process = work.start("run", work.sweep("long", fixed={"rate": 30.0}, seeds=[2]), "--workers", "1")
    until(lambda: list((work.folder / "beats").glob("2-*")))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 130 and "Traceback" not in said and not left_over(work.folder / "sweeps"), said


def test_case_12_a_killed_client_leaves_a_ledger_that_can_be_resumed(work, until, below, left_over):
    file = work.sweep(fixed={"rate": 1.0}, seeds=[0, 1, 2])
    process = work.start("run", file, "--workers", "1")
    until(lambda: done(work))
    family = below(process.pid)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(family, timeout=60)[1]
    assert not left_over(work.folder) and not beating(work)
    kept = {path: path.stat().st_mtime_ns for path in done(work)}
    assert 1 <= len(kept) < 3
    status, said = work.run("status", "tiny")
    assert status == 1 and "Nobody runs it now" in said
    status, said = work.run("resume", "tiny", "--workers", "1")
    assert status == 0, said
    assert f"{len(kept)} of them done already" in said
    assert len(done(work)) == 3 and all(path.stat().st_mtime_ns == when for path, when in kept.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_case_12_asked_to_end(work, until, below, left_over, number):
    process = work.start("run", work.sweep(fixed={"rate": 30.0}, seeds=[0, 1]), "--workers", "1")
    seeds_at_work(work, until)
    family = below(process.pid)
    process.send_signal(number)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "0 of 2 runs are done" in said and "workbook sweep resume tiny" in said and "Traceback" not in said
    assert not psutil.wait_procs(family, timeout=60)[1] and not left_over(work.folder)


@pytest.mark.parametrize("delay", [0.7, 1.5, 2.5, 4.0])
def test_case_12_asked_to_end_while_it_starts(work, below, left_over, delay):
    process = work.start("run", work.sweep(fixed={"rate": 30.0}, seeds=[0, 1]), "--workers", "1")
    time.sleep(delay)
    family = below(process.pid)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=240)
    assert process.returncode != 0 and "Traceback" not in said, said
    assert not psutil.wait_procs(family, timeout=60)[1] and not left_over(work.folder)


def test_case_12_ctrl_c_in_a_terminal_reaches_all_processes_and_again_and_again(work, until, below, left_over):
    process = work.start(
        "run", work.sweep(fixed={"rate": 30.0}, seeds=[0, 1]), "--workers", "2", start_new_session=True
    )
    seeds_at_work(work, until)
    family = below(process.pid)
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 130 and "0 of 2 runs are done" in said and "Traceback" not in said, said
    assert not psutil.wait_procs(family, timeout=60)[1] and not left_over(work.folder)


def test_case_12_cancelled_from_beside(work, until, left_over):
    process = work.start("run", work.sweep(fixed={"rate": 30.0}, seeds=[0]), "--workers", "1")
    seeds_at_work(work, until)
    assert work.run("cancel", "tiny")[0] == 0
    process.communicate(timeout=240)
    assert process.returncode == 130 and not left_over(work.folder)
    status, said = work.run("cancel", "tiny")
    assert status == 1 and "Nobody runs tiny now" in said


@pytest.fixture
def dask(tmp_path, until):
    """A scheduler and two workers, started with Dask's own commands on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, dask = f"tcp://127.0.0.1:{port}", [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    loopback = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    scheduler = subprocess.Popen([*dask, "scheduler", "--port", str(port), *loopback], **quiet)
    worker = [*dask, "worker", address, "--nthreads", "1", *loopback]
    workers = [subprocess.Popen(worker, **quiet) for _ in range(2)]
    yield address, scheduler, workers
    for process in [*workers, scheduler]:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()


def test_a_scheduler_and_workers_of_somebody_else(work, dask):
    address, _, workers = dask
    file = work.sweep(fixed={"rate": 0.5}, seeds=[0, 1, 2, 3])
    status, said = work.run("run", file, "--scheduler", address)
    assert status == 0, said
    started = [json.loads((path / "started.json").read_text())["pid"] for path in work.attempts()]
    assert len(started) == 4 and len(set(started)) == 2
    assert all(process.poll() is None for process in workers)
    assert "Dask's dashboard: http://127.0.0.1:" in said


def test_a_kernel_keeps_freed_memory_which_dask_forbids_its_workers(lab, dask):
    lab.notebook("import os; assert not [name for name in os.environ if name.startswith('MALLOC')]")
    status, said = lab.run("run", lab.sweep(seeds=[0]), "--scheduler", dask[0])
    assert status == 0, said


def test_case_11_a_killed_dask_worker_ends_its_kernel_and_the_run_begins_again(work, dask, until, left_over):
    file = work.sweep(fixed={"rate": 3.0}, seeds=[0])
    process = work.start("run", file, "--scheduler", dask[0])
    seeds_at_work(work, until)
    psutil.Process(json.loads((work.attempts()[0] / "started.json").read_text())["pid"]).kill()
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert len(work.attempts()) == 2 and len(done(work)) == 1
    assert not left_over(work.folder / "sweeps")


def test_case_12_a_killed_scheduler_loses_no_finished_run(work, dask, until, left_over):
    address, scheduler, _ = dask
    file = work.sweep(fixed={"rate": 1.0}, seeds=[0, 1, 2, 3, 4, 5])
    process = work.start("run", file, "--scheduler", address)
    until(lambda: done(work))
    scheduler.kill()
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "The scheduler is gone" in said and "Traceback" not in said
    kept = {path: path.stat().st_mtime_ns for path in done(work)}
    until(lambda: not left_over(work.folder / "sweeps"))
    kept |= {path: path.stat().st_mtime_ns for path in done(work)}
    status, said = work.run("resume", "tiny", "--workers", "2")
    assert status == 0, said
    assert len(done(work)) == 6 and all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_case_12_a_killed_client_of_an_external_cluster_is_resumed_beside_its_runs(work, dask, until):
    address, _, _ = dask
    file = work.sweep(fixed={"rate": 4.0}, seeds=[0, 1])
    process = work.start("run", file, "--scheduler", address)
    seeds_at_work(work, until)
    process.kill()
    process.communicate()
    status, said = work.run("resume", "tiny", "--scheduler", address)
    assert status == 0, said
    # The runs that were at work were waited for, not begun a second time.
    assert len(work.attempts(seed=0)) == len(work.attempts(seed=1)) == 1


def test_a_scheduler_that_is_not_there(work):
    status, said = work.run("run", work.sweep(seeds=[0]), "--scheduler", "tcp://127.0.0.1:9")
    assert status == 1
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in said and "Traceback" not in said


def test_nothing_listens_beyond_loopback(work, until, below):
    process = work.start("run", work.sweep(fixed={"rate": 30.0}, seeds=[0]), "--workers", "1")
    seeds_at_work(work, until)
    family = [psutil.Process(process.pid), *below(process.pid)]
    listening = {each.laddr.ip for one in family for each in one.net_connections("tcp") if each.status == "LISTEN"}
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=240)
    assert len(family) >= 4 and listening <= {"127.0.0.1"}
