"""A model of one's own may be of any family: each loads, learns and takes LoRA, whatever it calls its layers."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)
from transformers.pytorch_utils import Conv1D

from helpers import catalog, qlora
from helpers.batches import pad
from helpers.lessons.lesson_07.experiment import methods
from helpers.lessons.lesson_08.experiment import prepare
from helpers.lessons.lesson_09.experiment import VARIANTS, with_peft
from helpers.linear_layers import attention_targets, block_paths, plain_linear
from helpers.lora import inject, lora_layers, merge
from helpers.models import blocks, freeze_all_but
from helpers.quantization.pruning import prune_neurons
from helpers.runtime import UserError
from helpers.training import train

END = "<|endoftext|>"
WORDS = {word: place for place, word in enumerate(["<pad>", "<end>", "[UNK]", "the", "film", "was", "good", "bad"])}
# One token a byte: what a Qwen tokenizer can be rebuilt from, and every other one too.
BYTES = {
    mark: place for place, mark in enumerate([END, "<pad>", "[UNK]", *sorted(pre_tokenizers.ByteLevel.alphabet())])
}
COMMON = {"vocab_size": len(BYTES), "max_position_embeddings": 32}
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER = {**COMMON, **SHAPE, "num_key_value_heads": 1, "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 0}
ENCODERS = {
    "distilbert": DistilBertConfig(**COMMON, dim=16, hidden_dim=32, n_layers=2, n_heads=2),
    "bert": BertConfig(**COMMON, **SHAPE),
    "roberta": RobertaConfig(**{**COMMON, **SHAPE, "max_position_embeddings": 34}),
    "minilm": BertConfig(**COMMON, **{**SHAPE, "hidden_size": 24, "num_attention_heads": 12, "num_hidden_layers": 3}),
}
DECODERS = {
    "gpt2": GPT2Config(
        vocab_size=len(BYTES),
        n_positions=32,
        n_embd=16,
        n_inner=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "llama": LlamaConfig(**DECODER),
    "qwen2": Qwen2Config(**DECODER),
    "qwen3": Qwen3Config(**DECODER, head_dim=8),
}
FAMILIES = {**ENCODERS, **DECODERS}
TARGETS = {
    "distilbert": ("q_lin", "v_lin"),
    "bert": ("query", "value"),
    "roberta": ("query", "value"),
    "minilm": ("query", "value"),
    "gpt2": ("c_attn",),
    "llama": ("q_proj", "v_proj"),
    "qwen2": ("q_proj", "v_proj"),
    "qwen3": ("q_proj", "v_proj"),
}


def save_tokenizer(folder, **names):
    made = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    """A model with random weights, and a tokenizer that has an end token and no padding token."""
    found = tmp_path_factory.mktemp(family)
    torch.manual_seed(0)
    kind = AutoModelForMaskedLM if family in ENCODERS else AutoModelForCausalLM
    kind.from_config(FAMILIES[family]).save_pretrained(found)
    made = Tokenizer(models.BPE(BYTES, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    names = {"eos_token": END} | ({"mask_token": END} if family in ENCODERS else {})
    PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(found)
    return str(found)


@pytest.fixture
def classifier(folder):
    torch.manual_seed(0)
    return catalog.classifier("pocket", folder, num_labels=3)


@pytest.fixture
def batch(folder):
    tokenizer = catalog.tokenizer("encoder", "pocket", folder)
    ids = tokenizer(["the film was good", "the film was bad bad bad", "bad"])["input_ids"]
    return pad(tokenizer)([{"input_ids": row, "labels": label} for label, row in enumerate(ids)])


def moved_by_a_step(model, batch):
    """The parameters that one step of training changes."""
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=1.0)
    assert train(model, [batch], optimizer).losses[0] > 0
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def logits(model, batch):
    with torch.inference_mode():
        return model.eval()(**batch).logits


def test_padding_changes_no_answer(classifier, batch):
    alone = {"input_ids": batch["input_ids"][2:, :3], "attention_mask": batch["attention_mask"][2:, :3]}
    together = logits(classifier, {name: batch[name] for name in alone})
    torch.testing.assert_close(logits(classifier, alone), together[2:], rtol=0, atol=1e-5)


def test_everything_learns(classifier, batch):
    moved = moved_by_a_step(freeze_all_but(classifier, None), batch)
    assert {"head.weight", "head.bias"} < moved and any(name.startswith("body.") for name in moved)


def test_the_head_alone_learns(classifier, batch):
    assert moved_by_a_step(freeze_all_but(classifier, 0), batch) == {"head.weight", "head.bias"}


def test_the_last_block_learns(classifier, batch):
    assert len(blocks(classifier.body)) == classifier.config.num_hidden_layers
    moved = moved_by_a_step(freeze_all_but(classifier, 1), batch)
    last = {name for name, _ in blocks(classifier.body)[-1].named_parameters()}
    inside = {name for name in moved if any(name.endswith(f".{end}") for end in last)}
    assert len(inside) > 4 and moved - inside <= {
        "head.weight", "head.bias", "body.norm.weight", "body.ln_f.weight", "body.ln_f.bias"
    }  # fmt: skip


def test_lora_by_hand_learns_and_merges(classifier, batch):
    before = logits(classifier, batch)
    prepare(classifier, "lora", rank=2, alpha=4)
    assert torch.equal(logits(classifier, batch), before)
    inside = sum(isinstance(module, torch.nn.Linear) for module in blocks(classifier.body).modules())
    assert len(lora_layers(classifier)) == inside
    moved = moved_by_a_step(classifier, batch)
    assert moved and all("lora_B" in name or name.startswith("head.") for name in moved)
    learned = logits(classifier, batch)
    torch.testing.assert_close(logits(merge(classifier), batch), learned, rtol=1e-4, atol=1e-5)


def test_lora_of_queries_and_values(family, classifier, batch):
    assert attention_targets(classifier.body) == TARGETS[family]
    paths = inject(classifier, attention_targets(classifier.body), rank=2, alpha=4, modules_to_save=("head",))
    assert len(paths) == len(TARGETS[family]) * classifier.config.num_hidden_layers
    assert any("lora_B" in name for name in moved_by_a_step(classifier, batch))


def test_lora_by_peft_learns(classifier, batch):
    variant = VARIANTS["lora"]
    adapted = with_peft(classifier, variant, rank=2, alpha=4)
    moved = moved_by_a_step(adapted, batch)
    assert any("lora_B" in name for name in moved) and any("head" in name for name in moved)


def test_lora_on_all_linear_layers_finds_as_many(folder, classifier):
    """`peft` looks into the module tree too, GPT-2's turned layers among them."""
    config = LoraConfig(r=2, target_modules="all-linear")
    raw = get_peft_model(AutoModel.from_pretrained(folder), config)
    ours = [module for module in blocks(classifier.body).modules() if isinstance(module, torch.nn.Linear)]
    theirs = [name for name, _ in raw.named_parameters() if "lora_A" in name and "pooler" not in name]
    assert len(theirs) == len(ours)
    assert qlora.with_lora(classifier.body, rank=2).peft_config


