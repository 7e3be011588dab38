"""The start of a lesson: checks its parameters, sets the seed, and shows a `UserError` without its traceback."""

from __future__ import annotations

import difflib
import logging
import math
import os
import random
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from helpers.guard import NOTICES

TRACKS = ("pocket", "real", "hub")
BUDGETS = ("quick", "standard", "full")


class UserError(Exception):
    """An error that the user can fix; the message explains it in one sentence."""


@dataclass(frozen=True)
class Runtime:
    """The settings of a lesson's run: track, budget, seed, device and number of threads."""

    track: str
    budget: str
    seed: int
    device: str
    threads: int

    def by_budget(self, *, quick, standard, full=None):
        """Return the value for this run's budget; if `full` is None, the budget "full" takes `standard`."""
        values = {"quick": quick, "standard": standard, "full": full}
        value = values[self.budget]
        return standard if value is None else value


_latest: list[Runtime] = []


def latest() -> Runtime | None:
    """Return the runtime of this process's lesson, or None before `start`; only for comments on results."""
    return _latest[-1] if _latest else None


def nearest(name: object, options: Iterable[str]) -> str:
    """Return ' Did you mean "x"?' with the option closest to `name`, or '' if none is close."""
    options = {option.lower(): option for option in options}
    close = difflib.get_close_matches(str(name).lower(), list(options), n=1, cutoff=0.5)
    return f' Did you mean "{options[close[0]]}"?' if close else ""


def choose(name: str, value: object, options: Iterable[str]) -> str:
    """Return `value` if it is one of `options`.

    Raises:
        UserError: names the parameter, the options and the nearest option.
    """
    options = tuple(options)
    if isinstance(value, str) and value in options:
        return value
    listed = ", ".join(f'"{option}"' for option in options)
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    hint = nearest(value, options)
    raise UserError(f"{name} is {shown}, but it has to be one of {listed}.{hint}")


def check_number(name: str, value: object, low: float, high: float, integer: bool = False):
    """Return `value` if it is a number from `low` to `high`, both included.

    Raises:
        UserError: names the parameter, its value and the range.
    """
    kinds = (int,) if integer else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        kind = "a whole number" if integer else "a number"
        raise UserError(f"{name} is {value!r}, but it has to be {kind} from {low} to {high}.")
    if math.isnan(value) or not low <= value <= high:
        raise UserError(f"{name} is {value!r}, but it has to lie from {low} to {high}.")
    return value


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def start(*, track: str, budget: str, seed: int, threads: int | None = None) -> Runtime:
    """Check the parameters that every lesson has, and make the run reproducible.

    Args:
        threads: number of torch threads; None keeps the number from the environment (`OMP_NUM_THREADS`).

    Raises:
        UserError: when a parameter is not one of the allowed values.
    """
    import torch

    show_user_errors()
    choose("track", track, TRACKS)
    choose("budget", budget, BUDGETS)
    check_number("seed", seed, 0, 2**32 - 1, integer=True)
    if threads is not None:
        check_number("threads", threads, 1, 1024, integer=True)
    NOTICES.clear()
    quiet_libraries(offline=track != "hub")
    device = _device()
    _make_deterministic(device)
    if threads is not None:
        torch.set_num_threads(threads)
    seed_everything(seed)
    _latest[:] = [Runtime(track, budget, seed, device, torch.get_num_threads())]
    return _latest[0]


def quiet_libraries(*, offline: bool) -> None:
    """Silence progress bars and notices that a learner cannot act on; with `offline`, also forbid downloads."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if offline and "transformers" not in sys.modules and "datasets" not in sys.modules:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    for name in ("accelerate", "peft", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


def _make_deterministic(device: str) -> None:
    """Make torch use deterministic algorithms."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # On a CPU, oneDNN caches up to a thousand plans, one per batch shape. They take gigabytes and save no time.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    # A few GPU operations have no deterministic version. There, torch warns instead of raising an error.
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    # Otherwise torch fills new memory with NaN to expose reads before writes, which costs TRL a sixth of its time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch adds it at run time


def _device() -> str:
    """Return the device in WORKBOOK_DEVICE, else "cuda" if available, else "cpu".

    Apple's "mps" has to be requested, because the lessons on 4-bit weights need a library that does not support it.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    wanted = os.environ.get("WORKBOOK_DEVICE", "") or ("cuda" if available["cuda"] else "cpu")
    choose("WORKBOOK_DEVICE", wanted, available)
    if not available[wanted]:
        raise UserError(f'WORKBOOK_DEVICE is "{wanted}", but torch finds no such device here; unset it.')
    return wanted


def show_user_errors() -> None:
    """In a notebook, show a `UserError` as its message without the traceback; the cell still fails."""
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is None:
        return

    def sentence_only(shell, kind, error, trace, tb_offset=None):
        lines = [f"{error}"]
        shell._showtraceback(kind, error, lines)
        return lines

    shell.set_custom_exc((UserError,), sentence_only)
