"""Runs that go wrong inside their own process, all in one sweep of the real command: each alone, the others go on."""

from __future__ import annotations

import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytestmark = pytest.mark.slow

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"
SECRET = 'pa"ss\\word-12345'
BEHAVIOUR = """
import os, subprocess, sys, time
from pathlib import Path
folder = Path({folder!r})
if mode == "raises":
    print("before the fall")
    raise ValueError("<b>no good</b>")
if mode == "leaves":
    sys.exit(0)
if mode == "dies":
    (folder / f"died-{{time.time_ns()}}").touch()
    os.kill(os.getpid(), 9)
if mode == "dies once" and not (folder / "dead").exists():
    (folder / "dead").touch()
    os.kill(os.getpid(), 9)
if mode == "greedy":
    import psutil, resource
    (folder / f"greedy-{{time.time_ns()}}").touch()
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 100_000_000,) * 2)
    held = bytearray(10**9)
if mode == "asks":
    input("Your name? ")
if mode == "hangs":
    subprocess.Popen(["sleep", "987"], start_new_session=True)
    time.sleep(900)
if mode == "floods":
    for _ in range(300):
        print("x" * 100_000)
    os.system("head -c 3000000 /dev/zero | tr '\\\\0' y >&2")
if mode == "tells":
    print({token!r}, os.environ["MY_API_KEY"])
    print({token!r}[:10], end=""); sys.stdout.flush(); time.sleep(0.6); print({token!r}[10:])
    os.write(2, ({token!r} + os.environ["MY_API_KEY"]).encode())
if mode == "tells and fails":
    raise RuntimeError("the key is " + os.environ["MY_API_KEY"])
if mode == "refused":
    import urllib.request
    (folder / f"refused-{{time.time_ns()}}").touch()
    urllib.request.urlopen("http://127.0.0.1:9/model")
if mode in ("cut", "wrong"):
    os.environ.update(HF_ENDPOINT={server!r}, HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1")
    (folder / f"{{mode}}-{{time.time_ns()}}").touch()
    import huggingface_hub
    huggingface_hub.hf_hub_download("course/model", mode, cache_dir=folder / "cache")
if mode == "denied":
    raise PermissionError(13, "Permission denied", "/home/colleague/cache/model")
"""
SILENT = """
if mode != "silent":
    from helpers.record import record
    record("lesson", {"seed": seed, "mode": mode}, accuracy_full=0.5)
"""
MODES = [
    *("good", "raises", "leaves", "dies", "dies once", "greedy", "asks", "hangs", "floods", "tells", "tells and fails"),
    *("refused", "cut", "wrong", "silent", "$(touch ran)\"; import os; os.system('touch ran') #"),
]
CODE = MODES[-1]


