"""Find out with which versions of its libraries the workbook works, and print one table.

    make drift                         tests the oldest versions allowed, the locked and the newest, each on its own
    make drift ARGS="--only newest"    tests only one of the three
    make drift ARGS="--with trl==1.9"  tests only the lock with this version: does the old version still work?

In each environment, the script runs tools/api_calls.py on the lessons' library calls, and the quick tests of helpers.
For each call or test that breaks, it finds the first version that breaks it.

An environment is small. It contains only the packages that differ from the lock, and uses .venv for the others,
including torch. uv installs it if available, otherwise pip. It stays in build/drift, so the next run is faster.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import setup_venv  # noqa: E402

PACKAGES = ("transformers", "trl", "peft", "datasets", "bitsandbytes")
KEPT = ROOT / "build" / "drift"
LOCKED_ENVIRONMENT = "locked"
# The tests that run in every environment: they are quick and use the libraries directly.
TESTS = (
    "tests/helpers/test_adapters.py",
    "tests/helpers/test_batches.py",
    "tests/helpers/test_did_it_train.py",
    "tests/helpers/test_dpo.py",
    "tests/helpers/test_evaluation.py",
    "tests/helpers/test_language_model.py",
    "tests/helpers/test_lora.py",
    "tests/helpers/test_lora_files.py",
    "tests/helpers/test_models.py",
    "tests/helpers/test_prompt_tuning.py",
    "tests/helpers/test_qlora.py",
    "tests/helpers/test_reward_model.py",
    "tests/helpers/test_sft.py",
    "tests/helpers/test_training.py",
)
MARKS = "not slow and not gpu and not network and not faults"
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?)(?: - (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Break:
    """Something that works with the lock but not in an environment. `what` is a use of a library, or a test."""

    what: str
    where: str
    problem: str
    since: str = ""

    @property
    def is_test(self) -> bool:
        """Whether this is a failed test, rather than a call that does not fit."""
        return self.what.startswith("tests/")


@dataclass
class Environment:
    """A Python with certain library versions, and what broke in it."""

    name: str
    python: Path
    versions: dict[str, str]
    trouble: str = ""  # why the environment could not be made
    breaks: list[Break] = field(default_factory=list)
    counts: str = ""
    seconds: float = 0.0


class NoEnvironmentError(Exception):
    """An environment with these versions cannot be made; the message says why."""


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["oldest", LOCKED_ENVIRONMENT, "newest"], help="test only this environment")
    parser.add_argument(
        "--with",
        dest="pins",
        nargs="+",
        metavar="NAME==VERSION",
        help="test one environment instead of three: the lock with these versions",
    )
    parser.add_argument("--no-tests", action="store_true", help="check only the library calls (seconds), run no tests")
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    locked = locked_versions()
    if asked.pins:
        wanted = {"with " + " ".join(asked.pins): locked | dict(pin.split("==") for pin in asked.pins)}
    else:
        wanted = {
            "oldest": locked | oldest_versions(),
            LOCKED_ENVIRONMENT: locked,
            "newest": locked | newest_versions(),
        }
    if asked.only:
        wanted = {asked.only: wanted[asked.only]}
    with ThreadPoolExecutor(2) as side_by_side:  # two processes of one thread each
        look = functools.partial(examined, tests=not asked.no_tests)
        environments = list(side_by_side.map(look, wanted, wanted.values()))
    good = next((one for one in environments if one.name == LOCKED_ENVIRONMENT), None)
    for one in environments:
        if one is not good:
            one.breaks = [found if known(found, good) else dated(found, locked, one.versions) for found in one.breaks]
    print(table(environments, good))
    print(f"{time.monotonic() - began:.0f} s")
    return int(any(one.trouble or one.breaks for one in environments))


def known(found: Break, good: Environment | None) -> bool:
    """Return whether the same thing breaks with the lock, so that no version is the cause."""
    return good is not None and any(one.what == found.what for one in good.breaks)


# Versions


def locked_versions(root: Path = ROOT) -> dict[str, str]:
    """Return the version of each watched library in requirements.lock."""
    lock = (root / "requirements.lock").read_text(encoding="utf-8")
    return {name: number for name, number in re.findall(r"^([a-z0-9.-]+)==(\S+)$", lock, re.M) if name in PACKAGES}


def oldest_versions(root: Path = ROOT) -> dict[str, str]:
    """Return the lowest version of each watched library that pyproject.toml allows."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for line in project["dependencies"]:
        name = re.match(r"[a-z0-9-]+", line)[0]
        if name in PACKAGES:
            found[name] = re.search(r"[>=]=\s*([\d.]+)", line)[1]
    return found


