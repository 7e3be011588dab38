"""A campaign: the runs of one command, sent to an executor as slots get free, watched until all have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from helpers.files import write_text
from helpers.runtime import UserError
from workbook.engine.cluster import DaskExecutor
from workbook.engine.ledger import RunLedger, State
from workbook.engine.local import LocalExecutor
from workbook.engine.task import Task

BEAT = 0.3


Executor = LocalExecutor | DaskExecutor


@dataclass
class Campaign:
    """The tasks of one command, where each stands, and the file that stops them."""

    tasks: Mapping[str, Task]
    stop_file: Path
    states: dict[str, State] = field(default_factory=dict)
    earlier: dict[str, set[Path]] = field(default_factory=dict)
    slots: int = 1

    @property
    def left(self) -> list[str]:
        """The runs that are not done."""
        return [key for key in self.tasks if self.states[key].status != "done"]

    def begin(self) -> None:
        """Read the ledger: what is done stays done, all else starts again, whatever became of it earlier."""
        for key in self.tasks:
            ledger = self._ledger(key)
            state = ledger.state()
            if state.status != "done":
                self.earlier[key] = ledger.past_attempts()
                state = State("queued")
            self.states[key] = state

    def refresh(self, keys: Iterable[str]) -> None:
        """Read from the ledger where some runs stand."""
        for key in keys:
            self.states[key] = self._ledger(key).state(self.earlier.get(key, set()))

    def execute(self, executor: Executor, watch: Callable[[], None], keys: Iterable[str]) -> None:
        """Send these runs; return when all have ended.

        Raises:
            UserError: the scheduler or all workers are lost, or a run found a reason to begin no other.
            KeyboardInterrupt: passed on, or raised because the stop file appeared.
        """
        waiting, futures, news = deque(keys), dict[str, Any](), Event()
        with self._stopping():
            while waiting or futures:
                self.slots = executor.slots() or self.slots
                while waiting and len(futures) < self.slots:
                    key = waiting.popleft()
                    futures[key] = executor.submit(self.tasks[key])
                    futures[key].add_done_callback(lambda _: news.set())
                news.wait(BEAT)
                news.clear()
                if self.stop_file.exists():
                    raise KeyboardInterrupt
                ended = [key for key, future in futures.items() if future.done()]
                outcomes = [executor.result(futures.pop(key)) for key in ended]
                self.refresh([*ended, *futures])
                watch()
                for outcome in outcomes:
                    if outcome and outcome.status == "halt":
                        raise UserError(outcome.error)
                executor.check()

    def _ledger(self, key: str) -> RunLedger:
        return RunLedger(Path(self.tasks[key].folder), self.tasks[key].numbered)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """On any early end, tell the workers to end what they run."""
        try:
            yield
        except SystemExit:  # only whoever watched has gone
            raise
        except BaseException:
            with suppress(UserError):  # on a full disk the executor's `close` ends them
                write_text(self.stop_file, "")
            raise
