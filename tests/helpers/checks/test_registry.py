"""The checks themselves: right, wrong, blank, broken and unknown answers."""

import pytest
import torch

from helpers.checks import NotAttempted, Wrong, attempted, differs, expect, expect_calls, parts_of, registry, returned
from helpers.checks.registry import check, exercise, hint, names, solved, verdict


@pytest.fixture(autouse=True)
def one_exercise(monkeypatch):
    monkeypatch.setattr(registry, "_exercises", {})
    monkeypatch.setattr(registry, "_passed", set())
    monkeypatch.setattr(registry, "_tried", set())
    monkeypatch.setattr(registry, "_hints_shown", {})

    @exercise("99.1", hints=["a nudge", "a push", "return one + other"])
    def added(answer):
        expect("the sum of 1 and 2", answer(1, 2), 3)


def test_right():
    assert verdict("99.1", lambda one, other: one + other).text == "99.1: right!"


def test_wrong_says_what():
    found = verdict("99.1", lambda one, other: one * other)
    assert not found.passed and found.text == "99.1: not yet. The sum of 1 and 2 should be 3, not 2."


@pytest.mark.parametrize("blank", [..., lambda *_: ..., lambda *_: (1, ...)])
def test_blank(blank):
    assert verdict("99.1", blank).state == "not attempted"


def leaves(*_):
    raise SystemExit(1)


@pytest.mark.parametrize("broken", [lambda *_: 1 / 0, lambda: 3, "three", None, lambda *_: None, leaves])
def test_an_answer_that_breaks_never_raises(broken, capsys):
    check("99.1", broken)
    assert "not yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["99.2", "1", None, 99.1, "77.1"])
def test_unknown(name, capsys):
    check(name, 3)
    hint(name)
    assert capsys.readouterr().out.count("There is no exercise") == 2


def test_hints_grow(capsys):
    for _ in range(4):
        hint("99.1")
    hint("99.1", 1)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "99.1, hint 1 of 3: a nudge"
    assert said[2] == said[3] == "99.1, hint 3 of 3: return one + other"
    assert said[4] == said[0]


def test_solved(capsys):
    solved()
    verdict("99.1", lambda one, other: one + other)
    solved()
    assert capsys.readouterr().out.splitlines() == [
        "0 of 1 exercises solved",
        "99.1  open",
        "1 of 1 exercises solved",
        "99.1  solved",
    ]


def test_names_need_a_form_and_hints():
    with pytest.raises(ValueError):
        exercise("one", hints=["x"])
    with pytest.raises(ValueError):
        exercise("99.2", hints=[])
    assert names("99") == ["99.1"]


def test_differences_are_named():
    want = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert differs("w", want + 1e-7, want) is None
    assert differs("w", torch.tensor([[1.0, 2.0], [3.0, 5.0]]), want) == "w at [1, 1] should be 4, not 5"
    assert differs("w", torch.zeros(2), want) == "w should have shape (2, 2), not (2,)"
    assert "nan" in differs("w", torch.full((2, 2), torch.nan), want)
    assert differs("w", "four", want) == "w should be numbers, not str"
    assert differs("w", None, want) == "w is None: is a return missing?"
    assert differs("w", [1, 2], [1, 3]) == "w[1] should be 3, not 2"
    assert differs("w", [1], [1, 3]) == "w should have 2 items, not 1"
    assert differs("w", "a", "b") == "w should be 'b', not 'a'"
    assert differs("w", float("inf"), float("inf")) is None
    assert differs("w", None, None) is None and differs("w", 3, None) == "w should be None, not 3"


def test_attempted():
    assert attempted([1]) == [1]
    for blank in (..., (1, ...), [...]):
        with pytest.raises(NotAttempted):
            attempted(blank)


def test_a_usual_mistake_is_named_else_the_note():
    with pytest.raises(Wrong, match="^the share should be 0.5, not 2: that is the count$"):
        expect("the share", 2, 0.5, mistakes={"that is the count": 2}, note=" (of all)")
    with pytest.raises(Wrong, match=r"^the share should be 0.5, not 3 \(of all\)$"):
        expect("the share", 3, 0.5, mistakes={"that is the count": 2}, note=" (of all)")
    expect("the share", 0.5, 0.5, mistakes={"that is the count": 0.5})


def test_calls_are_named_and_cannot_change_the_cases():
    cases = [(([2, 1], 0.25), 1), (([3, 1], 7e9), 3)]
    with pytest.raises(Wrong, match=r"^your first\(\[3, 1\], 7000000000.0\) should be 3, not 1$"):
        expect_calls(lambda numbers, _: numbers.sort() or numbers[0], "first", cases)
    assert cases[0][0][0] == [2, 1]


def test_what_has_to_be_returned():
    assert returned(0, "a number") == 0 and parts_of((1, 2), 2, "it should return two numbers") == (1, 2)
    for call, said in (
        (lambda: returned(None, "the list"), "it returns None: return the list"),
        (lambda: parts_of(3, 2, "it should return two numbers"), "two numbers, not int"),
        (lambda: parts_of([3], 2, "it should return two numbers"), "two numbers, not 1 of them"),
    ):
        with pytest.raises(Wrong, match=said):
            call()
    with pytest.raises(NotAttempted):
        parts_of((1, ...), 2, "")
