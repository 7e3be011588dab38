"""Fetching: whole and checked, once; and every fault that a hub can have, each answered in one sentence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from helpers import catalog
from helpers.hub import download
from helpers.hub.download import NOTE, fetch
from helpers.runtime import UserError
from tests.helpers.hub.conftest import MODEL, TINY

WEIGHTS = "model.safetensors"
TOKEN = "hf_" + "s" * 34
ALWAYS = 1000


def fails(name: str = "some/model") -> str:
    """The sentence of a fetch that has to fail, and leaves nothing that counts as a copy."""
    with pytest.raises(UserError) as problem:
        fetch(name, "model")
    said = str(problem.value)
    assert "\n" not in said and len(said) < 400, said
    assert not list(Path(constants.HF_HUB_CACHE).rglob(NOTE.format("*")))
    return said


def succeeds() -> Path:
    folder = fetch("some/model", "model")
    assert (folder / WEIGHTS).read_bytes() == MODEL[WEIGHTS]
    return folder


def test_what_is_wanted_comes_whole_and_nothing_else(hub):
    folder = succeeds()
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", WEIGHTS]
    assert folder.name == TINY["models", "some/model"].commit


def test_a_copy_is_used_without_a_question(hub):
    first, asked = succeeds(), len(hub.requests)
    assert succeeds() == first and len(hub.requests) == asked
    commit = TINY["models", "some/model"].commit
    assert fetch("some/model", "model", revision=commit) == first and len(hub.requests) == asked


def test_a_copy_of_other_files_is_another_copy(hub):
    succeeds()
    asked = len(hub.requests)
    assert not (fetch("some/model", "model", ("*.md", "*.safetensors")) / "absent").exists()
    assert len(hub.requests) > asked


def test_a_cache_that_takes_no_note_is_used_all_the_same(hub, monkeypatch):
    def read_only(*_):
        raise UserError("workbook.json could not be written (Permission denied).")

    monkeypatch.setattr(download, "write_json", read_only)
    succeeds()


def test_a_dataset_brings_its_tables_alone(hub):
    folder = fetch("some/rows", "dataset", ("*.jsonl",))
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["train.jsonl"]
    with pytest.raises(UserError, match=r"no file like \*.csv"):
        fetch("some/rows", "dataset", ("*.csv",), revision="main")


def test_a_pickle_alone_is_refused(hub):
    assert "run code" in fails("only/pickle")


def test_a_name_that_is_not_there(hub):
    assert "check the name" in fails("no/such")
    with pytest.raises(UserError, match="no such revision"):
        fetch("some/model", "model", revision="f" * 40)


@pytest.mark.parametrize("headers", [{"X-Error-Code": "GatedRepo"}, {}])
def test_a_gated_model_says_how_to_log_in_and_prints_no_token(hub, monkeypatch, headers):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fail("status", "some/model", times=ALWAYS, status=401 if headers else 403, headers=headers)
    said = fails()
    assert "hf auth login" in said and TOKEN not in said


def test_too_many_requests_are_waited_for_as_long_as_the_hub_says(hub, naps):
    hub.fail("status", "/api/models", status=429, headers={"Retry-After": "7"})
    hub.fail("status", "HEAD /some/model", times=2, status=429, headers={"Retry-After": "5"})
    succeeds()
    assert 7 in naps and max(naps) <= 8


@pytest.mark.parametrize(
    ("where", "status"),
    [("/api/models", 429), ("/api/models", 503), ("HEAD /some/model", 429), ("GET /store", 429)],
)
def test_too_long_a_wait_is_not_made(hub, naps, where, status):
    hub.fail("status", where, times=ALWAYS, status=status, headers={"Retry-After": "3600"})
    assert "3600 seconds" in fails()
    assert sum(naps) < 60
    hub.faults.clear()
    succeeds()


def test_a_hub_that_is_ill_for_a_moment(hub):
    hub.fail("status", "/api/models", status=500)
    hub.fail("status", "HEAD /some/model", times=2, status=503)
    succeeds()


@pytest.mark.parametrize("where", ["/api/models", "HEAD /some/model", "GET /some/model", "GET /store"])
def test_a_hub_that_stays_ill(hub, naps, where):
    hub.fail("status", where, times=ALWAYS, status=500)
    assert "answered 500" in fails()
    assert len(hub.requests) < 20 and sum(naps) < 60
    hub.faults.clear()
    succeeds()


def test_a_download_that_is_cut_goes_on_where_it_was(hub):
    hub.fail("cut", "GET /store", times=2)
    succeeds()
    assert sum(request.startswith("GET /store") for request in hub.requests) == 3


def test_a_download_that_is_cut_for_ever(hub, naps):
    hub.fail("cut", "GET /store", times=ALWAYS)
    assert "run this again" in fails()
    assert sum(naps) < 60
    hub.faults.clear()
    succeeds()


@pytest.mark.parametrize("where", ["GET /store", "GET /some/model/resolve"])
def test_other_bytes_than_stated_are_fetched_again(hub, where):
    hub.fail("garbled", where)
    succeeds()


@pytest.mark.parametrize("where", ["GET /store", "GET /some/model/resolve"])
def test_other_bytes_twice_are_thrown_away(hub, where):
    hub.fail("garbled", where, times=ALWAYS)
    assert "its hash differs" in fails()
    hub.faults.clear()
    succeeds()


def test_a_hub_that_is_too_slow(hub, naps):
    hub.fail("slow", "GET /store", times=ALWAYS, seconds=1.5)
    assert "too slow" in fails()
    assert len(hub.requests) < 20


def test_no_network_and_no_copy(turned_to, naps):
    turned_to("http://127.0.0.1:9")
    said = fails()
    assert "cannot be reached" in said and 'track = "pocket"' in said
    assert sum(naps) < 60


def test_no_network_and_a_copy(hub, monkeypatch):
    folder = succeeds()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert succeeds() == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert succeeds() == folder


def test_offline_by_wish(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in fails()


def test_a_copy_that_lost_bytes_is_not_used_again(hub):
    path = (succeeds() / WEIGHTS).resolve()
    path.write_bytes(path.read_bytes()[:1000])
    succeeds()


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "make room"), (errno.EACCES, "set HF_HOME"), (errno.EIO, "cannot be kept")]
)
def test_a_disk_that_takes_no_more(hub, monkeypatch, number, words):
    def refuse(*_arguments, **_options):
        raise OSError(number, "no", "/somewhere")

    monkeypatch.setattr(download, "snapshot_download", refuse)
    assert words in fails()


@pytest.mark.slow
def test_a_bar_shows_how_far_a_download_is(hub, tmp_path):
    settings = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TQDM_DISABLE")}
    settings |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path)}
    settings["TQDM_POSITION"] = "-1"  # a bar without a terminal too
    code = "from helpers.hub.download import fetch; print(fetch('some/model', 'model'))"
    ended = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, cwd=catalog.ROOT)
    assert ended.returncode == 0, ended.stderr
    assert "100%" in ended.stderr and "102kB /  102kB" in ended.stderr
