"""The hub's models and datasets as the lessons get them: our columns, by the seed, with what they lack made good."""

from __future__ import annotations

import json

import pytest
import torch

from helpers import catalog, pretrained
from helpers.catalog import HUB_DATASETS, HUB_MODELS
from helpers.hub import models as hub_models
from helpers.hub.datasets import from_folder, join_world, pieces
from helpers.runtime import UserError
from helpers.sft import encode, end_of_turn
from tests.helpers.hub.repositories import parquet, repositories
from tests.helpers.hub.server import Hub, Repository


@pytest.fixture(scope="module")
def served():
    found = repositories()
    rows = [
        {"review": f"Number {number} was {'a joy' if number % 2 else 'a bore'}.", "stars": number % 2}
        for number in range(40)
    ]
    found["datasets", "some/reviews"] = Repository({"data/train-0.parquet": parquet(rows)})
    with Hub(found) as hub:
        yield hub


@pytest.fixture(autouse=True)
def at_the_hub(served, turned_to, monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    turned_to(served.address)
    return served


@pytest.mark.parametrize("role", ["reviews", "topics"])
def test_labelled_texts(role):
    found, again, other = (catalog.dataset(role, "hub", seed=seed) for seed in (1, 1, 2))
    assert set(found) == {"train", "validation", "test"}
    assert (
        found["train"].features == catalog.dataset(role, "pocket")["train"].select_columns(["text", "label"]).features
    )
    assert found["train"]["text"] == again["train"]["text"] != other["train"]["text"]
    assert not set(found["train"]["text"]) & set(found["validation"]["text"])


def test_instructions_are_mixed_with_those_that_can_be_checked(capsys):
    found = catalog.dataset("instructions", "hub", seed=1)
    own = catalog.dataset("instructions", "pocket")
    assert found["train"].features == own["train"].features
    theirs = found["train"].filter(lambda row: row["film"] == "")
    assert set(theirs["known"]) == {"open"} and "open_qa" in theirs["kind"]
    assert len(found["test"]) > len(own["test"])
    assert "1 of 301 rows are too long and are left out" in capsys.readouterr().out


def test_preferences_are_mixed_with_those_that_a_judge_knows():
    found = catalog.dataset("preferences", "hub", seed=1)
    rated = found["test"].filter(lambda row: row["reason"] == "rated")
    assert len(rated) and not any(rated["film"])
    assert all(isinstance(row["chosen"], str) and row["chosen"] != row["rejected"] for row in rated)
    assert found["train"].features == catalog.dataset("preferences", "pocket")["train"].features


def test_domains_and_facts():
    corpus = catalog.dataset("corpus", "hub")
    assert set(corpus["validation"]["domain"]) == {"reviews", "news"} and set(corpus["newcomer"]["domain"]) == {
        "answers"
    }
    facts = catalog.dataset("facts", "hub")
    assert next(iter(facts)) == "world" and {"capital", "symbol"} == set(facts["world"]["kind"])
    assert facts["test"].num_rows == catalog.dataset("facts", "pocket")["test"].num_rows


def test_columns_that_are_not_what_they_were(served, monkeypatch):
    about = HUB_DATASETS["reviews"]
    rows = [{"text": "Fine.", "sentiment": 1}] * 20
    files = {f"plain_text/{split}-0.parquet": parquet(rows) for split in ("train", "test")}
    monkeypatch.setitem(served.repositories, ("datasets", about.name), Repository(files, about.revision))
    with pytest.raises(UserError, match="has no column label any more, only text, sentiment"):
        catalog.dataset("reviews", "hub")


def test_a_dataset_of_ones_choice_by_its_name():
    found = catalog.dataset("reviews", "hub", data="some/reviews", seed=0)
    assert sum(rows.num_rows for rows in found.values()) == 40 and len(found["train"].features["label"].names) == 2
    with pytest.raises(UserError, match='set track = "hub"'):
        catalog.dataset("reviews", "pocket", data="some/reviews")


def test_pairs_of_ones_own_join_the_micro_worlds(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("prompt,chosen,rejected\n" + "".join(f"Say {n}.,{n}.,No {n}.\n" for n in range(30)))
    found = catalog.dataset("preferences", "pocket", data=str(path), seed=0)
    assert "yours" in found["train"]["reason"] and "tone" in found["train"]["reason"]
    path.write_text("prompt,chosen,rejected\nSay 1.,1.,No.\n")
    assert (
        catalog.dataset("preferences", "pocket", data=str(path), seed=0)["train"]
        .filter(lambda row: row["reason"] == "yours")
        .num_rows
        == 1
    )
    own = catalog.dataset("preferences", "pocket")
    with pytest.raises(UserError, match="at least 10"):
        join_world(own["train"].select(range(3)), own, seed=0)


def test_a_model_of_ones_choice_by_its_name():
    name = HUB_MODELS["instruct"].name
    assert catalog.causal_language_model("hub", name).config.model_type == "llama"
    with pytest.raises(UserError, match="no folder"):
        catalog.model_source("decoder", "pocket", name)


def test_models_come_in_float32_and_do_what_they_did():
    theirs, ours = catalog.masked_language_model("hub").eval(), catalog.masked_language_model("pocket").eval()
    assert theirs.config.model_type == "distilbert"
    read = catalog.tokenizer("encoder", "hub")(["A fine film."], return_tensors="pt", return_token_type_ids=False)
    torch.testing.assert_close(theirs(**read).logits, ours(**read).logits, atol=1e-3, rtol=1e-3)
    for model in (catalog.causal_language_model("hub"), catalog.random_like("decoder", "hub")):
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("role", ["decoder", "instruct"])
def test_a_decoder_can_be_talked_to(role):
    tokenizer = catalog.tokenizer(role, "hub")
    assert tokenizer.pad_token_id is not None
    row = encode(tokenizer, "Who made it?", "Ann Lee.")
    learned = [token for token in row["labels"] if token != -100]
    assert end_of_turn(tokenizer) in learned and tokenizer.decode(learned).startswith("Ann Lee.<|im_end|>")
    assert tokenizer.decode(row["input_ids"]).startswith("<|im_start|>")


def test_a_decoder_that_cannot_be_talked_to():
    tokenizer = catalog.tokenizer("encoder", "pocket")
    with pytest.raises(UserError, match="no chat template"):
        pretrained.add_chat_template(tokenizer)


def test_where_the_memory_is_too_small_the_pocket_model_takes_the_place(monkeypatch, capsys):
    monkeypatch.setattr(hub_models, "free_memory", lambda: 10**12)
    assert hub_models.fits(HUB_MODELS["decoder"]) and not capsys.readouterr().out
    monkeypatch.setattr(hub_models, "free_memory", lambda: 10**6)
    assert catalog.model_source("decoder", "hub") == str(catalog.POCKET_MODELS["decoder"])
    assert "needs more memory" in capsys.readouterr().out
    monkeypatch.undo()
    assert hub_models.free_memory() > 10**6


def test_what_the_catalogue_says_of_each():
    for model in HUB_MODELS.values():
        assert model.licence and model.megabytes and model.millions
        assert model.revision is None or len(model.revision) == 40
    assert all(about.licence and about.rows and about.columns and about.megabytes for about in HUB_DATASETS.values())


def test_the_length_of_a_text_is_not_underestimated():
    tokenizer = catalog.tokenizer("decoder", "pocket")
    for text in catalog.dataset("reviews", "pocket")["test"]["text"][:50]:
        assert len(tokenizer(text)["input_ids"]) <= pieces(text) + 2


def test_what_else_lies_in_the_shared_cache_is_not_read(tmp_path):
    for name in ("train-00000-of-00001", "test-00000-of-00001", "unsupervised-00000-of-00001"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name, "label": -1}) + "\n")
    found = from_folder(tmp_path, ("train-*.jsonl", "test-*.jsonl"))
    assert found["train"]["text"] == ["train-00000-of-00001"] and len(found["test"]) == 1
    assert len(from_folder(tmp_path)["train"]) == 2
