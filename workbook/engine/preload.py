"""What the server of workers loads once for all of them: importing this module imports what $WORKBOOK_PRELOAD names.

`multiprocessing` lets its server import modules by their names; libraries such as transformers load most of what a
notebook wants only when it is asked for by name, so the names are asked for here.
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
    """Import ahead, silently; what cannot be imported is the notebook's own trouble, in its own cell."""
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
    gc.freeze()  # what is loaded stays shared: collecting it in a copy would touch, and so copy, its memory
