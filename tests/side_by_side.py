"""Which tests stay together when others run beside them (`pytest -n`): those that share what takes long to make."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

LESSON = re.compile(r"\[(\d\d)_[a-z0-9_]+\]")
OF_ONE_LESSON = ("test_nbval_finds", "test_a_fresh_run_is")


def group_of(nodeid: str) -> str:
    """The group of a test: in most cases its file."""
    file, _, test = nodeid.partition("::")
    folder = PurePosixPath(file).parent.name
    if folder == "sweeps":
        return folder  # they start workers of their own, and two at once would wait for each other
    if folder in ("browser", "site"):
        return "browser"
    lesson = LESSON.search(test)
    if lesson and test.startswith(OF_ONE_LESSON):
        return f"lesson {lesson[1]}"  # its committed notebook is run once for all of these
    return "a planted rate" if test.startswith("test_a_learning_rate_thirty_times") else file
