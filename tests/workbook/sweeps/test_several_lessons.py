"""A sweep that names several lessons is a sweep for each of them, checked together and looked at together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner

from helpers.runtime import UserError
from workbook.cli import main, worst_of
from workbook.engine.owner import locked
from workbook.sweeps.plan import make_plans
from workbook.sweeps.saved import members, save_sweep
from workbook.sweeps.status import cancel_sweep


@pytest.fixture
def file(lab):
    for number in ("00", "01", "02"):
        lab.notebook(name=f"{number}_tiny")
    return lab.sweep("both", notebook=["00", "02"], seeds=[0, 1])


def test_each_lesson_has_a_plan_of_its_own(lab, file):
    plans = make_plans(file, lab.notebooks)
    assert [(plan.name, plan.lesson.name, len(plan.runs)) for plan in plans] == [
        ("both-00", "00_tiny", 2),
        ("both-02", "02_tiny", 2),
    ]


def test_a_lesson_that_is_not_there_is_named_before_any_run(lab, file):
    with pytest.raises(UserError, match="07"):
        make_plans(lab.sweep("both", notebook=["00", "07"], seeds=[0]), lab.notebooks)


def test_nothing_runs_after_an_interruption():
    asked = []

    def statuses():
        for status in (0, 1, 130, 0):
            asked.append(status)
            yield status

    assert worst_of(statuses()) == 130
    assert asked == [0, 1, 130]
    assert worst_of([0, 0]) == 0


def test_a_name_stands_for_its_members(lab):
    for name in ("both-00", "both-02", "both-extra", "one"):
        (lab.into / name).mkdir(parents=True)
        (lab.into / name / "sweep.json").write_text("{}")
    assert members(lab.into, "both") == ["both-00", "both-02"]
    assert members(lab.into, "sweeps/one.yaml") == ["sweeps/one.yaml"]
    assert members(lab.into, "nothing") == ["nothing"]


@pytest.mark.slow
def test_they_run_one_after_the_other_and_are_looked_at_and_resumed_by_one_name(lab, file):
    status, said = lab.run("run", file, "--workers", "2")
    assert status == 0, said
    assert sorted(path.parent.name for path in lab.into.glob("*/index.html")) == ["both-00", "both-02"]
    for verb in ("status", "resume", "results"):
        status, said = lab.run(verb, "both")
        assert status == 0, said
    assert len(lab.attempts()) == 4, "what is done is not run again"
    result = CliRunner().invoke(main, ["sweep", "status", "bot", "--into", str(lab.into)])
    assert result.exit_code == 1 and "both-00" in result.output


def test_the_name_of_all_cancels_the_one_that_runs(lab, capsys):
    for name in ("both-00", "both-01"):
        lab.notebook()
        [plan] = make_plans(lab.sweep(seeds=[0]), lab.notebooks)
        save_sweep(lab.into / name, replace(plan, name=name), 60.0, 1)
    with pytest.raises(UserError, match="Nobody runs both now"):
        cancel_sweep(lab.into, "both")
    with locked(lab.into / "both-01", "abcd"):
        cancel_sweep(lab.into, "both")
        assert (lab.into / "both-01" / "stop-abcd").exists() and not list((lab.into / "both-00").glob("stop-*"))
    assert "both-01 is being ended" in capsys.readouterr().out
