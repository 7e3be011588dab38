"""A learner at a browser: Chromium that is there already, JupyterLab as `workbook lab` starts it, lessons in a folder.

Screenshots and the server's log go to runs/browser, or to the folder that WORKBOOK_SCREENSHOTS names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.browser.learner import Learner
from tests.chromium import QUIET, program
from workbook.lessons import lab

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(os.environ.get("WORKBOOK_SCREENSHOTS") or ROOT / "runs" / "browser")
TOKEN = "workbook-test"
OWN_FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR")
OWN_FOLDERS += ("JUPYTERLAB_WORKSPACES_DIR", "HOME")
WRONG_KERNEL = '{"argv": ["/no/such/python", "-f", "{connection_file}"], "display_name": "Wrong", "language": "python"}'


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One window for a module's tests, with a profile of its own; its loop must not outlive them."""
    chromium = program()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        window = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=chromium,
            args=QUIET,
            viewport={"width": 1280, "height": 900},
        )
        yield window
        window.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A copy of the lessons, for the learner to change."""
    copy = tmp_path_factory.mktemp("workbook")
    shutil.copytree(ROOT / "notebooks", copy / "notebooks", ignore=shutil.ignore_patterns("source", ".*"))
    return copy


@pytest.fixture(scope="session")
def server(folder, tmp_path_factory):
    """The address of a JupyterLab in that folder, for a user who registered another `python3` long ago."""
    home = tmp_path_factory.mktemp("home")
    wrong = home / "JUPYTER_DATA_DIR" / "kernels" / "python3"
    wrong.mkdir(parents=True)
    (wrong / "kernel.json").write_text(WRONG_KERNEL)
    environment = lab.settings() | {name: str(home / name) for name in OWN_FOLDERS}
    environment |= {"OMP_NUM_THREADS": "1", "JUPYTER_PREFER_ENV_PATH": "0", "WORKBOOK_PROGRESS": str(home / "progress")}
    options = ["--no-browser", "--allow-root", "--ServerApp.port=0", f"--IdentityProvider.token={TOKEN}"]
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    log = SCREENSHOTS / "jupyterlab.log"
    with log.open("w") as file:
        process = subprocess.Popen(lab.command(folder, options), env=environment, stdout=file, stderr=file, cwd=folder)
    try:
        yield _address(log, process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()


def _address(log: Path, process: subprocess.Popen, seconds: float = 300) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+/lab[^?\s]*", log.read_text()):
            return f"{found.group()}?token={TOKEN}"
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start; its log ends with: {log.read_text()[-2000:]}")


@pytest.fixture
def learner(browser, server, folder, request) -> Learner:
    """Somebody who has just opened JupyterLab; what they saw last is kept as a picture."""
    page = browser.new_page()
    someone = Learner(page, server, folder)
    yield someone
    name = re.sub(r"[^a-z0-9_]+", "-", request.node.name.lower()).strip("-")
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
    someone.leave()
