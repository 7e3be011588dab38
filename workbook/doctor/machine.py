"""Checks the machine's memory, cores, GPU and connection to the hub."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from workbook.doctor.check import Check
from workbook.lessons.kernel import cores

GIGABYTE = 1e9
HUB = "https://huggingface.co"  # default for $HF_ENDPOINT; huggingface_hub may be missing
LIMIT = Path("/sys/fs/cgroup/memory.max")  # memory limit of a Linux container; missing on other systems
PATIENCE = 3.0  # seconds for the hub to answer


def memory() -> Check:
    """Is there enough free memory for a lesson?"""
    try:
        import psutil
    except ImportError:
        return Check("free memory", "unknown: psutil is missing", False, "Fix the packages first.", needed=False)
    free = min(psutil.virtual_memory().available, _limit(LIMIT)) / GIGABYTE
    advice = "A lesson takes up to 2 GB: close other programs, or run lessons one at a time (--jobs 1)."
    return Check("free memory", f"{free:.1f} GB", free > 2, advice)


def _limit(file: Path) -> float:
    try:
        return float(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return float("inf")


def processor() -> Check:
    """How many cores are there?"""
    count = cores()
    return Check("cores", str(count), count > 1, "With one core the lessons take about twice as long.", needed=False)


def graphics() -> Check:
    """Is there a GPU that torch can use?"""
    try:
        import torch
    except ImportError:
        return Check("GPU", "unknown: torch is missing", False, "Fix the packages first.", needed=False)
    if torch.cuda.is_available():
        return Check("GPU", torch.cuda.get_device_name())
    if torch.backends.mps.is_available():
        return Check("GPU", "Apple's, used only with WORKBOOK_DEVICE=mps; none is needed")
    return Check("GPU", "none, and none is needed")


def hub(seconds: float = PATIENCE) -> Check:
    """Can the Hugging Face Hub be reached? A failure is only a warning, because only `track = "hub"` uses it."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Check("hub", "not asked, because HF_HUB_OFFLINE is set; the pocket track needs none")
    address = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    host = urlsplit(address).hostname or "the hub"  # the address itself may contain a password
    said: list[str] = []
    # The request runs in a thread, because DNS look-up ignores the timeout. A daemon thread does not delay exit.
    asking = threading.Thread(target=lambda: said.append(_answer(address, seconds)), daemon=True)
    asking.start()
    asking.join(seconds + 0.5)
    if said == [""]:
        return Check("hub", f"{host} answers")
    why = said[0] if said else "no answer in time"
    advice = 'Nothing to do for track = "pocket"; for "hub", connect to a network, or set HF_ENDPOINT to a mirror.'
    return Check("hub", f"{host} cannot be reached ({why})", False, advice, needed=False)


def _answer(address: str, seconds: float) -> str:
    """Why the address does not answer; "" for any answer, even an HTTP error."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds):
            return ""
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return (getattr(reason, "strerror", None) or str(reason) or type(reason).__name__).strip().lower()
