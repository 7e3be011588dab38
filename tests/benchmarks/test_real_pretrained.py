"""The kept figures of lesson 01's last section are those that the lesson asks for."""

from __future__ import annotations

import json
import re

from benchmarks.real_pretrained import PARTS
from helpers import real
from helpers.reference import FOLDER
from workbook.lessons import find

SOURCE = next(lesson.source for lesson in find() if lesson.number == "01")


def test_the_reference_holds_what_the_lesson_shows():
    kept = json.loads((FOLDER / "real_pretrained.json").read_text("utf-8"))
    shown = re.findall(r'shown\("(\w+)", ', SOURCE.read_text("utf-8"))
    assert set(kept) == {"label", *shown} and len(shown) == 5
    assert "benchmarks/real_pretrained.py" in kept["label"]


def test_the_figures_are_what_their_names_say():
    kept = json.loads((FOLDER / "real_pretrained.json").read_text("utf-8"))
    assert all(0 <= right <= asked for right, asked in kept["facts"].values())
    assert all(0 < low <= value <= high for value, low, high in kept["bits"].values())
    assert all(0 <= mean <= largest <= 1 for mean, largest in kept["attention"]["looks"].values())


def test_its_parts_are_those_of_the_real_track():
    assert set(PARTS) <= set(real.PARTS)
