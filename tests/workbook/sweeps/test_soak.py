"""Sixty runs on four workers while processes of every kind are killed: in the end each run is done once."""

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
KILLS = (*("worker", "kernel") * 6, "server")  # the one that all workers come from
WORK = """
import random, time
time.sleep(random.uniform(1.0, 2.0))
"""


def victims(process, lab, part: str, parts) -> list[psutil.Process]:
    """The processes of this kind, as soon as there is one; none when the command ends before."""
    while process.poll() is None:
        if found := parts(lab)[part]:
            return found
        time.sleep(0.01)
    return []


def test_a_soak(lab, parts, left_over, capsys):
    chance, killed, commands, family = random.Random(5), Counter(), 0, []
    to_kill = chance.sample(KILLS, len(KILLS))
    lab.notebook(WORK)
    process = lab.start("run", lab.sweep(seeds=list(range(RUNS))), "--workers", WORKERS)
    while True:
        commands += 1
        while process.poll() is None:
            time.sleep(chance.uniform(0.5, 2.0))
            family += [one for some in parts(lab).values() for one in some]
            if to_kill and (found := victims(process, lab, to_kill[-1], parts)):
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
