"""A campaign: sends the runs of one command to an executor as slots become free, and watches them until all end."""

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
    """The tasks of one command, the state of each, and the file whose existence stops them."""

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
        """Read the ledger: finished runs are kept, all others start again, even if they failed before."""
        for key in self.tasks:
            ledger = self._ledger(key)
            state = ledger.state()
            if state.status != "done":
                self.earlier[key] = ledger.past_attempts()
                state = State("queued")
            self.states[key] = state

    def refresh(self, keys: Iterable[str]) -> None:
        """Update the states of these runs from the ledger."""
        for key in keys:
            self.states[key] = self._ledger(key).state(self.earlier.get(key, set()))

    def execute(self, executor: Executor, watch: Callable[[], None], keys: Iterable[str]) -> None:
        """Send these runs to the executor; return when all have ended.

        Raises:
            UserError: the scheduler or all workers are lost, or a run ended with "halt".
            KeyboardInterrupt: the command was interrupted, or the stop file appeared.
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
        """If the block ends early, tell the workers to end their runs."""
        try:
            yield
        except SystemExit:  # the terminal closed, but the workers continue
            raise
        except BaseException:
            with suppress(UserError):  # if the disk is full, the executor's `close` ends them
                write_text(self.stop_file, "")
            raise
