"""One lesson in a process of its own: papermill runs it, lines of JSON on stdout tell how far it is.

    python -m workbook.lessons.execution JOB      JOB is a JSON object: notebook, folder, parameters, pages

The process ends, with its kernel, when whoever started it closes its standard input or dies.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path

UNFINISHED = "unfinished.ipynb"


def tell(**event: object) -> None:
    """Send one event to whoever started this process."""
    sys.__stdout__.write(json.dumps(event) + "\n")
    sys.__stdout__.flush()


def end_with_starter() -> None:
    """Kill this process and all below it once standard input is closed."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock would trouble the end of the process
        import psutil

        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(130)

    threading.Thread(target=wait, daemon=True).start()


def telling_engine():
    """A papermill engine that tells each cell as it starts."""
    from papermill.engines import NBClientEngine

    class Telling(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            started, total = nb_man.cell_start, len(nb_man.nb.cells)

            def cell_start(cell, cell_index=None, **more):
                tell(cell=cell_index, cells=total)
                return started(cell, cell_index=cell_index, **more)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    return Telling


def execute(notebook: Path, folder: Path, parameters: dict[str, object]) -> dict | None:
    """Run `notebook` with `parameters` into `folder`; return what went wrong, or None."""
    from papermill import execute_notebook
    from papermill.engines import papermill_engines
    from papermill.exceptions import PapermillExecutionError

    papermill_engines.register("telling", telling_engine())
    unfinished = folder / UNFINISHED
    error = None
    try:
        execute_notebook(
            *(str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, unfinished)),
            parameters=parameters,
            engine_name="telling",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=str(notebook.parent).replace("{", "{{").replace("}", "}}"),
        )
    except PapermillExecutionError as failure:
        error = {"cell": failure.exec_count, "name": failure.ename, "message": failure.evalue}
    except Exception as failure:
        traceback.print_exc()
        error = {"cell": None, "name": "", "message": one_sentence(failure)}
    if unfinished.is_file():
        unfinished.replace(folder / notebook.name)
    return error


def one_sentence(failure: Exception) -> str:
    """What a failure outside the lesson's own code means."""
    if isinstance(failure, OSError) and failure.errno is not None:
        return f"{failure.strerror}, while the executed notebook was written: make room, then run it again."
    if type(failure).__name__ == "DeadKernelError":
        return "The kernel died in the middle of a cell; most often the memory was not enough."
    if type(failure).__name__ == "NoSuchKernel":
        return "Jupyter knows no Python kernel here: `make doctor` says how to mend it."
    return f"{type(failure).__name__}: {(str(failure).strip().splitlines() or ['no message'])[0]}"


def main() -> int:
    end_with_starter()
    job = json.loads(sys.argv[1])
    notebook, folder = Path(job["notebook"]), Path(job["folder"])
    error = execute(notebook, folder, job["parameters"])
    if (folder / notebook.name).is_file():
        from workbook.lessons.pages import write_page

        tell(page=True)
        write_page(folder / notebook.name, figures=notebook.parent, lessons=job["pages"])
    if error:
        tell(error=error)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main())
