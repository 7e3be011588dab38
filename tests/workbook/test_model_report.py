"""`workbook data check --model`: which lessons take a folder, asked by the functions that the lessons call."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    RobertaConfig,
)

from helpers import catalog, qlora
from helpers.own_data.columns import LESSONS
from workbook.cli import main
from workbook.model_report import ASKED, refusals

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ENCODER = {**SIZES, "vocab_size": 4096, "max_position_embeddings": 128, "pad_token_id": 0}
DECODER = {**ENCODER, "bos_token_id": 1, "eos_token_id": 2}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
ALL = {"00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11"}
SORTING = {"02", "08", "09", "10", "11"}
ENCODING = SORTING | {"00", "01", "03", "07"}
TALKING = {"04", "05", "06"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function that makes a model with random weights from a configuration, with a pocket tokenizer."""
    if not catalog.POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")

    def make(name, config, role="encoder", **changes):
        path = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        kind = AutoModelForMaskedLM if role == "encoder" else AutoModelForCausalLM
        (config if isinstance(config, torch.nn.Module) else kind.from_config(config)).save_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(catalog.POCKET_MODELS[role])
        for change, value in changes.items():
            setattr(tokenizer, change, value)
        tokenizer.save_pretrained(path)
        return str(path)

    return make


@pytest.fixture(autouse=True)
def any_processor(monkeypatch):
    """With AVX-512, lesson 11 refuses most of these widths; `tests/helpers/test_qlora.py` holds that refusal."""
    monkeypatch.setattr(qlora, "check_rows", lambda body: None)


@pytest.mark.parametrize(
    ("name", "config", "role", "takes"),
    [
        ("bert", BertConfig(**ENCODER), "encoder", ENCODING),
        ("untied", BertConfig(**ENCODER, tie_word_embeddings=False), "encoder", ENCODING),
        ("312", BertConfig(**{**ENCODER, "hidden_size": 312, "num_attention_heads": 12}), "encoder", ENCODING),
        ("roberta", RobertaConfig(**{**ENCODER, "pad_token_id": 1}), "encoder", ENCODING),
        ("distilbert", DistilBertConfig(vocab_size=4096, dim=16, hidden_dim=32, n_layers=2, n_heads=2,
                                        max_position_embeddings=128), "encoder", ENCODING),
        ("few places", BertConfig(**{**ENCODER, "max_position_embeddings": 32}), "encoder", ENCODING - {"11"}),
        ("electra", ElectraConfig(**ENCODER, embedding_size=16), "encoder", ENCODING - {"01", "07", "11"}),
        ("modernbert", ModernBertConfig(**ENCODER, **SPECIAL), "encoder", ENCODING - {"01", "07", "11"}),
        ("no head", BertModel(BertConfig(**ENCODER), add_pooling_layer=False), "encoder", SORTING),
        ("gpt2", GPT2Config(vocab_size=4096, n_positions=128, n_embd=16, n_layer=2, n_head=2, bos_token_id=1,
                            eos_token_id=2), "instruct", SORTING | TALKING),
        ("llama", LlamaConfig(**DECODER, num_key_value_heads=1), "instruct", SORTING | TALKING),
        ("tied llama", LlamaConfig(**DECODER, tie_word_embeddings=True), "instruct", SORTING | TALKING),
    ],
)  # fmt: skip
def test_which_lessons_take_a_model(folder, name, config, role, takes):
    refused = refusals(folder(name, config, role))
    assert {lesson for lesson, sentence in refused.items() if not sentence} == takes, refused
    assert all("\n" not in sentence and sentence.endswith((".", "")) for sentence in refused.values())


def test_no_mask_token_and_no_padding_token(folder):
    refused = refusals(folder("no-mask", BertConfig(**ENCODER), mask_token=None))
    assert {lesson for lesson, sentence in refused.items() if not sentence} == SORTING
    assert "has no mask token, so there is no blank to fill; set tokenizer.mask_token" in refused["00"]
    no_pad = refusals(folder("no-pad", LlamaConfig(**DECODER), "instruct", pad_token=None))
    assert {lesson for lesson, sentence in no_pad.items() if not sentence} == SORTING | TALKING


def test_what_is_no_model_is_refused_by_all(tmp_path):
    (sentence,) = set(refusals(str(tmp_path)).values())
    assert sentence.startswith(f"model: {tmp_path} has no config.json")


def test_every_lesson_that_takes_data_is_asked():
    assert set(ASKED) == ALL == set().union(*LESSONS.values())


def check(*arguments):
    result = CliRunner().invoke(main, ["data", "check", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_the_check_names_the_lessons_that_take_both(folder, tmp_path):
    texts = tmp_path / "mine.csv"
    texts.write_text("text,label\n" + "".join(f"the film {row} was good,{row % 2}\n" for row in range(60)))
    status, said = check(texts, "--model", folder("decoder", LlamaConfig(**DECODER), "instruct"))
    assert status == 0 and "in the parameters of lessons 02, 08, 09, 10 or 11, write" in said
    assert "not for lessons 00, 01, 03 and 07: a llama model is no encoder, and this needs one, as BERT" in said
    status, said = check(texts, "--model", folder("small", BertConfig(**{**ENCODER, "max_position_embeddings": 16})))
    assert status == 0 and "have more than 16, and are cut there" in said
    assert "not for lesson 11: it reads 16 tokens at most, and this needs rows of 64; choose another model." in said


def test_the_check_fails_where_no_lesson_takes_both(folder, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    status, said = check(pairs, "--model", folder("another", BertConfig(**ENCODER)))
    assert status == 1 and "this tokenizer has no chat template" in said


@pytest.mark.parametrize(
    ("texts", "lessons"),
    [
        (["short"] * 6, "lessons 00, 02, 03, 07, 08, 09, 10 or 11"),
        (["a longer text, said again and again, " * 9] * 12, "lessons 00, 01, 02, 03, 07, 08, 09, 10 or 11"),
    ],
)
def test_lesson_01_is_named_only_where_it_takes_the_texts(tmp_path, texts, lessons):
    path = tmp_path / "mine.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"{text} {row}", "label": row % 2}) + "\n" for row, text in enumerate(texts))
    )
    status, said = check(path)
    assert status == 0 and f"in the parameters of {lessons}, write" in said
    assert ("lesson 01 does not take them: " in said) == ("01" not in lessons)
