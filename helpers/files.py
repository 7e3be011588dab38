"""Writing a file whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from helpers.runtime import UserError


def write_json(path: Path, value: object) -> Path:
    """Write JSON beside `path`, force it to the disk, then put it in place: never half a file.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    return write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Like `write_json`, for any text."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # where a file stands in the folder's place
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path.name} could not be written ({error.strerror}): what was there before is untouched; "
            "make room and run again."
        ) from error
    return path


def write_parquet(path: Path, table: object) -> Path:
    """Like `write_json`, for a `pyarrow.Table`.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    from pyarrow import parquet

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        parquet.write_table(table, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path.name} could not be written ({error.strerror or error}).") from error
    return path
