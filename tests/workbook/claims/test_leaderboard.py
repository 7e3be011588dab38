"""The leaderboard: all methods, each setting apart, empty cells that say why; and the ledger's page."""

from __future__ import annotations

import re

import pytest

from helpers.runtime import UserError
from workbook.claims import leaderboard, page
from workbook.claims.ledger import Shown, load_ledger
from workbook.claims.real_trials import on_real_text
from workbook.claims.results import LessonResults, Results, load_results
from workbook.claims.verdict import judge
from workbook.lessons import find

NONE = Results({})


def toy() -> Results:
    ladder = {
        "accuracy_full": {0: 0.9, 1: 0.94}, "accuracy_head_only": {0: 0.6, 1: 0.62},
        "accuracy_last_block": {0: 0.8, 1: 0.78},
        "trainable_parameters_full": {0: 1000, 1: 1000}, "seconds_full": {0: 10.0, 1: 14.0},
    }  # fmt: skip
    peft = {"accuracy_full": {0: 0.95, 1: 0.96}, "accuracy_lora": {0: 0.7, 1: 0.72}, "loss_rise_lora": {0: 1.0, 1: 1.2},
            "checkpoint_bytes_lora": {0: 5000, 1: 5000}}  # fmt: skip
    topics = {"accuracy_lora": {0: 0.8, 1: 0.8}, "accuracy_topics_before": {0: 0.9, 1: 0.9},
              "accuracy_topics_lora": {0: 0.5, 1: 0.5}}  # fmt: skip
    found = {"02": ladder, "07": peft, "08": topics}
    return Results({lesson: LessonResults(metrics, "toy", {"labels": 500}) for lesson, metrics in found.items()})


def test_all_methods_stand_on_the_board_even_without_figures():
    for results in (NONE, toy(), load_results()):
        methods = {row.method for part in leaderboard.rows(results).values() for row in part}
        assert methods == set(leaderboard.METHODS)


def test_settings_are_ranked_apart():
    found = leaderboard.rows(toy())
    assert [row.method for row in found["02"] if row.accuracy] == ["full", "last_block", "head_only"]
    assert [row.method for row in found["07"] if row.accuracy] == ["full", "lora"]
    text = leaderboard.page(toy(), NONE)
    assert text.index("Lesson 02") < text.index("last block") < text.index("Lesson 07") < text.index("LoRA")
    assert "500 labelled reviews" in text


def test_cells_and_reasons():
    found = {(row.lesson, row.method): row for part in leaderboard.rows(toy()).values() for row in part}
    assert leaderboard.cells(found["02", "full"])[2:6] == ["1,000", "", "", "12 s (10 to 14)"]
    assert leaderboard.cells(found["07", "lora"])[1:7:2] == ["0.004", "5 kB", ""]
    assert leaderboard.cells(found["07", "lora"])[6] == "+1.10 [-0.17, +2.37] nats"
    assert leaderboard.cells(found["08", "lora"])[6] == "+40 [+40, +40] points on topics"
    assert found["11", "qlora"].reason == "not measured yet: make reference"
    assert found["07", "adapter"].reason == "lesson 07's results do not hold it"
    assert ("08", "full") not in found, "measured elsewhere: no empty row"
    text = leaderboard.page(toy(), NONE)
    assert "Not kept in these results: file, memory, forgotten." in text
    assert "Not measured yet: make reference." in text


def test_own_rows_are_told_apart():
    mine = Results({"02": LessonResults({"accuracy_full": {0: 0.91}}, "your own runs")})
    text = leaderboard.page(toy(), mine)
    assert "| *all parameters, yours* | *0.910* |" in text
    assert text.count("yours") == 1


def test_the_share_of_the_way():
    row = next(row for row in leaderboard.rows(toy())["02"] if row.method == "last_block")
    assert leaderboard.share_of_way(row, toy()).value == pytest.approx((0.2 / 0.3 + 0.16 / 0.32) / 2)
    assert leaderboard.share_of_way(leaderboard.rows(toy())["07"][1], toy()) is None
    assert list(leaderboard.shares(toy())) == [leaderboard.setting("02", toy())]


