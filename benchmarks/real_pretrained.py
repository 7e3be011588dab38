"""Measure the figures that lesson 01 shows without the real track's files: data/reference/real_pretrained.json.

python benchmarks/real_pretrained.py      runs the lesson with the files (`make real`), a few minutes of one core

Section 7 of the lesson does the measuring. Its exercises stay unsolved, so it uses the libraries' own functions.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from helpers import real
from helpers.files import write_json
from helpers.reference import FOLDER, machine, today
from helpers.runtime import UserError
from workbook.editions.cells import from_source
from workbook.lessons import find
from workbook.lessons.kernel import environment

PARTS = ("encoder", "decoder", "texts")
KEEP = "from pathlib import Path as _Path\n_Path({path!r}).write_text(json.dumps(kept), 'utf-8')"


def measured() -> dict[str, object]:
    """Run lesson 01 in a fresh kernel, and return what its section 7 measures.

    Raises:
        UserError: the real track's files are not complete.
    """
    if missing := real.trouble(PARTS):
        raise UserError(missing)
    lesson = next(lesson for lesson in find() if lesson.number == "01")
    notebook = from_source(lesson.source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kept.json"
        notebook.cells.append(new_code_cell(KEEP.format(path=str(path))))
        about = {"metadata": {"path": str(lesson.path.parent)}}
        client = NotebookClient(notebook, kernel_name="python3", timeout=1800, resources=about)
        client.execute(env=environment(threads=1, run_folder=Path(folder)))
        return json.loads(path.read_text("utf-8"))


if __name__ == "__main__":
    label = (
        f"measured on {today()}, {machine()}, one thread, by the code of this section (benchmarks/real_pretrained.py)"
    )
    print(write_json(FOLDER / "real_pretrained.json", {"label": label, **measured()}))
