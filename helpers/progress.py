"""Saves a learner's runs, solved exercises and predictions in a local folder, without an account or a network.

Every fact is a separate small file that is written atomically, so two kernels need no lock. To start again, delete the
folder. Runs that no learner started (commands, sweeps, builds, tests, CI) neither read nor write it.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from helpers.files import write_json
from helpers.runtime import UserError

VARIABLE = "WORKBOOK_PROGRESS"
PROJECT = "fine-tuning-workbook"
# Jupyter's server, VS Code and Colab, which show notebooks to a person, set these variables. Papermill and nbclient
# set none of them.
SHOWN_BY = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")
NOBODY = ("CI", "PYTEST_VERSION")
SOLVED, RUN, PREDICTED = "solved", "run", "predicted"
NAMES = {SOLVED: re.compile(r"\d\d\.\d+"), RUN: re.compile(r"\d\d"), PREDICTED: re.compile(r"\d\d\.\d+")}
NEEDED = {PREDICTED: ("answer", "confidence")}  # fields without which a saved file is invalid


def folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of this learner's progress; None in a run that no learner started.

    `WORKBOOK_PROGRESS` can name another folder, or be "off". The path contains the user id, so that two learners with
    the same `WORKBOOK_PROGRESS` or home folder do not share their progress.
    """
    wanted = environ.get(VARIABLE, "").strip()
    if environ.get("WORKBOOK_RUN_DIR") or wanted.lower() == "off":
        return None
    if not wanted and (any(map(environ.get, NOBODY)) or not any(map(environ.get, SHOWN_BY))):
        return None
    base = Path(wanted).expanduser() if wanted else platformdirs.user_data_path(PROJECT, appauthor=False)
    return base / f"progress-{_user()}"


def keep_run(lesson: str, budget: object = None) -> None:
    """Record that lesson "02" (or "02_full_vs_last_layer") ran to its end; never raises."""
    _keep(RUN, lesson[:2], {"budget": str(budget)} if budget else {})


def keep_solved(exercise: str) -> None:
    """Record that exercise "02.1" is solved, with the time of the first solution; never raises."""
    if exercise not in kept(SOLVED):
        _keep(SOLVED, exercise, {})


def keep_prediction(name: str, fact: Mapping[str, object]) -> None:
    """Save the answer to prediction "02.1", its confidence, and later its score; never raises."""
    _keep(PREDICTED, name, fact)


def kept(what: str) -> dict[str, dict]:
    """Return the saved facts of kind `what` ("solved", "run", "predicted"): name -> {"when": ...}, if readable."""
    place = folder()
    if place is None or not _own(place):
        return {}
    found = {}
    try:
        files = sorted((place / what).glob("*.json"))
    except OSError:
        return {}
    for file in files:
        fact = _fact(what, file)
        if fact is not None and NAMES[what].fullmatch(file.stem):
            found[file.stem] = fact
    return found


def where() -> str:
    """Return a sentence that says where progress is saved, or why it is not."""
    place = folder()
    if place is None:
        return "Progress is kept when you run a lesson yourself, in JupyterLab for instance; not in this run."
    shown = _short(place)
    if _ready(place):
        return f"Your progress is kept in {shown}, for you alone; delete that folder to start anew."
    return f"Progress cannot be kept: {shown} is not yours to write. Set {VARIABLE} to a folder of your own."


def day(when: str) -> str:
    """Format a saved time in this machine's time zone: "2026-03-01 14:05"."""
    return datetime.fromisoformat(when).astimezone().strftime("%Y-%m-%d %H:%M")


def _keep(what: str, name: str, more: Mapping[str, object]) -> None:
    place = folder()
    if place is None or not NAMES[what].fullmatch(name) or not _ready(place):
        return
    file = place / what / f"{name}.json"
    try:
        if file.exists() and _fact(what, file) is None:  # damaged, or from another version; kept for the learner
            file.rename(file.with_name(f"{name}.damaged-{time.time_ns()}"))
        write_json(file, {"when": datetime.now(UTC).isoformat(timespec="seconds"), **more})
    except (UserError, OSError):
        return  # the lesson continues, and `where` explains why nothing is saved


def _ready(place: Path) -> bool:
    """Create the folder, accessible only to its owner; return whether it can be used."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        if not _own(place):
            return False
        place.chmod(0o700)  # the folder may have been created by hand
    except OSError:
        return False
    return os.access(place, os.W_OK)


def _own(place: Path) -> bool:
    """Whether `place` is a folder that this user owns; folders and links of other users are not trusted."""
    try:
        found = place.lstat()
    except OSError:
        return False
    return place.is_dir() and (not hasattr(os, "getuid") or found.st_uid == os.getuid())


def _fact(what: str, file: Path) -> dict | None:
    try:
        fact = json.loads(file.read_text(encoding="utf-8"))
        datetime.fromisoformat(fact["when"])
        _ = [fact[key] for key in NEEDED.get(what, ())]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return fact


def _user() -> str:
    """Return the user id, or on a system without user ids the user name, as part of a folder's name."""
    if hasattr(os, "getuid"):
        return str(os.getuid())
    try:
        return re.sub(r"\W", "-", getpass.getuser())
    except (OSError, KeyError, ImportError):
        return "me"


def _short(place: Path) -> str:
    try:
        return f"~/{place.relative_to(Path.home()).as_posix()}"
    except (ValueError, RuntimeError):
        return str(place)
