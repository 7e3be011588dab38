"""Downloads complete, checked copies from the hub once; later uses need no network.

`huggingface_hub` downloads, resumes and compares hashes. A copy is valid when every file has the hash that the hub
states; a JSON note next to the copy records it. Errors become one sentence with the next step. The sentence never
quotes a library's message, because such a message may contain a token.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, constants, get_session, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from helpers.files import write_json
from helpers.runtime import UserError

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "README.md")
NOTE = "workbook-{}.json"
TRIES = 4
TEMPORARY = (408, 429, 500, 502, 503, 504)  # HTTP status codes after which we try again
LONGEST_WAIT = 60  # seconds; if the hub asks for a longer wait, the download fails
POCKET = 'or stay on the models and data of this disk with track = "pocket".'
LOG_IN = "log in with `hf auth login` in a terminal (or set HF_TOKEN before Jupyter starts)"
Result = TypeVar("Result")


def endpoint() -> str:
    """Return the hub's address: HF_ENDPOINT, even if it was set after `huggingface_hub` was imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT


def host() -> str:
    """Return the hub's host name, without the user name or password that the address may contain."""
    return urlsplit(endpoint()).hostname or "the hub"


def fetch(name: str, kind: str, patterns: Sequence[str] = MODEL_FILES, revision: str | None = None) -> Path:
    """Return the folder with the checked files of `name` that match `patterns` (of a model, only top-level files).

    Args:
        kind: "model" or "dataset".
        revision: a commit; None takes the copy on this disk, or the newest commit if there is none.

    Raises:
        UserError: the download failed, for temporary errors after several tries.
    """
    wanted = hashlib.sha256("\n".join(patterns).encode()).hexdigest()[:8]  # one note per set of patterns
    note = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / NOTE.format(wanted)
    folder = _earlier_copy(note, revision)
    if folder:
        return folder
    try:
        with _bounded_waits(name):
            folder, paths = _download(name, kind, patterns, revision)
    except (OSError, httpx2.HTTPError, HfHubHTTPError, ValueError) as error:
        raise _in_words(error, name) from None
    with suppress(UserError):  # if a shared cache is read-only, the next call checks the copy again
        sizes = {path: (folder / path).stat().st_size for path in paths}
        write_json(note, {"folder": str(folder), "commit": folder.name, "sizes": sizes})
    return folder


