"""Loads libraries once for all workers, in their server: importing this module imports what $WORKBOOK_PRELOAD names.

`multiprocessing` can make its server import modules. But libraries such as transformers load most of their parts only
when a name is accessed, so this module accesses the names that a notebook imports.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
from pathlib import Path

VARIABLE = "WORKBOOK_PRELOAD"


def load(module: str, name: str) -> None:
    """Import a module and its `name` silently; an import that fails here will fail visibly in the notebook's cell."""
    with (
        contextlib.suppress(Exception),
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        found = importlib.import_module(module)
        if name and name != "*" and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")


if wanted := os.environ.pop(VARIABLE, ""):
    for pair in json.loads(wanted):
        load(*pair)
    gc.collect()
    gc.freeze()  # otherwise garbage collection in a fork would write to the shared memory, and so copy it
