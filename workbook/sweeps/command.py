"""What `workbook sweep run` and `resume` do: check everything, run while holding a lock, and report."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from helpers.runtime import UserError
from workbook.engine import cluster
from workbook.engine.campaign import Campaign, Executor
from workbook.engine.identity import imports
from workbook.engine.interrupts import INTERRUPTED, interruptible
from workbook.engine.ledger import State
from workbook.engine.local import LocalExecutor
from workbook.engine.owner import locked
from workbook.engine.screen import live_view, say, shown
from workbook.engine.task import Task
from workbook.lessons.kernel import cores, environment
from workbook.run.plan import fitting_jobs
from workbook.sweeps.plan import Plan
from workbook.sweeps.progress import SweepProgress, counts, label
from workbook.sweeps.report import show_report
from workbook.sweeps.saved import SavedSweep, save_sweep

MANY = 200


@dataclass(frozen=True)
class Options:
    """Where to run, how long a run may take, and how often a crashed run is retried."""

    workers: int | None = None
    scheduler: str = ""
    slurm: Path | None = None
    seconds: float = 3600.0
    retries: int = 1
    yes: bool = False


def dry_run(plan: Plan, options: Options) -> None:
    """Print the runs without running them."""
    say(_size(plan))
    for run, parameters in list(plan.runs.items())[:20]:
        say(f"  {run}  {label(parameters, plan.varied)}")
    if len(plan.runs) > 20:
        say(f"  and {len(plan.runs) - 20:,} more")
    if options.slurm:
        made = cluster.slurm_cluster(options.slurm)
        say("\nSlurm would get this job for each worker:\n\n" + made.job_script())
        made.close()


def execute_sweep(plan: Plan, folder: Path, options: Options) -> int:
    """Run the unfinished runs; return the exit status, 0 only if every run is done."""
    if len(plan.runs) > MANY and not options.yes:
        if not sys.stdin.isatty():
            raise UserError(f"These are {len(plan.runs):,} runs: say --yes if you mean it.")
        click.confirm(f"These are {len(plan.runs):,} runs. Continue?", abort=True)
    nonce = secrets.token_hex(4)
    with locked(folder, nonce):
        for old in folder.glob("stop-*"):
            old.unlink(missing_ok=True)
        saved = save_sweep(folder, plan, options.seconds, options.retries)
        stop = folder / f"stop-{nonce}"
        # All runs count, not only the unfinished ones, because results depend on the number of threads.
        threads = max(1, cores() // _workers(options, len(plan.runs)))
        campaign = Campaign({run: _task(run, plan, folder, threads, stop, options) for run in plan.runs}, stop)
        campaign.begin()
        _announce(plan, campaign, folder)
        try:
            if campaign.left:
                _execute(plan, campaign, options)
        except (KeyboardInterrupt, UserError) as reason:
            return _stopped(campaign, folder, reason)
        return _report(campaign, folder, saved)


def _task(run: str, plan: Plan, folder: Path, threads: int, stop: Path, options: Options) -> Task:
    return Task(
        run,
        str(folder / "runs" / run),
        str(plan.lesson.path),
        plan.runs[run],
        str(stop),
        threads,
        kernel=plan.kernel,
        state=plan.state,
        seconds=options.seconds,
        retries=options.retries,
        home=("../../../index.html", "All runs of this sweep"),
    )


def _workers(options: Options, runs: int) -> int:
    return min(options.workers or fitting_jobs(), runs)


def _execute(plan: Plan, campaign: Campaign, options: Options) -> None:
    progress = SweepProgress(plan, campaign)
    with (
        interruptible(leave_on_hangup=bool(options.scheduler)),
        _executor(plan, campaign, options) as executor,
        live_view(Console(soft_wrap=True), progress.table, progress.lines) as watch,
    ):
        campaign.execute(executor, watch, campaign.left)


@contextmanager
def _executor(plan: Plan, campaign: Campaign, options: Options) -> Iterator[Executor]:
    """The executor for these options: local processes, Slurm or a Dask scheduler."""
    workers = _workers(options, len(campaign.left))
    if not (options.scheduler or options.slurm):
        tracks = {str(parameters.get("track", "pocket")) for parameters in plan.runs.values()}
        threads = campaign.tasks[campaign.left[0]].threads
        settings = environment(threads=threads, track=tracks.pop()) if len(tracks) == 1 else {}
        with closing(LocalExecutor(workers, imports(plan.lesson), settings)) as local:
            yield local
        return
    chosen = cluster.slurm(options.slurm, workers) if options.slurm else cluster.external(options.scheduler)
    with chosen as executor:
        if executor.client.dashboard_link:
            say(f"Dask's dashboard: {executor.client.dashboard_link}")
        yield executor


def _announce(plan: Plan, campaign: Campaign, folder: Path) -> None:
    done = len(campaign.tasks) - len(campaign.left)
    say(f"{_size(plan)} {done} of them done already." if done else _size(plan))
    others = len({path.name for path in (folder / "runs").glob("*")} - set(plan.runs))
    if others:
        say(f"Left out: {_runs(others)} of another version of the notebook, its helpers or this sweep.")


def _size(plan: Plan) -> str:
    twice = f" ({plan.duplicates} named twice, run once)" if plan.duplicates else ""
    return f"{_runs(len(plan.runs))} of lesson {plan.lesson.number}{twice}: {plan.sweep.question}"


def _runs(count: int) -> str:
    return f"{count:,} run" + "s" * (count != 1)


def _report(campaign: Campaign, folder: Path, saved: SavedSweep) -> int:
    """Print the failed runs, the results so far and how to continue; return the exit status."""
    campaign.earlier.clear()
    campaign.refresh(campaign.tasks)
    for run in campaign.left:
        say(_failure(campaign.states[run], label(saved.runs[run], saved.varied)))
    if len(campaign.left) < len(campaign.tasks):
        try:
            show_report(folder, saved, campaign.states)
        except UserError as error:  # for example, no run recorded the figure's metric; other lessons continue
            say(str(error))
            return 1
    if not campaign.left:
        return 0
    say(f"Run what is not done again with: workbook sweep resume {folder.name}")
    return 1


def _failure(state: State, what: str) -> str:
    where = f" in cell [{state.outcome.cell}]" if state.outcome and state.outcome.cell else ""
    why = state.outcome.error if state.outcome else "its worker died again and again."
    return f"{state.status.upper()}{where}: {what}: {why}"


def _stopped(campaign: Campaign, folder: Path, reason: BaseException) -> int:
    say(f"\nStopped: {reason}" if isinstance(reason, UserError) else "\nStopped.")
    campaign.refresh(campaign.tasks)
    done = counts(campaign.states)["done"]
    say(f"{done} of {len(campaign.tasks)} runs are done and kept in {shown(folder)}.")
    say(f"Continue with: workbook sweep resume {folder.name}")
    return 1 if isinstance(reason, UserError) else INTERRUPTED