def _earlier_copy(note: Path, revision: str | None) -> Path | None:
    """Return the folder of an earlier download if all of its files still have their recorded sizes."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        folder = Path(found["folder"])
        whole = all((folder / path).stat().st_size == size for path, size in found["sizes"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if whole and found["sizes"] and revision in (None, found["commit"]) else None


def _download(name: str, kind: str, patterns: Sequence[str], revision: str | None) -> tuple[Path, list[str]]:
    """Return the folder and the paths in it. A file with a wrong hash is deleted and downloaded once more."""
    api = HfApi(endpoint=endpoint())
    information = api.model_info if kind == "model" else api.dataset_info
    about = _patiently(lambda: information(name, revision=revision, timeout=20))
    paths = [file.rfilename for file in about.siblings or () if _matches(file.rfilename, kind, patterns)]
    if kind == "model" and not any(path.endswith(".safetensors") for path in paths):
        raise UserError(
            f"model: {name} has no *.safetensors file, only weights that can run code when they are opened; "
            "choose a model with safetensors."
        )
    if not paths:
        raise UserError(f"data: {name} has no file like {' or '.join(patterns)}; choose another dataset.")
    for _ in range(2):
        # One file at a time, so that a failing hub gets one retry and not many at once.
        found = snapshot_download(
            name, repo_type=kind, revision=about.sha, allow_patterns=paths, endpoint=endpoint(), max_workers=1
        )
        folder = Path(found)
        verified = api.verify_repo_checksums(name, repo_type=kind, revision=about.sha)
        wrong = [file["path"] for file in verified.mismatches if file["path"] in paths]
        if not wrong:
            return folder, paths
        for path in wrong:
            (folder / path).resolve().unlink(missing_ok=True)
            (folder / path).unlink(missing_ok=True)
    raise UserError(
        f"{wrong[0]} of {name} arrived twice with another content than the hub states (its hash differs), so "
        'it was deleted; try from another network, or use track = "pocket".'
    )


def _matches(path: str, kind: str, patterns: Sequence[str]) -> bool:
    if kind == "model" and "/" in path:
        return False  # subfolders hold weights for other frameworks
    return any(fnmatch(path, pattern) for pattern in patterns)


def _patiently(ask: Callable[[], Result]) -> Result:
    """Call the hub and retry after temporary errors. Waits as long as Retry-After says, or doubles the wait."""
    for attempt in range(1, TRIES + 1):
        try:
            return ask()
        except (HfHubHTTPError, httpx2.TransportError) as error:
            answer = getattr(error, "response", None)
            if attempt == TRIES or (answer is not None and answer.status_code not in TEMPORARY):
                raise
            stated = answer.headers.get("Retry-After", "") if answer is not None else ""
            time.sleep(int(stated) if stated.isdigit() else 0.5 * 2**attempt)
    raise AssertionError("the last try returns or raises")


@contextmanager
def _bounded_waits(name: str) -> Iterator[None]:
    """Stop the download if the hub asks for a wait of more than a minute; the library would wait that long."""

    def too_long(answer: httpx2.Response) -> None:
        stated = answer.headers.get("Retry-After", "")
        if answer.status_code in TEMPORARY and stated.isdigit() and int(stated) > LONGEST_WAIT:
            raise _busy(name, f"{stated} seconds")

    session = get_session()
    hooks = session.event_hooks
    session.event_hooks = {**hooks, "response": [*hooks["response"], too_long]}
    try:
        yield
    finally:
        session.event_hooks = hooks


def _in_words(error: BaseException, name: str) -> UserError:
    """Return the UserError that explains what stopped the download of `name`."""
    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # the library wraps the real cause in a "not in the cache" error
    if isinstance(error, OfflineModeIsEnabled):
        return UserError(
            f"{name} is not on this disk and HF_HUB_OFFLINE forbids downloading it; unset HF_HUB_OFFLINE once, {POCKET}"
        )
    if isinstance(error, HfHubHTTPError):
        return _refused(error, name)
    if isinstance(error, httpx2.TimeoutException):
        return UserError(
            f"{host()} was too slow with {name}, again and again: run this again (complete files are kept), with "
            f"HF_HUB_DOWNLOAD_TIMEOUT=60 for more patience, {POCKET}"
        )
    if isinstance(error, httpx2.TransportError):
        return UserError(f"{name}: {host()} cannot be reached; connect to a network and run this again, {POCKET}")
    if isinstance(error, OSError) and error.errno is not None:
        place, reason = error.filename or constants.HF_HUB_CACHE, os.strerror(error.errno).lower()
        return UserError(
            f"{name} cannot be kept in {place} ({reason}): make room there, or set HF_HOME to a folder of your own."
        )
    return UserError(f"{name} arrived incomplete; nothing of it was kept: run this again, {POCKET}")


def _refused(error: HfHubHTTPError, name: str) -> UserError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return UserError(f"{name} is gated: ask for access on its page, then {LOG_IN}, and run this again.")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{name} has no such revision; check it on the model's page.")
    if isinstance(error, RemoteEntryNotFoundError):
        return UserError(f"{name} lacks a file that its own list names; run this again, {POCKET}")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return UserError(f"There is no {name} on {host()}, or it is private: check the name; if it is yours, {LOG_IN}.")
    if status in (401, 403):
        return UserError(f"{host()} does not let you read {name}: {LOG_IN} with a token that may, and run this again.")
    if status == 429:
        return _busy(name, "a few minutes")
    return UserError(f"{host()} answered {status} for {name}, again and again; try later, {POCKET}")


def _busy(name: str, pause: str) -> UserError:
    return UserError(f"{host()} is busy: run this again in {pause} to get {name}; if you log in, you wait less.")
