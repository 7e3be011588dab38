"""Where figures come from: the table of all lessons where there is one, else each lesson's own reference."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from helpers.reference import Reference
from helpers.runtime import UserError
from workbook.claims.recorded import recorded
from workbook.claims.results import FILES, LESSON_KL_WEIGHT, RENAMED, Results, load, read_table, write_table
from workbook.lessons import NOTEBOOKS, find, select
from workbook.lessons.parameters import declared

MADE = {"command": "make reference", "date": "2026-01-01", "machine": "a toy", "threads": 1}
ABOUT = {"02": {**MADE, "parameters": {"labels": 2000, "epochs": 3}}, "10": {**MADE, "parameters": {}}}


def reference(**metrics) -> Reference:
    settings = {"labels": 10, "kl_weights": [0.0, LESSON_KL_WEIGHT]}
    count = len(next(iter(metrics.values())))
    return Reference("make reference", "2026-01-01", "a toy", 1, settings, list(range(count)), metrics)


def write(folder, name, found):
    (folder / f"{name}.json").write_text(json.dumps(asdict(found)))


def test_each_lesson_from_its_own_file(tmp_path):
    write(tmp_path, "ladder", reference(accuracy_full=[0.9, 0.8], path_full=[[1], [2]]))
    found = load(tmp_path)
    assert found.values("02", "accuracy_full") == [0.9, 0.8]
    assert found.values("02", "path_full") == found.values("02", "nothing") == found.values("07", "accuracy_full") == []
    assert "2 seeds, a toy" in found.lessons["02"].label


def test_the_names_are_the_lessons_own(tmp_path):
    write(tmp_path, "instructions", reference(exact_told_sft=[0.9, 0.8]))
    write(tmp_path, "rlhf", reference(true_reward_sweep_0=[0.1, 0.2], true_reward_sweep_1=[0.3, 0.4]))
    found = load(tmp_path)
    assert found.values("04", "exact_answer_rate_sft") == [0.9, 0.8]
    assert found.values("05", "true_reward_ppo") == [0.3, 0.4]


def test_every_name_that_is_renamed_is_one_that_its_lesson_records():
    sources = {path.name[:2]: path for path in NOTEBOOKS.glob("*/[0-9][0-9]_*.py")}
    for lesson, names in RENAMED.items():
        assert all(name in recorded(sources[lesson]) for name in names.values())
    assert declared(select(["05"], find())[0])["kl_weight"] == LESSON_KL_WEIGHT


def test_the_table_comes_first_for_the_lessons_that_it_holds(tmp_path):
    write(tmp_path, "ladder", reference(accuracy_full=[0.1, 0.2], accuracy_scratch=[0.1, 0.2]))
    write(tmp_path, "qlora", reference(accuracy_full=[0.5, 0.6]))
    rows = [("02", seed, "accuracy_full", 0.9 + seed / 100) for seed in range(5)] + [("10", 0, "error_nf4", 0.07)]
    write_table(tmp_path / "results.parquet", rows, ABOUT)
    found = load(tmp_path)
    assert found.values("02", "accuracy_full") == pytest.approx([0.9, 0.91, 0.92, 0.93, 0.94])
    assert found.values("02", "accuracy_scratch") == [], "one source for one lesson, never a mixture"
    assert found.values("11", "accuracy_full") == [0.5, 0.6]
    assert found.values("10", "error_nf4") == [0.07]
    assert found.lessons["02"].label == "5 seeds, a toy, 2026-01-01, by `make reference`"
    assert found.lessons["02"].settings == {"labels": 2000, "epochs": 3}


@pytest.mark.parametrize("fault", ["bytes", "no metadata", "a lesson of which nothing is said"])
def test_a_table_that_is_none_is_told(fault, tmp_path):
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "results.parquet"
    if fault == "bytes":
        path.write_bytes(b"PAR1 but no more")
    elif fault == "no metadata":
        parquet.write_table(pyarrow.table({"lesson": ["02"]}), path)
    else:
        write_table(path, [("02", 0, "a", 1.0)], {"03": ABOUT["02"]})
    with pytest.raises(UserError, match=r"results.parquet in data/reference cannot be read .*make reference"):
        read_table(path)


def test_only_seeds_that_have_all_metrics_count(tmp_path):
    rows = [("02", 0, "a", 1.0), ("02", 1, "a", 2.0), ("02", 1, "b", 3.0), ("02", 2, "b", 4.0)]
    write_table(tmp_path / "results.parquet", rows, ABOUT)
    found = Results(read_table(tmp_path / "results.parquet"))
    assert found.runs("02", ["a", "b"]) == [(2.0, 3.0)]
    assert found.runs("02", ["a", "c"]) == found.runs("99", ["a"]) == []


def test_the_committed_references_can_all_be_read():
    found = load()
    assert set(found.lessons) <= {*FILES, "00", "01", "10"}
    assert {"02", "03", "04", "05", "06", "07", "11"} <= set(found.lessons)
