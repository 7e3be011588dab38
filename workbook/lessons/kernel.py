"""The environment variables that a lesson's kernel starts with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from helpers.record import KEEP_MODEL

# Seconds that a cell's last messages may be late: nbclient waits 4, papermill then fails a run with all cells done,
# and a busy machine needs more.
LATE_MESSAGES = 120


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(
    *, threads: int, run_folder: Path | None = None, track: str = "pocket", keep_model: bool = False
) -> dict[str, str]:
    """This process's environment, plus variables that make a lesson repeatable, quiet and (pocket track) offline."""
    settings = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",  # otherwise Windows reads and writes files in another encoding
        "TQDM_DISABLE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "JUPYTER_PATH": with_own_kernels(os.environ.get("JUPYTER_PATH", "")),
    }
    if track == "pocket":
        settings |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if run_folder is not None:
        settings["WORKBOOK_RUN_DIR"] = str(run_folder)
    if keep_model:
        settings[KEEP_MODEL] = "1"
    inherited = dict(os.environ)
    # Dask makes its workers return freed memory to the system at once. Training allocates and frees the same tensors at
    # every step, and would spend a third of its time on this.
    inherited.pop("MALLOC_TRIM_THRESHOLD_", None)
    return {**inherited, **settings}


def with_own_kernels(path: str) -> str:
    """Jupyter's search path with this environment first, because a user's kernel `python3` may be another Python."""
    own = str(Path(sys.prefix) / "share" / "jupyter")
    return os.pathsep.join([own, *(part for part in path.split(os.pathsep) if part and part != own)])
