"""Make .venv from requirements.lock, if the lock has changed; continue after a failed install.

The script needs only Python's standard library, and prints one sentence if that Python is too old.

On Linux without an NVIDIA device, the script takes torch's CPU build from PyTorch's own index if that index answers,
because the default build brings gigabytes of CUDA libraries. WORKBOOK_TORCH=cpu or =cuda overrides this choice. All
other packages come from pip's configured index. If uv is installed, it does pip's work in a fraction of the time.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("WORKBOOK_VENV") or ROOT / ".venv")
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "workbook-stamp"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BUILDS = ("", "cpu", "cuda")
NVIDIA = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")  # dxg: a GPU in WSL, the Linux of Windows
PATIENCE = 4.0  # seconds to wait for PyTorch's index
DISK = {"cpu": 2.6, "cuda": 8.0}  # GB of a complete .venv
BATCH = 10

INSTALLED = """
from importlib.metadata import distributions
import re
for item in distributions():
    print(re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower() + "==" + item.version.partition("+")[0])
"""


class SetupError(Exception):
    """A problem to show to the user; the message is one sentence."""


def main():
    try:
        if sys.version_info < OLDEST:
            use_newer_python()
        build = os.environ.get("WORKBOOK_TORCH", "")
        if build not in BUILDS:
            raise SetupError('WORKBOOK_TORCH is "%s", but the builds it can name are "cpu" and "cuda".' % build)
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
    """Run this script again with a newer Python, if this machine has one that is new enough."""
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
    """Return a hash of what the environment depends on: the lock, pyproject.toml, torch's build, and the folder."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), build.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def install(build):
    """Install what .venv lacks of the lock, and print what is downloaded and how much is left."""
    began = time.monotonic()
    make_venv()
    locked = [line for line in LOCK.read_text().split() if re.match(r"^[a-z0-9.-]+==", line)]
    if build:
        drop_other_torch(build)
    missing = [pin for pin in locked if pin not in installed()]
    torch = [pin for pin in missing if pin.startswith("torch==")]
    if missing:
        print("Setting up .venv: %d of %d packages to install." % (len(missing), len(locked)), flush=True)
    source = torch_source(build, torch[0]) if torch else Source("", "", False)
    if torch:
        check_disk(DISK["cpu" if source.small else "cuda"])
        print(source.said, flush=True)
    uv = shutil.which("uv")
    if not (uv and install_with_uv(uv, source, torch)):
        install_with_pip(source, torch, missing, locked)
    STAMP.write_text(fingerprint(build))
    print("Ready: .venv is complete (%.0f s)." % (time.monotonic() - began), flush=True)


def check_disk(wanted):
    """Print how much disk .venv takes, and whether that much is free."""
    free = shutil.disk_usage(str(VENV)).free / 1e9
    short = " That may be too little." if free < wanted else ""
    print(".venv takes up to %.1f GB of disk; %.1f GB are free.%s" % (wanted, free, short), flush=True)


class Source:
    """Where torch comes from: an index ("" for pip's default), a sentence for the user, whether CUDA is left out."""

    def __init__(self, index, said, small):
        self.index, self.said, self.small = index, said, small


def torch_source(build, pin):
    """Choose between PyTorch's CPU index and pip's default index."""
    cpu_only = sys.platform.startswith("linux") and not any(Path(name).exists() for name in NVIDIA)
    if build == "cuda" or (build == "" and not cpu_only):
        return Source("", "torch comes from where pip usually looks.", not sys.platform.startswith("linux"))
    size, trouble = cpu_build(pin)
    if size or build == "cpu":
        much = ": %.0f MB to download, unless a cache has it" % (size / 1e6) if size else ""
        why = "" if build else "This machine has no NVIDIA GPU. "
        return Source(CPU_INDEX, "%sTaking torch's CPU build%s." % (why, much), True)
    said = "This machine has no NVIDIA GPU, but PyTorch's own index %s: torch comes from where pip usually looks."
    return Source("", said % trouble, False)


