"""What a sweep refuses before anything runs: in one sentence, with the place and the nearest name."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from workbook.cli import main
from workbook.lessons import NOTEBOOKS
from workbook.sweeps.plan import make_plans
from workbook.sweeps.spec import read_spec


@pytest.fixture
def said(lab):
    """Write a tiny notebook, then run a sweep's file (its fields, or its text) to the sentence that refuses it."""

    def refused(*arguments: str, text: str = "", **fields: object) -> str:
        if not list(lab.notebooks.iterdir()):
            lab.notebook()
        file = lab.sweep(**fields)
        if text:
            file.write_text(text)
        where = ["--notebooks", str(lab.notebooks), "--into", str(lab.into)]
        result = CliRunner().invoke(main, ["sweep", "run", str(file), *where, *arguments])
        assert result.exit_code != 0 and "Traceback" not in result.output
        assert not lab.into.exists()
        return " ".join(result.output.split())

    return refused


@pytest.mark.parametrize("way", [{"grid": {"rat": [0.1]}}, {"cases": [{"rat": 1.0}]}, {"fixed": {"rat": 0.1}}])
def test_case_1_a_misspelt_parameter(said, way):
    text = said(seeds=[0], **way)
    assert 'no parameter "rat" in 00_tiny. Did you mean "rate"' in text
    assert next(iter(way)) in text


def test_case_1_a_misspelt_field(said):
    assert 'no field "gird". Did you mean "grid"' in said(gird={"rate": [0.1]})
    text = said(seeds=[0], figure={"x": "rate", "metric": ["a"]})
    assert 'no field "figure.metric". Did you mean "metrics"' in text


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("high", "a number"),
        (True, "a number"),
        (float("nan"), "a number"),
        (float("inf"), "a number"),
        ([0.1], "a number"),
        (None, "a number"),
    ],
)
def test_case_2_a_wrong_type_or_not_a_number(said, value, kind):
    text = said(grid={"rate": [0.1, value]})
    assert f"grid.rate[1]: rate is {value!r}, but it has to be {kind}" in text


def test_case_2_a_row_of_a_list_of_cases_is_named(said):
    assert "cases[1].labels: labels is 1.5" in said(cases=[{"labels": 1}, {"labels": 1.5}])


def test_case_2_a_tuple_is_refused(said):
    text = "question: q\nnotebook: '00'\ngrid:\n  sizes: [!!python/tuple [1, 2]]\n"
    assert "tuple" in said(text=text)


def test_case_3_a_name_that_carries_code(said):
    assert "there is no parameter" in said(grid={"rate=1; import os": [1.0]})


def test_case_3_a_yaml_tag_that_would_run_code(said, tmp_path):
    flag = tmp_path / "ran"
    text = f"question: !!python/object/apply:os.system ['touch {flag}']\nnotebook: '00'\nseeds: [0]\n"
    assert "not plain YAML" in said(text=text)
    assert not flag.exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"grid": {}}, "grid: it is empty"),
        ({"grid": {"rate": []}}, "grid.rate: the list is empty"),
        ({"cases": []}, "cases: the list is empty"),
        ({}, "varies nothing"),
        ({"grid": {"rate": [0.1]}, "cases": [{"rate": 0.1}]}, "either a grid, cases or a sample"),
        ({"seeds": [0], "fixed": {"seed": 1}}, "seed is given twice"),
        ({"fixed": {"rate": 0.1}, "grid": {"rate": [0.1]}}, "varied as well"),
        ({"seeds": [-1]}, "seeds.0"),
        ({"seeds": [0], "minutes": 0}, "minutes"),
        ({"sample": {"runs": 3, "values": {"rate": {"low": 2, "high": 1}}}}, "below high"),
        ({"sample": {"runs": 3, "values": {"mode": {"low": 1, "high": 2}}}}, "needs a list to draw from"),
        ({"fixed": {"budget": "quik"}, "seeds": [0]}, 'Did you mean "quick"'),
    ],
)
def test_case_4_empty_or_contradictory(said, fields, words):
    assert words in said(**fields)


def test_case_4_a_huge_grid_is_counted_before_it_is_made(said):
    values = list(range(1000))
    assert "makes 1,000,000 runs" in said(grid={"labels": values, "rate": [float(v) for v in values]})
    assert "300 runs: say --yes" in said(grid={"labels": values[:300]})


def test_case_4_duplicates_run_once(lab):
    lab.notebook()
    file = lab.sweep(grid={"rate": [0.1, 0.1, 1]}, seeds=[0, 0])
    where = ["--notebooks", str(lab.notebooks), "--into", str(lab.into), "--dry-run"]
    result = CliRunner().invoke(main, ["sweep", "run", str(file), *where])
    assert result.exit_code == 0 and "2 runs of lesson 00 (4 named twice, run once)" in result.output


def test_case_5_no_notebook(said):
    assert 'no lesson "7"' in said(notebook="7", seeds=[0])


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}', ""])
def test_case_5_not_a_notebook(said, lab, content):
    lab.notebook().write_text(content)
    assert "00_tiny.ipynb is not a notebook" in said(seeds=[0])


def test_case_5_no_parameters_cell(said, lab):
    path = lab.notebook()
    content = json.loads(path.read_text())
    content["cells"][0]["metadata"]["tags"] = []
    path.write_text(json.dumps(content))
    assert "0 cells tagged `parameters`" in said(seeds=[0])


def test_case_6_a_missing_kernel_is_one_error(said, lab):
    lab.notebook(kernel="pythn3")
    text = said(grid={"rate": [0.1, 0.2, 0.3]})
    assert text.count("knows no kernel") == 1 and 'Did you mean "python3"' in text


