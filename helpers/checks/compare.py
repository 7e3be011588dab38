"""Compares a learner's value with the right one and reports the first difference."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch


class NotAttempted(Exception):
    """The answer is still the `...` of the stub."""


class Wrong(Exception):
    """The answer is wrong; the message says what, where, and what it should be."""


def attempted(value: Any) -> Any:
    """Return `value`.

    Raises:
        NotAttempted: when `value` is the stub's `...`, or a tuple or list that contains it.
    """
    inside = value if isinstance(value, (tuple, list)) else ()
    if value is ... or any(item is ... for item in inside):
        raise NotAttempted
    return value


def returned(value: Any, what: str) -> Any:
    """Return `value`, or raise `Wrong` if it is None; the message asks to return `what`."""
    if attempted(value) is None:
        raise Wrong(f"it returns None: return {what}")
    return value


def parts_of(value: Any, count: int, wanted: str) -> Sequence[Any]:
    """Return `value` if it is a tuple or list of `count` items; else raise `Wrong` with `wanted` in its message."""
    if not isinstance(attempted(value), (tuple, list)):
        raise Wrong(f"{wanted}, not {type(value).__name__}")
    if len(value) != count:
        raise Wrong(f"{wanted}, not {len(value)} of them")
    return value


def expect(
    what: str,
    got: object,
    wanted: object,
    tolerance: float = 1e-5,
    *,
    mistakes: Mapping[str, object] | None = None,
    note: str = "",
) -> None:
    """Compare one value with the right one.

    Args:
        mistakes: maps a sentence about a common mistake to the value that the mistake gives.
        note: appended to the message if none of these mistakes was made.

    Raises:
        Wrong: when the values differ, as `differs` defines it.
    """
    problem = differs(what, got, wanted, tolerance)
    if problem is None:
        return
    for sentence, value in (mistakes or {}).items():
        if differs("", got, value, tolerance) is None:
            raise Wrong(f"{problem}: {sentence}")
    raise Wrong(problem + note)


def expect_calls(
    answer: Callable,
    name: str,
    cases: Iterable[tuple[Sequence[Any], object]],
    tolerance: float = 1e-5,
    *,
    note: str = "",
) -> None:
    """Compare what `answer` (named `name` in the lesson) returns with `cases`: pairs (arguments, right result)."""
    for given, wanted in cases:
        expect(called(name, given), answer(*copy.deepcopy(given)), wanted, tolerance, note=note)


def called(name: str, given: Sequence[Any]) -> str:
    """Format a call for a message: "your rows_needed(0.9, 0.01)"."""
    return f"your {name}({', '.join(map(repr, given))})"


def differs(what: str, got: Any, want: Any, tolerance: float = 1e-5) -> str | None:
    """Return None if `got` agrees with `want`, else a sentence that names the first difference.

    Numbers, tensors and arrays are compared with the absolute `tolerance`, all other values with `==`.
    """
    attempted(got)
    if got is None and want is not None:
        return f"{what} is None: is a return missing?"
    if hasattr(want, "shape") or (isinstance(want, (int, float)) and not isinstance(want, bool)):
        return _numbers_differ(what, got, want, tolerance)
    if isinstance(want, (list, tuple)) and isinstance(got, (list, tuple)):
        return _sequences_differ(what, got, want, tolerance)
    return None if got == want else f"{what} should be {want!r}, not {got!r}"


def _numbers_differ(what: str, got: Any, want: Any, tolerance: float) -> str | None:
    try:
        got, want = torch.as_tensor(got).detach(), torch.as_tensor(want).detach()
    except (TypeError, ValueError, RuntimeError):
        return f"{what} should be numbers, not {type(got).__name__}"
    if got.shape != want.shape:
        return f"{what} should have shape {tuple(want.shape)}, not {tuple(got.shape)}"
    apart = (got.double() - want.double()).abs()
    wrong = ~(apart <= tolerance) & ~(got.double() == want.double())  # `~(<=)`, not `>`, so that NaN counts as wrong
    if not wrong.any():
        return None
    place = tuple(torch.nonzero(wrong)[0].tolist())
    where = f" at {list(place)}" if place else ""
    return f"{what}{where} should be {want[place].item():.6g}, not {got[place].item():.6g}"


def _sequences_differ(what: str, got: Sequence[Any], want: Sequence[Any], tolerance: float) -> str | None:
    if len(got) != len(want):
        return f"{what} should have {len(want)} items, not {len(got)}"
    pairs = enumerate(zip(got, want, strict=True))
    found = (differs(f"{what}[{at}]", one, other, tolerance) for at, (one, other) in pairs)
    return next((sentence for sentence in found if sentence), None)