def test_the_page_of_the_ledger():
    ledger = load_ledger()
    found = judge(ledger.claims, load_results(), ledger.test_rows)
    text = page.table(list(found.values()), {})
    assert text.count("\n") == len(found) + 1
    assert all(line.count(" | ") == 4 for line in text.splitlines()), "five columns, no stray bar"
    assert "your own runs" not in text and "no figures yet" not in text
    mine = judge(ledger.claims, toy(), {})
    assert "your own runs" in page.table(list(found.values()), {}, mine)
    assert set(page.groups(ledger)) == {one.group for one in ledger.claims}
    assert "**last layer only: worse** (point 4)" in text


def test_the_second_verdict_is_that_on_real_text():
    ledger = load_ledger()
    found = judge(ledger.claims, load_results(), ledger.test_rows)
    runs = {"accuracy_full": {0: 0.80, 1: 0.81, 2: 0.80}, "accuracy_head_only": {0: 0.90, 1: 0.90, 2: 0.91}}
    real = judge(on_real_text(ledger.claims), Results({"02": LessonResults(runs, "real")}), ledger.test_rows_real)
    rows = {line.split("**")[1]: line.split(" | ") for line in page.table(list(found.values()), real).splitlines()[2:]}
    assert "✓ holds" in rows["last layer only: worse"][2] and "✗ contradicted" in rows["last layer only: worse"][3]
    assert rows["learning from feedback (RLHF)"][3] == "– not measured yet"
    assert rows["what LoRA adds is light"][3] == "", "bytes need no second world"


def test_evidence_names_formula_figure_and_source():
    ledger = load_ledger()
    found = judge(ledger.claims, load_results(), ledger.test_rows)
    said = page.evidence(page.named(found, "last-layer-worse"))
    assert "accuracy_full - accuracy_head_only > 0" in said and "5 seeds, p < 0.001" in said and "theirs: " in said
    assert "(hard)" in said
    assert "in each of 5 seeds" in page.evidence(found["lora-few-parameters"])
    with pytest.raises(UserError, match='no claim "last-layer-wors".*"last-layer-worse"'):
        page.named(found, "last-layer-wors")


def test_a_plan_shows_the_power_of_as_many_new_seeds_and_what_is_enough():
    ledger = load_ledger()
    claim = page.named(judge(ledger.claims, Results({}), {}), "full-90-percent").claim
    seeds = dict(enumerate([0.91, 0.89, 0.93, 0.90, 0.92]))
    found = judge([claim], Results({"02": LessonResults({"accuracy_full": seeds}, "")}), {})["full-90-percent"]
    (line,) = page.plan([found]).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0] == claim.short and cells[1].endswith("(above 0.9)") and cells[2:4] == ["yes", "0%"]
    assert re.fullmatch(r"\d\d% with 5", cells[4]) and re.fullmatch(r"\d\d new seeds", cells[5])
    on_it = judge([claim], Results({"02": LessonResults({"accuracy_full": {0: 0.9, 1: 0.9101, 2: 0.89}}, "")}), {})
    assert "nothing up to 100 times as much" in page.plan(on_it.values())


def test_ledger_and_leaderboard_print_one_interval_for_one_number():
    ledger, results = load_ledger(), load_results()
    board = {row.method: row.accuracy for row in leaderboard.rows(results)["02"]}
    found = judge(ledger.claims, results, ledger.test_rows)["full-90-percent"].trials[0].measurements[0]
    assert board["full"] == found.interval


def test_the_rate_stands_beside_the_accuracy():
    text = leaderboard.page(load_results(), NONE)
    assert "0.1 (highest tried)" in text and "| bag of words |" in text


def test_tiny_p_values_are_not_spelled_out():
    assert page.p_in_words(1e-88) == "p < 0.001" and page.p_in_words(0.0346) == "p = 0.035"


def test_links_lead_to_sections():
    place = Shown(lesson="02", section=5)
    assert page.link(place, find()).endswith("(02_full_vs_last_layer.ipynb#5.-Four-ways-to-train)")
    assert page.link(place, []) == "02\N{NO-BREAK SPACE}§\N{NO-BREAK SPACE}5"


@pytest.mark.parametrize(
    ("epochs", "words"),
    [(4, "500 labelled reviews, 4 passes"), ({"lora": 6, "full": 3}, "3 to 6 passes"), (None, "reviews")],
)
def test_a_setting_is_told_in_words(epochs, words):
    measured = LessonResults({}, "a toy", {"labels": 500, "epochs": epochs})
    assert leaderboard.setting("08", Results({"08": measured})).endswith(words)
