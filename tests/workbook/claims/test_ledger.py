"""The ledger's file: every sentence covered, every metric recorded, every mistake told in one sentence."""

from __future__ import annotations

import copy

import pytest
import yaml

from helpers.runtime import UserError
from tests.workbook.claims.recorded import recorded
from workbook.claims.ledger import PATH, Claim, ClaimsLedger, load_ledger, own_claim, rows_behind
from workbook.claims.page import headings
from workbook.claims.results import load_results
from workbook.claims.verdict import judge
from workbook.lessons import NOTEBOOKS, Lesson, find

SOURCES = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("*/[0-9][0-9]_*.py"))}
CONTENT = {
    "points": {"0": "a title", "1": "the weather", "2": "the sea"},
    "test_rows": {"02": {"accuracy_": 2000}},
    "sentences": [
        {"place": "0.1", "sha256": "0" * 64, "asserts": False, "why": "a title"},
        {"place": "1.1", "sha256": "1" * 64, "asserts": True},
    ],
    "claims": [
        {
            "id": "warm", "short": "warm", "group": "Weather", "claim": "It is warm.", "covers": ["1.1"],
            "kind": "empirical", "shown": [{"lesson": "02", "section": 1}],
            "trials": [
                {"lesson": "02", "setting": "here", "rules": ["accuracy > 0.5"]},
                {"lesson": "02", "setting": "in winter", "rules": ["accuracy > 0.5"], "hard": True},
            ],
        }
    ],
}  # fmt: skip


def changed(*place, value=None, drop=None):
    """The content with one value set, or one field taken out, at a place such as ("claims", 0, "short")."""
    content = copy.deepcopy(CONTENT)
    target = content
    for step in place[:-1]:
        target = target[step]
    if drop:
        del target[place[-1]]
    else:
        target[place[-1]] = value
    return content


def said(content, tmp_path) -> str:
    path = tmp_path / "claims.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        load_ledger(path)
    return str(caught.value)


def metrics_of(claim: Claim) -> list[tuple[str, str]]:
    """(lesson, metric) of all that a claim rests on."""
    rules = [(trial.lesson, rule) for trial in claim.trials for rule in trial.rules]
    return [(lesson, metric) for lesson, rule in rules for metric in rule.metrics]


def unknown_metrics(ledger: ClaimsLedger) -> list[str]:
    """claim: metric (lesson) for every metric that its lesson does not record."""
    known = {number: recorded(path) for number, path in SOURCES.items() if number != "12"}
    return [
        f"{claim.id}: {metric} (lesson {lesson})"
        for claim in ledger.claims
        for lesson, metric in metrics_of(claim)
        if metric not in known[lesson]
    ]


