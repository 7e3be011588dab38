"""The pocket models: made by the command, loaded by plain transformers, and not empty-headed."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from microworld.pretraining import models, probes, train
from microworld.pretraining.loop import Recipe, _warmup_cosine, next_token_loss, run

FOLDERS = {kind: train.MODELS / f"pocket-{kind}" for kind in ("encoder", "decoder")}
TEXTS = [
    f"the {a} {b} was {c}." for a in ("old", "new", "red") for b in ("film", "song", "house") for c in ("good", "bad")
]


@pytest.mark.parametrize("kind", FOLDERS)
def test_checksums_hold_and_files_are_small(kind):
    folder: Path = FOLDERS[kind]
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name
    assert (folder / "model.safetensors").stat().st_size <= 12e6


@pytest.mark.parametrize(("kind", "loader"), [("encoder", AutoModelForMaskedLM), ("decoder", AutoModelForCausalLM)])
def test_plain_transformers_loads_them(kind, loader):
    model = loader.from_pretrained(FOLDERS[kind])
    assert 1e6 <= model.num_parameters() <= 6e6
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert all(size % 64 == 0 for layer in linear for size in layer.weight.shape)


def test_chat_template_keeps_the_end_of_turn():
    tokenizer = AutoTokenizer.from_pretrained(FOLDERS["decoder"])
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "<|user|> Hi<|end|><|assistant|> Yes.<|end|>"
    assert len(tokenizer("<|end|>", add_special_tokens=False)["input_ids"]) == 1


@pytest.mark.parametrize("kind", FOLDERS)
def test_they_have_learned_their_domains(kind):
    figures = json.loads((FOLDERS[kind] / "pretraining.json").read_text())["figures"]
    for domain, loss in figures["loss_pretrained"].items():
        assert loss < 0.5 * figures["loss_random_start"][domain], domain


def test_decoder_completes_the_facts_of_its_world():
    tokenizer = AutoTokenizer.from_pretrained(FOLDERS["decoder"])
    facts = train.rows("facts", "test").shuffle(seed=1)[:200]
    trained = AutoModelForCausalLM.from_pretrained(FOLDERS["decoder"])
    assert probes.facts_recalled(trained, tokenizer, facts) >= 0.80
    torch.manual_seed(0)
    empty = models.decoder(tokenizer)
    assert probes.facts_recalled(empty, tokenizer, facts) < 0.05


def test_probe_counts_only_answers_that_are_right_to_the_letter():
    tokenizer = AutoTokenizer.from_pretrained(FOLDERS["decoder"])
    model = AutoModelForCausalLM.from_pretrained(FOLDERS["decoder"])
    facts = train.rows("facts", "test")[:24]
    assert probes.facts_recalled(model, tokenizer, facts | {"answer": ["Nobody At All"] * 24}) == 0.0


def test_loop_learns_a_toy_text_and_logs(monkeypatch):
    monkeypatch.setattr("microworld.pretraining.loop.compiled", lambda function: function)
    torch.manual_seed(0)
    tokenizer = models.decoder_tokenizer(TEXTS)
    model = models.decoder(tokenizer, hidden=64, layers=1)
    blocks = torch.randint(7, 60, (8, 16), generator=torch.Generator().manual_seed(0))
    log: list[dict] = []
    run(
        model,
        next_token_loss(model),
        blocks,
        Recipe(tokens=8 * 16 * 30, batch_size=8, learning_rate=1e-2),
        log.append,
        every=0.0,
    )
    assert log[-1]["step"] == log[-1]["steps"] == 30 and log[-1]["loss"] < 0.7 * log[0]["loss"]


def test_loop_stops_at_a_loss_that_is_no_number():
    model = torch.nn.Linear(2, 2)
    blocks = torch.zeros(4, 8, dtype=torch.long)
    with pytest.raises(FloatingPointError, match="learning rate"):
        run(model, lambda _: model.weight.sum() * math.nan, blocks, Recipe(tokens=64, batch_size=4), print, every=0.0)


def test_schedule_rises_then_falls():
    shares = [_warmup_cosine(step, 100, 0.1) for step in range(100)]
    assert shares.index(max(shares)) in (9, 10) and shares[-1] < 0.06 and shares[0] <= 0.1


def test_reading_list_reads_domains_as_often_as_asked():
    corpus = Dataset.from_dict({"text": ["a", "b", "c", "d"], "domain": ["x", "x", "y", "y"]})
    assert sorted(train.reading_list(corpus, {"x": 2.5, "y": 0.5})) == ["a", "a", "a", "b", "b", "c"]
    assert train.reading_list(corpus, {}) == ["a", "b", "c", "d"]
