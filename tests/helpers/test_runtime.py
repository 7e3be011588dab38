"""Starting a lesson: what is refused, in which words, and what is made repeatable."""

import math
import os
import subprocess
import sys

import numpy
import pytest
import torch

from helpers import runtime
from helpers.runtime import BUDGETS, TRACKS, UserError, check_number, choose, nearest, seed_everything, start


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"track": "poket"}, ["track", "poket", '"pocket", "real", "hub"', 'Did you mean "pocket"?']),
        ({"budget": "standart"}, ["budget", "standart", 'Did you mean "standard"?']),
        ({"budget": None}, ["budget is None"]),
        ({"seed": -1}, ["seed is -1", "0"]),
        ({"seed": 0.5}, ["seed is 0.5", "whole number"]),
        ({"seed": True}, ["seed is True", "whole number"]),
        ({"threads": 0}, ["threads is 0"]),
    ],
)
def test_a_bad_parameter_is_named_in_one_sentence(parameters, words):
    with pytest.raises(UserError) as problem:
        start(**{"track": "pocket", "budget": "quick", "seed": 0, **parameters})
    said = str(problem.value)
    assert "\n" not in said
    assert all(word in said for word in words), said


def test_start_says_what_it_runs_with():
    run = start(track="pocket", budget="quick", seed=3, threads=1)
    assert (run.track, run.budget, run.seed, run.threads) == ("pocket", "quick", 3, 1)
    assert run.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert torch.are_deterministic_algorithms_enabled()


def test_values_by_budget():
    values = {"quick": 1, "standard": 2, "full": 3}
    for budget in BUDGETS:
        assert start(track="pocket", budget=budget, seed=0).by_budget(**values) == values[budget]
    assert start(track="pocket", budget="full", seed=0).by_budget(quick=1, standard=2) == 2


def test_the_seed_repeats_every_source_of_chance():
    import random

    def draws(seed):
        seed_everything(seed)
        return random.random(), float(numpy.random.rand()), float(torch.rand(1))

    assert draws(1) == draws(1)
    assert all(one != other for one, other in zip(draws(1), draws(2), strict=True))


def test_numbers_in_and_out_of_range():
    assert check_number("rate", 0.1, 0, 1) == 0.1
    assert check_number("rate", 1, 0, 1) == 1
    for wrong in (math.nan, math.inf, -0.1, "0.1", None, (1,), True):
        with pytest.raises(UserError, match="rate"):
            check_number("rate", wrong, 0, 1)


def test_the_nearest_name():
    assert nearest("Encodr", ["encoder", "decoder"]) == ' Did you mean "encoder"?'
    assert nearest("zzz", ["encoder", "decoder"]) == ""
    assert nearest(None, ["encoder"]) == ""
    assert choose("role", "encoder", ["encoder"]) == "encoder"


def test_a_user_error_in_a_notebook_is_its_sentence_and_still_fails(course):
    path = course.add(
        "07_words", "from helpers.runtime import start\nstart(track='poket', budget='quick', seed=0)", record=False
    )
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    with pytest.raises(CellExecutionError):
        NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    (error,) = [output for output in notebook.cells[2].outputs if output.output_type == "error"]
    assert error.ename == "UserError"
    assert len(error.traceback) == 1 and 'Did you mean "pocket"?' in error.traceback[0]


def test_importing_runtime_is_light():
    code = "import sys, helpers.runtime; print('torch' in sys.modules or 'transformers' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ.copy())
    assert said.stdout.strip() == "False", said.stderr


@pytest.mark.parametrize(("asked", "cuda", "mps", "taken"), [
    ("", False, True, "cpu"), ("", True, False, "cuda"), ("cpu", True, False, "cpu"), ("mps", False, True, "mps"),
])  # fmt: skip
def test_the_device_is_the_best_that_is_there_or_the_one_asked_for(monkeypatch, asked, cuda, mps, taken):
    monkeypatch.setenv("WORKBOOK_DEVICE", asked)
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert runtime._device() == taken


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for asked, words in (("cuda", "no such device"), ("gpu", "has to be one of")):
        monkeypatch.setenv("WORKBOOK_DEVICE", asked)
        with pytest.raises(UserError, match=words):
            runtime._device()


@pytest.mark.parametrize("track", TRACKS)
def test_no_track_begins_with_a_warning(track, capsys):
    start(track=track, budget="quick", seed=0)
    assert not capsys.readouterr().out
