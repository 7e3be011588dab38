"""Reports the comparisons: a table in the terminal, a file of figures, and benchmarks/RESULTS.md made from the file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from benchmarks.steps.harness import Row
from helpers.files import write_json, write_text
from helpers.paths import ROOT
from helpers.record import versions
from helpers.reference import machine, today

FOLDER = ROOT / "benchmarks"
FIGURES, PAGE = "results.json", "RESULTS.md"
SHOWN = ("python", "torch", "transformers", "peft", "trl", "bitsandbytes")
HEADER = ("what", "ours", "beside", "ratio: median (least to most)", "target", "")
OPENING = """# How fast, and how much memory

Ratios, ours divided by what stands beside it, each measured in one run: both sides by turns, after a warm-up. Below 1
ours is the faster one; for pretraining the figure is the share of the machine's peak, for memory measured divided by
predicted. A target is met or missed by the median. Nothing here is a test.

Made by `python -m benchmarks.steps` and `python -m benchmarks.sweep`; seconds of whole lessons: `make bench`, in
`data/reference/lessons.json`.
"""
TITLES = {
    "training_step": "Training step",
    "lora": "LoRA",
    "other_methods": "Soft prompt, IA3, adapter",
    "quantization": "NF4",
    "dpo": "DPO",
    "pretraining": "Pretraining",
    "memory": "Memory",
    "whole_course": "Whole course",
}


def circumstances(threads: int, rounds: int) -> dict:
    """Return the circumstances of a measurement: date, machine, load, threads, rounds and library versions."""
    found = versions()
    return {
        "date": today(),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        "threads": threads,
        "rounds": rounds,
        "versions": {name: found[name] for name in SHOWN if name in found},
    }


def cells(row: Row) -> tuple[str, ...]:
    """Return the row's table cells as text."""
    ratio = str(row.ratio) if row.ratio.low != row.ratio.high else f"{row.ratio.median:.3f}"
    return row.what, row.ours, row.beside, ratio, str(row.target or ""), row.verdict


def terminal(rows: Sequence[Row]) -> Table:
    """Return the rows as a table for the terminal."""
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*cells(row))
    return table


def section(title: str, rows: Sequence[Row], left: str, about: Mapping) -> dict:
    """Return one comparison in the form in which the file of figures stores it."""
    kept = [{"cells": cells(row), "note": row.note, "ratio": asdict(row.ratio)} for row in rows]
    return {"title": title, "rows": kept, "left": left, "about": dict(about)}


def write(sections: Mapping[str, dict], into: Path = FOLDER) -> Path:
    """Add new sections to the stored figures, and rewrite the page from all of them. Return the page's path."""
    path = into / FIGURES
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = before | dict(sections)
    places = {name: place for place, name in enumerate(TITLES)}
    kept = dict(sorted(kept.items(), key=lambda one: (places.get(one[0], len(places)), one[0])))
    write_json(path, kept)
    return write_text(into / PAGE, OPENING + "".join(map(page, kept.values())))


def page(kept: Mapping) -> str:
    """Return one stored comparison as Markdown."""
    about = kept["about"]
    lines = [f"\n## {kept['title']}\n", "| " + " | ".join([*HEADER, "how"]) + " |", "|" + " --- |" * (len(HEADER) + 1)]
    lines += ["| " + " | ".join([*row["cells"], row["note"]]) + " |" for row in kept["rows"]]
    if kept["left"]:
        lines += ["", kept["left"]]
    made = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines += ["", f"{about['date']}, {about['machine']}, {about['threads']} thread(s), load {about['load']} before,"]
    lines += [f"{about['rounds']} rounds; {made}."]
    return "\n".join(lines) + "\n"
