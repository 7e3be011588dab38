"""The browser that tests drive: a Chromium that is there already; none is installed by a test."""

from __future__ import annotations

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "There is no Chromium for the browser tests: `apt install chromium` gets it, or WORKBOOK_CHROMIUM names one."
ALONE = ("background-networking", "component-update", "sync", "default-apps", "extensions", "quic", "gpu")
QUIET = ["--no-sandbox", "--no-first-run", "--force-color-profile=srgb", *(f"--disable-{what}" for what in ALONE)]


def program() -> str:
    """Its path; a skip that says how to get it where there is none."""
    found = os.environ.get("WORKBOOK_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip(MISSING)
    return found