class Hub(BaseHTTPRequestHandler):
    """A hub that announces a thousand bytes, and then breaks off or sends fewer."""

    def do_HEAD(self):
        self.answer(1000)

    def do_GET(self):
        self.answer(1000 if "cut" in self.path else 10)
        self.wfile.write(b"x" * 10)
        self.wfile.flush()

    def answer(self, size: int) -> None:
        self.send_response(200)
        for name, value in (("ETag", '"abc"'), ("X-Repo-Commit", "0" * 40), ("Content-Length", str(size))):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def ended(shared_lab):
    """A sweep over all behaviours, run to its end: the laboratory and what the command said."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lab = shared_lab
    where = {"folder": str(lab.folder), "token": TOKEN, "server": f"http://127.0.0.1:{server.server_port}"}
    lab.notebook(BEHAVIOUR.format(**where), SILENT, record=False)
    file = lab.sweep(question=f"Is {TOKEN} hidden?", grid={"mode": [*MODES, TOKEN]})
    settings = {**os.environ, "MY_API_KEY": SECRET}
    lab.status, lab.said = lab.run("run", file, "--timeout", "20", "--workers", "2", env=settings)
    server.shutdown()
    return lab


def test_the_exit_status_and_the_counts_tell_that_not_all_is_done(ended):
    assert ended.status == 1
    assert ended.outcome(mode="good")["status"] == "done"
    assert "workbook sweep resume tiny" in ended.said and "Traceback (most recent" not in ended.said
    status, said = ended.run("status", "tiny")
    assert status == 1
    # good, dies once, floods, tells, the value that carries code, the value that is a token
    assert [part for part in said.split() if part.isdigit()][:5] == ["0", "0", "6", "9", "2"]


def test_case_3_a_value_that_carries_code_is_text(ended):
    assert ended.outcome(mode=CODE)["status"] == "done"
    assert not list(ended.folder.rglob("ran"))


def test_case_7_a_cell_raises(ended):
    outcome = ended.outcome(mode="raises")
    assert outcome["status"] == "failed" and outcome["cell"] == 3
    assert outcome["error"] == "ValueError: <b>no good</b>" and "ValueError" in outcome["trace"].splitlines()[-1]
    assert "before the fall" in (ended.attempts(mode="raises")[0] / "00_tiny.ipynb").read_text()
    assert "FAILED in cell [3]: mode=raises: ValueError" in ended.said
    page = (ended.into / "tiny" / "index.html").read_text()
    assert "&lt;b&gt;no good" in page and "<b>no good" not in page


def test_case_8_a_killed_kernel_is_a_crash_and_retried_once(ended):
    assert ended.outcome(mode="dies")["status"] == "crashed"
    assert len(list(ended.folder.glob("died-*"))) == len(ended.attempts(mode="dies")) == 2
    first, second = ended.attempts(mode="dies once")
    assert json.loads((first / "outcome.json").read_text())["status"] == "crashed"
    assert json.loads((second / "outcome.json").read_text())["status"] == "done"


def test_case_8_too_little_memory_is_a_crash_too(ended):
    outcome = ended.outcome(mode="greedy")
    assert outcome["status"] == "crashed" and len(list(ended.folder.glob("greedy-*"))) == 2
    assert outcome["error"].startswith("MemoryError") and "--workers 1" in outcome["error"]


def test_case_9_leaving_early_or_without_a_record_is_incomplete(ended):
    for mode in ("leaves", "silent"):
        outcome = ended.outcome(mode=mode)
        assert outcome["status"] == "failed" and outcome["error"].startswith("Incomplete: metrics.json is missing")


def test_case_10_a_hang_ends_and_a_question_fails(ended, left_over):
    outcome = ended.outcome(mode="hangs")
    assert outcome["status"] == "failed" and "longer than 20 s" in outcome["error"]
    assert "StdinNotImplementedError" in ended.outcome(mode="asks")["error"]
    assert not left_over(ended.folder)


def test_case_17_a_flood_is_capped_and_said_so(ended):
    outcome, folder = ended.outcome(mode="floods"), ended.attempts(mode="floods")[0]
    assert outcome["status"] == "done" and "more than 4 MB" in outcome["notes"][0]
    assert 1_000_000 < (folder / "00_tiny.ipynb").stat().st_size < 6_000_000
    assert "the rest was left out" in (folder / "00_tiny.ipynb").read_text()
    assert (folder / "log.txt").stat().st_size < 1_200_000
    assert "more than 4 MB" in (ended.into / "tiny" / "index.html").read_text()


@pytest.mark.parametrize("mode", ["refused", "cut", "wrong"])
def test_case_18_a_download_is_tried_three_times_then_explained(ended, mode):
    outcome = ended.outcome(mode=mode)
    assert outcome["status"] == "failed"
    assert "The download failed." in outcome["error"] and "track: pocket" in outcome["error"], outcome["error"]
    assert len(list(ended.folder.glob(f"{mode}-*"))) == 3


def test_case_20_no_secret_is_on_the_disk_or_the_screen(ended):
    shapes = {TOKEN, SECRET, json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1]}
    looked = 0
    for path in (ended.into / "tiny").rglob("*"):
        if path.is_file() and path.suffix != ".parquet":
            text, looked = path.read_text(errors="replace"), looked + 1
            assert not any(shape in text for shape in shapes), path
    assert looked > 100
    assert b"hf_" not in (ended.into / "tiny" / "runs.parquet").read_bytes()
    assert not any(shape in ended.said for shape in shapes)
    assert "[redacted] [redacted]" in (ended.attempts(mode="tells")[0] / "00_tiny.ipynb").read_text()


@pytest.mark.skipif(not shutil.which("setpriv"), reason="root has to give its rights up")
def test_case_19_a_cache_of_another_user_is_named(lab):
    cache = lab.folder / "cache"
    cache.mkdir(mode=0o700)
    lab.notebook(f"from pathlib import Path\nPath({str(cache / 'model')!r}).write_text('x')")
    if os.geteuid() == 0:
        os.chown(cache, 65534, 65534)
        rights = "-dac_override,-dac_read_search"  # with them root writes everywhere
        lab.before = ["setpriv", "--bounding-set", rights, "--inh-caps", rights]
    else:
        cache.chmod(0)
    status, said = lab.run("run", lab.sweep(seeds=[0]), "--workers", "1")
    assert status == 1
    assert f"Permission denied: '{cache / 'model'}'" in said and "belongs to another user" in said
