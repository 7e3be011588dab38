"""Writes files atomically, and compares files with their recorded SHA-256 hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.runtime import UserError

SUMS = "SHA256SUMS"


def write_json(path: Path, value: object) -> Path:
    """Write JSON atomically: to a temporary file next to `path`, which is flushed to disk and then renamed.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    return write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Like `write_json`, for any text."""
    path = Path(path)
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_parquet(path: Path, table: object) -> Path:
    """Like `write_json`, for a `pyarrow.Table`."""
    from pyarrow import parquet

    with _replacing(path) as temporary:
        parquet.write_table(table, temporary)
    return path


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed_files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder's SHA256SUMS that are missing or changed; none if the folder has no SHA256SUMS."""
    sums = folder / SUMS
    for line in sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else ():
        wanted, _, name = line.strip().partition(" ")
        path = folder / name.strip().lstrip("*")
        if name and (not path.is_file() or sha256(path) != wanted):
            yield path


def committed_sums(data: Path) -> list[Path]:
    """Return all SHA256SUMS files below a data folder, except in its subfolder `real`, which holds downloads."""
    return sorted(file for file in data.rglob(SUMS) if not file.is_relative_to(data / "real"))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; afterwards, flush the file to disk and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # fails if the parent folder's path is a file
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path.name} could not be written ({error.strerror or error}): the earlier file is unchanged; "
            "free some space and run again."
        ) from error
