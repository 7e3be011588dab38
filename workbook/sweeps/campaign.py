"""A sweep at work: its runs sent to Dask, watched until all have ended, everything ended when it is interrupted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from helpers.files import write_text
from helpers.runtime import UserError
from workbook.sweeps.cluster import slots
from workbook.sweeps.ledger import Ledger, State, at_work
from workbook.sweeps.plan import Plan
from workbook.sweeps.worker import Task, carry_out

LOST_AFTER = 20.0
WORKERLESS_AFTER = 90.0
BEAT = 0.3
DISCONNECTED = (OSError, TimeoutError, CancelledError)  # what asking raises while a connection breaks


@dataclass
class Campaign:
    """What one command does: the plan, its ledger, and how runs that this command sent stand."""

    plan: Plan
    ledger: Ledger
    nonce: str
    seconds: float
    retries: int
    slots: int = 1
    fixed_threads: int = 0
    starters: str = ""
    hosts: dict[str, int] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    earlier: dict[str, set[Path]] = field(default_factory=dict)

    @property
    def stop_file(self) -> Path:
        """While this exists, workers end what they run for this command and begin nothing."""
        return self.ledger.folder / f"stop-{self.nonce}"

    @property
    def complete(self) -> bool:
        """Whether every run is done."""
        return all(state.status == "done" for state in self.states.values())

    def begin(self) -> None:
        """Read the ledger: what is done stays done, all else starts again, whatever became of it earlier."""
        for run in self.plan.runs:
            state = self.ledger.state(run)
            if state.status != "done":
                self.earlier[run] = {folder for folder in self.ledger.attempts(run) if not at_work(folder)}
                state = State("queued")
            self.states[run] = state

    def refresh(self, runs: Iterable[str]) -> None:
        """Read from the ledger where some runs stand."""
        for run in runs:
            self.states[run] = self.ledger.state(run, self.earlier.get(run, set()))

    def execute(self, client, watch: Callable[[Campaign], None], patient: bool = False) -> None:
        """Send every run that is not done; return when all have ended.

        Args:
            patient: wait for workers as long as it takes (a queue), instead of giving up.

        Raises:
            UserError: the scheduler or all workers are lost, or a run found a reason to begin no other.
            KeyboardInterrupt: passed on, or raised because the stop file appeared.
        """
        left = deque(run for run in self.plan.runs if self.states[run].status != "done")
        with _stopping(self):
            futures, news = {}, Event()
            health = Health(client, patient)
            while left or futures:
                self._send(client, left, futures, news)
                news.wait(BEAT)
                news.clear()
                if self.stop_file.exists():
                    raise KeyboardInterrupt
                ended = [run for run, future in futures.items() if future.done()]
                for run in ended:
                    self._take(futures.pop(run))
                self.refresh([*ended, *futures])
                watch(self)
                if left or futures:
                    health.check()

    def _send(self, client, left: deque[str], futures: dict, news: Event) -> None:
        """Give every free slot a run.

        Dask would take all runs at once, but it hands them out before it knows how long they take, and then one worker
        has a queue while another has nothing to do.
        """
        if left:
            with suppress(*DISCONNECTED):  # then those that were there last have to do
                self.hosts = slots(client)
                self.slots = sum(self.hosts.values()) or self.slots
        while left and len(futures) < self.slots:
            task = self._task(left.popleft())
            futures[task.run] = client.submit(carry_out, task, key=f"{task.run}-{self.nonce}", pure=False)
            futures[task.run].add_done_callback(lambda _: news.set())

    def _task(self, run: str) -> Task:
        return Task(
            run,
            str(self.ledger.folder),
            str(self.plan.lesson.path),
            self.plan.kernel,
            self.plan.runs[run],
            self.plan.state,
            self.seconds,
            self.retries,
            str(self.stop_file),
            self.fixed_threads,
            {} if self.fixed_threads else self.hosts,
            self.starters,
        )

    def _take(self, future) -> None:
        """Look at a task's end; what a run achieved is read from the ledger, not from here."""
        if future.status in ("cancelled", "lost"):  # nobody here cancels
            raise UserError("The scheduler is gone.")
        if future.status == "error":
            error = future.exception()
            if type(error).__name__ != "KilledWorker":
                raise UserError(f"A worker cannot run this: {type(error).__name__}: {error}")
            return  # the ledger has an attempt without outcome, as many times as a worker died of it
        result = future.result()
        if result["status"] == "halt":
            raise UserError(result["error"])


class Health:
    """Watches whether anybody is left to do the work."""

    def __init__(self, client, patient: bool):
        self.client, self.patient = client, patient
        self.connected = self.staffed = time.monotonic()

    def check(self) -> None:
        """Raise a `UserError` when the scheduler, or every worker, has been gone for a while."""
        now = time.monotonic()
        with suppress(*DISCONNECTED):  # then it counts as not connected
            staffed = self.patient or self.client.scheduler_info(n_workers=1)["workers"]
            if self.client.status == "running":
                self.connected = now
                self.staffed = now if staffed else self.staffed
        if self.client.status == "closed" or now - self.connected > LOST_AFTER:
            raise UserError("The scheduler is gone.")
        if now - self.staffed > WORKERLESS_AFTER:
            raise UserError("All workers are gone.")


@contextmanager
def _stopping(campaign: Campaign) -> Iterator[None]:
    """On any early end, tell the workers to end what they run."""
    campaign.stop_file.unlink(missing_ok=True)
    try:
        yield
    except SystemExit:  # only whoever watched has gone
        raise
    except BaseException:
        with suppress(UserError):  # on a full disk the runs end by themselves
            write_text(campaign.stop_file, "")
        raise
