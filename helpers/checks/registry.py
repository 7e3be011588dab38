"""Registers the exercises and their hints, judges answers, and tracks which exercises are solved.

An exercise lives in `helpers/lessons/lesson_NN/exercises.py`:

    @exercise("02.1", hints=["a nudge", "a bigger one", "the answer"])
    def mean_pool(answer):
        expect("the pooled vector", answer(hidden, mask), wanted)   # raises Wrong with a message
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers import progress
from helpers.checks.compare import NotAttempted, Wrong, attempted
from helpers.runtime import nearest

ID = re.compile(r"\d\d\.\d+")


@dataclass(frozen=True)
class Exercise:
    """One exercise: `judge(answer)` raises `Wrong` unless the answer is right."""

    name: str
    judge: Callable[[Any], None]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class Feedback:
    """The `text` to print for a learner; `state` is "passed", "wrong", "not attempted" or "unknown"."""

    state: str
    text: str

    @property
    def passed(self) -> bool:
        return self.state == "passed"


_exercises: dict[str, Exercise] = {}
_passed: set[str] = set()
_tried: set[str] = set()
_hints_shown: dict[str, int] = {}


def exercise(name: str, *, hints: Sequence[str]):
    """Register the decorated function as the judge of exercise `name` ("02.1")."""
    if not ID.fullmatch(name):
        raise ValueError(f"an exercise is named like 02.1, not {name!r}")
    if not hints:
        raise ValueError(f"exercise {name} needs at least one hint")

    def register(judge):
        _exercises[name] = Exercise(name, judge, tuple(hints))
        return judge

    return register


def verdict(name: str, answer: object) -> Feedback:
    """Judge `answer` and return the feedback; an exception in the answer becomes feedback too."""
    found = _find(name)
    if found is None:
        return Feedback("unknown", _unknown(name))
    problem = ""
    try:
        found.judge(attempted(answer))
    except NotAttempted:
        return Feedback("not attempted", f'{name}: not attempted yet. hint("{name}") helps.')
    except Wrong as wrong:
        problem = str(wrong)
    except (Exception, SystemExit) as error:
        problem = f"it stopped with {type(error).__name__}: {error}"
    _tried.add(name)
    if problem:
        return Feedback("wrong", f"{name}: not yet. {_sentence(problem)}")
    _passed.add(name)
    return Feedback("passed", f"{name}: right!")


def check(name: str, answer: object) -> None:
    """Print whether `answer` solves exercise `name`, and record the exercise as solved if so; never raises."""
    found = verdict(name, answer)
    if found.passed:
        progress.keep_solved(name)
    print(found.text)


def go_on_with(name: str, answer: Any, otherwise: Any) -> Any:
    """Return `answer` if it solves exercise `name`, else `otherwise`, for the rest of the lesson; print which one."""
    passed = verdict(name, answer).passed
    print(f"{name}: the lesson goes on with {'your answer' if passed else 'the solution from helpers'}.")
    return answer if passed else otherwise


def assert_solved(name: str, answer: object) -> None:
    """For graders: raise an `AssertionError` with the feedback if `answer` does not solve exercise `name`."""
    found = verdict(name, answer)
    if not found.passed:
        raise AssertionError(found.text)


def hint(name: str, level: int | None = None) -> None:
    """Print hint number `level` (1 is a nudge, the last one the answer); None prints the next hint."""
    found = _find(name)
    if found is None:
        print(_unknown(name))
        return
    wanted = level if isinstance(level, int) else _hints_shown.get(name, 0) + 1
    wanted = max(1, min(wanted, len(found.hints)))
    _hints_shown[name] = wanted
    print(f"{name}, hint {wanted} of {len(found.hints)}: {found.hints[wanted - 1]}")


def solved(lesson: str | None = None) -> None:
    """Print the state of each exercise of one lesson ("02"), or of all lessons that this session has loaded."""
    found = sorted({name[:2] for name in _exercises}) if lesson is None else [str(lesson)[:2]]
    exercises = [name for number in found for name in names(number)]
    if not exercises:
        print("No exercise has been checked yet." if lesson is None else f"There are no exercises of {lesson!r}.")
        return
    before = progress.kept(progress.SOLVED)
    done = sum(name in _passed or name in before for name in exercises)
    print(f"{done} of {len(exercises)} exercises solved")
    for name in exercises:
        print(f"{name}  {_standing(name, before)}")


def _standing(name: str, before: dict[str, dict]) -> str:
    if name in _passed:
        return "solved"
    if name in before:
        return f"solved before ({progress.day(before[name]['when'])})"
    return f'tried, not yet right: hint("{name}") helps' if name in _tried else "open"


def hints(name: str) -> tuple[str, ...]:
    """Return all hints of an exercise, from the nudge to the answer; () for an unknown exercise."""
    found = _find(name)
    return found.hints if found else ()


def names(lesson: str) -> list[str]:
    """Return the names of a lesson's exercises in order; lesson: two digits, such as "02"."""
    _load(lesson)
    found = [name for name in _exercises if name.startswith(f"{lesson}.")]
    return sorted(found, key=lambda name: int(name.split(".")[1]))


def _load(lesson: str) -> None:
    package = f"helpers.lessons.lesson_{lesson}"
    try:
        importlib.import_module(f"{package}.exercises")
    except ModuleNotFoundError as error:
        if error.name not in (package, f"{package}.exercises"):
            raise


def _find(name: object) -> Exercise | None:
    if isinstance(name, str) and ID.fullmatch(name):
        _load(name[:2])
        return _exercises.get(name)
    return None


def _unknown(name: object) -> str:
    return f"There is no exercise {name!r}.{nearest(name, _exercises)}"


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."
