"""Names to models and datasets: the committed ones, a learner's own, and what is refused."""

from pathlib import PureWindowsPath

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from helpers import catalog
from helpers.hub.models import is_hub_name
from helpers.runtime import UserError

WORDS = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[MASK]", "the", "film", "was", "good", "bad"])}


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertForMaskedLM(config).save_pretrained(folder)
    made = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)
    return folder


def test_root_is_the_project_wherever_we_stand(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert (catalog.ROOT / "helpers" / "catalog.py").is_file()
    assert catalog.local_path("helpers") == catalog.ROOT / "helpers"


def test_a_folder_of_ones_own(encoder_folder):
    model = str(encoder_folder)
    assert catalog.model_source("encoder", "pocket", model) == model
    assert catalog.tokenizer("encoder", "pocket", model)("the film")["input_ids"] == [3, 4]
    assert catalog.masked_language_model("pocket", model).config.hidden_size == 16


def test_an_encoder_without_a_word_head_gets_one_when_asked(encoder_folder, tmp_path):
    whole = catalog.masked_language_model("pocket", str(encoder_folder))
    catalog.body("encoder", "pocket", str(encoder_folder)).save_pretrained(tmp_path)
    catalog.tokenizer("encoder", "pocket", str(encoder_folder)).save_pretrained(tmp_path)
    bare = str(tmp_path)
    assert catalog.has_word_head("pocket", str(encoder_folder)) and not catalog.has_word_head("pocket", bare)
    with pytest.raises(UserError, match="no word head"):
        catalog.masked_language_model("pocket", bare)
    made = catalog.masked_language_model("pocket", bare, new_head=True)
    for (name, ours), (_, theirs) in zip(
        made.base_model.named_parameters(), whole.base_model.named_parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert made.get_output_embeddings().weight is made.get_input_embeddings().weight


def test_random_weights_differ_and_follow_the_seed(encoder_folder):
    model = str(encoder_folder)
    torch.manual_seed(1)
    one = catalog.random_like("encoder", "pocket", model)
    torch.manual_seed(1)
    same = catalog.random_like("encoder", "pocket", model)
    trained = catalog.masked_language_model("pocket", model)
    weight = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(one.get_parameter(weight), same.get_parameter(weight))
    assert not torch.equal(one.get_parameter(weight), trained.get_parameter(weight))


def test_the_classifier_reads_the_body_and_has_no_idle_pooler(encoder_folder):
    classifier = catalog.classifier("pocket", str(encoder_folder), num_labels=3)
    ids = torch.tensor([[3, 4, 5]])
    assert classifier(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (1, 3)
    assert not any("pooler" in name for name, _ in classifier.named_parameters())
    random = catalog.classifier("pocket", str(encoder_folder), pretrained=False)
    same = zip(classifier.body.parameters(), random.body.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in same)


def test_a_decoder_of_ones_own(tmp_path):
    LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path)
    assert catalog.causal_language_model("pocket", str(tmp_path)).config.hidden_size == 16
    assert catalog.body("decoder", "pocket", str(tmp_path)).config.hidden_size == 16


def test_the_instructed_decoder_has_a_place_on_both_tracks():
    assert catalog.HUB_MODELS["instruct"].name.endswith("-Instruct")
    assert catalog.POCKET_MODELS["instruct"].name == "pocket-decoder-instruct"


def test_weights_cut_short_are_called_damaged(encoder_folder, tmp_path):
    for path in encoder_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(UserError, match="damaged"):
        catalog.masked_language_model("pocket", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("encodr", "pocket"), 'Did you mean "encoder"'),
        (("encoder", "poket"), 'Did you mean "pocket"'),
        (("encoder", "pocket", "no/such/folder"), "there is no folder"),
    ],
)
def test_unknown_models(arguments, words):
    with pytest.raises(UserError, match=words):
        catalog.model_source(*arguments)


def test_unknown_datasets(tmp_path):
    with pytest.raises(UserError, match='Did you mean "reviews"'):
        catalog.dataset("review", "pocket")
    with pytest.raises(UserError, match="not instructions"):
        catalog.dataset("instructions", "pocket", data=str(tmp_path / "mine.csv"))


def test_missing_pocket_models_say_how_to_make_them(monkeypatch, tmp_path):
    monkeypatch.setitem(catalog.POCKET_MODELS, "encoder", tmp_path / "nowhere")
    with pytest.raises(UserError, match="make models"):
        catalog.model_source("encoder", "pocket")
    monkeypatch.setattr(catalog, "MICROWORLD", tmp_path)
    with pytest.raises(UserError, match="make data"):
        catalog.dataset("reviews", "pocket")


def test_the_hub_out_of_reach_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids downloading it") as problem:
        catalog.tokenizer("encoder", "hub")
    assert "\n" not in str(problem.value)


def test_the_microworld_has_the_agreed_columns():
    reviews = catalog.dataset("reviews", "pocket")
    assert {"text", "label", "film"} <= set(reviews["train"].column_names)
    assert set(reviews) == {"train", "validation", "test"}
    corpus = catalog.dataset("corpus", "pocket")
    assert set(corpus["newcomer"]["domain"]).isdisjoint(corpus["validation"]["domain"])


def test_a_text_file_takes_the_newcomers_place(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("text\nOne of mine.\nAnother of mine.\n")
    corpus = catalog.dataset("corpus", "pocket", data=str(path))
    assert list(corpus["newcomer"]["text"]) == ["One of mine.", "Another of mine."]
    assert set(corpus["newcomer"]["domain"]) == {"yours"}


def test_data_made_anew_is_read_anew(tmp_path, monkeypatch):
    world = tmp_path / "microworld"
    monkeypatch.setattr(catalog, "MICROWORLD", world)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (world / "reviews").mkdir(parents=True)
    card = (
        "---\nconfigs:\n- config_name: reviews\n  data_files:\n  - split: train\n    path: reviews/train.parquet\n---\n"
    )
    (world / "README.md").write_text(card)
    for text in ("first", "again"):
        Dataset.from_dict({"text": [text], "label": [0]}).to_parquet(world / "reviews" / "train.parquet")
        (world / "SHA256SUMS").write_text(f"{text}\n")
        assert catalog.dataset("reviews", "pocket")["train"][0]["text"] == text


@pytest.mark.parametrize(
    ("name", "whether"),
    [("stanfordnlp/imdb", True), ("owner/name-v2.5", True), ("a/b", True)]
    + [(name, False) for name in ("../my-model", "models/", "a/b/c", "a/b--c", "a/..b", "./model", "no-owner")],
)
def test_what_may_be_a_name_on_the_hub(name, whether):
    assert is_hub_name(name) is whether


def test_a_hub_name_is_one_on_every_system(monkeypatch):
    with pytest.raises(UserError, match='set track = "hub"'):
        catalog.own_source("owner/name-v2.5", "pocket")
    monkeypatch.setattr("helpers.own_data.request.expanded", PureWindowsPath)
    monkeypatch.setattr("helpers.own_data.request.exists", lambda _: False)
    with pytest.raises(UserError, match='set track = "hub"'):
        catalog.own_source("stanfordnlp/imdb", "pocket")
