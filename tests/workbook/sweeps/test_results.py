"""Results: one row per run, intervals per cell of the grid, a figure and a page; made from a ledger on the disk."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from scipy import stats

from helpers.record import record
from helpers.runtime import UserError
from workbook.engine.ledger import Outcome, RunLedger, write_outcome
from workbook.sweeps.figure import draw, lines_of, quantity_of
from workbook.sweeps.plan import make_plans
from workbook.sweeps.results import ask, cells, metric_names, write_table
from workbook.sweeps.saved import read_sweep, save_sweep
from workbook.sweeps.status import show_results, states_of

RATES, SEEDS = (0.1, 0.2), (0, 1, 2)
FIGURE = {"x": "rate", "metrics": ["accuracy_full", "accuracy_lora"]}


def accuracy(rate: float, seed: int) -> float:
    return rate + (0.01, 0.04, 0.02)[seed]


@pytest.fixture
def swept(lab):
    """A sweep whose runs are done, all but one that failed; no kernel was started for it."""
    lab.notebook()
    [plan] = make_plans(lab.sweep(grid={"rate": list(RATES)}, seeds=list(SEEDS), figure=FIGURE), lab.notebooks)
    for run, parameters in plan.runs.items():
        folder = RunLedger(lab.into / "tiny" / "runs" / run).new_attempt(parameters)
        (folder / "00_tiny.html").write_text("a page")
        (folder / "00_tiny.ipynb").write_text("{}")
        if parameters == {"rate": 0.2, "seed": 2}:
            write_outcome(folder, Outcome("failed", 2.0, cell=3, error="<b>no</b>", trace="\x1b[31mline\x1b[0m"))
            continue
        value = accuracy(**parameters)
        kept = {"accuracy_full": value, "accuracy_lora": 1 - value, "steps": 10, "curve_loss": [2.0, 1.0]}
        kept |= {"accuracy_nf4_2": value - 0.1, "accuracy_nf4_4": value, "accuracy_int_4": value / 2}
        record("00_tiny", parameters, folder=folder, **kept)
        write_outcome(folder, Outcome("done", 1.0, seconds_kernel=0.9, seconds_cells=0.5))
    return SimpleNamespace(folder=lab.into / "tiny", saved=save_sweep(lab.into / "tiny", plan, 60.0, 1))


@pytest.fixture
def table(swept):
    return write_table(swept.folder, swept.saved.runs, states_of(swept.folder, swept.saved))


def test_one_row_for_each_run_that_is_done(table):
    names, rows = ask(table, "select rate, seed, accuracy_full, seconds, attempt from runs order by rate, seed")
    assert names == ["rate", "seed", "accuracy_full", "seconds", "attempt"]
    wanted = [(rate, seed) for rate in RATES for seed in SEEDS if (rate, seed) != (0.2, 2)]
    assert [row[:2] for row in rows] == wanted
    assert all(row[2:] == (accuracy(*row[:2]), 1.0, "attempt-001") for row in rows)
    assert "curve_loss" not in metric_names(table, ["rate", "seed"])


def test_means_and_intervals_are_students(table):
    first, second = cells(table, ["rate"], ["accuracy_full"])
    values = [accuracy(0.1, seed) for seed in SEEDS]
    low, high = stats.t.interval(0.95, df=2, loc=stats.tmean(values), scale=stats.sem(values))
    interval = first.means["accuracy_full"]
    assert first.values == (0.1,) and (first.runs, second.runs) == (3, 2)
    assert interval.value == pytest.approx(stats.tmean(values))
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))


def test_a_single_run_has_no_interval(table):
    (cell, *_) = cells(table, ["rate", "seed"], ["accuracy_full"])
    assert math.isnan(cell.means["accuracy_full"].low)


def test_a_metric_that_nobody_recorded(table):
    with pytest.raises(UserError, match='No run recorded "accuracy_ful". Did you mean "accuracy_full"'):
        cells(table, ["rate"], ["accuracy_ful"])


def test_the_figure_has_a_line_for_each_metric(table):
    lines = lines_of(table, FIGURE)
    assert list(lines) == ["full", "lora"] and [x for x, _ in lines["full"]] == [0.1, 0.2]
    plot = draw(lines, "rate", "accuracy", False, "Does it hold?").axes[0]
    assert [text.get_text() for text in plot.get_legend().get_texts()] == ["full", "lora"]
    assert (plot.get_xlabel(), plot.get_ylabel()) == ("rate", "accuracy")
    lines = lines_of(table, {"x": "seed", "lines": "rate", "metrics": ["accuracy_full"]})
    assert {name: len(points) for name, points in lines.items()} == {"rate 0.1": 3, "rate 0.2": 2}


def test_endings_of_names_stand_below_the_figure(table):
    lines = lines_of(table, {"x": "bits", "metrics": ["accuracy_nf4_*", "accuracy_int_*"]})
    assert {name: [x for x, _ in points] for name, points in lines.items()} == {"nf4": [2, 4], "int": [4]}
    assert lines["nf4"][0][1].value == pytest.approx(lines["nf4"][1][1].value - 0.1)
    lines = lines_of(table, {"x": "bits", "lines": "rate", "metrics": ["accuracy_nf4_*"]})
    assert list(lines) == ["rate 0.1", "rate 0.2"]
    with pytest.raises(UserError, match='No run recorded a metric "accuracy_fp4_'):
        lines_of(table, {"x": "bits", "metrics": ["accuracy_fp4_*"]})


def test_the_words_that_metrics_share_are_the_axis():
    assert quantity_of(["win_rate_dpo", "win_rate_dpo_without_sft"]) == "win rate dpo"
    assert quantity_of(["accuracy_nf4_*", "accuracy_int_*"]) == "accuracy"
    assert quantity_of(["win_rate_dpo"]) == "win rate dpo" and quantity_of(["kl_dpo", "seconds_dpo"]) == "value"


class Links(HTMLParser):
    """Where a page leads, and what its figures say."""

    def __init__(self):
        super().__init__()
        self.links, self.alts = [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found["href"]] if tag == "a" else []
        self.alts += [found.get("alt", "")] if tag == "img" else []


def test_the_page_leads_to_every_executed_notebook(swept, capsys):
    assert show_results(swept.folder.parent, "tiny", None) == 1  # one run is not done
    said = " ".join(capsys.readouterr().out.split())
    assert "5 of 6 runs are done" in said and "0.123 [0.0854, 0.161]" in said
    text, page = (swept.folder / "index.html").read_text(), Links()
    page.feed(text)
    assert len(page.links) == 12 and all((swept.folder / link).is_file() for link in page.links)
    assert {link.rpartition(".")[2] for link in page.links} == {"html", "ipynb"}
    assert "0.123 at 0.1" in page.alts[0] and (swept.folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "cell [3]: &lt;b&gt;no&lt;/b&gt;" in text and "\x1b" not in text
    assert "://" not in text.replace("http://www.w3.org", "")  # it asks nothing of the network


def test_a_question_in_sql_sees_the_runs_and_nothing_else(swept, table, capsys):
    assert show_results(swept.folder.parent, "tiny", "select count(*) as many from runs") == 0
    assert "5" in capsys.readouterr().out
    for question in (f"select * from '{table}'", "copy runs to 'out.csv'", "selct 1"):
        with pytest.raises(UserError, match="DuckDB says"):
            ask(table, question)


def test_names_that_collide_and_columns_of_several_types(swept):
    run, parameters = next(iter(swept.saved.runs.items()))
    ledger = RunLedger(swept.folder / "runs" / run)
    folder = ledger.new_attempt(parameters)
    record("00_tiny", parameters, folder=folder, rate=7.0, seconds=3, curve_by_step={"a": 1.0})
    (ledger.attempts()[0] / "outcome.json").unlink()
    write_outcome(folder, Outcome("done", 9.0))
    path = write_table(swept.folder, swept.saved.runs, states_of(swept.folder, swept.saved))
    rows = ask(path, "select rate, metric_rate, seconds, metric_seconds, curve_by_step from runs where seconds = 9")[1]
    assert rows == [(0.1, 7.0, 9.0, 3, json.dumps({"a": 1.0}))]


def test_a_figure_is_checked_before_any_run(lab):
    lab.notebook()
    for figure, words in (
        ({"x": "rat", "metrics": ["a"]}, 'figure.x: "rat" is not varied. Did you mean "rate"'),
        ({"x": "rate", "lines": "labels", "metrics": ["a"]}, 'figure.lines: "labels" is not varied'),
        ({"x": "rate", "metrics": ["a_*", "b"]}, "figure: either all of its metrics end in _"),
    ):
        with pytest.raises(UserError, match=words.replace("*", "[*]")):
            make_plans(lab.sweep(grid={"rate": [0.1]}, figure=figure), lab.notebooks)


def test_a_sweep_nobody_began_or_whose_plan_is_damaged(swept):
    with pytest.raises(UserError, match='no sweep "tiny2".*Did you mean "tiny"'):
        read_sweep(swept.folder.parent, "tiny2")
    (swept.folder / "sweep.json").write_text('{"name"')
    with pytest.raises(UserError, match="damaged.*no run is lost"):
        read_sweep(swept.folder.parent, "tiny")


def test_half_a_sweep_has_its_table_before_every_case_was_tried(lab):
    lab.notebook()
    [plan] = make_plans(lab.sweep(cases=[{"seed": 1}, {"rate": 0.3}]), lab.notebooks)
    saved = save_sweep(lab.into / "tiny", plan, 60.0, 1)
    run, parameters = next(iter(plan.runs.items()))
    folder = RunLedger(lab.into / "tiny" / "runs" / run).new_attempt(parameters)
    record("00_tiny", parameters, folder=folder, accuracy_full=0.5)
    write_outcome(folder, Outcome("done", 1.0))
    path = write_table(lab.into / "tiny", saved.runs, states_of(lab.into / "tiny", saved))
    assert [cell.values for cell in cells(path, ["rate"], ["accuracy_full"])] == [(None,)]
