"""Checks parameter values: each has the type of the notebook's default, runs no code and stays in the project."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from helpers.paths import ROOT, local_path
from helpers.pretrained import PICKLES, check_model_folder
from helpers.runtime import UserError, choose, nearest
from workbook.lessons.parameters import CHOICES, KINDS, fits


def check_names(names: Iterable[str], declared: Mapping[str, object], where: str, lesson: str) -> None:
    """Raise a `UserError` for the first name that the notebook does not declare; its message has the nearest name."""
    for name in names:
        if name not in declared:
            raise UserError(
                f'{where}: there is no parameter "{name}" in {lesson}.{nearest(name, declared)} '
                f"There are: {', '.join(declared)}."
            )


def checked_row(
    row: Mapping[str, object], declared: Mapping[str, object], where: str, lesson: str
) -> dict[str, object]:
    """The values of several parameters as the notebook will get them; raises what `check_names` and `checked` raise."""
    check_names(row, declared, where, lesson)
    return {name: checked(name, value, declared[name], f"{where}.{name}") for name, value in row.items()}


def checked(name: str, value: object, default: object, where: str) -> object:
    """`value` as the notebook will get it.

    Args:
        where: the place in the sweep's file, such as "grid.labels[2]".

    Raises:
        UserError: it is of another type than the default, not finite, or a text that is not allowed.
    """
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if not fits(value, default):
        kind = KINDS.get(type(default), f"like {default!r}")
        raise UserError(f"{where}: {name} is {value!r}, but it has to be {kind}, such as {default!r}.")
    try:
        if name in CHOICES:
            choose(name, value, CHOICES[name])
        if isinstance(value, str) and value:
            _check_text(name, value)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return value


def _check_text(name: str, value: str) -> None:
    """Raise a UserError for a file or folder that may run code, or a relative path that leads out of the project."""
    if ".." in PurePath(value).parts:
        raise UserError(f'{name} is "{value}", but a path must not go up with "..".')
    if any(PurePath(value.lower()).match(pattern) for pattern in PICKLES):
        raise UserError(f'{name} is "{value}", a pickle, which can run code when it is opened; use safetensors.')
    path = local_path(value)
    if not Path(value).is_absolute() and path.exists() and not path.resolve().is_relative_to(ROOT):
        raise UserError(f'{name} is "{value}", which lies outside the project: give its whole path, {path.resolve()}.')
    if name == "model" and path.is_dir():
        check_model_folder(path)
        if "auto_map" in json.loads((path / "config.json").read_text(encoding="utf-8")):
            raise UserError(f'{name} is "{value}", which wants to run code of its own (auto_map in config.json).')
