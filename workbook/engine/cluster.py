"""Executors for a Dask cluster, with a scheduler that is already running or on Slurm."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from helpers.runtime import UserError, nearest
from workbook.engine.ledger import Outcome
from workbook.engine.processes import adopt_orphans
from workbook.engine.task import Task
from workbook.engine.worker import run_task
from workbook.lessons.kernel import cores

if TYPE_CHECKING:
    from distributed import Client

LOOPBACK = "127.0.0.1"
WAIT_FOR_WORKERS = 15
SLURM_DEFAULTS = {"cores": 1, "memory": "4GB", "processes": 1}
LOST_AFTER = 20.0
WORKERLESS_AFTER = 90.0
DISCONNECTED = (OSError, TimeoutError, CancelledError)  # errors of a request while a connection breaks


class DaskExecutor:
    """Gives tasks to the workers of a Dask scheduler, one task per worker thread at a time.

    Args:
        threads: threads per kernel; 0 divides each host's cores among its slots.
        patient: never give up waiting for workers, which may be in Slurm's queue.
    """

    def __init__(self, client: Client, threads: int = 0, patient: bool = False):
        self.client, self.threads, self.patient = client, threads, patient
        self._nonce = secrets.token_hex(4)
        self._hosts: dict[str, int] = {}
        self._connected = self._staffed = time.monotonic()

    def slots(self) -> int:
        """The number of runs that may be active at a time, given the workers that are connected now.

        Dask would accept all runs at once. But it assigns them to workers before it knows how long they take, so that
        one worker has a queue while another is idle.
        """
        with suppress(*DISCONNECTED):  # if the request fails, the last known hosts are used
            found: dict[str, int] = {}
            for worker in self.client.scheduler_info(n_workers=-1)["workers"].values():
                found[worker["host"]] = found.get(worker["host"], 0) + worker["nthreads"]
            self._hosts = found
        return sum(self._hosts.values())

    def submit(self, task: Task):
        """Send a task; return Dask's future."""
        task = replace(task, threads=self.threads)
        return self.client.submit(run_on_worker, task, self._hosts, key=f"{task.key}-{self._nonce}", pure=False)

    def result(self, future) -> Outcome | None:
        """The outcome of a finished future; None if as many workers as Dask allows died while running it.

        Raises:
            UserError: the scheduler is gone, or a worker lacks what the task needs.
        """
        if future.status in ("cancelled", "lost"):  # this command never cancels a future
            raise UserError("The scheduler is gone.")
        if future.status != "error":
            return future.result()
        error = future.exception()
        if type(error).__name__ == "KilledWorker":
            return None
        raise UserError(f"A worker cannot run this: {type(error).__name__}: {error}")

    def check(self) -> None:
        """Raise a `UserError` if the scheduler or all workers have been gone for too long."""
        now = time.monotonic()
        with suppress(*DISCONNECTED):  # if the request fails, the client counts as not connected
            staffed = self.patient or self.client.scheduler_info(n_workers=1)["workers"]
            if self.client.status == "running":
                self._connected = now
                self._staffed = now if staffed else self._staffed
        if self.client.status == "closed" or now - self._connected > LOST_AFTER:
            raise UserError("The scheduler is gone.")
        if now - self._staffed > WORKERLESS_AFTER:
            raise UserError("All workers are gone.")

    def close(self) -> None:
        """Do nothing: the stop file ends the runs, and the workers do not belong to this command."""


def run_on_worker(task: Task, slots: dict[str, int]) -> Outcome:
    """Run a task in a Dask worker, with the worker's share of the host's cores."""
    from distributed import get_worker

    adopt_orphans()
    if not task.threads:
        host = get_worker().address.rpartition("/")[2].rpartition(":")[0]
        task = replace(task, threads=max(1, cores() // slots.get(host, 1)))
    return run_task(task)


def quiet() -> None:
    """Keep Dask's own log off the screen, and notice a lost scheduler within seconds."""
    import dask

    dask.config.set({"distributed.comm.timeouts.connect": "10s", "distributed.admin.tick.limit": "60s"})
    import distributed  # noqa: F401 - its loggers exist only after the import, each with its own level

    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def external(address: str) -> Iterator[DaskExecutor]:
    """An executor on a Dask scheduler that is already running.

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
        try:
            client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS)
        except (TimeoutError, OSError):
            raise UserError(
                f"No worker has joined {address}: start some with `dask worker {address} --nthreads 1`."
            ) from None
        yield DaskExecutor(client)


@contextmanager
def slurm(file: Path, workers: int) -> Iterator[DaskExecutor]:
    """An executor on Slurm jobs with one worker each; it never gives up, because a queue can take hours."""
    from distributed import Client

    quiet()
    threads = max(1, int(slurm_settings(file).get("cores", 1)))
    with slurm_cluster(file) as cluster, Client(cluster, set_as_default=False) as client:
        cluster.scale(jobs=workers)
        yield DaskExecutor(client, threads, patient=True)


def slurm_cluster(file: Path):
    """The cluster that a file of dask-jobqueue's settings describes; nothing is submitted yet.

    Raises:
        UserError: dask-jobqueue is not installed, or the file or one of its settings is invalid.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise UserError("Slurm needs one more package: pip install 'fine-tuning-workbook[slurm]'.") from None
    settings = {**SLURM_DEFAULTS, **slurm_settings(file)}
    options = {"dashboard_address": f"{LOOPBACK}:0", **settings.pop("scheduler_options", {})}
    # One run per worker. The run has its own process, which uses the job's memory and cores, so Dask sets no limit.
    extra = [*settings.pop("worker_extra_args", []), "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
    try:
        return SLURMCluster(
            **settings, worker_extra_args=extra, scheduler_options=options, silence_logs=logging.CRITICAL
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{file.name}: {error}") from None


def slurm_settings(file: Path) -> dict:
    """The settings in a Slurm file, after a check of their names.

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
