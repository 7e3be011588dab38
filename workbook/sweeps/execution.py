"""One run inside its own process: papermill with a cap on outputs, and every word redacted before it is written."""

from __future__ import annotations

import json
import time
from pathlib import Path

import nbformat
from papermill import execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from helpers.files import write_json, write_text
from helpers.redaction import redacted
from helpers.runtime import UserError
from workbook.lessons.execution import UNFINISHED, one_sentence
from workbook.lessons.outputs import joined
from workbook.lessons.pages import write_page
from workbook.sweeps.kernel import ForkedKernel, manager_of
from workbook.sweeps.ledger import CANNOT_WRITE, PROGRESS, REPORT

HOME = ("../../../index.html", "All runs of this sweep")
CAP = 4_000_000
CAPPED = f"The notebook printed more than {CAP / 1e6:.0f} MB: the rest was left out."
ERROR_LINES = 40
SAVE_EVERY = 10.0


class Capped(PapermillNotebookClient):
    """A notebook client that keeps a bounded amount of output."""

    kept = 0

    def output(self, outs, msg, display_id, cell_index):
        """Keep an output, or once the cap is reached a single note in its place; errors are always kept."""
        content = msg["content"]
        size = len(content.get("text", "")) + sum(len(str(value)) for value in content.get("data", {}).values())
        if self.kept + size <= CAP or msg["msg_type"] == "error":
            self.kept += size
            return super().output(outs, msg, display_id, cell_index)
        if self.kept <= CAP:
            text = content.get("text", "")[: CAP - self.kept]
            self.kept = CAP + 1
            outs.append(nbformat.v4.new_output("stream", name=content.get("name", "stdout"), text=text))
            outs.append(nbformat.v4.new_output("stream", name="stderr", text=f"\n{CAPPED}\n"))
        return None


class Writer:
    """Writes the notebook while it runs, now and then, and at its end."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name, self.saved = folder, name, 0.0
        self.seconds_cells, self.capped = 0.0, False

    def progress(self, cell: int, cells: int) -> None:
        """Tell whoever looks how far the run is; only a hint, so it is not forced to the disk."""
        (self.folder / PROGRESS).write_text(json.dumps({"cell": cell + 1, "cells": cells}))

    def save(self, notebook, final: bool = False) -> Path | None:
        """Write the notebook, redacted; between cells only every few seconds."""
        if not final and time.monotonic() - self.saved < SAVE_EVERY:
            return None
        self.saved = time.monotonic()
        plain = json.loads(json.dumps(notebook))  # not yet cut into lines, in which half a secret would not be known
        for cell in plain["cells"]:
            if "outputs" in cell:
                cell["outputs"] = joined(nbformat.from_dict(cell["outputs"]))
        path = write_text(self.folder / UNFINISHED, nbformat.writes(nbformat.from_dict(redacted(plain))) + "\n")
        return path.replace(self.folder / self.name) if final else None


def engine_for(writer: Writer, forked: ForkedKernel | None):
    """A papermill engine with this run's writer and kernel."""

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            started, total = nb_man.cell_start, len(nb_man.nb.cells)

            def cell_start(cell, cell_index=None, **more):
                writer.progress(cell_index, total)
                started(cell, cell_index=cell_index, **more)

            nb_man.cell_start = cell_start
            nb_man.save = lambda **_: writer.save(nb_man.nb)
            writer.notebook = nb_man.nb
            options = {"kernel_name": kernel_name, "kernel_manager_class": manager_of(forked)}
            client = Capped(nb_man, startup_timeout=60, timeout=None, **options)
            try:
                return client.execute()
            finally:
                writer.notebook, writer.capped = nb_man.nb, client.kept > CAP

    return Engine


def execute(job: dict, forked: ForkedKernel | None) -> int:
    """Run the job's notebook into its folder and report; return the exit status of this process."""
    folder, notebook = Path(job["folder"]), Path(job["notebook"])
    writer = Writer(folder, notebook.name)
    papermill_engines.register("sweep", engine_for(writer, forked))
    began = time.monotonic()
    error = _attempt(notebook, job, writer)
    seconds_kernel = time.monotonic() - began
    try:
        made = getattr(writer, "notebook", None)
        if made is not None:
            write_page(writer.save(made, final=True), figures=notebook.parent, lessons=[], home=HOME)
        report = {"error": error, "notes": [CAPPED] if writer.capped else [], "seconds_kernel": seconds_kernel}
        report["seconds_cells"] = _seconds(made.cells) if made else 0.0
        write_json(folder / REPORT, redacted(report))
    except (UserError, OSError) as failure:
        print(failure)
        return CANNOT_WRITE
    return 1 if error else 0


def _seconds(cells: list) -> float:
    """What the cells took, by papermill's clock."""
    return sum(cell.metadata.get("papermill", {}).get("duration") or 0.0 for cell in cells)


def _attempt(notebook: Path, job: dict, writer: Writer) -> dict | None:
    """Execute; return what went wrong, or None."""
    try:
        execute_notebook(
            str(notebook).replace("{", "{{").replace("}", "}}"),
            None,
            parameters=job["parameters"],
            engine_name="sweep",
            kernel_name=job["kernel"],
            language="python",
            progress_bar=False,
            cwd=str(notebook.parent).replace("{", "{{").replace("}", "}}"),
        )
    except PapermillExecutionError as failure:
        trace = "\n".join("\n".join(failure.traceback).splitlines()[-ERROR_LINES:])
        return {"cell": failure.exec_count, "name": failure.ename, "message": failure.evalue, "trace": trace}
    except Exception as failure:
        import traceback

        traceback.print_exc()
        dead = type(failure).__name__ in ("DeadKernelError", "RuntimeError")
        return {"cell": None, "name": "", "message": one_sentence(failure), "trace": "", "crashed": dead}
    return None
