"""Commands on a sweep that may be running in another process: show its status or results, cancel it, resume it."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from helpers.files import write_text
from helpers.redaction import redacted
from helpers.runtime import UserError
from workbook.engine.identity import difference
from workbook.engine.ledger import STATES, RunLedger, State, is_damaged
from workbook.engine.owner import owner
from workbook.engine.screen import say, shown
from workbook.sweeps.plan import Plan, make_plans
from workbook.sweeps.progress import counts, label, time_left
from workbook.sweeps.report import show_report
from workbook.sweeps.results import ask, write_table
from workbook.sweeps.saved import SavedSweep, members, read_sweep


def same_plan(saved: SavedSweep) -> Plan:
    """The plan of a sweep that is to be resumed.

    Raises:
        UserError: the sweep's file, notebook, helpers, data or libraries have changed since it was started.
    """
    plans = {plan.name: plan for plan in make_plans(Path(saved.file), Path(saved.notebooks))}
    plan = plans.get(saved.name)
    if plan is None:
        raise UserError(f"{Path(saved.file).name} no longer names lesson {saved.notebook}.")
    changed = difference(saved.state, plan.state)
    if not changed and list(plan.runs) != list(saved.runs):
        same = redacted(list(plan.runs.values())) == list(saved.runs.values())
        changed = "a file that `data` or `model` names" if same else Path(saved.file).name
    if changed:
        raise UserError(
            f"{changed} changed since {saved.name} was started, so its runs and new ones would not belong together: "
            f"`workbook sweep run {shown(Path(saved.file))}` starts the new version; the old runs stay apart."
        )
    return plan


def states_of(folder: Path, saved: SavedSweep) -> dict[str, State]:
    """The state of every run of a sweep."""
    return {run: RunLedger(folder / "runs" / run).state() for run in saved.runs}


def show_status(sweeps: Path, name: str) -> int:
    """Print the counts, who runs the sweep, and the failed runs; return 0 only if every run is done."""
    saved = read_sweep(sweeps, name)
    folder = sweeps / saved.name
    states = states_of(folder, saved)
    number, who = counts(states), owner(folder)
    table = Table(*STATES, "left", box=SIMPLE)
    table.add_row(*map(str, number.values()), time_left(states, max(1, number["running"])) if who else "")
    Console(soft_wrap=True).print(table)
    say(f"Run by {who.get('user')} on {who.get('host')} (process {who.get('pid')})." if who else "Nobody runs it now.")
    for run, state in states.items():
        what = label(saved.runs[run], saved.varied)
        if state.outcome and state.status != "done":
            say(f"{state.status}: {what}: {state.outcome.error}")
        for attempt in RunLedger(folder / "runs" / run).attempts():
            if is_damaged(attempt):
                say(f"damaged: {what}: {attempt.name} is no longer whole and will be run again.")
    return 0 if number["done"] == len(states) else 1


def show_results(sweeps: Path, name: str, question: str | None) -> int:
    """Print the table of cells and write figure and page; with a `question` in SQL, print only its answer."""
    saved = read_sweep(sweeps, name)
    folder = sweeps / saved.name
    states = states_of(folder, saved)
    if question:
        names, rows = ask(write_table(folder, saved.runs, states), question)
        answer = Table(*names, box=SIMPLE)
        for row in rows:
            answer.add_row(*map(str, row))
        Console().print(answer)
        return 0
    show_report(folder, saved, states)
    done = counts(states)["done"]
    say(f"{done} of {len(states)} runs are done.")
    return 0 if done == len(states) else 1


def cancel_sweep(sweeps: Path, name: str) -> None:
    """Stop every running sweep that `name` stands for: tell its command and its workers to end.

    Raises:
        UserError: no command is running it.
    """
    names = [read_sweep(sweeps, one).name for one in members(sweeps, name)]
    owners = {one: who for one in names if (who := owner(sweeps / one))}
    if not owners:
        raise UserError(f"Nobody runs {name} now.")
    for one, who in owners.items():
        write_text(sweeps / one / f"stop-{who['nonce']}", "")
        say(f"{one} is being ended; what is done stays.")
