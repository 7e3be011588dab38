"""What has to be in the environment before a lesson's kernel starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from helpers.record import KEEP_MODEL


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(
    *, threads: int, run_folder: Path | None = None, track: str = "pocket", keep_model: bool = False
) -> dict[str, str]:
    """This process's environment with what makes a lesson repeatable, quiet and, on the pocket track, offline."""
    settings = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",  # Windows would read and write files in another encoding
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
    # Dask tells its workers to give freed memory back at once. Training frees and takes the same tensors at every step,
    # and would spend a third of its time on that.
    inherited.pop("MALLOC_TRIM_THRESHOLD_", None)
    return {**inherited, **settings}


def with_own_kernels(path: str) -> str:
    """Jupyter's search path with this environment first: a `python3` that a user registered once may be any Python."""
    own = str(Path(sys.prefix) / "share" / "jupyter")
    return os.pathsep.join([own, *(part for part in path.split(os.pathsep) if part and part != own)])
