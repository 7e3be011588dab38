"""Widgets: moving a control changes the picture, wrong input is answered in words, and each has a static twin."""

import ast

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from helpers.lessons.lesson_00.figures import certainty
from helpers.lessons.lesson_01.figures import attention_browser, attention_of
from workbook.lessons import find
from workbook.notebooks import from_source

WORDS = ["[PAD]", "[UNK]", "[MASK]", "the", "film", "was", "good", "bad"]


@pytest.fixture(scope="module")
def model_and_tokenizer():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    model = BertForMaskedLM(config)
    model.set_attn_implementation("eager")
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    return model, PreTrainedTokenizerFast(tokenizer_object=made, **names)


def test_the_attention_browser(model_and_tokenizer):
    text, controls, page = attention_browser(*model_and_tokenizer, "the film was good").children
    layer, head = controls.children
    seen = {page.value}
    layer.value = 1
    seen.add(page.value)
    head.value = 1
    seen.add(page.value)
    text.value = "the film was bad"
    seen.add(page.value)
    assert len(seen) == 4 and (layer.max, head.max) == (1, 1)
    assert 'alt="Attention map of layer 1, head 1. Strongest per row: the looks at' in page.value


def test_certainty():
    controls, page = certainty(0.9).children
    before = page.value
    controls.children[1].value = 3000
    assert page.value != before and "With 3000 test rows" in page.value


def test_attention_is_cut_to_what_can_be_read(model_and_tokenizer):
    tokens, attentions = attention_of(*model_and_tokenizer, "the film " * 40, longest=8)
    assert len(tokens) == 8 and attentions[0].shape == (1, 2, 8, 8)


# A lesson's widget, and the plotting function whose figure it shows.
TWINS = {
    "attention_browser": "attention_map",
    "certainty": "interval_against_rows",
}
CONTROLS = {"IntSlider", "FloatSlider", "SelectionSlider", "ToggleButtons", "Textarea", "Text", "Dropdown"}


def called(code: str) -> set[str]:
    """The names of what a cell calls, also as an argument of another call."""
    found = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in found}


def without_twin(cells: list[str]) -> list[str]:
    """The widgets' cells whose drawing function no cell up to there calls for the page itself."""
    missing = []
    for place, code in enumerate(cells):
        redraws = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)]
        drawn = {TWINS[name] for name in called(code) & set(TWINS)}
        if called(code) & CONTROLS:
            inside = set().union(*(called(ast.unparse(each)) for each in redraws if each.name == "redraw"))
            drawn |= inside - {"picture", "strip", "redraw"}
        for name in drawn:
            shown = [other for other in cells[: place + 1] if name in called_at_top(other)]
            missing += [] if shown else [f"{name} in {code[:60]}"]
    return missing


def called_at_top(code: str) -> set[str]:
    """What a cell calls as it runs, not inside the functions that it defines."""
    body = [node for node in ast.parse(code).body if not isinstance(node, ast.FunctionDef)]
    return called(ast.unparse(ast.Module(body, [])))


@pytest.mark.parametrize("lesson", find(), ids=lambda lesson: lesson.number)
def test_every_widget_has_a_static_twin(lesson):
    cells = [cell.source for cell in from_source(lesson.source).cells if cell.cell_type == "code"]
    assert without_twin(cells) == []


def test_a_widget_without_a_twin_is_noticed():
    widget = "slider = IntSlider()\n\n\ndef redraw(_change=None):\n    page.value = picture(*maps(slider.value))"
    assert without_twin(["def maps(n):\n    return n", widget]) == [f"maps in {widget[:60]}"]
    assert without_twin(["plotting.show(maps(3))", widget]) == []
    assert without_twin(["figures.certainty(0.9)"]) and not without_twin(
        ["f = figures.interval_against_rows(0.9)", "figures.certainty(0.9)"]
    )


def test_a_picture_fits_a_narrow_window():
    assert "max-width: 100%" in certainty().children[-1].value
