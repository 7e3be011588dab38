"""Builds the web site with Sphinx from the committed notebooks; a Sphinx warning is an error."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers.runtime import UserError
from workbook.lessons import NOTEBOOKS
from workbook.site.stage import ROOT, stage

SITE = ROOT / "build" / "site"
SETTINGS = ROOT / "docs" / "site"
PARTS = {
    "sphinx": "Sphinx",
    "myst_nb": "myst-nb",
    "sphinx_book_theme": "sphinx-book-theme",
    "autoapi": "sphinx-autoapi",
}
MARK = ".workbook-site"
SHOWN = 2000
HELPERS = ROOT / "helpers"


def build(folder: Path = SITE, notebooks: Path = NOTEBOOKS, package: Path = HELPERS) -> Path:
    """Build the site under `folder`; return its first page.

    Args:
        folder: where to write the site; it must be new, empty or an earlier site.
        notebooks: the folder of the executed lessons.
        package: the package that the reference describes.

    Raises:
        UserError: Sphinx is not installed, the folder has other content, a page is invalid, or Sphinx warns.
    """
    missing = [name for module, name in PARTS.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not installed: pip install -e .[site]")
    folder = _own(folder.resolve())
    stage(folder / "source", notebooks)
    pages = folder / "html"
    settings = [f"-Dhtml_extra_path={folder / 'source' / 'extra'}", f"-Dautoapi_dirs={package}"]
    folders = ["-c", f"{SETTINGS}", "-d", f"{folder / 'doctrees'}", *settings, f"{folder / 'source'}", f"{pages}"]
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "-q", *folders]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        said = ended.stderr.replace(f"{folder / 'source'}{os.sep}", "")[:SHOWN].strip()
        raise UserError(f"Sphinx is not content with the site: {said}")
    return pages / "index.html"


def _own(folder: Path) -> Path:
    """Mark the folder as the site's and delete its old pages; refuse a folder with other content."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UserError(f"{folder} holds something else: name a folder that is empty or not there yet.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    shutil.rmtree(folder / "html", ignore_errors=True)
    return folder
