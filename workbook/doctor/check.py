"""The result of one check, and how a list of results is shown."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True)
class Check:
    """The result of one check, with advice unless it is `fine`; `needed` if the workbook cannot work without it."""

    name: str
    found: str
    fine: bool = True
    advice: str = ""
    needed: bool = True


def show(found: list[Check]) -> bool:
    """Print the checks with their advice; return whether every needed check is fine."""
    console = Console(soft_wrap=True)
    for check in found:
        colour, mark = ("green", "ok") if check.fine else ("red", "no") if check.needed else ("yellow", "so-so")
        console.print(f"[{colour}]{mark:>5}[/]  {escape(f'{check.name}: {check.found}')}", highlight=False)
        if not check.fine:
            console.print(f"       {check.advice}", highlight=False, markup=False)
    ready = all(check.fine for check in found if check.needed)
    console.print("Everything that is needed is here." if ready else "Fix what is marked `no`, then run this again.")
    return ready
