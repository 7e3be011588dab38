"""A task: one run of one notebook as it is sent to a worker, in plain values that can be pickled."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One run of a notebook.

    Args:
        key: the run's name in its campaign; in a sweep, its identity, computed from `state` and `parameters`.
        folder: has one folder for each attempt or, if not `numbered`, the files of the last attempt itself.
        state: hashes of the code that the run depends on; {} if changes do not matter.
        seconds: how long an attempt may take.
        retries: how often a crashed attempt is tried again.
        stop: a file; while it exists, running attempts are ended and no new attempt starts.
        pages: names of the notebooks whose pages are next to this one's.
        warm: whether the kernel may be forked from the worker, which has loaded what the notebook imports.
        home: the target and the text of the link at the top of the run's page.
        keep_model: whether a lesson that can keep its trained model does so.
    """

    key: str
    folder: str
    notebook: str
    parameters: dict[str, object]
    stop: str
    threads: int
    kernel: str = "python3"
    numbered: bool = True
    state: dict[str, str] = field(default_factory=dict)
    seconds: float = math.inf
    retries: int = 0
    warm: bool = False
    pages: list[str] = field(default_factory=list)
    home: tuple[str, str] = ("../index.html", "All lessons of this run")
    keep_model: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the command that sent this task was stopped."""
        return Path(self.stop).exists()
