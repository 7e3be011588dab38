"""Checks the installed Python, its packages and its Jupyter kernel."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from helpers.paths import ROOT
from workbook.doctor.check import Check

# Other versions of these packages are harmless.
ONLY_INSTALL = {"pip", "setuptools"}
DISTRIBUTION = "fine-tuning-workbook"
KERNEL = "python3"


def python(found: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Is this Python new enough?"""
    advice = "Install Python 3.11 or newer, then `make run PYTHON=/path/to/it`."
    return Check("Python", ".".join(map(str, found)), tuple(found) >= (3, 11), advice)


def packages(lock: Path) -> Check:
    """Are the installed versions those of the lock?"""
    try:
        wanted = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)$", lock.read_text(encoding="utf-8"), flags=re.MULTILINE))
    except OSError:
        advice = "Restore it with `git checkout requirements.lock`."
        return Check("packages", "requirements.lock is missing", False, advice)
    have = {name: _version(name) for name in wanted if name not in ONLY_INSTALL}
    wrong = {name: found for name, found in have.items() if found != wanted[name]}
    found = _differences(wrong, wanted) or f"{len(wanted)} as in requirements.lock"
    # Colab has its own Jupyter server and kernel in other versions; tools/colab.py installs the libraries.
    return Check("packages", found, not wrong, _fix(), needed="google.colab" not in sys.modules)


def requirements() -> Check:
    """Do the installed versions satisfy the package's requirements? A wheel has no lock to compare with."""
    try:
        asked = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        advice = f"Install it with `{Path(sys.executable).name} -m pip install` and the wheel's name."
        return Check("packages", f"{DISTRIBUTION} is not installed, so nothing says what it needs", False, advice)
    wanted = {one.name: one for one in asked if one.marker is None or one.marker.evaluate()}
    have = {name: _version(name) for name in wanted}
    wrong = {name: found for name, found in have.items() if found == "missing" or found not in wanted[name].specifier}
    ranges = {name: str(one.specifier) or "any" for name, one in wanted.items()}
    found = _differences(wrong, ranges) or f"{len(wanted)} as {DISTRIBUTION} asks; no requirements.lock to compare with"
    asked_again = " ".join(f'"{name}{wanted[name].specifier}"' for name in wrong)
    return Check("packages", found, not wrong, f"Run `{Path(sys.executable).name} -m pip install {asked_again}`.")


def _differences(wrong: dict[str, str], wanted: dict[str, str]) -> str:
    """The first five packages that differ, missing ones first; '' if none differs."""
    names = sorted(wrong, key=lambda name: wrong[name] != "missing")
    shown = ", ".join(f"{name} {wrong[name]} (wanted {wanted[name]})" for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"not as asked: {shown}{more}" if names else ""


def _fix() -> str:
    """How to install the locked versions: with make in the project's .venv, with pip in any other environment."""
    if Path(sys.prefix) == ROOT / ".venv":
        return "Run `make setup`: it installs what the lock asks for."
    return f"Run `{Path(sys.executable).name} -m pip install -r requirements.lock` in this environment."


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "missing"


def kernel(own: Path = Path(sys.prefix) / "share" / "jupyter") -> Check:
    """Does Jupyter start this Python, if it searches for kernels as in `workbook lab` and `workbook run`?"""
    advice = f"Run `{Path(sys.executable).name} -m ipykernel install --sys-prefix` in this environment."
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return Check("Jupyter kernel", "Jupyter is missing", False, _fix())
    try:
        search = [str(own / "kernels"), *jupyter_path("kernels")]
        argv = KernelSpecManager(kernel_dirs=search).get_kernel_spec(KERNEL).argv
    except NoSuchKernel:
        return Check("Jupyter kernel", "none", False, advice)
    if _is_this(argv):
        return Check("Jupyter kernel", KERNEL)
    return Check("Jupyter kernel", f"{KERNEL} starts another Python: {argv[0] if argv else 'none'}", False, advice)


def _is_this(argv: list[str]) -> bool:
    """Whether a kernel's command starts this Python; Jupyter replaces a bare `python` by its own Python."""
    first = argv[0] if argv else ""
    return (Path(first).name == first and first.startswith("python")) or Path(first) == Path(sys.executable)
