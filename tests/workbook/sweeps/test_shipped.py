"""Every sweep that is shipped: its first cell of the grid through the real command, to the figure that it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workbook.lessons import NOTEBOOKS

# The reference has no figure: the lessons' own runs, which other tests look at, are all that it is.
SWEEPS = [file for file in sorted((NOTEBOOKS.parent / "sweeps").glob("*.yaml")) if file.stem != "reference"]


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_the_first_run_records_what_the_figure_wants(lab, file: Path):
    plan = yaml.safe_load(file.read_text())
    plan["fixed"] = {**plan.get("fixed", {}), "budget": "quick"}
    plan["grid"] = {name: values[:1] for name, values in plan.get("grid", {}).items()} or None
    lab.notebooks = NOTEBOOKS
    name = file.stem
    made = lab.sweep(name, **{**plan, "seeds": plan["seeds"][:1]})
    status, said = lab.run("run", made, "--workers", "1")
    assert status == 0, said
    page = (lab.into / name / "index.html").read_text()
    assert (lab.into / name / "figure.png").is_file() and plan["question"] in page
