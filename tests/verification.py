"""Do the committed notebooks still hold? Each is run as nbval runs it, and its numbers are held to the reference.

Then the lesson runs twice on the smallest budget: with another seed and its exercises solved, and on the hub track.

    python -m tests.verification [NN ...]      the lessons whose code changed since they were verified; --all: all
    python -m tests.verification --build       the same, but their notebooks are built anew by this very run

`verified.json` and `verified_quick.json` keep, for each lesson, a fingerprint of the code that passed. `make test` runs
a lesson anew when its fingerprint is another one, and a sixth of the others in turn, so that every commit of a lesson
is run in full once, by whoever changed it or by the tests, and not on every later commit too.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import click

from helpers.files import SUMS, committed_sums, sha256, write_json
from helpers.paths import ROOT
from helpers.record import FILE, read, versions
from helpers.reference import FOLDER
from helpers.runtime import UserError
from tests.quick_runs import on_the_hub_track, with_another_seed
from tests.workbook.claims import guard
from workbook.claims.results import LessonResults, load_results
from workbook.engine.identity import code_of, files
from workbook.lessons.kernel import cores, environment
from workbook.lessons.lesson import Lesson, find, select
from workbook.notebooks import build, from_source

VERIFIED = Path(__file__).with_name("verified.json")
QUICK = Path(__file__).with_name("verified_quick.json")  # the same for the two quick runs
CELL_SECONDS = 600
PASSED = "lesson {} passed with this very code, and others have their turn on this commit"
TURNS = 6  # a verified lesson is run anew on one commit of so many


def run_nbval(notebook: Path, results: Path, cell_seconds: int = CELL_SECONDS) -> subprocess.CompletedProcess:
    """Run a notebook in a fresh kernel on one thread; nbval compares the outputs of its marked cells.

    Args:
        results: the folder into which the notebook records its numbers.
    """
    command = [sys.executable, "-m", "pytest", "--nbval-lax", f"--nbval-cell-timeout={cell_seconds}", str(notebook)]
    return subprocess.run(
        [*command, "-q", "-p", "no:cacheprovider", "--rootdir", str(notebook.parent), "-c", os.devnull],
        env=environment(threads=1, run_folder=results),
        capture_output=True,
        text=True,
    )


def reference_of(lesson: Lesson) -> LessonResults | None:
    """What a run of the lesson is held to; None where there is no reference over enough seeds."""
    reference = load_results().lessons.get(lesson.number)
    return reference if reference and guard.guarded(reference) else None


def outside_the_reference(reference: LessonResults, folder: Path) -> list[str]:
    """A sentence for each number in the run's folder that the reference does not expect."""
    return guard.outside(read(folder / FILE)["metrics"], reference)


def verify(lesson: Lesson) -> list[str]:
    """What a fresh run of the committed notebook gives otherwise than it should; [] when all is well."""
    with tempfile.TemporaryDirectory() as folder:
        ended = run_nbval(lesson.path, Path(folder))
        if ended.returncode:
            return [ended.stdout[-6000:] + ended.stderr[-2000:]]
        reference = reference_of(lesson)
        return outside_the_reference(reference, Path(folder)) if reference else []


def build_and_verify(lesson: Lesson) -> list[str]:
    """Build the notebook anew; what this run gives otherwise than the reference expects. [] when all is well."""
    with tempfile.TemporaryDirectory() as folder:
        if problem := build(lesson, results=Path(folder)):
            return [problem]
        reference = reference_of(lesson)
        return outside_the_reference(reference, Path(folder)) if reference else []


def quick_problems(lesson: Lesson) -> list[str]:
    """What the lesson's two quick runs show to be wrong; [] when all is well."""
    with tempfile.TemporaryDirectory() as folder:
        made = with_another_seed([lesson], Path(folder))
        if problem := made.problem(lesson):
            return [f"quick, with another seed: {problem}"]
        if unsolved := made.unsolved(lesson):
            return [f"its own solutions do not solve {', '.join(unsolved)}"]
    with tempfile.TemporaryDirectory() as folder:
        made = on_the_hub_track([lesson], Path(folder))
        if problem := made.problem(lesson):
            return [f"on the hub track: {problem}"]
        unsaid = made.unsaid_on_the_hub(lesson)
        return [f'on the hub track it does not say "{unsaid}"'] if unsaid else []


