"""What `workbook sweep` does: everything checked first, then run under a lock, then reported."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import click
from rich.console import Console

from helpers.redaction import redacted
from helpers.runtime import UserError
from workbook.lessons.command import INTERRUPTED, shown
from workbook.lessons.kernel import cores
from workbook.lessons.run import fitting_jobs
from workbook.sweeps import cluster
from workbook.sweeps.interrupts import Interrupts
from workbook.sweeps.ledger import Ledger
from workbook.sweeps.lock import locked
from workbook.sweeps.plan import Plan
from workbook.sweeps.saved import save
from workbook.sweeps.starting import setup_of, starter_ahead
from workbook.sweeps.view import counts, label

if TYPE_CHECKING:
    from distributed import Client

MANY = 200


@dataclass(frozen=True)
class Options:
    """How to run: where, how long a run may take, how often a crash is tried again."""

    workers: int | None = None
    scheduler: str = ""
    slurm: Path | None = None
    seconds: float = 3600.0
    retries: int = 1
    yes: bool = False


def dry_run(plan: Plan, options: Options) -> None:
    """Say what would be run."""
    say = _say()
    say(_size(plan))
    for run, parameters in list(plan.runs.items())[:20]:
        say(f"  {run}  {label(parameters, plan.varied)}")
    if len(plan.runs) > 20:
        say(f"  and {len(plan.runs) - 20:,} more")
    if options.slurm:
        made = cluster.slurm_cluster(options.slurm)
        say("\nSlurm would get this job for each worker:\n\n" + made.job_script())
        made.close()


def carry_out(plan: Plan, folder: Path, options: Options) -> int:
    """Run what is not done; return the exit status: 0 only when every run is done."""
    from workbook.sweeps.campaign import Campaign
    from workbook.sweeps.view import view

    _ask_about(plan, options)
    say, nonce = _say(), secrets.token_hex(4)
    campaign = Campaign(plan, Ledger(folder), nonce, options.seconds, options.retries)
    with locked(folder, nonce):
        for old in folder.glob("stop-*"):
            old.unlink(missing_ok=True)
        save(folder, plan, options.seconds, options.retries)
        campaign.begin()
        _announce(campaign, say)
        with Interrupts(external=bool(options.scheduler)) as interrupts:
            status = 0
            if not campaign.complete:
                status = _run(campaign, options, interrupts, partial(view, Console(soft_wrap=True)), say)
            return report(campaign, say) if status == 0 else _stopped(campaign, status, say)


def _run(campaign, options: Options, interrupts: Interrupts, view: Callable, say: Callable) -> int:
    try:
        with ExitStack() as stack:
            with interrupts.held():
                client = _client(campaign, options, stack)
            # What the end needs is loaded while the runs are at work.
            Thread(target=import_module, args=("workbook.sweeps.report",), daemon=True).start()
            campaign.execute(client, stack.enter_context(view()), patient=bool(options.slurm))
    except KeyboardInterrupt:
        say("\nStopped.")
        return INTERRUPTED
    except UserError as error:
        say(f"\nStopped: {error}")
        return 1
    return 0


def _client(campaign, options: Options, stack: ExitStack) -> Client:
    """Whoever gives the runs to workers, and what it needs; all of it ends with `stack`."""
    left = [campaign.plan.runs[run] for run, state in campaign.states.items() if state.status != "done"]
    workers = min(options.workers or fitting_jobs(), len(left))
    campaign.slots = workers
    if options.scheduler:
        return stack.enter_context(cluster.external(options.scheduler))
    if options.slurm:
        campaign.fixed_threads = max(1, int(cluster.slurm_settings(options.slurm).get("cores", 1)))
        return stack.enter_context(cluster.slurm(options.slurm, workers))
    campaign.fixed_threads = max(1, cores() // workers)
    setup = setup_of(campaign.plan.lesson, left[0], campaign.fixed_threads)
    campaign.starters = stack.enter_context(starter_ahead(setup))
    return stack.enter_context(cluster.local(workers))


def _announce(campaign, say: Callable) -> None:
    plan = campaign.plan
    done = sum(state.status == "done" for state in campaign.states.values())
    say(f"{_size(plan)} {done} of them done already." if done else _size(plan))
    others = len({path.name for path in (campaign.ledger.folder / "runs").glob("*")} - set(plan.runs))
    if others:
        say(f"{_runs(others)} of another version of the notebook, its helpers or this sweep: not mixed with these.")


def _size(plan: Plan) -> str:
    twice = f" ({plan.duplicates} named twice, run once)" if plan.duplicates else ""
    return f"{_runs(len(plan.runs))} of lesson {plan.lesson.number}{twice}: {plan.sweep.question}"


def _runs(count: int) -> str:
    return f"{count:,} run" + "s" * (count != 1)


def _ask_about(plan: Plan, options: Options) -> None:
    if len(plan.runs) <= MANY or options.yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"These are {len(plan.runs):,} runs: say --yes if you mean it.")
    click.confirm(f"These are {len(plan.runs):,} runs. Go on?", abort=True)


def report(campaign, say: Callable) -> int:
    """The last lines: results as far as there are any, what failed, where to look."""
    from workbook.sweeps.report import write_report
    from workbook.sweeps.results import compact
    from workbook.sweeps.saved import load

    campaign.earlier.clear()
    campaign.refresh(campaign.plan.runs)
    folder = campaign.ledger.folder
    for run, state in campaign.states.items():
        if state.status != "done":
            where = f" in cell [{state.ending.cell}]" if state.ending and state.ending.cell else ""
            why = state.ending.error if state.ending else "its worker died again and again."
            say(f"{state.status.upper()}{where}: {label(campaign.plan.runs[run], campaign.plan.varied)}: {why}")
    if any(state.status == "done" for state in campaign.states.values()):
        saved = load(folder.parent, folder.name)
        try:
            rows = compact(campaign.ledger, saved.runs, campaign.states)
            page, table = write_report(folder, saved, campaign.states, rows)
        except UserError as error:  # such as a figure of what nobody recorded; a sweep over more lessons goes on
            say(str(error))
            return 1
        Console().print(table)
        say(f"Look at {shown(page)}")
    if campaign.complete:
        return 0
    say(f"Run what is not done again with: workbook sweep resume {folder.name}")
    return 1


def _stopped(campaign, status: int, say: Callable) -> int:
    campaign.refresh(campaign.plan.runs)
    number = counts(campaign.states)
    say(f"{number['done']} of {len(campaign.states)} runs are done and kept in {shown(campaign.ledger.folder)}.")
    say(f"Go on with: workbook sweep resume {campaign.ledger.folder.name}")
    return status


def _say() -> Callable:
    console = Console(soft_wrap=True)

    def say(text: str) -> None:
        # A screen is copied into chats and kept in a scheduler's log.
        console.print(redacted(text), markup=False, highlight=False)

    return say
