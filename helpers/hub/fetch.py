"""Whole, checked copies of what lies on the hub: fetched once, then used without a network.

A copy counts only once every file has the size and the hash that the hub states; a note beside it says so. Downloads
are `huggingface_hub`'s own, with its progress bars, and go on where they were cut.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils._http import default_client_factory

from helpers.files import write_json
from helpers.hub.problems import LONGEST_WAIT, TooLongToWait, endpoint, in_words
from helpers.runtime import UserError

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "README.md")
NOTE = "workbook-{}.json"
TRIES = 4
PASSING = (408, 429, 500, 502, 503, 504)  # answers that another try may change
Result = TypeVar("Result")


def fetch(name: str, kind: str, patterns: Sequence[str] = MODEL_FILES, revision: str | None = None) -> Path:
    """The folder with the files of `name` that match `patterns` (at the top, for a model), each checked.

    Args:
        kind: "model" or "dataset".
        revision: a commit; None takes the copy that is here, or else the newest.

    Raises:
        UserError: one sentence with the next step, after a few tries.
    """
    wanted = hashlib.sha256("\n".join(patterns).encode()).hexdigest()[:8]  # a copy of other files is another copy
    note = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / NOTE.format(wanted)
    kept = _kept(note, revision)
    if kept is not None:
        return kept
    try:
        with _bounded_waits():
            folder, sizes = _download(name, kind, patterns, revision)
        with suppress(UserError):  # a shared cache may be read-only: then the copy is checked again next time
            write_json(note, {"folder": str(folder), "commit": folder.name, "sizes": sizes})
    except UserError:
        raise
    except (OSError, TooLongToWait, httpx2.HTTPError, HfHubHTTPError, ValueError) as error:
        raise in_words(error, name) from None
    return folder


def _kept(note: Path, revision: str | None) -> Path | None:
    """The folder of an earlier fetch, if all of its files still have their sizes."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        folder = Path(found["folder"])
        whole = all((folder / path).stat().st_size == size for path, size in found["sizes"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if whole and found["sizes"] and revision in (None, found["commit"]) else None


def _download(name: str, kind: str, patterns: Sequence[str], revision: str | None) -> tuple[Path, dict[str, int]]:
    asked = {"repo_type": kind, "revision": revision, "files_metadata": True, "timeout": 20}
    about = _patiently(lambda: HfApi(endpoint=endpoint()).repo_info(name, **asked))
    wanted = [file for file in about.siblings if _matches(file.rfilename, kind, patterns)]
    if kind == "model" and not any(file.rfilename.endswith(".safetensors") for file in wanted):
        raise UserError(
            f"model: {name} has no *.safetensors file, only weights that can run code when they are opened; "
            "choose a model with safetensors."
        )
    if not wanted:
        raise UserError(f"data: {name} has no file like {' or '.join(patterns)}; choose another dataset.")
    for file in wanted:
        path = Path(_checked(name, kind, about.sha, file))
    parts = len(Path(file.rfilename).parts)
    return path.parents[parts - 1], {file.rfilename: file.size for file in wanted}


def _matches(path: str, kind: str, patterns: Sequence[str]) -> bool:
    if kind == "model" and "/" in path:
        return False  # other frameworks' weights
    return any(fnmatch(path, pattern) for pattern in patterns)


def _checked(name: str, kind: str, commit: str, file) -> str:
    """Download one file; once more if its content is not what the hub states."""
    for again in (False, True):
        asked = {"repo_type": kind, "revision": commit, "endpoint": endpoint()}
        path = hf_hub_download(name, file.rfilename, **asked, force_download=again)
        if _is_what_was_stated(Path(path), file):
            return path
        Path(path).resolve().unlink(missing_ok=True)
        Path(path).unlink(missing_ok=True)
    raise UserError(
        f"{file.rfilename} of {name} arrived twice with another content than the hub states (its hash differs), so it "
        'was thrown away; try from another network, or use track = "pocket".'
    )


def _is_what_was_stated(path: Path, file) -> bool:
    """Large files have a SHA-256, small ones git's SHA-1 of the content with its length."""
    if path.stat().st_size != file.size:
        return False
    if file.lfs is not None:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.lfs.sha256
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.blob_id


def _patiently(ask: Callable[[], Result]) -> Result:
    """Call the hub; on a passing trouble wait, as long as it says or a little longer each time, and ask again."""
    for attempt in range(1, TRIES + 1):
        try:
            return ask()
        except (HfHubHTTPError, httpx2.TransportError) as error:
            answer = getattr(error, "response", None)
            if attempt == TRIES or (answer is not None and answer.status_code not in PASSING):
                raise
            stated = answer.headers.get("Retry-After", "") if answer is not None else ""
            seconds = int(stated) if stated.isdigit() else 0.5 * 2**attempt
            if seconds > LONGEST_WAIT:
                raise TooLongToWait(seconds) from None
            time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


@contextmanager
def _bounded_waits() -> Iterator[None]:
    """The library waits as long as the hub asks; more than a minute ends the fetch instead."""

    def too_long(answer: httpx2.Response) -> None:
        stated = answer.headers.get("Retry-After", "")
        if answer.status_code == 429 and stated.isdigit() and int(stated) > LONGEST_WAIT:
            raise TooLongToWait(int(stated))

    def client() -> httpx2.Client:
        made = default_client_factory()
        made.event_hooks = {**made.event_hooks, "response": [*made.event_hooks["response"], too_long]}
        return made

    set_client_factory(client)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)
