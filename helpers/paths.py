"""The project's folders, and functions that find and check paths that a user typed."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.runtime import UserError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
OTHER_CACHE = "set HF_HOME to a folder that you may write (export HF_HOME=~/hf)."


def exists(path: Path) -> bool:
    """Whether `path` exists.

    Raises:
        UserError: when the system does not let us look, for example in a forbidden parent folder.
    """
    try:
        return path.exists()
    except OSError as error:
        raise unreachable(path, error) from None


def expanded(name: str | Path) -> Path:
    """Return `name` with ~ or ~user replaced by the home folder; unchanged if there is no such user (~$reviews.csv)."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def local_path(name: str) -> Path:
    """Return `name` as a path: relative to the current folder if it exists there, else to the project's folder."""
    path = expanded(name)
    return path if path.is_absolute() or exists(path) else ROOT / path


def unreachable(path: Path, error: OSError) -> UserError:
    """Return the error for a path that the system does not let us read."""
    reason = (error.strerror or type(error).__name__).lower()
    return UserError(f"{path} cannot be read ({reason}); copy it to a folder of your own, or ask for the right to it.")


def cache_folder() -> Path:
    """Return the folder where `datasets` caches converted data, found without importing the slow library."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or str(Path(caches) / "huggingface")
    return expanded(os.environ.get("HF_DATASETS_CACHE") or str(Path(home) / "datasets"))


def unwritable(folder: Path) -> str:
    """Return why a folder, which need not exist yet, cannot be written ("/dev/null is no folder"), or "" if it can."""
    try:
        found = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        return f"{folder} cannot be entered ({(error.strerror or type(error).__name__).lower()})"
    if not found.is_dir():
        return f"{found} is no folder"
    return "" if os.access(found, os.W_OK | os.X_OK) else f"{found} may not be written"


def check_cache() -> None:
    """Raise a UserError if `datasets` cannot write its cache; it names the folder and how to choose another."""
    wrong = unwritable(cache_folder())
    if wrong:
        raise UserError(f"The cache folder {cache_folder()} cannot be used: {wrong}; {OTHER_CACHE}")