@functools.cache
def released(name: str) -> tuple[str, ...]:
    """Return the final releases of a package on pip's package index, from the newest to the oldest."""
    command = [sys.executable, "-m", "pip", "index", "versions", name, "--disable-pip-version-check"]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    listed = re.search(r"^Available versions: (.+)$", said, re.M)
    if not listed:
        raise SystemExit(f"The package index has no {name}, or does not answer: try again with a network.")
    return tuple(one for one in listed[1].split(", ") if re.fullmatch(r"[\d.]+", one))


def newest_versions() -> dict[str, str]:
    """Return the newest release of each watched library."""
    with ThreadPoolExecutor(len(PACKAGES)) as together:
        return {name: numbers[0] for name, numbers in zip(PACKAGES, together.map(released, PACKAGES), strict=True)}


# Environments


def environment(name: str, versions: Mapping[str, str]) -> Path:
    """Make or reuse an environment with these versions, and .venv's for everything else. Return its Python.

    Raises:
        NoEnvironmentError: the package index has no such set of versions.
    """
    pins = [f"{package}=={number}" for package, number in versions.items() if number != locked_versions()[package]]
    if not pins:
        return setup_venv.PYTHON
    folder = KEPT / re.sub(r"[^\w.=-]+", "-", name)
    python = folder / setup_venv.PYTHON.relative_to(setup_venv.VENV)
    stamp, state = folder / "made-from", json.dumps([pins, setup_venv.LOCK.read_text()])
    if stamp.is_file() and stamp.read_text() == state:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([setup_venv.PYTHON, "-m", "venv", "--without-pip", folder])
    packages = _packages(python)
    # Python searches this environment first, then .venv, whose own .pth files are used too.
    below = f"import site; site.addsitedir({str(_packages(setup_venv.PYTHON))!r})\n"
    (packages / "below.pth").write_text(below)
    uv = shutil.which("uv")
    if uv:
        _install_with_uv(uv, python, pins)
    else:  # pip sees the packages of .venv, and installs only those that have to change
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *pins])
    stamp.write_text(state)
    return python


def _install_with_uv(uv: str, python: Path, pins: list[str]) -> None:
    """Let uv choose versions as close to the lock as these pins allow, and install those that differ from the lock."""
    settings = setup_venv.uv_settings(setup_venv.pip_settings())
    lock = [line for line in setup_venv.LOCK.read_text().split("\n") if re.match(r"^[a-z0-9.-]+==", line)]
    watched = tuple(f"{name}==" for name in PACKAGES)
    chosen = python.parent.parent / "chosen.txt"
    chosen.write_text("\n".join(line for line in lock if not line.startswith(watched)))  # uv prefers these versions
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    others = [line for line in project if re.match(r"[a-z0-9-]+", line)[0] not in PACKAGES]
    free = [f"{name}=={number}" for name, number in locked_versions().items() if not _names(pins, name)]
    torch = [line for line in lock if line.startswith("torch==")]
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", python, "-o", chosen, "-"]
    _run(command, settings, "\n".join([*others, *pins, *free, *torch]))
    new = [line for line in chosen.read_text().split("\n") if re.match(r"^[a-z0-9.-]+==", line) and line not in lock]
    new = [line for line in new if not re.match(r"nvidia|cuda|triton", line)]  # only torch's CUDA build needs these
    _run([uv, "pip", "install", "--quiet", "--no-deps", "--python", python, *new], settings)


def _names(pins: list[str], name: str) -> bool:
    return any(pin.startswith(f"{name}==") for pin in pins)


def _packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", code], text=True).strip())


def _run(command: list, settings: Mapping[str, str] | None = None, given: str | None = None) -> None:
    ended = subprocess.run(
        [str(part) for part in command], env=settings, input=given, capture_output=True, text=True, cwd=ROOT
    )
    if ended.returncode:
        said = [line for line in (ended.stderr or ended.stdout).splitlines() if line.strip()]
        raise NoEnvironmentError(said[-1].strip(" ╰─▶×") if said else f"{command[0]} ended with {ended.returncode}")


# Checks


def examined(name: str, versions: dict[str, str], tests: bool = True) -> Environment:
    """Make an environment with these versions, and find everything that breaks in it."""
    began = time.monotonic()
    try:
        one = Environment(name, environment(name, versions), versions)
    except NoEnvironmentError as error:
        return Environment(name, Path(), versions, trouble=str(error))
    one.breaks, one.counts = misfits(one.python)
    if tests:
        failed, counts = failures(one.python, TESTS)
        one.breaks += failed
        one.counts += f", {counts}"
    one.seconds = time.monotonic() - began
    return one


