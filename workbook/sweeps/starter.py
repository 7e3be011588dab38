"""A process that has the libraries loaded and makes lanes, copies of itself: imports are paid once, not per run.

    python -m workbook.sweeps.starter LISTENER SETUP      LISTENER is an inherited socket's number,
                                                         SETUP is JSON: imports [[module, name]...]

Whoever connects to the socket gets a lane, `workbook.sweeps.lane`, which does one run after the other. When standard
input closes, because whoever started this process died, it ends; lanes end with those that they work for.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import nbformat

from workbook.sweeps import lane
from workbook.sweeps.kernel import be_called


def main() -> None:
    listener, setup = socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2])
    be_called("sweep-starter")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the worker's, which a notebook does not want
    # jsonschema would build a grammar of international addresses: a second, for what no notebook's schema asks.
    sys.modules.setdefault("rfc3987_syntax", None)
    # What every run needs, and then what this notebook needs.
    for module, name in [("workbook.sweeps.execution", ""), ("ipykernel.ipkernel", ""), *setup["imports"]]:
        load(module, name)
    warm_up_pages()
    gc.collect()
    gc.freeze()  # what is loaded stays shared: collecting it in a copy would touch, and so copy, its memory
    wake = lane.watch_children()
    while True:
        ready, _, _ = select.select([0, listener, wake], [], [])
        if 0 in ready:
            shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)
            return
        if wake in ready:
            os.read(wake, 4096)
            forget_ended()
        if listener in ready:
            give_lane(listener, setup["warm"])


def give_lane(listener: socket.socket, warm: bool) -> None:
    """Make a lane for whoever connects; one that cannot be made now is missed by its worker alone."""
    try:
        with listener.accept()[0] as connection:
            if os.fork() == 0:
                listener.close()
                lane.serve(connection, warm)
    except OSError:  # no more processes or files are allowed
        time.sleep(0.5)


def forget_ended() -> None:
    """Lanes that ended need not be remembered by the system."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue


def load(module: str, name: str) -> None:
    """Import ahead; what cannot be imported is the notebook's own trouble, in its own cell."""
    with contextlib.suppress(Exception), Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        made = importlib.import_module(module)
        if name and name != "*" and not hasattr(made, name):
            importlib.import_module(f"{module}.{name}")


def warm_up_pages() -> None:
    """Make a page of nothing much: its templates and highlighters are loaded once instead of in every run."""
    from workbook.lessons.pages import body_of

    new = nbformat.v4
    body_of(new.new_notebook(cells=[new.new_markdown_cell("# $x$\n\n- *a*"), new.new_code_cell("x = 1")]), Path())


if __name__ == "__main__":
    main()
