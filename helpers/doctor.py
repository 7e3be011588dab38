"""`workbook doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from helpers.lessons.kernel import cores

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
DATA = ROOT / "data"
SUMS = "SHA256SUMS"
GIGABYTE = 1e9


@dataclass(frozen=True)
class Check:
    """One thing looked at: fine, or with advice; `needed` when the workbook cannot do without it."""

    name: str
    found: str
    fine: bool = True
    advice: str = ""
    needed: bool = True


def checks() -> list[Check]:
    """Everything that is looked at, in the order in which it is shown."""
    return [python(), packages(LOCK), kernel(), *hashes(DATA), disk(ROOT), memory(), processor(), graphics()]


def python(found: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Is this Python new enough?"""
    advice = "Install Python 3.11 or newer, then `make run PYTHON=/path/to/it`."
    return Check("Python", ".".join(map(str, found)), tuple(found) >= (3, 11), advice)


def packages(lock: Path) -> Check:
    """Are the installed versions those of the lock?"""
    try:
        wanted = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)$", lock.read_text(), flags=re.MULTILINE))
    except OSError:
        return Check(
            "packages", "requirements.lock is missing", False, "Restore it with `git checkout requirements.lock`."
        )
    wrong = [f"{name} {have} (wanted {want})" for name, want in wanted.items() if (have := _have(name)) != want]
    advice = "Run `make setup`: it installs what the lock asks for."
    # Another pip than the lock's is no reason to worry: it only installs.
    wrong = [line for line in wrong if not line.startswith("pip ")]
    found = f"{len(wanted)} as in requirements.lock" if not wrong else "not as in the lock: " + ", ".join(wrong[:5])
    return Check("packages", found, not wrong, advice)


def _have(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "missing"


def kernel() -> Check:
    """Can Jupyter start a Python kernel?"""
    from jupyter_client.kernelspec import KernelSpecManager

    there = "python3" in KernelSpecManager().find_kernel_specs()
    advice = "Run `.venv/bin/python -m ipykernel install --sys-prefix`."
    return Check("Jupyter kernel", "python3" if there else "none", there, advice)


def hashes(data: Path) -> list[Check]:
    """Do the files of each folder with a list of hashes still have them?"""
    found = []
    for sums in sorted(data.rglob(SUMS)):
        wrong = damaged(sums)
        shown = f"{len(sums.read_text().split()) // 2} files whole" if not wrong else "damaged: " + ", ".join(wrong)
        folder = sums.parent.relative_to(data.parent)
        found.append(Check(str(folder), shown, not wrong, f"Restore it with `git checkout {folder}`."))
    return found or [Check("data", "no data folder with hashes", False, "Restore it with `git checkout data`.")]


def damaged(sums: Path) -> list[str]:
    """The files named in a SHA256SUMS that are missing or have another hash."""
    wrong = []
    for line in sums.read_text().splitlines():
        wanted, _, name = line.partition(" ")
        path = sums.parent / name.strip().lstrip("*")
        if wanted and (not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted):
            wrong.append(path.name)
    return wrong


def disk(folder: Path) -> Check:
    """Is there room for runs?"""
    free = shutil.disk_usage(folder).free / GIGABYTE
    return Check("free disk", f"{free:.1f} GB", free > 1, "Runs want 1 GB: make room, or remove old folders of runs/.")


def memory() -> Check:
    """Is there memory for a lesson?"""
    import psutil

    free = psutil.virtual_memory().available / GIGABYTE
    return Check(
        "free memory", f"{free:.1f} GB", free > 2, "A lesson takes up to 2 GB: close other programs, or --jobs 1."
    )


def processor() -> Check:
    """How many cores are there?"""
    count = cores()
    return Check("cores", str(count), count > 1, "With one core the lessons take about twice as long.", needed=False)


def graphics() -> Check:
    """Is there a GPU that torch can use?"""
    try:
        import torch
    except ImportError:
        return Check("GPU", "unknown: torch is missing", False, "Run `make setup`.", needed=False)
    if torch.cuda.is_available():
        return Check("GPU", torch.cuda.get_device_name())
    return Check("GPU", "none, and none is needed")


def show(found: list[Check]) -> bool:
    """Print the checks with their advice; return whether all that is needed is there."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    for check in found:
        colour, mark = ("green", "ok") if check.fine else ("red", "no") if check.needed else ("yellow", "so-so")
        console.print(f"[{colour}]{mark:>5}[/]  {check.name}: {check.found}", highlight=False)
        if not check.fine:
            console.print(f"       {check.advice}", highlight=False, markup=False)
    ready = all(check.fine for check in found if check.needed)
    console.print(
        "Everything that the lessons need is here." if ready else "Mend what is marked `no`, then look again."
    )
    return ready
