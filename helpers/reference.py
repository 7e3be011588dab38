"""Reference results: several seeds, measured once by a command of this repository and kept in data/reference."""

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
REAL_RESULTS = FOLDER / "results_real.parquet"  # what the lessons' sections on real text gave


@dataclass(frozen=True)
class Reference:
    """Where and when results were measured, and every metric's value for every seed."""

    command: str
    date: str
    machine: str
    threads: int
    settings: dict[str, object]
    seeds: list[int]
    metrics: dict[str, list[float]]

    def interval(self, metric: str) -> Interval:
        """The metric's mean over the seeds with Student's 95 % interval."""
        if metric not in self.metrics:
            raise UserError(f'The reference results hold no "{metric}"; they hold {", ".join(self.metrics)}.')
        return mean_t(self.metrics[metric])

    def gap(self, metric: str, minus: str) -> Interval:
        """The mean over the seeds of one metric minus another of the same seed, with Student's 95 % interval."""
        self.interval(metric), self.interval(minus)  # both are there
        pairs = zip(self.metrics[metric], self.metrics[minus], strict=True)
        return mean_t([one - other for one, other in pairs])

    @property
    def label(self) -> str:
        """One line that says whose figures these are."""
        return f"{len(self.seeds)} seeds, {self.machine}, {self.threads} thread(s), {self.date}, by `{self.command}`"


def load_reference(name: str, folder: Path = FOLDER) -> Reference:
    """The reference results `name`; a UserError when they are missing or not whole."""
    path = folder / f"{name}.json"
    try:
        return Reference(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path.name} is not in data/reference; make it with: make reference") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path.name} in data/reference cannot be read ({error}); make reference") from None


def has_reference(name: str, folder: Path = FOLDER) -> bool:
    """Whether the reference results `name` were measured."""
    return (folder / f"{name}.json").is_file()


def lesson_reference(number: str, path: Path = FOLDER / "results.parquet") -> Reference:
    """What the runs of lesson "02" recorded over the reference's seeds; a UserError where there are none."""
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
    """What the section "On real text" of lesson "02" gave over the reference's seeds; None where it was not measured.

    The lesson records it as `real_<metric>`; `make reference` gathers that without the prefix.
    """
    try:
        return lesson_reference(number, REAL_RESULTS)
    except UserError:
        return None


def recorded(lesson: str, metric: str, path: Path = FOLDER / "results.parquet") -> list[float]:
    """The values of `metric` in the reference's runs of lesson "02", one for each seed; [] where there are none."""
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
    """Write a command's measurements: one mapping of metrics for each of the seeds 0, 1, 2, ...; return the file.

    threads: those of one run; None takes torch's own number.
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
    """What `measure()` gave with these very settings, in an earlier try or now: a long command can go on.

    settings: everything that the result depends on; one value changed, and it is measured anew.
    """
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.json"
    if not path.is_file():
        write_json(path, {"settings": settings, "metrics": measure()})
    return json.loads(path.read_text(encoding="utf-8"))["metrics"]


def machine() -> str:
    """The processor's name and its number of cores, as far as the system tells."""
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
