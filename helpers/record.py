"""Writes a run's results to `metrics.json` atomically, and validates them when written and read."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from helpers import progress
from helpers.files import write_json
from helpers.guard import NOTICES
from helpers.paths import ROOT
from helpers.redaction import redacted
from helpers.runtime import UserError

FILE = "metrics.json"
MODEL_FOLDER, KEEP_MODEL = "model", "WORKBOOK_KEEP_MODEL"  # the saved model's folder, and the variable to save it
LIBRARIES = ("torch", "transformers", "datasets", "numpy", "scikit-learn", "peft", "trl", "bitsandbytes")
METRIC_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
SCHEMA = {
    "notebook": str,
    "parameters": dict,
    "metrics": dict,
    "claims": list,
    "versions": dict,
    "machine": dict,
    "threads": int,
    "finished": str,
}


def record(
    notebook: str, parameters: dict[str, object], *, claims: Sequence[str] = (), folder: Path | None = None, **metrics
) -> Path:
    """Write a run's parameters and metrics to `metrics.json`; return the file's path.

    Args:
        notebook: the lesson's name, such as "02_full_vs_last_layer".
        claims: identifiers of the course's claims that these metrics test.
        folder: where to write; None takes the folder of the current run (`WORKBOOK_RUN_DIR`).
        metrics: `<quantity>_<method>[_<where>]` = a finite number in SI units, or a list (curve) or dict of these.

    Raises:
        UserError: when a metric is not finite or has an invalid name, or the file cannot be written.
    """
    result = {
        "notebook": notebook,
        "parameters": {name: _plain(value) for name, value in parameters.items()},
        "metrics": {name: _plain(value) for name, value in metrics.items()},
        "claims": list(claims),
        "notices": list(NOTICES),
        "versions": versions(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count() or 1},
        "threads": _threads(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    validate(result)
    if folder is None:
        path = write_json(run_folder(notebook) / FILE, result)
        progress.keep_run(notebook, parameters.get("budget"))  # marks the lesson as finished for the learner
        return path
    return write_json(folder / FILE, result)


def run_folder(notebook: str) -> Path:
    """Return the folder for this run's files: `WORKBOOK_RUN_DIR` if set, else runs/interactive/NOTEBOOK."""
    return Path(os.environ.get("WORKBOOK_RUN_DIR") or ROOT / "runs" / "interactive" / notebook)


def read(path: Path) -> dict:
    """Return the contents of a `metrics.json`.

    Raises:
        UserError: when the file is missing, cut short, or not in the format of `record`.
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{Path(path).name} is missing: the run did not come to its record.") from None
    except (ValueError, OSError):
        raise UserError(f"{Path(path).name} cannot be read as JSON: the run was cut short.") from None
    validate(result)
    return result


def validate(result: object) -> None:
    """Raise a `UserError` that names the first error in a result, if it has any."""
    if not isinstance(result, dict):
        raise UserError(f"The record is a {type(result).__name__}, not an object.")
    for field, kind in SCHEMA.items():
        if not isinstance(result.get(field), kind):
            raise UserError(f'The record\'s field "{field}" is missing or not a {kind.__name__}.')
    for name, value in result["metrics"].items():
        if not METRIC_NAME.fullmatch(name):
            raise UserError(f'The metric name "{name}" is not of the form quantity_method_where in lower case.')
        if not _finite(value):
            raise UserError(
                f"The metric {name} is {value!r}, but it has to be a finite number or a list of finite numbers."
            )


def _plain(value: object) -> object:
    """Convert NumPy and torch values, tuples and paths to JSON types, and redact secrets in text."""
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return redacted(str(value)) if isinstance(value, str | Path) else value


def _finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    return isinstance(value, bool | int | float) and math.isfinite(value)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that can change the results."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _threads() -> int:
    """Return torch's number of threads if torch is loaded, else OMP_NUM_THREADS or the number of cores."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
