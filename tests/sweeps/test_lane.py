"""A lane's small parts: where its sockets may lie, and how it knows that a child has ended."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from workbook.sweeps.lane import has_ended
from workbook.sweeps.scratch import LONG, scratch_folder
from workbook.sweeps.starting import connect


def test_a_folder_for_sockets_has_a_short_path(tmp_path, monkeypatch):
    long = tmp_path / ("x" * LONG)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = Path(scratch_folder("sweep-"))
    assert folder.parent == Path("/tmp") and folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    Path(scratch_folder("sweep-")).rmdir()


def test_without_a_folder_no_socket_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        connect("", {})


@pytest.mark.parametrize("system", ["Linux", "macOS before Python 3.13"])
def test_an_end_is_seen_and_the_status_stays_to_be_asked_for(monkeypatch, system):
    if system != "Linux":
        monkeypatch.delattr(os, "waitid")
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)"], stdin=subprocess.PIPE)
    assert not has_ended(child.pid)
    child.stdin.close()
    end = time.monotonic() + 30
    while not has_ended(child.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert has_ended(child.pid) and os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 7
    child.returncode = 7
