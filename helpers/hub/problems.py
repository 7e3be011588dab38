"""What stopped a fetch, in one sentence with the next step.

No sentence repeats what a library said: it may hold a token.
"""

from __future__ import annotations

import errno
import os
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from helpers.runtime import UserError

LONGEST_WAIT = 60  # seconds that the hub may ask us to wait
OFFLINE = 'or stay on the models and data of this disk with track = "pocket".'
LOG_IN = "log in with `hf auth login` in a terminal (or set HF_TOKEN before Jupyter starts)"


class TooLongToWait(Exception):
    """The hub asks for a longer pause than a lesson should make."""

    def __init__(self, seconds: int) -> None:
        super().__init__(str(seconds))
        self.seconds = seconds


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, also where it was set after the library was loaded."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT


def host() -> str:
    """The hub's name, without a user or password that an address may hold."""
    return urlsplit(endpoint()).hostname or "the hub"


def in_words(error: BaseException, name: str) -> UserError:
    """The sentence for what stopped the fetch of `name`."""
    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # the library wraps what happened in "and it is not in the cache either"
    if isinstance(error, TooLongToWait):
        return _busy(name, error.seconds)
    if isinstance(error, OfflineModeIsEnabled):
        return UserError(f"{name} is not on this disk and HF_HUB_OFFLINE forbids to fetch it; unset it once, {OFFLINE}")
    if isinstance(error, HfHubHTTPError):
        return _refused(error, name)
    if isinstance(error, httpx2.TimeoutException):
        return UserError(
            f"{host()} was too slow with {name}, again and again: run this again (what is whole is kept), with "
            f"HF_HUB_DOWNLOAD_TIMEOUT=60 for more patience, {OFFLINE}"
        )
    if isinstance(error, httpx2.TransportError):
        return UserError(f"{name}: {host()} cannot be reached; connect to a network and run this again, {OFFLINE}")
    if isinstance(error, OSError) and error.errno is not None:
        return _unwritten(error, name)
    return UserError(f"{name} arrived incomplete; nothing of it was kept: run this again, {OFFLINE}")


def _refused(error: HfHubHTTPError, name: str) -> UserError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return UserError(f"{name} is gated: ask for access on its page, then {LOG_IN}, and run this again.")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{name} has no such revision; check it on the model's page.")
    if isinstance(error, RemoteEntryNotFoundError):
        return UserError(f"{name} lacks a file that its own list names; run this again, {OFFLINE}")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return UserError(f"There is no {name} on {host()}, or it is private: check the name; if it is yours, {LOG_IN}.")
    if status in (401, 403):
        return UserError(f"{host()} does not let you read {name}: {LOG_IN} with a token that may, and run this again.")
    if status == 429:
        return _busy(name, None)
    return UserError(f"{host()} answered {status} for {name}, again and again; try later, {OFFLINE}")


def _busy(name: str, seconds: int | None) -> UserError:
    pause = "a few minutes" if seconds is None else f"{seconds} seconds"
    return UserError(f"{host()} is busy: run this again in {pause} to get {name}; whoever is logged in waits less.")


def _unwritten(error: OSError, name: str) -> UserError:
    place = error.filename or constants.HF_HUB_CACHE
    if error.errno == errno.ENOSPC:
        return UserError(f"The disk is full: make room in {constants.HF_HUB_CACHE}, or set HF_HOME, to fetch {name}.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"{place} cannot be written, so {name} cannot be kept: set HF_HOME to a folder of your own.")
    return UserError(f"{name} cannot be kept in {place} ({os.strerror(error.errno)}); set HF_HOME to another folder.")