def cpu_build(pin):
    """Return (the bytes of the CPU wheel for this Python, ""), or (0, why PyTorch's index cannot provide it)."""
    answer = []

    def ask():
        try:
            page = CPU_INDEX + "/torch/"
            with urllib.request.urlopen(page, timeout=PATIENCE) as reply:
                wheels = re.findall(r'href="([^"#]+\.whl)', reply.read().decode("utf-8", "replace"))
            name = "torch-%s+cpu-cp%d%d-cp" % ((pin.partition("==")[2],) + sys.version_info[:2])
            machine = "%s.whl" % platform.machine()
            fit = [one for one in wheels if name in urllib.parse.unquote(one) and one.endswith(machine)]
            if not fit:
                answer.append((0, "has no %s for this Python" % pin))
                return
            asked = urllib.request.Request(urllib.parse.urljoin(page, fit[0]), method="HEAD")
            with urllib.request.urlopen(asked, timeout=PATIENCE) as reply:
                answer.append((int(reply.headers.get("Content-Length") or 0) or 1, ""))
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            answer.append((0, "cannot be reached (%s)" % (getattr(reason, "strerror", None) or reason)))

    # A daemon thread with a time limit, because the DNS look-up ignores the timeout.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * PATIENCE)
    return answer[0] if answer else (0, "does not answer")


def drop_other_torch(build):
    """Uninstall torch if its build is not the one that WORKBOOK_TORCH names."""
    code = "from importlib.metadata import version; print(version('torch'))"
    found = subprocess.run([str(PYTHON), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if found.returncode == 0 and sys.platform.startswith("linux") and (b"+cpu" in found.stdout) != (build == "cpu"):
        subprocess.call([str(PYTHON), "-m", "pip", "uninstall", "--quiet", "--yes", "torch"])


def install_with_uv(uv, source, torch):
    """Install everything with uv. If uv fails, print why and return False."""
    print("Using uv (%s)." % uv, flush=True)
    pip = pip_settings()
    settings = uv_settings(pip)
    command = [uv, "pip", "install", "--python", str(PYTHON)]
    if pip.get("no-index", "0").lower() in ("1", "true", "yes", "on"):
        command.append("--no-index")
    steps = [
        (settings, ["-r", str(LOCK)]),
        (settings, ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]),
    ]
    if source.index and torch:
        steps.insert(0, (dict(settings, UV_DEFAULT_INDEX=source.index), ["--no-deps"] + torch))
    for there, step in steps:
        process = subprocess.Popen(
            command + step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, env=there
        )
        last = ""
        for line in process.stdout:
            last = line.strip() or last
            if last.startswith("Downloading "):
                print("    %s" % last, flush=True)
        if process.wait() != 0:
            print("uv stopped (%s). Going on with pip." % last.lstrip("\u2570\u2500\u25b6\u00d7 "), flush=True)
            return False
    return True


def pip_settings():
    """Return pip's settings, from its configuration files and from the environment, which overrides them."""
    said = subprocess.check_output([str(PYTHON), "-m", "pip", "config", "list"], universal_newlines=True)
    found = {}
    for section in ("global", "install", ":env:"):
        found.update(re.findall(r"^%s\.([a-z-]+)='(.*)'$" % section, said, re.MULTILINE))
    return found


def uv_settings(pip):
    """Return environment variables that make uv use pip's settings, because uv does not read pip's configuration."""
    settings = dict(os.environ)
    for name, variable, between in (
        ("index-url", "UV_DEFAULT_INDEX", " "),
        ("extra-index-url", "UV_EXTRA_INDEX_URL", " "),
        ("find-links", "UV_FIND_LINKS", ","),
        ("constraint", "UV_CONSTRAINT", " "),
        ("trusted-host", "UV_INSECURE_HOST", " "),
        ("cert", "SSL_CERT_FILE", " "),
        ("proxy", "ALL_PROXY", " "),
    ):
        if name in pip:
            settings.setdefault(variable, between.join(pip[name].replace("\\n", " ").split()))
    settings.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # pip's way to choose among several indexes
    return settings


def install_with_pip(source, torch, missing, locked):
    """Install torch, then the others in small groups, so that an interruption loses little."""
    installers = [pin for pin in missing if pin.startswith(("pip==", "setuptools=="))]
    if installers:
        pip(installers, "[1] ", "--no-deps")
    install_torch(source, torch, missing)
    install_rest(locked)
    pip(["-r", str(LOCK)], "", quiet=True)  # adds what only this platform needs
    pip(["-e", str(ROOT)], "", "--no-deps", "--no-build-isolation", quiet=True)


def make_venv():
    """Create .venv, or recreate it if its Python no longer runs or has another version."""
    if PYTHON.exists():
        wanted = "import sys; sys.exit(sys.version_info[:2] != (%d, %d))" % sys.version_info[:2]
        if subprocess.call([str(PYTHON), "-c", wanted], stderr=subprocess.DEVNULL) == 0:
            return
    print("Making %s with Python %d.%d." % ((VENV,) + sys.version_info[:2]), flush=True)
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(VENV)]) != 0:
        raise SetupError(
            "This Python cannot make a virtual environment: install it with `apt install python3-venv` on Debian."
        )


