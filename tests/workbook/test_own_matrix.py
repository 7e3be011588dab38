"""Odd files and odd models through whole lessons: what `workbook data check` lets pass runs, what it refuses does not.

A few minutes of the many combinations that were tried once: each lesson meets the inputs that it used to fail on.
"""

from __future__ import annotations

import csv
import json

import pytest
import torch
from click.testing import CliRunner
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
)

from helpers import catalog, qlora
from workbook.cli import main

pytestmark = pytest.mark.slow

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = {"vocab_size": 4096, "max_position_embeddings": 128, "pad_token_id": 0}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}
WIDE = {"hidden_size": 312, "intermediate_size": 600, "num_hidden_layers": 1, "num_attention_heads": 12}  # TinyBERT's
CONFIGS = {
    "312 columns": BertConfig(**WORDS, **WIDE),
    "ModernBERT": ModernBertConfig(**WORDS, **SMALL, **ENDS, cls_token_id=1, sep_token_id=2),
    "GPT-2": GPT2Config(vocab_size=4096, n_positions=128, n_embd=32, n_layer=2, n_head=2, **ENDS),  # a tied head
    "Llama": LlamaConfig(**WORDS, **SMALL, **ENDS),
}
DECODERS = ("GPT-2", "Llama")


def few_words():
    """Twelve rows in four classes: one Chinese word each, and one text of 50,000 characters."""
    rows = [("猫狗鸟鱼"[row % 4] + "一二三"[row // 4], "NESW"[row % 4]) for row in range(11)]
    return [*rows, ("a very long story " * 2800, "W")]


def many_classes():
    """Thirty classes of four rows."""
    return [(f"the film number {row} was about a dog", f"class {row % 30}") for row in range(120)]


def one_pair():
    """A single pair of one word each."""
    return [{"prompt": "w", "chosen": "x", "rejected": "y"}]


def one_question():
    """A single question in Chinese."""
    return [{"messages": [{"role": "user", "content": "好吗"}, {"role": "assistant", "content": "好"}]}]


# With AVX-512, bitsandbytes unpacks rows of 312 weights wrongly, and lesson 11 refuses them.
QUANTIZES_312 = ("11",) if qlora.unpacks_rightly(312) else ()


def write(folder, rows):
    if isinstance(rows[0], dict):
        path = folder / "mine.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    path = folder / "mine.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def save(folder, name):
    torch.manual_seed(0)
    kind = AutoModelForCausalLM if name in DECODERS else AutoModelForMaskedLM
    kind.from_config(CONFIGS[name]).save_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(catalog.POCKET_MODELS["instruct" if name in DECODERS else "encoder"])
    if name in DECODERS:
        tokenizer.pad_token = None
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def workbook(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def run(folder, lessons, data, model):
    parameters = ["-p", "data", data, *(["-p", "model", model] if model else [])]
    status, said = workbook("run", *lessons, "--budget", "quick", *parameters, "--into", folder / "runs")
    logs = [path.read_text(encoding="utf-8") for path in sorted((folder / "runs").rglob("*.ipynb"))]
    return status, said + "".join(logs)


@pytest.fixture(autouse=True)
def pocket_track():
    if not catalog.POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")


@pytest.mark.parametrize(
    ("rows", "model", "lessons"),
    [
        (few_words, "312 columns", ("02", "07", "10", *QUANTIZES_312)),
        (many_classes, "GPT-2", ("09",)),
        (one_pair, "Llama", ("06",)),
        (one_question, "GPT-2", ("04",)),
    ],
)
def test_what_the_check_lets_pass_runs(tmp_path, rows, model, lessons):
    data, folder = write(tmp_path, rows()), save(tmp_path, model)
    status, said = workbook("data", "check", data, "--model", folder)
    assert status == 0 and all(lesson in said.rpartition("in the parameters of")[2] for lesson in lessons), said
    status, said = run(tmp_path, lessons, data, folder)
    assert status == 0, said[-5000:]


@pytest.mark.parametrize(
    ("rows", "model", "lesson", "sentence"),
    [
        (few_words, "ModernBERT", "07", "A prefix needs an encoder here (bert, roberta, distilbert), and this is a"),
        (few_words, "Llama", "00", "a llama model is no encoder, and this needs one, as BERT"),
        (few_words, "ModernBERT", "11", 'The ledger has no formulas for "modernbert"'),
    ],
)
def test_what_a_lesson_refuses_the_check_said(tmp_path, rows, model, lesson, sentence):
    data, folder = write(tmp_path, rows()), save(tmp_path, model)
    _, said = workbook("data", "check", data, "--model", folder)
    assert sentence in said and lesson not in said.rpartition("in the parameters of")[2]
    status, said = run(tmp_path, [lesson], data, folder)
    assert status == 1 and sentence in said.replace('\\"', '"')
