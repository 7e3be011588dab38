"""Who is at work on a folder: a process by its host, number and birth, so that others can tell whether it lives."""

from __future__ import annotations

import os
import socket

import psutil


def whoami() -> dict[str, object]:
    """This process, so that anyone on this host can tell later whether it still lives."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def lives(who: dict) -> bool | None:
    """Whether that process lives; None for one of another host, of which nothing is known here."""
    if who.get("host") != socket.gethostname():
        return None
    try:
        return abs(psutil.Process(who["pid"]).create_time() - who["born"]) < 1
    except (psutil.Error, KeyError, TypeError):
        return False
