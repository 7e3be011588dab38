"""Widgets: moving a control changes the picture, and wrong input is answered in words."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from helpers import widgets

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


def test_the_blank(model_and_tokenizer):
    text, page = widgets.fill_the_blank(*model_and_tokenizer, "the film was ___").children
    first = page.value
    assert '<img alt="Likeliest words: ' in first
    text.value = "the ___ was bad"
    assert page.value.startswith("<img") and page.value != first
    text.value = "no blank <here>"
    assert "exactly one blank" in page.value and "<img" not in page.value


def test_the_attention_browser(model_and_tokenizer):
    text, controls, page = widgets.attention_browser(*model_and_tokenizer, "the film was good").children
    layer, head = controls.children
    seen = {page.value}
    layer.value = 1
    seen.add(page.value)
    head.value = 1
    seen.add(page.value)
    text.value = "the film was bad"
    seen.add(page.value)
    assert len(seen) == 4 and (layer.max, head.max) == (1, 1)
    assert 'alt="layer 1, head 1: the looks most at' in page.value


def test_certainty():
    controls, page = widgets.certainty(0.9).children
    before = page.value
    controls.children[1].value = 3000
    assert page.value != before and "With 3000 test rows" in page.value


def test_attention_is_cut_to_what_can_be_read(model_and_tokenizer):
    tokens, attentions = widgets.attention_of(*model_and_tokenizer, "the film " * 40, longest=8)
    assert len(tokens) == 8 and attentions[0].shape == (1, 2, 8, 8)
