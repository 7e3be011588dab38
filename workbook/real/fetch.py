"""Downloads an archive from the package index with pip, and turns pip's errors into one sentence.

pip's own configuration decides which index is used. pip compares the hash before it opens an archive. That matters,
because pip runs the set-up script of a source distribution.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import rmtree

from helpers.files import sha256
from helpers.runtime import UserError
from workbook.real.sources import Archive

AGAIN = "what is complete stays, and `workbook real` goes on from there"
PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
UNREACHABLE = (
    "the package index cannot be reached. Connect to a network, or configure pip for an index that you can reach"
)
# Pattern in pip's output -> what is wrong and what to do. The first pattern that matches counts.
TROUBLES = (
    (
        "NOT MATCH THE HASHES",
        "the index serves another file than the pinned one (its SHA-256 differs), and nothing of it was used. "
        "If a second try ends the same way, check which index pip is configured for",
    ),
    (
        "No space left|Disk quota exceeded|not enough space",
        "the disk is full. Make room for 700 MB and run the command again",
    ),
    (
        "Permission denied|Read-only file system",
        "the folder cannot be written. Set WORKBOOK_REAL_DIR to a folder of your own",
    ),
    (
        "NewConnectionError|Failed to establish|NameResolution|ConnectTimeout|ProxyError|SSLError|not a trusted",
        UNREACHABLE,
    ),
    (
        "incomplete|IncompleteRead|Connection broken|Read ?Timeout|Read timed out|Connection aborted|not enough bytes",
        "the download was cut. Run the command again",
    ),
    (r"Retrying \(|Max retries|Could not fetch", UNREACHABLE),
    (
        "No matching distribution|Could not find a version|404 Client Error",
        "the package index does not have this version. Configure pip for an index that has it",
    ),
)


def fetch(archive: Archive, folder: Path, on_bytes: Callable[[int, int], None] = lambda have, total: None) -> Path:
    """Download an archive into `folder`, or take the one that is already there.

    Args:
        archive: what to fetch.
        folder: where archives wait until they are unpacked; it only gets complete archives with the right hash.
        on_bytes: is called with the numbers of bytes received and expected.

    Raises:
        UserError: the download failed; the message names the package, the cause and what to do.
    """
    place = folder / f"{archive.package}-{archive.version}"
    if place.is_file() and sha256(place) == archive.sha256:
        return place
    work = folder / f"{archive.package}.pip"
    rmtree(work, ignore_errors=True)
    (work / "out").mkdir(parents=True)
    (work / "tmp").mkdir()
    _pip(archive, work, on_bytes)
    found = list((work / "out").iterdir())
    if len(found) != 1 or sha256(found[0]) != archive.sha256:
        raise _trouble(archive, "NOT MATCH THE HASHES")
    found[0].replace(place)
    rmtree(work, ignore_errors=True)
    return place


def _pip(archive: Archive, work: Path, on_bytes: Callable[[int, int], None]) -> None:
    wanted = work / "requirements.txt"
    wanted.write_text(archive.pin + "\n", encoding="utf-8")
    form = ["--no-binary", archive.package, "--no-build-isolation"] if archive.source else ["--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += [*form, "--progress-bar", _progress_bar(), "--dest", str(work / "out"), "--requirement", str(wanted)]
    # pip downloads into the temporary folder first; this one is on the same disk, so only that disk needs room.
    environ = os.environ | dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(work / "tmp")) | {"PYTHONUNBUFFERED": "1"}
    said = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environ
    ) as process:
        try:
            for line in process.stdout or ():
                progress = PROGRESS.match(line)
                if progress:
                    on_bytes(int(progress[1]), int(progress[2]))
                else:
                    said.append(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise _trouble(archive, "\n".join(said))


def _progress_bar() -> str:
    """pip's progress format: "raw", which a program can read, from pip 24.1 on, else "off"."""
    try:
        have = version("pip")
    except PackageNotFoundError:
        raise UserError(
            f"pip is missing from this environment; run `{Path(sys.executable).name} -m ensurepip`, then try again."
        ) from None
    return "raw" if [int(part) for part in re.findall(r"\d+", have)[:2]] >= [24, 1] else "off"


def _trouble(archive: Archive, said: str) -> UserError:
    what = f"{archive.package} {archive.version} was not fetched: "
    for pattern, sentence in TROUBLES:
        if re.search(pattern, said, re.IGNORECASE):
            return UserError(f"{what}{sentence}; {AGAIN}.")
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    reason = (errors or said.splitlines() or ["it gave no reason"])[-1].removeprefix("ERROR: ").rstrip(".")
    return UserError(f"{what}pip says: {reason}; {AGAIN}.")