def fingerprint(lesson: Lesson) -> str:
    """A hash of everything that decides a lesson's outputs: its code, the code it reaches, data and libraries.

    Prose, docstrings, comments and the layout of the code do not count.
    """
    cells = code_of(lesson)
    if lesson.source.is_file():  # with the solutions, which the notebook does not have
        made = from_source(lesson.source, solutions=True)
        cells.append([cell.source for cell in made.cells if cell.cell_type == "code"])
    code = {str(file.relative_to(ROOT)): bare(file.read_text(encoding="utf-8")) for file in files(lesson)}
    data = {str(file.relative_to(ROOT)): _without_cards(file) for file in _data(lesson)}
    libraries = {name: found.partition("+")[0] for name, found in versions().items() if name != "python"}
    whole = json.dumps([cells, code, data, libraries], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


@cache
def bare(code: str) -> str:
    """Python code without docstrings, comments and layout."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _data(lesson: Lesson) -> list[Path]:
    """The sums of all data and models, and the reference files that the lesson's code names."""
    code = "\n".join(source for source, _ in code_of(lesson))
    whole_ledger = "workbook.claims" in code
    named = [file for file in FOLDER.iterdir() if whole_ledger or re.search(rf"[\"']{file.stem}[\"']", code)]
    return sorted([*committed_sums(ROOT / "data"), *named])


def _without_cards(file: Path) -> str:
    """A hash of a file; in a list of sums, the lines of model and data cards do not count."""
    if file.name != SUMS:
        return sha256(file)
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.endswith(".md")]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def kept(file: Path | None = None) -> dict[str, str]:
    """Lesson -> the fingerprint that passed last, in VERIFIED or another file."""
    file = file or VERIFIED
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def keep(lesson: Lesson, passed: str, file: Path) -> None:
    """Add a lesson and the fingerprint that passed to a file."""
    write_json(file, dict(sorted({**kept(file), lesson.name: passed}.items())))


def to_run(lessons: Sequence[Lesson], turn: int, file: Path | None = None) -> list[Lesson]:
    """The lessons whose code changed since they were verified, and those of the others whose turn it is."""
    known = kept(file)
    return [
        lesson
        for lesson in lessons
        if known.get(lesson.name) != fingerprint(lesson) or int(lesson.number) % TURNS == turn % TURNS
    ]


def turn_of_commit() -> int:
    """A number that the commit gives; 0 outside a git checkout."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return int(asked.stdout, 16) if asked.returncode == 0 else 0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("lessons", nargs=-1, metavar="[NN]...")
@click.option("--all", "every", is_flag=True, help="Also lessons whose code is the one that passed.")
@click.option("--build", "anew", is_flag=True, help="Build their notebooks anew: the run that is kept is verified.")
@click.option(
    "--jobs", default=None, type=click.IntRange(1, 64), help="Number of parallel notebooks.  [default: cores]"
)
def main(lessons: tuple[str, ...], every: bool, anew: bool, jobs: int | None) -> None:
    """Run the committed notebooks NN (all, if none is named) as the tests do, and keep which passed."""
    try:
        chosen = select(lessons, find())
    except UserError as error:
        raise click.ClickException(str(error)) from None
    prints = {lesson: fingerprint(lesson) for lesson in chosen}
    whole = (VERIFIED, build_and_verify if anew else verify, "its committed outputs and the reference")
    failed, waited = False, False
    for file, check, what in (whole, (QUICK, quick_problems, "quick, and on the hub track")):
        known = kept(file)
        waiting = [lesson for lesson in chosen if every or known.get(lesson.name) != prints[lesson]]
        waited = waited or bool(waiting)
        with ThreadPoolExecutor(jobs or cores()) as pool:
            for lesson, problems in zip(waiting, pool.map(check, waiting), strict=True):
                click.echo("\n".join([f"{lesson.name}: {'differs' if problems else 'holds'}: {what}", *problems]))
                failed = failed or bool(problems)
                if not problems:  # the build replaced the notebook, whose code is a part of the fingerprint
                    keep(lesson, fingerprint(Lesson(lesson.path)) if anew else prints[lesson], file)
    if not waited:
        click.echo("All of them passed with this very code; --all runs them anew.")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
