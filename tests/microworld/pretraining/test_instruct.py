"""The instructed decoder's folder: whole, loadable, with a card that says what was measured."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from helpers.pretrained import check_model_folder
from helpers.sft import SFTRecipe, answer, end_of_turn
from microworld.pretraining.instruct import BASE, folded, instruct


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The recipe with a toy decoder and a handful of rows."""
    if not BASE.is_dir():
        pytest.skip("the pocket decoder is not made yet")
    base, out = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("made") / "instruct"
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    instruct(base, out, SFTRecipe(epochs=1), share=0.01)
    return out


def test_the_folder_is_a_whole_model(made):
    names = {path.name for path in check_model_folder(made).iterdir()}
    assert {"README.md", "SHA256SUMS", "fine_tuning.json", "fine_tuning.svg", "chat_template.jinja"} <= names
    model, tokenizer = AutoModelForCausalLM.from_pretrained(made), AutoTokenizer.from_pretrained(made)
    assert end_of_turn(tokenizer) in model.generation_config.eos_token_id
    assert len(answer(model, tokenizer, ["Who directed it?"], max_new_tokens=2)) == 1


def test_the_card_says_what_was_measured(made):
    figures = json.loads((made / "fine_tuning.json").read_text())["figures"]
    assert figures["recipe"]["rows"] == 74 and figures["recipe"]["steps"] == 5
    assert set(figures["exact_answer_rate"]) == {"known", "kind"}
    card = (made / "README.md").read_text()
    for words in ("74, 1, 16 (5 steps)", "| told |", "microworld.pretraining.instruct"):
        assert words in card


def test_the_curve_keeps_every_loss():
    assert folded([1.0, 3.0, 5.0], fold=2) == [[2, 2.0], [3, 5.0]]


def test_an_unknown_model_is_refused_by_name():
    command = [sys.executable, "-m", "microworld.pretraining", "instruckt"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "there are encoder, decoder, instruct" in result.stderr
