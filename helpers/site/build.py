"""From the committed notebooks to a folder of web pages; a warning of Sphinx's is an error."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from helpers.runtime import UserError
from helpers.site.stage import ROOT, stage

SITE = ROOT / "build" / "site"
SETTINGS = ROOT / "docs" / "site"
PARTS = {"sphinx": "Sphinx", "myst_nb": "myst-nb", "sphinx_book_theme": "sphinx-book-theme"}
SHOWN = 2000


def build(folder: Path = SITE, quiet: bool = True) -> Path:
    """Build the site under `folder`; return its first page.

    Raises:
        UserError: Sphinx is not installed, a page is not as it should be, or Sphinx warns.
    """
    missing = [name for module, name in PARTS.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not installed: pip install -e .[site]")
    folder = folder.resolve()
    stage(folder / "source")
    pages, kept = folder / "html", folder / "doctrees"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "-c", os.fspath(SETTINGS)]
    command += [
        "-D",
        f"html_extra_path={folder / 'source' / 'extra'}",
        "-d",
        os.fspath(kept),
        *(["-q"] if quiet else []),
        os.fspath(folder / "source"),
        os.fspath(pages),
    ]
    ended = subprocess.run(command, capture_output=quiet, text=True)
    if ended.returncode:
        said = (ended.stderr or "see above").replace(f"{folder / 'source'}{os.sep}", "")[:SHOWN].strip()
        raise UserError(f"Sphinx is not content with the site: {said}")
    return pages / "index.html"
