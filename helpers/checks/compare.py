"""Compare a learner's value with the right one and name the first thing that differs."""

from __future__ import annotations


class NotAttempted(Exception):
    """The answer is still the `...` of the stub."""


def attempted(value: object) -> object:
    """Return `value`.

    Raises:
        NotAttempted: when it is, or holds at its top level, the stub's `...`.
    """
    inside = value if isinstance(value, (tuple, list)) else ()
    if value is ... or any(item is ... for item in inside):
        raise NotAttempted
    return value


def differs(what: str, got: object, want: object, tolerance: float = 1e-5) -> str | None:
    """None when `got` agrees with `want`, else a sentence that names the first difference.

    Numbers, tensors and arrays agree within `tolerance` (absolute); all else by `==`.
    """
    attempted(got)
    if got is None:
        return f"{what} is None: is a return missing?"
    if hasattr(want, "shape") or (isinstance(want, (int, float)) and not isinstance(want, bool)):
        return _numbers_differ(what, got, want, tolerance)
    if isinstance(want, (list, tuple)) and isinstance(got, (list, tuple)):
        return _sequences_differ(what, got, want, tolerance)
    return None if got == want else f"{what} should be {want!r}, not {got!r}"


def _numbers_differ(what, got, want, tolerance) -> str | None:
    import torch

    try:
        got, want = torch.as_tensor(got).detach(), torch.as_tensor(want).detach()
    except (TypeError, ValueError, RuntimeError):
        return f"{what} should be numbers, not {type(got).__name__}"
    if got.shape != want.shape:
        return f"{what} should have shape {tuple(want.shape)}, not {tuple(got.shape)}"
    apart = (got.double() - want.double()).abs()
    wrong = ~(apart <= tolerance) & ~(got.double() == want.double())  # `~` so that nan is wrong
    if not wrong.any():
        return None
    place = tuple(torch.nonzero(wrong)[0].tolist())
    where = f" at {list(place)}" if place else ""
    return f"{what}{where} should be {want[place].item():.6g}, not {got[place].item():.6g}"


def _sequences_differ(what, got, want, tolerance) -> str | None:
    if len(got) != len(want):
        return f"{what} should have {len(want)} items, not {len(got)}"
    pairs = enumerate(zip(got, want, strict=True))
    found = (differs(f"{what}[{at}]", one, other, tolerance) for at, (one, other) in pairs)
    return next((sentence for sentence in found if sentence), None)
