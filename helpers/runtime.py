"""How a lesson starts: its parameters are checked, the seed is set, and an error becomes one sentence."""

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
    """Something that the person at the keyboard can fix, explained in one sentence."""


@dataclass(frozen=True)
class Runtime:
    """What a lesson runs with."""

    track: str
    budget: str
    seed: int
    device: str
    threads: int

    def by_budget(self, *, quick, standard, full=None):
        """The value that belongs to this run's budget; `full` falls back to `standard`."""
        values = {"quick": quick, "standard": standard, "full": full}
        value = values[self.budget]
        return standard if value is None else value


_latest: list[Runtime] = []


def latest() -> Runtime | None:
    """What this process's lesson runs with, for what only comments on its results; None before its `start`."""
    return _latest[-1] if _latest else None


def nearest(name: object, options: Iterable[str]) -> str:
    """' Did you mean "x"?' for the option closest to `name`, or '' when none is close."""
    options = {option.lower(): option for option in options}
    close = difflib.get_close_matches(str(name).lower(), list(options), n=1, cutoff=0.5)
    return f' Did you mean "{options[close[0]]}"?' if close else ""


def choose(name: str, value: object, options: Iterable[str]) -> str:
    """Return `value` if it is one of `options`.

    Raises:
        UserError: naming the parameter, the options and the nearest one.
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
        UserError: naming the parameter, its value and the range.
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
    """Check the parameters that every lesson has, and make the run repeatable.

    Args:
        threads: threads for torch; None keeps what the environment says (`OMP_NUM_THREADS`).

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
    """Silence progress bars and notices that a learner can do nothing about."""
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
    """Ask torch for repeatable algorithms."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Matrix products on the CPU cache a plan for every new batch shape, up to a thousand: gigabytes, and no faster.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    # A few GPU operations have no repeatable form: there a warning, not an error.
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    # Filling new memory with NaN would find reads before writes, but it costs TRL a sixth of its time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch adds it when run


def _device() -> str:
    """CUDA where there is one, else the CPU; WORKBOOK_DEVICE asks for another.

    Apple's "mps" is taken only when asked for: the lessons on four bits need a library that does not support it.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    wanted = os.environ.get("WORKBOOK_DEVICE", "") or ("cuda" if available["cuda"] else "cpu")
    choose("WORKBOOK_DEVICE", wanted, available)
    if not available[wanted]:
        raise UserError(f'WORKBOOK_DEVICE is "{wanted}", but torch finds no such device here; unset it.')
    return wanted


def show_user_errors() -> None:
    """In a notebook, print a `UserError` as its sentence alone; the cell still fails."""
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