@pytest.mark.slow
def test_four_bit_weights_with_lora_learn(folder, batch):
    torch.manual_seed(0)
    moved = moved_by_a_step(qlora.classifier("qlora", "pocket", folder, 3, rank=2), batch)
    assert any("lora_B" in name for name in moved) and "head.weight" in moved


def test_half_of_the_neurons_can_be_taken_out(classifier, batch):
    prune_neurons(classifier.body, 0.5)
    assert all(layer.in_features != 32 for layer in classifier.body.modules() if isinstance(layer, torch.nn.Linear))
    assert logits(classifier, batch).isfinite().all()


@pytest.mark.parametrize("method", ["bitfit", "adapter", "ia3", "soft_prompt"])
def test_other_methods_learn(family, classifier, batch, method):
    body = methods(length=2, rank=2, size=4)[method].adapt(classifier.body)
    classifier.body = body
    moved = moved_by_a_step(classifier, batch)
    biases = family in ("llama", "qwen3") and method == "bitfit"  # these have no bias to move
    assert any(name.startswith("body.") for name in moved) != biases


def test_every_layer_of_a_block_has_its_role(classifier):
    block = blocks(classifier.body)[0]
    found = block_paths(classifier.body)
    hidden = classifier.config.hidden_size
    assert block.get_submodule(found.attention_output).out_features == hidden
    assert block.get_submodule(found.feed_forward_output).in_features == 32
    assert block.get_submodule(found.query).in_features == hidden


def test_a_model_is_what_its_config_says(family, folder):
    wrong = catalog.causal_language_model if family in ENCODERS else catalog.masked_language_model
    with pytest.raises(UserError, match="^model: .* this needs (a decoder|one|an encoder)"):
        wrong("pocket", folder)
    right = catalog.masked_language_model if family in ENCODERS else catalog.causal_language_model
    assert right("pocket", folder).config.vocab_size == len(BYTES)


def test_gpt2s_layers_are_turned_and_say_the_same(tmp_path):
    torch.manual_seed(0)
    model = GPT2Model(DECODERS["gpt2"]).eval()
    ids = torch.tensor([[13, 14, 15]])
    with torch.inference_mode():
        before = model(input_ids=ids).last_hidden_state
        after = plain_linear(model)(input_ids=ids).last_hidden_state
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    assert not any(isinstance(module, Conv1D) for module in model.modules())
    with pytest.raises(UserError, match="must not be saved"):
        model.save_pretrained(tmp_path)


def test_long_texts_are_cut_where_the_models_places_end(family, folder):
    assert catalog.tokenizer("encoder", "pocket", folder).model_max_length == 32


@pytest.mark.parametrize("names", [{"eos_token": "<end>"}, {"unk_token": "[UNK]"}, {"pad_token": "<pad>"}])
def test_a_padding_token_is_found(tmp_path, names):
    AutoModelForMaskedLM.from_config(ENCODERS["bert"]).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, **names)
    assert catalog.tokenizer("encoder", "pocket", str(tmp_path)).pad_token == next(iter(names.values()))


def test_no_token_to_pad_with_is_one_sentence(tmp_path):
    AutoModelForMaskedLM.from_config(ENCODERS["bert"]).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(UserError, match=r"^model: the tokenizer in .* neither a padding token nor an end token"):
        catalog.tokenizer("encoder", "pocket", str(tmp_path))


def test_a_tokenizers_own_code_is_never_run(tmp_path):
    AutoModel.from_config(ENCODERS["bert"]).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, pad_token="<pad>")
    path = tmp_path / "tokenizer_config.json"
    own = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    (tmp_path / "mine.py").write_text("raise SystemExit('this code was run')")
    assert catalog.tokenizer("encoder", "pocket", str(tmp_path)).pad_token == "<pad>"


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    AutoModel.from_config(BertConfig(**{**COMMON, "vocab_size": 5}, **SHAPE)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, pad_token="<pad>")
    with pytest.raises(UserError, match=r"has 3 token\(s\) more than the 5 that its model knows; they do not belong"):
        catalog.tokenizer("encoder", "pocket", str(tmp_path))
