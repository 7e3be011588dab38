"""The README's picture and sentence are those of the committed reference."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
from PIL import Image

from helpers.reference import lesson_reference

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("readme_result", ROOT / "tools" / "readme_result.py")
readme_result = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(readme_result)


def test_picture_and_sentence_are_current():
    wanted = readme_result.files(lesson_reference("08"))
    why = "run `.venv/bin/python tools/readme_result.py` and commit README.md and docs/images/result.png"
    assert readme_result.README.read_bytes() == wanted[readme_result.README], why
    described = readme_result.drawn(lesson_reference("08")).alt
    assert Image.open(readme_result.PICTURE).text["Description"] == described, why
    if sys.platform.startswith("linux"):  # other systems round curves in another way
        assert readme_result.PICTURE.read_bytes() == wanted[readme_result.PICTURE], why


def test_another_reference_is_another_sentence():
    reference = lesson_reference("08")
    changed = dict(reference.metrics, accuracy_lora=[0.8] * 5)
    assert "LoRA trains 5.5% of a model's weights and classifies 80% of" in readme_result.sentence(
        dataclasses.replace(reference, metrics=changed)
    )
    changed["accuracy_lora"] = [0.99] * 5
    with pytest.raises(ValueError, match="write another sentence"):
        readme_result.sentence(dataclasses.replace(reference, metrics=changed))


def test_the_first_screen_has_the_picture_the_result_and_the_two_commands():
    top = readme_result.README.read_text(encoding="utf-8").split("\n")[:24]
    text = "\n".join(top)
    assert text.index("docs/images/result.png") < text.index("**LoRA trains") < text.index("make run")
    assert "make test" in text
