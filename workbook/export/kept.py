"""Finds the model that a lesson kept in its run, and what the lesson recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from helpers import record
from helpers.intervals import Interval
from helpers.kept_model import FACTS
from helpers.runtime import UserError, nearest
from workbook.engine.ledger import OUTCOME, outcome_of
from workbook.run.plan import FILE

LATEST = "latest"


@dataclass(frozen=True)
class Kept:
    """A kept model.

    folder: its files. facts: what `helpers.kept_model` wrote beside them. recorded: the run's `metrics.json`.
    """

    folder: Path
    facts: dict[str, Any]
    recorded: dict[str, Any]

    @property
    def lesson(self) -> str:
        """The lesson's name, such as "09_lora_hugging_face"."""
        return self.recorded["notebook"]

    @property
    def is_classifier(self) -> bool:
        return self.facts["kind"] == "classifier"

    @property
    def parameters(self) -> dict[str, Any]:
        """The run's parameters; paths to the learner's own model or data are cut to their last part."""
        given = self.recorded["parameters"]
        own = {name: PurePath(str(given[name])).name for name in ("model", "data") if given.get(name)}
        return given | own

    @property
    def figures(self) -> list[tuple[str, Interval]]:
        """The measured figures: each as a description and a 95 % interval."""
        return [(what, Interval(*numbers)) for what, *numbers in self.facts["figures"]]


def find_kept(run: str, runs: Path, lesson: str = "") -> Kept:
    """The model that a lesson kept in a run.

    Args:
        run: the name of a folder in `runs`, a path, or "latest".
        lesson: the lesson's number or name; needed only if several lessons of the run kept a model.

    Raises:
        UserError: there is no such run, it kept no model or several, or the lesson did not finish.
    """
    folder = _folder(run, runs)
    places = [folder] if (folder / record.MODEL_FOLDER / FACTS).is_file() else sorted(folder.glob("*/"))
    found = {place.name: place for place in places if (place / record.MODEL_FOLDER / FACTS).is_file()}
    if not found:
        raise UserError(
            f"No lesson of the run {folder.name} kept a model: run one again with `workbook run NN --keep-model`."
        )
    wanted = {name: place for name, place in found.items() if not lesson or lesson.zfill(2) in (name[:2], name)}
    if len(wanted) != 1:
        listed = ", ".join(found)
        said = f'kept no model of lesson "{lesson}"' if lesson else "kept several models"
        raise UserError(f"The run {folder.name} {said}. It has: {listed}. Choose one with --lesson.")
    return _read(*wanted.values())


def _folder(run: str, runs: Path) -> Path:
    if run == LATEST:
        started = sorted(plan.parent for plan in runs.glob(f"*/{FILE}"))
        if not started:
            raise UserError("There is no run yet: start one with `workbook run NN --keep-model`.")
        return started[-1]
    for folder in (runs / run, Path(run)):
        if folder.is_dir():
            return folder.resolve()
    there = [path.name for path in runs.glob("*/")]
    raise UserError(f'There is no run "{run}" in {runs.name}/, and no such folder.{nearest(run, there)}')


def _read(place: Path) -> Kept:
    again = "run the lesson again with --keep-model."
    try:
        recorded = record.read(place / record.FILE)
        facts_file = place / record.MODEL_FOLDER / FACTS
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        older = (place / record.FILE).stat().st_mtime < facts_file.stat().st_mtime
    except (UserError, OSError, ValueError):
        raise UserError(f"{place.name} kept a model but did not come to its end: {again}") from None
    outcome = outcome_of(place)
    if older or ((place / OUTCOME).is_file() and (outcome is None or outcome.status != "done")):
        raise UserError(f"{place.name} kept a model but did not come to its end: {again}")
    return Kept(place / record.MODEL_FOLDER, facts, recorded)
