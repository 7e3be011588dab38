"""Reference results: read whole, or refused with the command that makes them."""

from __future__ import annotations

import json
import re

import pytest

from helpers import reference
from helpers.reference import kept, load_reference, real_reference
from helpers.runtime import UserError

GOOD = {
    "command": "make reference",
    "date": "2026-01-31",
    "machine": "a processor, 2 cores",
    "threads": 2,
    "settings": {"labels": 2000},
    "seeds": [0, 1, 2],
    "metrics": {"accuracy_full": [0.9, 0.91, 0.92]},
}


def write(folder, value):
    (folder / "ladder.json").write_text(json.dumps(value))


def test_an_interval_over_the_seeds(tmp_path):
    write(tmp_path, GOOD)
    found = load_reference("ladder", tmp_path)
    assert found.interval("accuracy_full").value == pytest.approx(0.91)
    assert found.label == "3 seeds, a processor, 2 cores, 2 thread(s), 2026-01-31, by `make reference`"
    with pytest.raises(UserError, match='hold no "accuracy_lora"; they hold accuracy_full'):
        found.interval("accuracy_lora")


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(UserError, match="make it with: make reference"):
        load_reference("ladder", tmp_path)


@pytest.mark.parametrize("text", ["", "{", json.dumps({"date": 1}), json.dumps({**GOOD, "extra": 1})])
def test_a_broken_file_is_refused(tmp_path, text):
    (tmp_path / "ladder.json").write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        load_reference("ladder", tmp_path)


def test_machine_and_date_are_said():
    assert reference.machine().endswith("cores")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", reference.today())


def test_what_is_saved_is_what_is_loaded(tmp_path):
    path = reference.save_reference("ladder", "make it", {"labels": 5}, [{"a": 1.0}, {"a": 2.0}], tmp_path, threads=2)
    found = load_reference("ladder", tmp_path)
    assert path.name == "ladder.json" and found.seeds == [0, 1] and found.metrics == {"a": [1.0, 2.0]}
    assert (found.command, found.settings, found.threads) == ("make it", {"labels": 5}, 2)
    assert list(json.loads(path.read_text())) == list(GOOD)


def test_what_was_measured_is_kept_for_the_same_settings_only(tmp_path):
    asked = []

    def measure():
        asked.append(1)
        return {"accuracy": len(asked) / 10}

    settings = {"seed": 0, "rate": 1e-3, "ranks": (1, 2)}
    assert [kept(tmp_path, "toy", settings, measure) for _ in range(2)] == [{"accuracy": 0.1}] * 2
    assert kept(tmp_path, "toy", settings | {"rate": 2e-3}, measure) == {"accuracy": 0.2}
    assert len(asked) == 2 and len(list(tmp_path.iterdir())) == 2


def test_a_lesson_that_was_not_measured_on_real_text_has_no_reference_there():
    assert real_reference("99") is None
    found = real_reference("10")
    assert found is not None and not any(name.startswith("real_") for name in found.metrics)
