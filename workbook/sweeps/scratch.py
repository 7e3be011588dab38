"""Folders for what lives as long as a process: sockets among it, whose paths may not be long."""

from __future__ import annotations

import os
import tempfile

LONG = 70  # bytes; the whole path of a socket may have about a hundred


def scratch_folder(prefix: str) -> str:
    """Make a folder that only this user can enter, in the usual place unless its path is too long for sockets."""
    usual = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix=prefix, dir=usual if len(os.fsencode(usual)) < LONG else "/tmp")
