"""Lessons through the real command on the smallest budget: once with another seed, and once on the hub track."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from helpers.checks.registry import names
from tests.helpers.hub.repositories import repositories
from tests.helpers.hub.server import Hub
from workbook.lessons import Lesson
from workbook.notebooks import from_source

# What a lesson says where a section needs a truth that no hub data set has.
SAID_ON_THE_HUB = {
    "03": "do not say which film they are about",
    "04": "judged exactly are the micro-world's rows alone",
    "05": "judged exactly are the micro-world's rows alone",
    "06": "judged exactly are the micro-world's rows alone",
}


@dataclass(frozen=True)
class QuickRuns:
    """One command's runs; `outcomes` and `notebooks` have a lesson's name as their key.

    said: what the command printed. outcomes: each run's outcome.json. notebooks: the text of the executed notebooks.
    """

    said: str
    outcomes: dict[str, dict]
    notebooks: dict[str, str]

    def problem(self, lesson: Lesson) -> str:
        """Why the lesson's run failed; "" if it is done."""
        if lesson.name not in self.outcomes:
            return f"it was not run: {self.said[-2000:]}"
        outcome = self.outcomes[lesson.name]
        return "" if outcome["status"] == "done" else f"cell {outcome.get('cell')}: {outcome['error'][-3000:]}"

    def unsaid_on_the_hub(self, lesson: Lesson) -> str:
        """What the lesson should say on the hub track and does not; "" if it says it."""
        said = SAID_ON_THE_HUB.get(lesson.number, "")
        return "" if said in self.notebooks[lesson.name] else said

    def unsolved(self, lesson: Lesson) -> list[str]:
        """The exercises that the lesson's own solutions do not solve."""
        return [name for name in names(lesson.number) if f"{name}: right!" not in self.notebooks[lesson.name]]


def with_another_seed(lessons: Sequence[Lesson], folder: Path) -> QuickRuns:
    """Run lessons with seed 1 and all exercises solved; notebooks and runs are kept in `folder`."""
    solved = folder / "notebooks"
    solved.mkdir()
    for lesson in lessons:
        nbformat.write(from_source(lesson.source, solutions=True), solved / lesson.path.name)
    return _run(folder / "runs", ["--seed", "1", "--notebooks", os.fspath(solved)])


def on_the_hub_track(lessons: Sequence[Lesson], folder: Path) -> QuickRuns:
    """Run lessons with `track = "hub"` against a hub on loopback, one thread each."""
    with Hub(repositories()) as hub:
        settings = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
        settings |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        numbers = [lesson.number for lesson in lessons]
        return _run(folder / "runs", [*numbers, "-p", "track", "hub", "--jobs", "2"], settings)


def _run(into: Path, arguments: list[str], settings: dict[str, str] | None = None) -> QuickRuns:
    command = [sys.executable, "-m", "workbook.cli", "run", "--budget", "quick", *arguments, "--into", str(into)]
    ended = subprocess.run(command, env=settings, capture_output=True, text=True)
    made = {path.parent.name: path for path in into.glob("*/*/outcome.json")}
    return QuickRuns(
        ended.stdout + ended.stderr,
        {name: json.loads(path.read_text(encoding="utf-8")) for name, path in made.items()},
        {name: (path.parent / f"{name}.ipynb").read_text(encoding="utf-8") for name, path in made.items()},
    )
