"""Where runs happen: workers of this machine, a scheduler that is running already, or Slurm."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from helpers.runtime import UserError, nearest

LOOPBACK = "127.0.0.1"
WAIT_FOR_WORKERS = 120
SLURM_DEFAULTS = {"cores": 1, "memory": "4GB", "processes": 1}


def quiet() -> None:
    """Keep Dask's own log off the screen, and notice a lost scheduler within seconds."""
    import dask

    dask.config.set({"distributed.comm.timeouts.connect": "10s", "distributed.admin.tick.limit": "60s"})
    import distributed  # noqa: F401 - only after its import do all of its loggers exist, each with a level of its own

    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def local(workers: int) -> Iterator:
    """A client of a cluster on this machine, which begins and ends here; each worker does one run at a time."""
    import dask
    from distributed import Client, LocalCluster

    quiet()
    # A laptop that slept for an hour must not find its workers given up; one that dies is noticed without this.
    dask.config.set({"distributed.scheduler.worker-ttl": None})
    # Workers only wait for their runs. Looking at itself fifty times a second took each process a thirtieth of a core.
    dask.config.set({"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "500ms"})
    with (
        tempfile.TemporaryDirectory(prefix="sweep-dask-", ignore_cleanup_errors=True) as scratch,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host=LOOPBACK,
            dashboard_address=f"{LOOPBACK}:0",
            memory_limit=0,  # the runs are processes of their own, which Dask's limit would not see
            local_directory=scratch,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def external(address: str) -> Iterator:
    """A client of a scheduler that somebody else runs.

    Raises:
        UserError: nothing answers there, or it has no worker.
    """
    from distributed import Client

    quiet()
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"No Dask scheduler answers at {address}: start one with `dask scheduler --host {LOOPBACK}`."
        ) from error
    with client:
        _wait(client, f"No worker has joined {address}: start some with `dask worker {address} --nthreads 1`.")
        yield client


@contextmanager
def slurm(file: Path, workers: int) -> Iterator:
    """A client of Slurm jobs, one worker each."""
    from distributed import Client

    quiet()
    with slurm_cluster(file) as cluster, Client(cluster, set_as_default=False) as client:
        cluster.scale(jobs=workers)
        # A queue can take hours: the runs wait for workers, not this command.
        yield client


def slurm_cluster(file: Path):
    """The cluster that a file of dask-jobqueue's settings describes; nothing is submitted yet.

    Raises:
        UserError: dask-jobqueue is not installed, or the file or a setting in it is not as it should be.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise UserError("Slurm needs one more package: pip install 'fine-tuning-workbook[slurm]'.") from None
    settings = {**SLURM_DEFAULTS, **slurm_settings(file)}
    options = {"dashboard_address": f"{LOOPBACK}:0", **settings.pop("scheduler_options", {})}
    # One run per worker; its process, not Dask's worker, is what takes the memory and all the cores of the job.
    extra = [*settings.pop("worker_extra_args", []), "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
    try:
        return SLURMCluster(
            **settings, worker_extra_args=extra, scheduler_options=options, silence_logs=logging.CRITICAL
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{file.name}: {error}") from None


def slurm_settings(file: Path) -> dict:
    """The settings in a Slurm file, names checked.

    Raises:
        UserError: the file is missing or not plain YAML, or holds an unknown setting.
    """
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"There is no file {file} with settings for Slurm.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"{file.name} is not plain YAML.") from None
    if not isinstance(found, dict):
        raise UserError(f"{file.name} has to hold settings such as `queue:` and `walltime:`.")
    for name in found:
        if name not in SLURM_NAMES:
            raise UserError(f'{file.name}: there is no setting "{name}".{nearest(name, SLURM_NAMES)}')
    return found


SLURM_NAMES = (
    *("queue", "account", "walltime", "cores", "memory", "processes", "job_cpu", "job_mem", "job_extra_directives"),
    *("job_directives_skip", "job_script_prologue", "worker_extra_args", "interface", "scheduler_options", "python"),
    *("local_directory", "log_directory", "shebang"),
)


def _wait(client, sentence: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS if client.cluster else 15)
    except (TimeoutError, OSError):
        raise UserError(sentence) from None


def slots(client) -> dict[str, int]:
    """Host -> how many runs its workers do at a time."""
    found: dict[str, int] = {}
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        found[worker["host"]] = found.get(worker["host"], 0) + worker["nthreads"]
    return found