def test_the_toy_is_fine(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    assert [claim.id for claim in load_ledger(path).claims] == ["warm"]


def test_every_sentence_that_asserts_is_covered_and_every_place_exists():
    ledger = load_ledger()
    asserted = {one.place for one in ledger.sentences if one.asserts}
    assert asserted == {place for claim in ledger.claims for place in claim.covers}
    assert len({claim.id for claim in ledger.claims}) == len(ledger.claims) >= 40


def test_every_claim_names_a_metric_that_a_lesson_records():
    ledger = load_ledger()
    assert [one.id for one in ledger.claims if bool(metrics_of(one)) == (one.kind == "unmeasured")] == []
    assert unknown_metrics(ledger) == []


@pytest.mark.parametrize("wrong", ["accuracy_ful", "accuracy_pruning", "exact_answer_rate_sft"])
def test_a_planted_wrong_metric_is_caught(wrong):
    content = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    claim = next(one for one in content["claims"] if one["id"] == "last-layer-worse")
    claim["trials"][0]["rules"][0] = (
        f"{wrong} - accuracy_head_only > 0"  # lesson 02 prunes nothing, and asks no questions
    )
    assert unknown_metrics(ClaimsLedger.model_validate(content)) == [f"last-layer-worse: {wrong} (lesson 02)"]


def test_every_claim_points_to_a_section_that_is_there():
    built = {lesson.number: headings(lesson) for lesson in find() if lesson.path.is_file()}
    for claim in load_ledger().claims:
        for place in claim.shown:
            assert place.lesson in SOURCES, claim.id
            assert place.lesson not in built or place.section in built[place.lesson], f"{claim.id}: {place}"


def test_headings_are_read_from_a_notebook():
    cells = [
        {"cell_type": "markdown", "source": "## 1. First\n\ntext\n\n## 12. Last?"},
        {"cell_type": "code", "source": ""},
    ]
    lesson = Lesson(NOTEBOOKS / "99_toy.ipynb")
    lesson.__dict__["cells"] = cells
    assert headings(lesson) == {1: "First", 12: "Last?"}


NOT_LISTED = "which is not listed or asserts nothing"
RULE = ("claims", 0, "trials", 0, "rules", 0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (changed("claims", 0, "shrt", value="x"), 'there is no field "claims.warm.shrt". Did you mean "short"?'),
        (changed("claims", 0, "short", value="x" * 60), "claims.warm.short: string should have at most 34 characters"),
        (changed("claims", 0, "covers", value=["1.2"]), f"warm covers sentence 1.2, {NOT_LISTED}"),
        (changed("claims", 0, "covers", value=["0.1"]), f"warm covers sentence 0.1, {NOT_LISTED}"),
        (changed("claims", 0, "trials", drop=True), "warm is measured, so it needs trials"),
        (
            changed("claims", 0, "reason", value="snow"),
            "warm is measured, so it needs trials and must not have a reason",
        ),
        (changed("claims", 0, "kind", value="unmeasured"), "warm is unmeasured: it needs a reason, and has no trials"),
        (changed("claims", 0, "kind", value="construction"), "warm is true by construction: none of its trials can be"),
        (changed("claims", 0, "trials", 1, "hard", value=False), "warm is empirical: it needs a trial as the sentence"),
        (changed("claims", 0, "trials", 0, "hard", value=True), "warm is empirical: it needs a trial as the sentence"),
        (changed("points", value={"0": "a title"}), "points has no words for point 1"),
        (changed("test_rows", "02", "accuracy_", value=0), "test_rows.02.accuracy_: input should be greater than"),
        (
            changed(*RULE, value={"kind": "above"}),
            "claims.warm.trials.0.rules.0: \"{'kind': 'above'}\" is no rule; write",
        ),
        (changed(*RULE, value="accuracy above 0.5"), '"accuracy above 0.5" is no rule; write one like'),
        (changed(*RULE, value="accuracy = 0.5"), '"accuracy = 0.5" is no rule'),
        (changed(*RULE, value="accuracy > 0.5 ± 0.1"), '"accuracy > 0.5 ± 0.1" is no rule'),
        (changed(*RULE, value="accuracy = 0.5 ± 0"), 'the margin of "accuracy = 0.5 ± 0" has to be above 0'),
        (changed(*RULE, value="Acc uracy > 0.5"), '"Acc uracy" is no formula'),
        (changed(*RULE, value="Accuracy > 0.5"), '"Accuracy" is no metric: names are in lower case'),
        (changed(*RULE, value="exit(accuracy) > 0.5"), '"exit(accuracy)" is no metric'),
        (changed(*RULE, value="accuracy > nan"), '"nan" is no finite number'),
        (changed("sentences", 0, "why", drop=True), "a sentence that asserts nothing needs a why"),
        (changed("sentences", 1, "sha256", value="zz"), "sentences.1.sha256: string should match pattern"),
        (CONTENT | {"claims": CONTENT["claims"] * 2}, 'the claim "warm" is there twice'),
        (CONTENT | {"claims": []}, "claims: list should have at least 1 item"),
        ({name: CONTENT[name] for name in CONTENT if name != "claims"}, "claims: field required"),
        ("- 1\n", "claims.yaml has to hold `sentences:` and `claims:`."),
        ("claims: !!python/object/apply:os.getcwd []\n", "claims.yaml is not plain YAML"),
        ("claims: {", "claims.yaml is not plain YAML"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(content, told, tmp_path):
    text = said(content, tmp_path)
    assert told in text, text
    assert "\n" not in text and text.startswith("claims.yaml")


def test_a_sentence_that_no_claim_covers_is_named(tmp_path):
    content = copy.deepcopy(CONTENT)
    content["sentences"].append({"place": "2.1", "sha256": "2" * 64, "asserts": True})
    assert "no claim covers sentence 2.1" in said(content, tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"There is no nothing.yaml in data/reference\."):
        load_ledger(tmp_path / "nothing.yaml")


def test_what_no_run_can_measure_needs_a_reason_and_no_trials():
    plain = {name: value for name, value in CONTENT["claims"][0].items() if name != "trials"}
    assert Claim.model_validate(plain | {"kind": "unmeasured", "reason": "a name"}).trials == ()
    with pytest.raises(ValueError, match="warm is unmeasured: it needs a reason"):
        Claim.model_validate(plain | {"kind": "unmeasured"})


def test_the_rows_behind_a_metric_are_those_of_its_longest_beginning():
    rows = {"accuracy_": 500, "accuracy_full_film": 430}
    assert rows_behind(["accuracy_full_film_split", "accuracy_full", "seconds"], rows) == {
        "accuracy_full_film_split": 430,
        "accuracy_full": 500,
    }


def test_every_share_of_rows_in_a_rule_has_its_test_rows():
    ledger = load_ledger()
    shares = ("accuracy_", "exact_answer_rate_", "true_reward_", "win_rate_", "good_rate_", "made_up_answer_rate_")
    for claim in ledger.claims:
        for lesson, metric in metrics_of(claim):
            if metric.startswith(shares):
                assert rows_behind([metric], ledger.test_rows[lesson]), f"{claim.id}: {metric}"


def test_the_test_rows_fit_the_shares_that_were_measured():
    """A share of N rows is a whole number of rows; a win rate counts ties as one half."""
    ledger, found = load_ledger(), load_results()
    for claim in ledger.claims:
        for lesson, metric in metrics_of(claim):
            for rows in rows_behind([metric], ledger.test_rows.get(lesson, {})).values():
                parts = 2 * rows if metric.startswith("win_rate") else rows
                for value in found.values(lesson, metric):
                    assert abs(value * parts - round(value * parts)) < 1e-3, f"{lesson} {metric}: {value} of {rows}"


OWN = """
claim: Head and body together beat the head.
trials:
- {lesson: "02", setting: all labels, rules: [accuracy_full - accuracy_head_only > 0]}
- {lesson: "07", setting: few labels, rules: [accuracy_full - accuracy_head_only > 0], hard: true}
"""


def test_a_claim_of_ones_own_is_judged_like_the_others():
    one = own_claim(OWN)
    ledger = load_ledger()
    assert judge([*ledger.claims, one], load_results(), ledger.test_rows)[one.id].word == "holds"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "A claim needs a line `claim: ...` with the sentence, and `trials:`."),
        ("claim: [", "The claim is not plain YAML"),
        ("claim: So.", "Your claim: my-own-claim is measured, so it needs trials"),
        (OWN.replace("hard: true", "hard: false"), "Your claim: my-own-claim is empirical: it needs a trial as the"),
        (OWN.replace("trials:", "trails:"), 'Your claim: there is no field "trails". Did you mean "trials"?'),
        (OWN.replace("> 0]}", ">> 0]}"), "is no rule; write one like"),
    ],
)
def test_a_mistake_in_ones_own_claim_is_told_in_one_sentence(text, told):
    with pytest.raises(UserError) as caught:
        own_claim(text)
    assert told in str(caught.value) and "\n" not in str(caught.value)
