"""The reference's table holds what the runs recorded, and only of lessons whose runs are all done and made alike."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from helpers import record
from helpers.runtime import UserError
from workbook.claims.gather import gather, gathered, main
from workbook.claims.results import load_results, read_rows, write_table
from workbook.engine.ledger import Outcome, RunLedger, write_outcome


def swept(sweeps, lesson: str, seeds, done=None, **parameters):
    """A sweep's folder as the command leaves it."""
    name = f"reference-{lesson}"
    runs = {f"{lesson}{seed:010}": {"seed": seed} for seed in seeds}
    for run, given in runs.items():
        folder = RunLedger(sweeps / name / "runs" / run).new_attempt(given)
        if done is not None and given["seed"] not in done:
            continue
        metrics = {"accuracy_full": 0.9 + given["seed"] / 100, "steps": 10, "curve_loss": [2.0, 1.0]}
        record.record(f"{lesson}_toy", {**parameters, **given}, folder=folder, **metrics)
        write_outcome(folder, Outcome("done", 2.0))
    saved = {
        "name": name,
        "question": "?",
        "file": "reference.yaml",
        "notebooks": "",
        "notebook": f"{lesson}_toy",
        "varied": [],
    }
    saved |= {"figure": {}, "state": {}, "seconds": 60.0, "retries": 1, "runs": runs}
    (sweeps / name / "sweep.json").write_text(json.dumps(saved))
    return sweeps / name


def test_every_number_of_every_seed_is_in_the_table(tmp_path):
    swept(tmp_path, "02", range(5), labels=2000)
    into = tmp_path / "results.parquet"
    assert gather(tmp_path, into) == ["02: 5 seeds, 10 numbers"]
    rows, about = read_rows(into)
    assert len(rows) == 10 and ("02", 3, "accuracy_full", 0.93) in rows
    assert about["02"]["parameters"] == {"labels": 2000}
    assert about["02"]["versions"] == record.versions() and about["02"]["machine"]
    assert load_results(into).lessons["02"].metrics["steps"] == dict.fromkeys(range(5), 10.0)


def test_a_lesson_that_is_not_ready_keeps_its_rows_and_is_told(tmp_path):
    into = tmp_path / "results.parquet"
    write_table(into, [("02", 0, "accuracy_full", 0.5)], {"02": {"parameters": {}}})
    swept(tmp_path, "02", range(5), done=(0, 1))
    swept(tmp_path, "03", range(5))
    assert gather(tmp_path, into)[0] == "02: not taken: 2 of 5 runs are done; workbook sweep resume reference-02"
    assert load_results(into).lessons["02"].metrics == {"accuracy_full": {0: 0.5}}
    assert len(load_results(into).lessons["03"].metrics["accuracy_full"]) == 5
    told = CliRunner().invoke(main, ["--sweeps", str(tmp_path), "--into", str(into)])
    assert told.exit_code == 1 and "02: not taken" in told.output


def test_fewer_than_five_seeds_are_no_reference(tmp_path):
    swept(tmp_path, "02", range(4))
    with pytest.raises(UserError, match="4 of 5 runs"):
        gathered(tmp_path, "reference-02")


def test_runs_that_were_not_made_alike_are_no_draws_of_one_thing(tmp_path):
    folder = swept(tmp_path, "02", range(5), labels=2000)
    changed = next(folder.glob("runs/*/attempt-*"))
    content = json.loads((changed / record.FILE).read_text())
    content["parameters"]["labels"] = 100
    (changed / record.FILE).write_text(json.dumps(content))
    write_outcome(changed, Outcome("done", 2.0))
    with pytest.raises(UserError, match="not draws of one thing"):
        gathered(tmp_path, "reference-02")


def test_what_was_measured_on_real_text_has_a_table_of_its_own(tmp_path):
    folder = swept(tmp_path, "02", range(5))
    for attempt in folder.glob("runs/*/attempt-*"):
        content = json.loads((attempt / record.FILE).read_text())
        content["metrics"]["real_accuracy_full"] = 0.8
        (attempt / record.FILE).write_text(json.dumps(content))
        write_outcome(attempt, Outcome("done", 2.0))
    into = tmp_path / "results.parquet"
    assert gather(tmp_path, into) == ["02: 5 seeds, 15 numbers, 5 of them on real text"]
    real = load_results(tmp_path / "results_real.parquet").lessons["02"].metrics
    assert real == {"accuracy_full": dict.fromkeys(range(5), 0.8)}
    assert set(load_results(into).lessons["02"].metrics) == {"accuracy_full", "steps"}
