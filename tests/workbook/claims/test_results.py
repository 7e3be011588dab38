"""Where figures come from: the table of every number that the lessons recorded."""

from __future__ import annotations

import pyarrow
import pytest
from pyarrow import parquet

from helpers.runtime import UserError
from workbook.claims.results import load_results, rows_of, write_table

MADE = {"command": "make reference", "date": "2026-01-01", "machine": "a toy", "threads": 1}
ABOUT = {"02": {**MADE, "parameters": {"labels": 2000, "epochs": 3}}, "10": {**MADE, "parameters": {}}}


def test_a_lesson_has_its_numbers_its_settings_and_where_they_come_from(tmp_path):
    rows = [("02", seed, "accuracy_full", 0.9 + seed / 100) for seed in range(5)] + [("10", 0, "error_nf4", 0.07)]
    found = load_results(write_table(tmp_path / "results.parquet", rows, ABOUT))
    assert found.values("02", "accuracy_full") == pytest.approx([0.9, 0.91, 0.92, 0.93, 0.94])
    assert found.values("02", "accuracy_scratch") == found.values("07", "accuracy_full") == []
    assert found.values("10", "error_nf4") == [0.07]
    assert found.lessons["02"].label == "5 seeds, a toy, 2026-01-01, by `make reference`"
    assert found.lessons["02"].settings == {"labels": 2000, "epochs": 3}


def test_without_a_table_nothing_is_measured(tmp_path):
    assert load_results(tmp_path / "results.parquet").lessons == {}


def test_curves_are_no_rows():
    run = {"notebook": "02_toy", "parameters": {"seed": 3}, "metrics": {"accuracy_full": 1, "curve_loss": [2.0, 1.0]}}
    assert rows_of(run) == [("02", 3, "accuracy_full", 1.0)]


@pytest.mark.parametrize("fault", ["bytes", "no metadata", "a lesson of which nothing is said"])
def test_a_table_that_is_none_is_told(fault, tmp_path):
    path = tmp_path / "results.parquet"
    if fault == "bytes":
        path.write_bytes(b"PAR1 but no more")
    elif fault == "no metadata":
        parquet.write_table(pyarrow.table({"lesson": ["02"]}), path)
    else:
        write_table(path, [("02", 0, "a", 1.0)], {"03": ABOUT["02"]})
    with pytest.raises(UserError, match=r"results.parquet in data/reference cannot be read .*make reference"):
        load_results(path)


def test_only_seeds_that_have_all_metrics_count(tmp_path):
    rows = [("02", 0, "a", 1.0), ("02", 1, "a", 2.0), ("02", 1, "b", 3.0), ("02", 2, "b", 4.0)]
    write_table(tmp_path / "results.parquet", rows, ABOUT)
    found = load_results(tmp_path / "results.parquet")
    assert found.runs("02", ["a", "b"]) == [(2.0, 3.0)]
    assert found.runs("02", ["a", "c"]) == found.runs("99", ["a"]) == []


def test_the_committed_reference_has_every_lesson_that_measures():
    assert set(load_results().lessons) == {f"{number:02}" for number in range(12)}