def misfits(python: Path) -> tuple[list[Break], str]:
    """Return the uses of libraries that do not fit those of this Python, and the number of uses checked."""
    ended = _ask(python, "tools/api_calls.py")
    try:
        *found, counts = map(json.loads, ended.stdout.splitlines())
    except ValueError:
        return [Break("tools/api_calls.py", "", (ended.stderr or "no output").strip().splitlines()[-1])], ""
    return [Break(one["name"], one["place"], one["problem"]) for one in found], f"{counts['checked']} uses"


def failures(python: Path, tests: Sequence[str]) -> tuple[list[Break], str]:
    """Return the tests that fail with this Python, and how many ran."""
    options = ["-q", "-m", MARKS, "--tb=no", "-rfE", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    ended = _ask(python, "-m", "pytest", *options, *tests)
    found = [Break(name, name.partition("::")[0], said or "failed") for name, said in FAILED.findall(ended.stdout)]
    last = (ended.stdout.strip().splitlines() or [ended.stderr.strip()[-200:]])[-1]
    if ended.returncode > 1 and not found:
        found = [Break(tests[0] if len(tests) == 1 else "tests/helpers", "", last)]
    return found, re.sub(r" in [\d.]+s.*|=", "", last).strip()


def _ask(python: Path, *command: str) -> subprocess.CompletedProcess:
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    return subprocess.run([python, *command], cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True)


# Since which version


def dated(found: Break, locked: Mapping[str, str], versions: Mapping[str, str]) -> Break:
    """Return the break with the first version that has it (for old versions, the newest one that has it)."""
    changed = [name for name in PACKAGES if versions[name] != locked[name]]
    # Try the use's own library first. But classes of trl and peft inherit arguments from transformers.
    suspects = sorted(changed, key=lambda name: name != found.what.split(".")[0])
    for name in suspects:
        if fails(found, locked | {name: versions[name]}):
            since = turning_point(name, locked[name], versions[name], lambda other: fails(found, locked | other))
            return Break(found.what, found.where, found.problem, since)
    return Break(found.what, found.where, found.problem, " with ".join(f"{name} {versions[name]}" for name in suspects))


def fails(found: Break, versions: Mapping[str, str]) -> bool:
    """Return whether the same thing breaks with these versions."""
    name = " ".join(f"{package}=={number}" for package, number in versions.items())
    try:
        python = environment(name, versions)
    except NoEnvironmentError:
        return False
    broken, _ = failures(python, [found.what]) if found.is_test else misfits(python)
    return any(one.what == found.what for one in broken)


def turning_point(name: str, good: str, bad: str, broken: Callable[[dict[str, str]], bool]) -> str:
    """Find by bisection the broken release nearest to `good`, up to `bad`; return it as `name version`."""
    order = list(released(name))
    ends = sorted((_place(order, good), _place(order, bad)))
    between = order[ends[0] : ends[1] + 1]  # from the newest to the oldest
    if number(good) < number(bad):
        between.reverse()  # from good to bad
    low, high = 0, len(between) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if broken({name: between[middle]}) else (middle, high)
    return f"{name} {between[high]}"


def number(version: str) -> tuple[int, ...]:
    """Return a release's number as a tuple, for comparisons."""
    return tuple(map(int, version.split(".")))


def _place(order: list[str], version: str) -> int:
    if version in order:
        return order.index(version)
    padded = f"{version}.0"
    return order.index(padded) if padded in order else sum(number(one) > number(version) for one in order)


# The table


def table(environments: Sequence[Environment], good: Environment | None) -> str:
    """Return the table: what each environment contains, what broke in it, where, and since which version."""
    lines = ["environment | " + " | ".join(PACKAGES) + " | checked", "--- | " * (len(PACKAGES) + 1) + "---"]
    for one in environments:
        numbers = " | ".join(one.versions[name] for name in PACKAGES)
        lines.append(f"{one.name} | {numbers} | {one.trouble or f'{one.counts}, {one.seconds:.0f} s'}")
    broken = [(one, found) for one in environments for found in one.breaks]
    if not broken:
        return "\n".join([*lines, "", "Nothing broke."])
    lines += ["", "environment | what broke | where | problem | since", "--- | --- | --- | --- | ---"]
    for one, found in broken:
        since = "also with the lock" if one is not good and known(found, good) else found.since
        lines.append(f"{one.name} | {found.what} | {found.where} | {found.problem} | {since}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
