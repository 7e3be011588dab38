"""Checks in a process without this project that the exported model gives the same outputs as in its lesson."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from helpers.runtime import UserError
from workbook.export.kept import Kept

SCRIPT = Path(__file__).with_name("alone.py")
TOLERANCE = 1e-3  # relative to the largest logit; rounding depends on the device and the number of threads
MAY_DIFFER = 1  # of twenty answers, because rounding can decide a tie between two tokens


def ask(kept: Kept, folder: Path, *, gguf: str = "", without_code: str = "") -> dict[str, Any]:
    """The outputs of the model in a folder for the kept examples.

    Args:
        gguf: the name of a GGUF file in the folder to load instead of the weights.
        without_code: the name of a token classifier of `transformers` to load as well.

    Raises:
        UserError: the folder cannot be loaded.
    """
    asked = {**kept.facts, "folder": str(folder), "gguf": gguf, "without_code": without_code}
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WORKBOOK_"))}
    with tempfile.TemporaryDirectory() as modules:  # transformers copies the folder's code here to import it
        quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_MODULES_CACHE": modules}
        command = [sys.executable, "-I", "-X", "utf8", str(SCRIPT)]
        ended = subprocess.run(
            command, input=json.dumps(asked), env=plain | quiet, cwd=modules, capture_output=True, encoding="utf-8"
        )
    if ended.returncode != 0:
        said = (ended.stderr.strip().splitlines() or [f"status {ended.returncode}"])[-1]
        raise UserError(f"What was written cannot be loaded by transformers alone, so nothing is exported: {said}")
    return json.loads(ended.stdout.strip().splitlines()[-1])


def largest_difference(said: list[list[float]], wanted: list[list[float]]) -> float:
    """The largest absolute difference between two lists of logits."""
    pairs = [(a, b) for one, other in zip(said, wanted, strict=True) for a, b in zip(one, other, strict=True)]
    return max((abs(a - b) for a, b in pairs), default=0.0)


def check_logits(said: list[list[float]], wanted: list[list[float]], what: str) -> float:
    """Return the largest difference between the logits.

    Raises:
        UserError: the difference is larger than rounding explains.
    """
    difference = largest_difference(said, wanted)
    scale = max((abs(value) for row in wanted for value in row), default=1.0)
    if not difference <= TOLERANCE * max(1.0, scale):
        raise UserError(
            f"{what} gives other logits than the lesson's model (they differ by {difference:.1e}), so nothing is "
            "exported. Report this as a bug of the workbook."
        )
    return difference


def equal_answers(said: list[str], wanted: list[str]) -> int:
    """The number of equal answers."""
    return sum(one == other for one, other in zip(said, wanted, strict=True))


def check_answers(said: list[str], wanted: list[str]) -> int:
    """Return the number of answers that equal the lesson's.

    Raises:
        UserError: more of them differ than rounding explains.
    """
    equal = equal_answers(said, wanted)
    if equal < len(wanted) - MAY_DIFFER:
        raise UserError(
            f"The folder's model gives {equal} of the lesson's {len(wanted)} answers, so nothing is exported. Report "
            "this as a bug of the workbook."
        )
    return equal
