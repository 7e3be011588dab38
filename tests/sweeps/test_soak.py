"""Sixty runs on four workers while workers, starters, runs and kernels are killed: in the end each is done once."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from contextlib import suppress

import duckdb
import psutil
import pytest

pytestmark = pytest.mark.slow

RUNS, WORKERS = 60, 4
KILLS = ("worker", "starter", "run", "kernel") * 3
STARTER = "helpers.sweeps.starter"
WORK = """
import random, time
time.sleep(random.uniform(0.3, 1.0))
"""


def kinds(pid: int, below) -> dict[str, list[psutil.Process]]:
    """The processes of a sweep by what they are: workers, their starters, runs, and the runs' kernels."""
    copies = {process.pid: process for process in below(pid, STARTER)}
    found: dict[str, list[psutil.Process]] = {"worker": [], "starter": [], "run": [], "kernel": []}
    for process in copies.values():
        try:
            depth = len([parent for parent in process.parents() if parent.pid in copies])
            found[("starter", "run", "kernel")[min(depth, 2)]].append(process)
            if depth == 0:
                found["worker"].append(process.parent())
        except psutil.Error:
            continue
    return found


def victims(process, kind: str, below) -> list[psutil.Process]:
    """The processes of this kind, as soon as there is one; none when the command ends before."""
    while process.poll() is None:
        if found := kinds(process.pid, below)[kind]:
            return found
        time.sleep(0.01)
    return []


def test_a_soak(lab, below, left_over, capsys):
    chance, killed, commands, family = random.Random(5), Counter(), 0, []
    to_kill = chance.sample(KILLS, len(KILLS))
    lab.notebook(WORK)
    process = lab.start("run", lab.sweep(seeds=list(range(RUNS))), "--workers", WORKERS)
    while True:
        commands += 1
        while process.poll() is None:
            time.sleep(chance.uniform(0.5, 2.0))
            family += below(process.pid) if process.poll() is None else []
            if to_kill and (found := victims(process, to_kill[-1], below)):
                with suppress(psutil.NoSuchProcess):  # it may have ended by itself: then the next one
                    chance.choice(found).kill()
                    killed[to_kill.pop()] += 1
        said = process.communicate()[0]
        if process.returncode == 0:
            break
        assert process.returncode == 1 and commands < 8, said
        process = lab.start("resume", "tiny", "--workers", WORKERS)
    outcomes = [path / "outcome.json" for path in lab.attempts()]
    ends = Counter(json.loads(path.read_text())["status"] if path.is_file() else "cut off" for path in outcomes)
    table = lab.into / "tiny" / "runs.parquet"
    with duckdb.connect() as connection:
        question = "select count(*), count(distinct seed) from read_parquet(?)"
        rows = connection.execute(question, [str(table)]).fetchone()
    with capsys.disabled():
        print(f"\nsoak: {RUNS} runs, killed {dict(killed)}, {commands} commands, attempts {dict(ends)}, rows {rows}")
    assert rows == (RUNS, RUNS) and ends["done"] == RUNS
    assert killed == Counter(KILLS)
    assert not psutil.wait_procs(family, timeout=60)[1] and not left_over(lab.folder)
