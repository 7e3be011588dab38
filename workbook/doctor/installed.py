"""Python, its packages and its Jupyter kernel: what is installed."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from helpers.paths import ROOT
from workbook.doctor.check import Check

# Another version of these is no reason to worry.
ONLY_INSTALL = {"pip", "setuptools"}
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
    have = {name: _have(name) for name in wanted if name not in ONLY_INSTALL}
    missing = [name for name in have if have[name] == "missing"]
    other = [name for name in have if have[name] not in ("missing", wanted[name])]
    wrong = [f"{name} {have[name]} (wanted {wanted[name]})" for name in [*missing, *other]]
    more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    found = f"not as in the lock: {', '.join(wrong[:5])}{more}" if wrong else f"{len(wanted)} as in requirements.lock"
    # Colab has a server and a kernel of its own, in other versions; lesson 00's setup cell sees to the libraries.
    return Check("packages", found, not wrong, _mend(), needed="google.colab" not in sys.modules)


def _mend() -> str:
    """How this environment is brought to the lock: make knows .venv, conda's and others are pip's."""
    if Path(sys.prefix) == ROOT / ".venv":
        return "Run `make setup`: it installs what the lock asks for."
    return f"Run `{Path(sys.executable).name} -m pip install -r requirements.lock` in this environment."


def _have(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "missing"


def kernel(own: Path = Path(sys.prefix) / "share" / "jupyter") -> Check:
    """Does Jupyter start this very Python, as `workbook lab` and `workbook run` have it look for kernels?"""
    advice = f"Run `{Path(sys.executable).name} -m ipykernel install --sys-prefix` in this environment."
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return Check("Jupyter kernel", "Jupyter is missing", False, _mend())
    try:
        search = [str(own / "kernels"), *jupyter_path("kernels")]
        argv = KernelSpecManager(kernel_dirs=search).get_kernel_spec(KERNEL).argv
    except NoSuchKernel:
        return Check("Jupyter kernel", "none", False, advice)
    if _is_this(argv):
        return Check("Jupyter kernel", KERNEL)
    return Check("Jupyter kernel", f"{KERNEL} starts another Python: {argv[0] if argv else 'none'}", False, advice)


def _is_this(argv: list[str]) -> bool:
    """Whether a kernel's command starts this Python; a bare `python` is the one that Jupyter itself runs on."""
    first = argv[0] if argv else ""
    return (Path(first).name == first and first.startswith("python")) or Path(first) == Path(sys.executable)
