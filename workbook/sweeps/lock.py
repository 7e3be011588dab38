"""One sweep command at a time on a folder: the lock names its owner, and falls only when that one is dead."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.processes import lives, whoami
from helpers.runtime import UserError

try:
    import fcntl
except ImportError:  # Windows, where `workbook sweep` says that sweeps need Linux or macOS
    fcntl = None

FILE = "lock.json"


@contextmanager
def locked(folder: Path, nonce: str) -> Iterator[None]:
    """Hold the folder for one command.

    Raises:
        UserError: another command holds it, or one on another host did and cannot be proved dead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = False
        except OSError:
            held = True
        _refuse(_parsed(file), held, folder)
        _write(file, {**whoami(), "user": _user(), "nonce": nonce})
        try:
            yield
        finally:
            _write(file, {})


def owner(folder: Path) -> dict:
    """Who holds the folder, {} when nobody does."""
    try:
        with (folder / FILE).open() as file:
            who = _parsed(file)
    except OSError:
        return {}
    return {} if lives(who) is False else who


def _refuse(who: dict, held: bool, folder: Path) -> None:
    if not held and (not who or lives(who) is False):
        return
    name = f"{who.get('user', 'somebody')} on {who.get('host', 'an unknown host')} (process {who.get('pid', '?')})"
    if held or lives(who):
        raise UserError(f"The sweep {folder.name} is being run by {name}; look at it with `workbook sweep status`.")
    raise UserError(
        f"The sweep {folder.name} was started by {name}, and from here nobody can tell whether that still runs: "
        f"look there; if it is dead, remove {folder.name}/{FILE} and try again."
    )


def _parsed(file) -> dict:
    file.seek(0)
    try:
        who = json.loads(file.read() or "{}")
    except ValueError:
        return {}
    return who if isinstance(who, dict) else {}


def _write(file, who: dict) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(who))
    file.flush()
    os.fsync(file.fileno())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
