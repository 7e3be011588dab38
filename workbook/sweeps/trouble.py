"""Errors that the same few causes bring again and again, and what mends them."""

from __future__ import annotations

import re

DISK = r"No space left on device|Read-only file system|Disk quota exceeded"
DOWNLOAD = re.compile(
    r"ConnectionError|ConnectionRefused|Connection refused|ConnectTimeout|ReadTimeout|ChunkedEncodingError|"
    r"IncompleteRead|RemoteProtocolError|ContentTooShort|URLError|HfHubHTTPError|"
    r"LocalEntryNotFound|Consistency check failed|NonMatchingChecksum|NonMatchingSplits|"
    r"cannot be fetched from the hub|peer closed connection|Max retries exceeded"
)
MEMORY = re.compile(r"MemoryError|OutOfMemoryError|can't allocate memory|Cannot allocate memory")
DENIED = re.compile(r"PermissionError|Permission denied|\[Errno 13\]")


def is_download(error: str) -> bool:
    """Whether a download was refused, cut, or brought other bytes than announced."""
    return bool(DOWNLOAD.search(error))


def is_memory(error: str) -> bool:
    """Whether there was not enough memory; beside fewer other runs there may be."""
    return bool(MEMORY.search(error))


def explained(error: str) -> str:
    """The error with what to do about it, where that is known."""
    if is_download(error):
        return (
            f"{error}\nThe download failed. Look at the network and its proxy, find damaged files with "
            "`hf cache verify`, remove half-fetched ones with `hf cache prune`, or set `track: pocket`, which "
            "downloads nothing; then resume."
        )
    if is_memory(error):
        return f"{error}\nThere was not enough memory: `--workers 1` leaves all of it to one run; then resume."
    if DENIED.search(error):
        return (
            f"{error}\nThat path belongs to another user: set HF_HOME to a folder of your own, or ask for write "
            "permission; then resume."
        )
    return error
