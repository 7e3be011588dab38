"""Make .venv from requirements.lock: only when the lock changed, going on where a failed install stopped.

Needs nothing but Python's standard library, and says so in one sentence when that Python is too old.

WORKBOOK_TORCH=cpu takes torch's build for CPUs from PyTorch's own index (smaller by gigabytes on Linux);
without it, torch comes from wherever pip is configured to look, like all the rest.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("WORKBOOK_VENV") or ROOT / ".venv")
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "workbook-stamp"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BATCH = 10

INSTALLED = """
from importlib.metadata import distributions
import re
for item in distributions():
    print(re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower() + "==" + item.version.partition("+")[0])
"""


class SetupError(Exception):
    """What went wrong, in a sentence for a person."""


def main():
    try:
        if sys.version_info < OLDEST:
            use_newer_python()
        build = os.environ.get("WORKBOOK_TORCH", "")
        if build not in ("", "cpu"):
            raise SetupError('WORKBOOK_TORCH is "%s", but the only build it can name is "cpu".' % build)
        if STAMP.is_file() and STAMP.read_text() == fingerprint(build):
            return 0
        install(build)
    except SetupError as error:
        print("\n%s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What is installed stays; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def use_newer_python():
    """Start again with a Python that is new enough, if this machine has one."""
    for minor in range(OLDEST[1], OLDEST[1] + 4):
        other = shutil.which("python3.%d" % minor)
        works = other and subprocess.call([other, "-c", ""], stderr=subprocess.DEVNULL) == 0
        if works:
            print(
                "Using %s, because %s is Python %d.%d." % ((other, sys.executable) + sys.version_info[:2]), flush=True
            )
            raise SystemExit(subprocess.call([other, __file__]))
    found = "%d.%d" % sys.version_info[:2]
    raise SetupError(
        "This workbook needs Python %d.%d or newer, and this is Python %s: "
        "install a newer one, then run `make run PYTHON=/path/to/it`." % (OLDEST + (found,))
    )


def fingerprint(build):
    """What the finished environment depends on: the lock, the project's own declaration, the build of torch."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), build.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def install(build):
    """Bring .venv to the lock, telling what is downloaded and how much is left."""
    began = time.monotonic()
    make_venv()
    locked = [line for line in LOCK.read_text().split() if re.match(r"^[a-z0-9.-]+==", line)]
    missing = [pin for pin in locked if pin not in installed()]
    if missing:
        print("Setting up .venv: %d of %d packages to install." % (len(missing), len(locked)), flush=True)
        free = shutil.disk_usage(str(VENV)).free / 1e9
        if free < 3:
            print("Only %.1f GB of disk are free; 3 GB are wanted (8 GB with CUDA)." % free, flush=True)
    installers = [pin for pin in missing if pin.startswith(("pip==", "setuptools=="))]
    if installers:
        pip(installers, "[1] ", "--no-deps")
    install_torch(build, missing)
    install_rest(locked)
    pip(["-r", str(LOCK)], "", quiet=True)  # adds what only this platform needs
    pip(["-e", str(ROOT)], "", "--no-deps", "--no-build-isolation", quiet=True)
    STAMP.write_text(fingerprint(build))
    print("Ready: .venv is complete (%.0f s)." % (time.monotonic() - began), flush=True)


def make_venv():
    """Create .venv, or create it anew when its Python no longer runs or is of another version."""
    if PYTHON.exists():
        wanted = "import sys; sys.exit(sys.version_info[:2] != (%d, %d))" % sys.version_info[:2]
        if subprocess.call([str(PYTHON), "-c", wanted], stderr=subprocess.DEVNULL) == 0:
            return
    print("Making %s with Python %d.%d." % ((VENV,) + sys.version_info[:2]), flush=True)
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(VENV)]) != 0:
        raise SetupError(
            "This Python cannot make a virtual environment: on Debian, `apt install python3-venv` mends it."
        )


def installed():
    """The `name==version` pins that .venv already holds."""
    return set(subprocess.check_output([str(PYTHON), "-c", INSTALLED], universal_newlines=True).split())


def install_torch(build, missing):
    """torch before everything else, with its own needs held to the lock."""
    torch = [pin for pin in missing if pin.startswith("torch==")]
    if not torch:
        return
    print("[2] torch, the largest part; %d others after it." % (len(missing) - 1), flush=True)
    if build == "cpu":
        pip(torch, "    ", "--no-deps", "--index-url", CPU_INDEX)
    else:
        pip(torch, "    ", "--constraint", str(LOCK))


def install_rest(locked):
    """The others, a few at a time, so that an interruption loses little."""
    missing = [pin for pin in locked if pin not in installed()]
    for start in range(0, len(missing), BATCH):
        names = ", ".join(pin.partition("==")[0] for pin in missing[start : start + BATCH])
        print("[3] %d of %d left: %s" % (len(missing) - start, len(missing), names), flush=True)
        pip(missing[start : start + BATCH], "    ", "--no-deps")


def pip(what, label, *options, quiet=False):
    """Run pip install, passing on what it downloads; its own configuration is left as it is.

    Raises:
        SetupError: with pip's last error, when it fails.
    """
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "raw" if pip_tells_progress() else "off", *options, *what]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    errors, progress = [], Progress()
    for line in process.stdout:
        if line.startswith("ERROR:") or "No space left" in line:
            errors.append(line.strip())
        if line.startswith("Progress "):
            progress(line)
        elif not quiet and line.lstrip().startswith("Downloading "):
            print("%s%s" % (label, line.strip()), flush=True)
    if process.wait() != 0:
        reason = errors[-1] if errors else "pip ended with status %d" % process.returncode
        raise SetupError(
            "Installing stopped: %s\nWhat is installed stays; run the same command again to go on from there." % reason
        )


def pip_tells_progress():
    """Whether this pip has lines that tell how much has come (from 24.1 on)."""
    said = subprocess.check_output([str(PYTHON), "-m", "pip", "--version"], universal_newlines=True)
    return [int(part) for part in re.findall(r"\d+", said)[:2]] >= [24, 1]


class Progress:
    """How much of a long download has come, said every ten seconds."""

    def __init__(self):
        self.said = time.monotonic()

    def __call__(self, line):
        have, _, total = line[len("Progress ") :].strip().partition(" of ")
        if time.monotonic() - self.said > 10 and have.isdigit() and total.isdigit():
            self.said = time.monotonic()
            print("      %d of %d MB" % (int(have) / 1e6, int(total) / 1e6), flush=True)


if __name__ == "__main__":
    sys.exit(main())
