"""Saves a sweep's plan in its folder, so that the sweep can be inspected and resumed."""

from __future__ import annotations

import glob
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from helpers.files import write_json
from helpers.paths import ROOT
from helpers.redaction import redacted
from helpers.runtime import UserError, nearest
from workbook.sweeps.plan import Plan

SWEEPS = ROOT / "runs" / "sweeps"
FILE = "sweep.json"


@dataclass(frozen=True)
class SavedSweep:
    """A plan as it was written when the sweep was last run; secrets in it are redacted."""

    name: str
    question: str
    file: str
    notebooks: str
    notebook: str
    varied: list[str]
    figure: dict
    state: dict[str, str]
    seconds: float
    retries: int
    runs: dict[str, dict[str, object]]


def save_sweep(folder: Path, plan: Plan, seconds: float, retries: int) -> SavedSweep:
    """Write the plan into the sweep's folder.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    saved = SavedSweep(
        name=plan.name,
        question=redacted(plan.sweep.question),
        file=str(plan.file),
        notebooks=str(plan.lesson.path.parent),
        notebook=plan.lesson.name,
        varied=plan.varied,
        figure=plan.sweep.figure.model_dump() if plan.sweep.figure else {},
        state=plan.state,
        seconds=seconds,
        retries=retries,
        runs=redacted(plan.runs),
    )
    write_json(folder / FILE, asdict(saved))
    return saved


def members(sweeps: Path, name: str) -> list[str]:
    """The sweeps that a name stands for: the sweep itself or, if it covers several lessons, one sweep for each."""
    stem = _stem(name)
    several = sorted(path.parent.name for path in sweeps.glob(f"{glob.escape(stem)}-[0-9][0-9]/{FILE}"))
    return [name] if (sweeps / stem / FILE).is_file() or not several else several


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith((".yaml", ".yml")) else Path(name).name


def read_sweep(sweeps: Path, name: str) -> SavedSweep:
    """The plan of an earlier sweep, found by its name or by the name of its file.

    Raises:
        UserError: there is no sweep of that name, or its plan cannot be read.
    """
    name = _stem(name)
    known = sorted(path.parent.name for path in sweeps.glob(f"*/{FILE}"))
    if name not in known:
        there = f" There are: {', '.join(known)}." if known else " Start one: workbook sweep run sweeps/NAME.yaml"
        raise UserError(f'There is no sweep "{name}" here.{nearest(name, known)}{there}')
    try:
        return SavedSweep(**json.loads((sweeps / name / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{name}/{FILE} is damaged: `workbook sweep run` writes it again; no run is lost.") from None
