"""An adapter's folder in the place of a model's: merged with its base, it computes what `peft` computes."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    LlamaConfig,
)

from helpers import catalog
from helpers.runtime import UserError

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = {"vocab_size": 4096, "max_position_embeddings": 64, "pad_token_id": 0}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}
IDS = torch.tensor([[5, 6, 7, 8]])
MADE = {
    "bert": (AutoModelForMaskedLM, BertConfig(**SIZES, **WORDS), ["query", "value", "dense"]),
    "gpt2": (
        AutoModelForCausalLM,
        GPT2Config(vocab_size=4096, n_positions=64, n_embd=16, n_layer=2, n_head=2, **ENDS),
        ["c_attn", "c_proj"],
    ),
    "llama": (AutoModelForCausalLM, LlamaConfig(**SIZES, **WORDS, **ENDS), "all-linear"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    if not catalog.POCKET_MODELS["encoder"].is_dir():
        pytest.skip("the pocket track is not made yet")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def trained(model):
    """An adapter as if it had learned something: B is zero at the start."""
    torch.manual_seed(1)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    return model.eval()


def base(folder, family, kind=None):
    torch.manual_seed(0)
    whole, config, targets = MADE[family]
    model = whole.from_config(config)
    model.save_pretrained(folder / "base")
    role = "encoder" if family == "bert" else "instruct"
    AutoTokenizer.from_pretrained(catalog.POCKET_MODELS[role]).save_pretrained(folder / "base")
    return (kind or whole).from_pretrained(folder / "base"), targets


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("family", MADE)
def test_the_merged_model_is_pefts(tmp_path, capsys, family, rslora):
    model, targets = base(tmp_path, family)
    adapted = trained(get_peft_model(model, LoraConfig(r=2, lora_alpha=6, target_modules=targets, use_rslora=rslora)))
    adapted.save_pretrained(tmp_path / "adapter")
    load = catalog.masked_language_model if family == "bert" else catalog.causal_language_model
    found = load("pocket", str(tmp_path / "adapter")).eval()
    wanted = adapted(input_ids=IDS).logits
    assert torch.allclose(found(input_ids=IDS).logits, wanted, atol=1e-5)
    plain = load("pocket", str(tmp_path / "base")).eval()
    assert not torch.allclose(plain(input_ids=IDS).logits, wanted, atol=1e-3)
    said = f"model: {tmp_path / 'adapter'} is a LoRA adapter for {tmp_path / 'base'}; the lesson takes the two merged."
    assert said in capsys.readouterr().out
    assert (
        len(catalog.tokenizer("encoder" if family == "bert" else "instruct", "pocket", str(tmp_path / "adapter")))
        == 4096
    )


def test_an_adapter_of_a_classifier_gives_its_body(tmp_path):
    model, targets = base(tmp_path, "bert", AutoModelForSequenceClassification)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=targets, task_type=TaskType.SEQ_CLS)
    adapted = trained(get_peft_model(model, config))
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload().bert
    body = catalog.body("encoder", "pocket", str(tmp_path / "adapter")).eval()
    found, wanted = (one(input_ids=IDS).last_hidden_state for one in (body, merged))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_it_is_written_once_and_again_when_the_adapter_changes(tmp_path):
    model, targets = base(tmp_path, "bert")
    get_peft_model(model, LoraConfig(r=2, target_modules=targets)).save_pretrained(tmp_path / "adapter")
    first = catalog.model_source("encoder", "pocket", str(tmp_path / "adapter"))
    assert first == catalog.model_source("encoder", "pocket", str(tmp_path / "adapter"))
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: value + 1 for name, value in load_file(file).items()}, file, {"format": "pt"})
    assert first != catalog.model_source("encoder", "pocket", str(tmp_path / "adapter"))


def configure(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"use_dora": True}, "model: the adapter in HERE uses use_dora, which is not merged here; merge it with peft."),
        ({"bias": "all"}, "model: the adapter in HERE uses bias, which is not merged here; merge it with peft."),
        ({"rank_pattern": {"query": 4}}, "model: the adapter in HERE uses rank_pattern, which is not merged here;"),
        ({"base_model_name_or_path": "bert-base-uncased"},
         "model: HERE is a LoRA adapter for bert-base-uncased and no whole model; give its base"),
        ({"base_model_name_or_path": None}, "model: HERE is a LoRA adapter and no whole model, and does not say"),
        ({"peft_type": "IA3"}, "model: HERE is an IA3 adapter for "),
        ({"base_model_name_or_path": str(catalog.POCKET_MODELS["encoder"])},
         "model: the adapter in HERE was made for another base model: base_model.model."),
    ],
)  # fmt: skip
def test_adapters_that_are_not_merged(tmp_path, changes, sentence):
    model, targets = base(tmp_path, "bert")
    get_peft_model(model, LoraConfig(r=2, target_modules=targets)).save_pretrained(tmp_path / "adapter")
    configure(tmp_path / "adapter", **changes)
    with pytest.raises(UserError) as problem:
        catalog.body("encoder", "pocket", str(tmp_path / "adapter"))
    assert sentence in str(problem.value).replace(str(tmp_path / "adapter"), "HERE")


def test_an_adapter_in_a_pickle_is_refused(tmp_path):
    model, targets = base(tmp_path, "bert")
    get_peft_model(model, LoraConfig(r=2, target_modules=targets)).save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(UserError, match="adapter has no adapter_model.safetensors but adapter_model.bin, a pickle"):
        catalog.body("encoder", "pocket", str(tmp_path / "adapter"))


def test_peft_reads_the_same_folder(tmp_path):
    model, targets = base(tmp_path, "llama")
    trained(get_peft_model(model, LoraConfig(r=2, target_modules=targets))).save_pretrained(tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    ours = catalog.causal_language_model("pocket", str(tmp_path / "adapter")).eval()
    assert torch.allclose(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits, atol=1e-5)