@pytest.mark.parametrize(
    ("value", "words"),
    [("../elsewhere", 'must not go up with ".."'), ("a/../../b", 'must not go up with ".."'), ("x.pkl", "a pickle")],
)
def test_case_20_paths_that_lead_out_and_pickles(said, value, words):
    text = said(grid={"mode": ["good", value]})
    assert "grid.mode[1]" in text and words in text


def test_case_20_links_out_of_the_tree(said, lab, tmp_path):
    outside = lab.notebook(name="01_outside").rename(tmp_path / "01_outside.ipynb")
    (lab.notebooks / "01_outside.ipynb").symlink_to(outside)
    assert "leads out of" in said(notebook="01", seeds=[0])
    assert "is a path" in said(notebook="../01_outside.ipynb", seeds=[0])


def test_case_20_a_value_that_is_a_link_out_of_the_project(said, tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "secret").write_text("x")
    (project / "inside").symlink_to(tmp_path / "secret")
    for module in ("helpers.paths", "workbook.sweeps.values"):
        monkeypatch.setattr(f"{module}.ROOT", project)
    text = said(grid={"mode": ["inside"]})
    assert 'grid.mode[0]: mode is "inside", which lies outside the project: give its whole path, /' in text


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model.safetensors": "", "config.json": {"model_type": "bert", "auto_map": {}}}, "run code of its own"),
        ({"model.bin": "", "config.json": {"model_type": "bert"}}, "holds only a pickle"),
        ({}, "has no config.json"),
    ],
)
def test_case_20_a_model_that_brings_code(said, tmp_path, files, words):
    model = tmp_path / "model"
    model.mkdir()
    for name, content in files.items():
        (model / name).write_text(json.dumps(content))
    assert words in said(fixed={"model": str(model)}, seeds=[0])


def test_case_18_a_model_of_the_wrong_hash_names_the_file_and_the_fix(said, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_text("cut")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
    text = said(fixed={"model": str(tmp_path)}, seeds=[0])
    assert "model.safetensors is damaged or changed" in text and "copy it again" in text


def test_a_missing_sweep_names_the_nearest(lab):
    lab.notebook()
    lab.sweep("labels", seeds=[0])
    result = CliRunner().invoke(main, ["sweep", "run", str(lab.folder / "lables.yaml")])
    assert 'Did you mean "labels"' in result.output
    result = CliRunner().invoke(main, ["sweep", "status", "tiny", "--into", str(lab.into)])
    assert 'no sweep "tiny"' in result.output


def test_a_sample_is_the_same_for_the_same_seed(lab):
    lab.notebook()
    values = {"rate": {"low": 0.001, "high": 1, "scale": "log"}, "labels": {"low": 1, "high": 50}, "mode": ["a", "b"]}
    plans = [
        make_plans(lab.sweep(sample={"runs": 20, "seed": seed, "values": values}), lab.notebooks)[0]
        for seed in (3, 3, 4)
    ]
    assert plans[0].runs == plans[1].runs != plans[2].runs
    assert all(0.001 <= row["rate"] <= 1 and type(row["labels"]) is int for row in plans[0].runs.values())


def test_the_job_that_slurm_would_get(lab, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    lab.notebook()
    file = lab.folder / "slurm.yaml"
    file.write_text("queue: teaching\naccount: course\ncores: 4\nmemory: 8GB\nwalltime: '01:00:00'\n")
    plan = lab.sweep(seeds=[0, 1])
    where = ["--notebooks", str(lab.notebooks), "--into", str(lab.into), "--dry-run", "--slurm", str(file)]
    result = CliRunner().invoke(main, ["sweep", "run", str(plan), *where])
    assert result.exit_code == 0, result.output
    for line in ("-p teaching", "-A course", "--cpus-per-task=4", "--mem=8G", "-t 01:00:00", "--nthreads 1"):
        assert line in result.output, line
    assert "distributed.cli.dask_worker" in result.output or "dask worker" in result.output


def test_a_misspelt_slurm_setting(lab):
    file = lab.folder / "slurm.yaml"
    file.write_text("que: teaching\n")
    lab.notebook()
    where = ["--notebooks", str(lab.notebooks), "--dry-run", "--slurm", str(file)]
    result = CliRunner().invoke(main, ["sweep", "run", str(lab.sweep(seeds=[0])), *where])
    assert 'no setting "que". Did you mean "queue"' in result.output


def test_the_sweeps_that_are_shipped_fit_their_lessons():
    files = sorted((NOTEBOOKS.parent / "sweeps").glob("*.yaml"))
    assert files
    for file in files:
        for plan in make_plans(file, NOTEBOOKS):
            assert 2 <= len(plan.runs) <= 100, file


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001), ("5E4", 50000.0), ("-2.5e+3", -2500.0), (".5e-1", 0.05), ("1.e2", 100.0), ("0.001", 0.001),
        ("12", 12), ('"1e-3"', "1e-3"), ("e5", "e5"), ("1e", "1e"), ("1e3x", "1e3x"), ("1-e3", "1-e3"),
    ],
)  # fmt: skip
def test_a_number_with_an_exponent_is_one(tmp_path, written, value):
    """YAML 1.1, which PyYAML reads, takes 1e-3 for a word; Python and YAML 1.2 do not."""
    path = tmp_path / "rate.yaml"
    path.write_text(f'question: "q"\nnotebook: "04"\ngrid: {{learning_rate: [{written}]}}\nfixed: {{x: {written}}}\n')
    spec = read_spec(path)
    assert spec.grid == {"learning_rate": [value]} and spec.fixed == {"x": value}
    assert type(spec.fixed["x"]) is type(value)
