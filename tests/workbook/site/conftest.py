"""The whole site, built once from the committed notebooks, on loopback, and a browser that notes every request."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.chromium import QUIET, program
from workbook.site.build import build


class Quiet(SimpleHTTPRequestHandler):
    """A file server that says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the built site's pages; WORKBOOK_SITE names one that is built already."""
    built = os.environ.get("WORKBOOK_SITE")
    return Path(built) if built else build(tmp_path_factory.mktemp("site")).parent


@contextmanager
def served(folder: Path):
    """A folder on loopback; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=os.fspath(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served."""
    with served(site) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    """One browser for a module's tests; its loop must not outlive them, or no other test could run one."""
    chromium = program()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def tab(browser):
    """Opens a tab of a given width, light or dark; `tab.requests` has every address that any of them asked for."""
    opened, requests = [], []

    def new(width: int = 1280, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.on("request", lambda request: requests.append(request.url))
        opened.append(context)
        return context.new_page()

    new.requests = requests
    yield new
    for context in opened:
        context.close()
