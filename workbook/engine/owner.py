"""Locks a folder for one command at a time; identifies a process by host, PID and start time."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from helpers.files import write_json
from helpers.runtime import UserError

FILE, LOCK = "lock.json", ".lock"


def whoami() -> dict[str, object]:
    """Describe this process, so that others on this host can check later whether it still runs."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def lives(who: dict) -> bool | None:
    """Whether the process `who` still runs; None if it ran on another host, where this cannot be checked."""
    if who.get("host") != socket.gethostname():
        return None
    try:
        return abs(psutil.Process(who["pid"]).create_time() - who["born"]) < 1
    except (psutil.Error, KeyError, TypeError):
        return False


@contextmanager
def locked(folder: Path, nonce: str) -> Iterator[None]:
    """Lock the folder for this command.

    Raises:
        UserError: another command holds the lock, or one on another host held it and may still run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _refusal(owner(folder), folder) from None
    try:
        if who := owner(folder):
            raise _refusal(who, folder)
        write_json(folder / FILE, {**whoami(), "user": _user(), "nonce": nonce})
        try:
            yield
        finally:
            (folder / FILE).unlink(missing_ok=True)
    finally:
        lock.release()


def owner(folder: Path) -> dict:
    """The process that holds the folder; {} if none does."""
    try:
        who = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return who if isinstance(who, dict) and lives(who) is not False else {}


def _refusal(who: dict, folder: Path) -> UserError:
    name = f"{who.get('user', 'somebody')} on {who.get('host', 'an unknown host')} (process {who.get('pid', '?')})"
    if not who or lives(who):
        return UserError(f"{folder.name} is being run by {name}: let it end, or stop it with Ctrl-C there.")
    return UserError(
        f"{folder.name} was started by {name}, and from here nobody can tell whether that process still runs: "
        f"look there; if it is dead, remove {folder.name}/{FILE} and try again."
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "somebody"
