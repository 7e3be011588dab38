"""Where the project's folders are, and how a path that somebody typed is found and read."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.runtime import UserError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
OTHER_CACHE = "set HF_HOME to a folder that you may write (export HF_HOME=~/hf)."


def exists(path: Path) -> bool:
    """Whether there is something at `path`.

    Raises:
        UserError: when a folder on the way may not be entered.
    """
    try:
        return path.exists()
    except OSError as error:
        raise unreachable(path, error) from None


def expanded(name: str | Path) -> Path:
    """`name` with a leading ~ replaced by the home folder; unchanged if no user has that name, as in ~$reviews.csv."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def local_path(name: str) -> Path:
    """`name` as a path: relative to the current folder if it exists there, else to the project's folder."""
    path = expanded(name)
    return path if path.is_absolute() or exists(path) else ROOT / path


def unreachable(path: Path, error: OSError) -> UserError:
    """The error for a path that the system does not let us read."""
    reason = (error.strerror or type(error).__name__).lower()
    return UserError(f"{path} cannot be read ({reason}); copy it to a folder of your own, or ask for the right to it.")


def cache_folder() -> Path:
    """Where `datasets` keeps what it has converted, as it decides on import; asked without importing it."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or str(Path(caches) / "huggingface")
    return expanded(os.environ.get("HF_DATASETS_CACHE") or str(Path(home) / "datasets"))


def unwritable(folder: Path) -> str:
    """Why nothing can be written into a folder that may not be there yet, such as "/dev/null is no folder"; or ""."""
    try:
        found = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        return f"{folder} cannot be entered ({(error.strerror or type(error).__name__).lower()})"
    if not found.is_dir():
        return f"{found} is no folder"
    return "" if os.access(found, os.W_OK | os.X_OK) else f"{found} may not be written"


def check_cache() -> None:
    """Raise a UserError when `datasets` cannot write its cache, naming the folder and how to choose another."""
    wrong = unwritable(cache_folder())
    if wrong:
        raise UserError(f"The cache folder {cache_folder()} cannot be used: {wrong}; {OTHER_CACHE}")
