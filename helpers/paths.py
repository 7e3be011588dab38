"""Where the project's folders are, and how a path that somebody typed is found and read."""

from __future__ import annotations

from pathlib import Path

from helpers.runtime import UserError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"


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
