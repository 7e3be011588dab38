"""Reference results over several seeds, which a command of this repository measured and saved in data/reference."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import pyarrow
from pyarrow import parquet

from helpers.files import write_json
from helpers.intervals import Interval, mean_t
from helpers.paths import ROOT
from helpers.runtime import UserError

FOLDER = ROOT / "data" / "reference"
REAL_RESULTS = FOLDER / "results_real.parquet"  # results of the lessons' sections on real text


@dataclass(frozen=True)
class Reference:
    """The values of every metric for every seed, with the command, date and machine of the measurement."""

    command: str
    date: str
    machine: str
    threads: int
    settings: dict[str, object]
    seeds: list[int]
    metrics: dict[str, list[float]]

    def interval(self, metric: str) -> Interval:
        """Return the metric's mean over the seeds with Student's 95 % interval."""
        if metric not in self.metrics:
            raise UserError(f'The reference results hold no "{metric}"; they hold {", ".join(self.metrics)}.')
        return mean_t(self.metrics[metric])

    def gap(self, metric: str, minus: str) -> Interval:
        """Return the mean over the seeds of `metric` minus `minus` (paired by seed), with Student's 95 % interval."""
        self.interval(metric), self.interval(minus)  # raises a UserError if one is missing
        pairs = zip(self.metrics[metric], self.metrics[minus], strict=True)
        return mean_t([one - other for one, other in pairs])

    @property
    def label(self) -> str:
        """One line on the origin of these figures: seeds, machine, threads, date and command."""
        return f"{len(self.seeds)} seeds, {self.machine}, {self.threads} thread(s), {self.date}, by `{self.command}`"


def load_reference(name: str, folder: Path = FOLDER) -> Reference:
    """Return the reference results `name`; raise a UserError if they are missing or cannot be read."""
    path = folder / f"{name}.json"
    try:
        return Reference(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path.name} is not in data/reference; make it with: make reference") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path.name} in data/reference cannot be read ({error}); make reference") from None


def has_reference(name: str, folder: Path = FOLDER) -> bool:
    """Whether the reference results `name` exist."""
    return (folder / f"{name}.json").is_file()


def lesson_reference(number: str, path: Path = FOLDER / "results.parquet") -> Reference:
    """Return the reference results of a lesson, such as "02"; raise a UserError if there are none."""
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path, filters=[("lesson", "=", number)]).to_pylist()
        about = json.loads(parquet.read_schema(path).metadata[b"reference"])[number]
    except (OSError, KeyError, ValueError, TypeError):
        raise UserError(
            f"{path.name} in data/reference does not hold lesson {number}; make it with: make reference"
        ) from None
    metrics: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        metrics.setdefault(row["metric"], []).append(row["value"])
    seeds = sorted({row["seed"] for row in rows})
    made = {name: about[name] for name in ("command", "date", "machine", "threads")}
    return Reference(**made, settings=about["parameters"], seeds=seeds, metrics=metrics)


def real_reference(number: str) -> Reference | None:
    """Return the reference results of a lesson's section "On real text"; None if they were not measured.

    number: such as "02". The lesson records these metrics as `real_<metric>`; `make reference` removes the prefix.
    """
    try:
        return lesson_reference(number, REAL_RESULTS)
    except UserError:
        return None


def recorded(lesson: str, metric: str, path: Path = FOLDER / "results.parquet") -> list[float]:
    """Return one value of `metric` per seed from the reference runs of a lesson, such as "02"; [] if there are none."""
    try:
        table = parquet.read_table(path, filters=[("lesson", "=", lesson), ("metric", "=", metric)])
        return table.sort_by("seed")["value"].to_pylist()
    except (pyarrow.ArrowInvalid, KeyError, OSError):
        return []


def save_reference(
    name: str,
    command: str,
    settings: Mapping[str, object],
    measured: Sequence[Mapping[str, float]],
    folder: Path = FOLDER,
    threads: int | None = None,
) -> Path:
    """Write a command's measurements, one mapping of metrics per seed (0, 1, 2, ...); return the file's path.

    threads: the number of threads of one run; None takes torch's current number.
    """
    import torch

    found = Reference(
        command=command,
        date=today(),
        machine=machine(),
        threads=threads or torch.get_num_threads(),
        settings=dict(settings),
        seeds=list(range(len(measured))),
        metrics={metric: [values[metric] for values in measured] for metric in measured[0]},
    )
    return write_json(folder / f"{name}.json", asdict(found))


def kept(
    folder: Path, name: str, settings: Mapping[str, object], measure: Callable[[], dict[str, object]]
) -> dict[str, object]:
    """Return the saved result of `measure()` for these settings, or measure and save it, so that commands can resume.

    settings: everything that the result depends on; a change of any value leads to a new measurement.
    """
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.json"
    if not path.is_file():
        write_json(path, {"settings": settings, "metrics": measure()})
    return json.loads(path.read_text(encoding="utf-8"))["metrics"]


def machine() -> str:
    """Return the processor's name, as far as the system reports it, and the number of cores."""
    return f"{_processor()}, {os.cpu_count() or 1} cores"


def today() -> str:
    return date.today().isoformat()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
