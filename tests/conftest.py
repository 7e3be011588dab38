"""What all tests share: a quiet, offline environment on one thread, and small courses made on the spot."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ.update(
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    TQDM_DISABLE="1",
    PYTHONHASHSEED="0",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
)

import nbformat
import pytest

from tests.side_by_side import group_of

# A suite started in the background (`make test &`) ignores Ctrl-C, and so would every command it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Side by side (`pytest -n`), tests that share what they make stay together (xdist's own groups miss pytest 9)."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Together(config, log)


PARAMETERS = (
    'track = "pocket"  # which models\nbudget = "quick"  # how much\nseed = 0  # of chance\nrate = 0.1  # a number'
)
RECORD = """
from helpers.record import record
record({name!r}, {{"budget": budget, "seed": seed}}, accuracy_full=0.5 + seed / 100, seconds_full=1.0)
"""


class Course:
    """A folder of tiny lessons, each with parameters, the cells given, and a record at its end."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True)

    def add(self, name: str, *cells: str, record: bool = True) -> Path:
        """Write one notebook; a cell that starts with "# " is Markdown."""
        last = [RECORD.format(name=name).strip()] if record else []
        made = [nbformat.v4.new_markdown_cell(f"# Is {name} well?")]
        made.append(nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
        for text in (*cells, *last):
            kind = nbformat.v4.new_markdown_cell if text.startswith("# ") else nbformat.v4.new_code_cell
            made.append(kind(text))
        path = self.folder / f"{name}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=made), path)
        return path


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path / "notebooks")


@pytest.fixture(scope="session")
def nbval():
    from tests.verification import run_nbval  # loads the ledger and the engine, which few tests need

    return run_nbval
