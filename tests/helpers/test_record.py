"""helpers.record: whole or not at all, and read with suspicion."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy
import pytest

from helpers.files import write_text
from helpers.record import read, record
from helpers.runtime import UserError


def recorded(folder: Path, **metrics) -> dict:
    return read(record("00_start_here", {"seed": 1}, folder=folder, **metrics))


def test_what_is_written_is_read_back(tmp_path):
    result = recorded(tmp_path, accuracy_full=numpy.float32(0.5), losses_full=[1.0, 0.5], rows_test=numpy.int64(3))
    assert result["metrics"] == {"accuracy_full": 0.5, "losses_full": [1.0, 0.5], "rows_test": 3}
    assert result["parameters"] == {"seed": 1}
    assert result["versions"]["python"] == sys.version.split()[0]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_the_run_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_RUN_DIR", str(tmp_path / "run"))
    assert record("00_start_here", {}, accuracy_full=1).parent == tmp_path / "run"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "high", None, [1.0, float("nan")], {"a": None}])
def test_a_metric_that_is_no_finite_number_is_refused(tmp_path, value):
    with pytest.raises(UserError, match="accuracy_full"):
        recorded(tmp_path, accuracy_full=value)
    assert not list(tmp_path.iterdir())


def test_a_badly_formed_metric_name_is_refused(tmp_path):
    with pytest.raises(UserError, match="Accuracy"):
        recorded(tmp_path, **{"Accuracy-full": 1.0})


@pytest.mark.parametrize("field", ["notebook", "metrics", "versions", "threads", "finished"])
def test_a_record_without_a_field_is_refused_on_reading(tmp_path, field):
    path = record("00_start_here", {}, folder=tmp_path, accuracy_full=1.0)
    content = json.loads(path.read_text())
    del content[field]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=field):
        read(path)


def test_a_truncated_or_missing_record_is_refused_on_reading(tmp_path):
    path = record("00_start_here", {}, folder=tmp_path, accuracy_full=1.0)
    path.write_text(path.read_text()[:40])
    with pytest.raises(UserError, match="cut short"):
        read(path)
    with pytest.raises(UserError, match="missing"):
        read(tmp_path / "none.json")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_text(tmp_path / "result.txt", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write_text(path, "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("result.txt", "old")]


def test_a_full_disk_is_said_in_one_sentence(tmp_path):
    """The kernel itself refuses the bytes: files of this child may not grow beyond 100."""
    script = """
        import resource, signal
        from pathlib import Path
        from helpers.record import record
        from helpers.runtime import UserError
        folder = Path("FOLDER")
        record("00_start_here", {}, folder=folder, accuracy_full=0.25)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            record("00_start_here", {}, folder=folder, accuracy_full=0.75)
        except UserError as error:
            print(error)
    """
    assert resource.RLIMIT_FSIZE is not None
    code = textwrap.dedent(script).replace("FOLDER", str(tmp_path))
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.count("\n") == 1 and "metrics.json could not be written" in said
    assert read(tmp_path / "metrics.json")["metrics"] == {"accuracy_full": 0.25}