def installed():
    """Return the `name==version` pins that .venv contains."""
    return set(subprocess.check_output([str(PYTHON), "-c", INSTALLED], universal_newlines=True).split())


def install_torch(source, torch, missing):
    """Install torch before everything else. The packages that it needs come in the lock's versions."""
    if not torch:
        return
    print("[2] torch, the largest part; %d others after it." % (len(missing) - 1), flush=True)
    if source.index:
        pip(torch, "    ", "--no-deps", "--index-url", source.index)
    else:
        size = download_size(torch)
        if size:
            print("    %.0f MB to download, unless a cache has them." % (size / 1e6), flush=True)
        pip(torch, "    ", "--constraint", str(LOCK))


def download_size(torch):
    """Return the bytes that pip would download for torch and its own dependencies, or 0 if they are unknown."""
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--dry-run", "--report", "-", "--no-input"]
    report = subprocess.run(
        command + ["--constraint", str(LOCK)] + torch, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    total = 0
    try:
        for item in json.loads(report.stdout.decode("utf-8"))["install"]:
            if item["download_info"]["url"].startswith("file:"):
                continue  # already on this disk
            asked = urllib.request.Request(item["download_info"]["url"], method="HEAD")
            with urllib.request.urlopen(asked, timeout=PATIENCE) as reply:
                total += int(reply.headers["Content-Length"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return total


def install_rest(locked):
    """Install the other packages in small groups, so that an interruption loses little."""
    missing = [pin for pin in locked if pin not in installed()]
    for start in range(0, len(missing), BATCH):
        names = ", ".join(pin.partition("==")[0] for pin in missing[start : start + BATCH])
        print("[3] %d of %d left: %s" % (len(missing) - start, len(missing), names), flush=True)
        pip(missing[start : start + BATCH], "    ", "--no-deps")


def pip(what, label, *options, quiet=False):
    """Run `pip install` and print what it downloads. pip's configuration is not changed.

    Raises:
        SetupError: pip failed; the message has pip's last error.
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
    """Return whether this pip can print progress lines (from 24.1 on)."""
    said = subprocess.check_output([str(PYTHON), "-m", "pip", "--version"], universal_newlines=True)
    return [int(part) for part in re.findall(r"\d+", said)[:2]] >= [24, 1]


class Progress:
    """Prints, every ten seconds, how much of a long download has arrived."""

    def __init__(self):
        self.said = time.monotonic()

    def __call__(self, line):
        have, _, total = line[len("Progress ") :].strip().partition(" of ")
        if time.monotonic() - self.said > 10 and have.isdigit() and total.isdigit():
            self.said = time.monotonic()
            print("      %d of %d MB" % (int(have) / 1e6, int(total) / 1e6), flush=True)


if __name__ == "__main__":
    sys.exit(main())
