"""A lesson: its number, its notebook and the source file of the notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from helpers.paths import NOTEBOOKS
from helpers.runtime import UserError, nearest

NAME = re.compile(r"(\d\d)_[a-z0-9_]+")


@dataclass(frozen=True)
class Lesson:
    """One notebook of the course, such as "02_full_vs_last_layer"."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def source(self) -> Path:
        """The source file, the only file of a lesson that authors edit."""
        return self.path.parent / "source" / f"{self.name}.py"

    @cached_property
    def cells(self) -> list[dict]:
        """The notebook's cells, with each source as one string.

        Raises:
            UserError: the notebook is missing or not a notebook.
        """
        try:
            cells = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        except FileNotFoundError:
            raise UserError(f"{self.path.name} is missing: `make notebooks` builds it from its source.") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.path.name} is not a notebook: `make notebooks` builds it again.") from None
        return [{**cell, "source": "".join(cell["source"])} for cell in cells]

    @property
    def title(self) -> str:
        """The question in the first heading."""
        for cell in self.cells:
            if cell["cell_type"] == "markdown" and cell["source"].startswith("# "):
                return cell["source"].splitlines()[0][2:].strip()
        return self.name

    @property
    def keeps_model(self) -> bool:
        """Whether a run can keep the model that this lesson trains, for `workbook export`."""
        return any(cell["cell_type"] == "code" and "keep_model(" in cell["source"] for cell in self.cells)

    def tagged(self, tag: str) -> list[dict]:
        """The cells that carry `tag`."""
        return [cell for cell in self.cells if tag in cell["metadata"].get("tags", [])]


def find(folder: Path = NOTEBOOKS) -> list[Lesson]:
    """Return the lessons in a folder of notebooks, in the course's order, also those that have only a source so far."""
    names = {path.stem for path in [*folder.glob("*.ipynb"), *(folder / "source").glob("*.py")]}
    return [Lesson(folder / f"{name}.ipynb") for name in sorted(names) if NAME.fullmatch(name)]


def select(wanted: Iterable[str], lessons: list[Lesson]) -> list[Lesson]:
    """The lessons named by number ("2", "02") or by name, in the course's order; all when none is named.

    Raises:
        UserError: there is no such lesson.
    """
    if not lessons:
        raise UserError("There is no lesson here: notebooks/ holds no file such as 00_start_here.ipynb.")
    chosen = set()
    for word in wanted:
        key = Path(word).stem.zfill(2)
        match = [lesson for lesson in lessons if key in (lesson.number, lesson.name)]
        if not match:
            there = ", ".join(lesson.number for lesson in lessons)
            hint = nearest(key, [lesson.name for lesson in lessons]) if not key.isdigit() else ""
            raise UserError(f'There is no lesson "{word}"; there are {there}.{hint}')
        chosen.update(match)
    return [lesson for lesson in lessons if lesson in chosen or not chosen]
