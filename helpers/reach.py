"""A name that somebody gave as a path, and whether it can be reached: one sentence when the system says no."""

from __future__ import annotations

from pathlib import Path

from helpers.paths import ROOT
from helpers.runtime import UserError


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
    """`name` with a leading ~ replaced by the home folder; as it is where nobody is called so, as in ~$reviews.csv."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def local_path(name: str) -> Path:
    """`name` as a path: from here if it exists, else from the project's folder."""
    path = expanded(name)
    return path if path.is_absolute() or exists(path) else ROOT / path


def unreachable(path: Path, error: OSError) -> UserError:
    """The sentence for a path that the system does not let us read."""
    reason = (error.strerror or type(error).__name__).lower()
    return UserError(f"{path} cannot be read ({reason}); copy it to a folder of your own, or ask for the right to it.")
