"""A model folder of a learner's own: each way in which one goes wrong, with the sentence that it gets."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    ViTConfig,
    ViTModel,
)

from helpers import catalog
from helpers.pretrained import CHAT, load_model
from helpers.runtime import UserError

MARKS = ["[PAD]", "[UNK]", "[MASK]", "<|im_start|>", "<|im_end|>"]
WORDS = {word: place for place, word in enumerate([*MARKS, "the", "film", "was", "good", "bad"])}
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = {**SHAPE, "vocab_size": len(WORDS), "max_position_embeddings": 32}
LLAMA = {**BERT, "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 4}
WEIGHTS = "model.safetensors"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5494400\n"


def save_tokenizer(folder, words=WORDS, template=None):
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]"
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def saved(folder, model):
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    saved(folder / "encoder", BertForMaskedLM(BertConfig(**BERT)))
    saved(folder / "decoder", LlamaForCausalLM(LlamaConfig(**LLAMA)))
    return folder


@pytest.fixture
def encoder(made, tmp_path):
    return shutil.copytree(made / "encoder", tmp_path / "model")


@pytest.fixture
def decoder(made, tmp_path):
    return shutil.copytree(made / "decoder", tmp_path / "model")


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def tokenizer_settings(folder, **changes):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder, change):
    """Write the weights again after `change` has turned their dict into another."""
    tensors = change(load((folder / WEIGHTS).read_bytes()))  # no map of the file that is written next
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS, {"format": "pt"})


def rename(old, new):
    return lambda tensors: {name.replace(old, new, 1): value for name, value in tensors.items()}


def without(*parts):
    return lambda tensors: {key: value for key, value in tensors.items() if not any(part in key for part in parts)}


def changed(end, change):
    """The tensors whose names end in `end`, changed."""
    return lambda tensors: {key: change(value) if key.endswith(end) else value for key, value in tensors.items()}


def shard(folder):
    """Two files and an index in the place of one file; returns the index."""
    tensors = load_file(folder / WEIGHTS)
    half, places = len(tensors) // 2, {}
    for number, names in enumerate((sorted(tensors)[:half], sorted(tensors)[half:]), start=1):
        path = folder / f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, path, {"format": "pt"})
        places |= dict.fromkeys(names, path.name)
    (folder / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def said(open_model, folder):
    """The sentence of a refusal, with the folder's own path cut out of it."""
    with pytest.raises(UserError) as problem:
        open_model("pocket", str(folder))
    sentence = str(problem.value)
    assert sentence.startswith("model: ") and "\n" not in sentence and sentence.endswith(".")
    return sentence.replace(str(folder), "HERE")


def body(track, folder):
    return catalog.body("encoder", track, folder)


def tokenizer(track, folder):
    return catalog.tokenizer("encoder", track, folder)


# Weights that did not load.

LAYERS = "bert.encoder.layer"
ENCODER_WEIGHTS = [
    (
        "torch.compile", lambda folder: rewrite(folder, rename("bert.", "_orig_mod.bert.")),
        '"_orig_mod." in their names (_orig_mod.bert.embeddings.LayerNorm.bias and 36 more)',
        "model._orig_mod.save_pretrained(folder).",
    ),
    (
        "DataParallel", lambda folder: rewrite(folder, lambda all: {f"module.{key}": all[key] for key in all}),
        '42 of 42 weights in HERE have "module." in their names (module.bert.embeddings.LayerNorm.bias and 41 more)',
        "none of them would be loaded; save the model inside it: model.module.save_pretrained(folder).",
    ),
    (
        "both wrappers", lambda folder: rewrite(folder, rename("bert.", "module._orig_mod.bert.")),
        'have "_orig_mod." in their names', "save_pretrained(folder).",
    ),
    (
        "one compiled part", lambda folder: rewrite(folder, rename("bert.encoder.", "bert.encoder._orig_mod.")),
        'have "_orig_mod." in their names', "save_pretrained(folder).",
    ),
    (
        "FSDP", lambda folder: rewrite(folder, rename("bert.", "bert._fsdp_wrapped_module.")),
        'have "_fsdp_wrapped_module." in their names', "accelerator.unwrap_model(model).save_pretrained(folder).",
    ),
    (
        "more layers in the config", lambda folder: configure(folder, num_hidden_layers=3),
        "16 of ", "set num_hidden_layers in config.json to 2 (it says 3), or save the model again",
    ),
    (
        "fewer layers in the config", lambda folder: configure(folder, num_hidden_layers=1),
        f"16 are not expected ({LAYERS}.1.attention.output.LayerNorm.bias, ",
        "set num_hidden_layers in config.json to 2 (it says 1)",
    ),
    (
        "a layer is gone", lambda folder: rewrite(folder, without("layer.0.")),
        "16 of ", "missing from the file (",
    ),
    (
        "one weight is gone", lambda folder: rewrite(folder, without("layer.1.output.dense.bias")),
        "1 of ", "are missing from the file (",
    ),
    (
        "a larger vocabulary", lambda folder: configure(folder, vocab_size=13),
        ".word_embeddings.weight is (10, 16), where config.json says (13, 16)",
        "set vocab_size in config.json to 10 (it says 13)",
    ),
    (
        "another width", lambda folder: configure(folder, hidden_size=32),
        " of another shape (", "save the model again with save_pretrained(folder), which writes both.",
    ),
    (
        "empty tensors", lambda folder: rewrite(folder, changed(".weight", lambda value: value.new_empty(0))),
        " is (0,), where config.json says ", "as DeepSpeed ZeRO-3 and FSDP leave them: gather the weights",
    ),
    (
        "another architecture", lambda folder: configure(folder, model_type="distilbert"),
        "are missing from the file (", "these are the weights of another architecture: copy the config.json that",
    ),
    (
        "not finite",
        lambda folder: rewrite(folder, changed("layer.1.output.dense.weight", lambda value: value * torch.nan)),
        "weights in HERE hold numbers that are not finite (", "its training diverged, or the file is damaged",
    ),
    (
        "zeros", lambda folder: rewrite(folder, lambda all: {key: value * 0 for key, value in all.items()}),
        "the word embeddings in HERE are all zero, so every word looks the same", "save the model again with save_",
    ),
    (
        "a module around it", lambda folder: rewrite(folder, rename("bert.", "backbone.bert.")),
        "are not expected (backbone.bert.", "these are the weights of another architecture",
    ),
    (
        "a LoRA layer left inside", lambda folder: rewrite(folder, rename("query.weight", "query.base_layer.weight")),
        "2 of ", "query.base_layer.weight",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "what", "fix"), [case[1:] for case in ENCODER_WEIGHTS], ids=[case[0] for case in ENCODER_WEIGHTS]
)
@pytest.mark.parametrize("open_model", [body, catalog.masked_language_model])
def test_weights_that_did_not_load(encoder, open_model, change, what, fix):
    change(encoder)
    sentence = said(open_model, encoder)
    assert what in sentence and fix in sentence


def test_a_body_without_its_word_head(tmp_path):
    folder = saved(tmp_path / "body", BertModel(BertConfig(**BERT), add_pooling_layer=False))
    sentence = said(catalog.masked_language_model, folder)
    assert sentence == (
        "model: HERE has no word head: 6 of its weights are missing from the file (cls.predictions.bias, "
        "cls.predictions.decoder.bias, cls.predictions.transform.LayerNorm.bias and 3 more), so its predictions would "
        "be random; give a model that was saved with BertForMaskedLM."
    )
    assert catalog.body("encoder", "pocket", str(folder)).config.hidden_size == 16  # needs no head


def test_a_decoder_without_its_word_head(decoder):
    rewrite(decoder, without("lm_head"))
    sentence = said(catalog.causal_language_model, decoder)
    assert "has no word head: 1 of its weights are missing from the file (lm_head.weight)" in sentence
    assert catalog.body("decoder", "pocket", str(decoder)).config.hidden_size == 16


@pytest.mark.parametrize("kind", [BertForSequenceClassification, BertForMaskedLM])
def test_heads_that_a_body_leaves_out_are_fine(tmp_path, kind):
    folder = saved(tmp_path / "headed", kind(BertConfig(**BERT, num_labels=3)))
    found = catalog.body("encoder", "pocket", str(folder))
    assert torch.equal(found.embeddings.LayerNorm.weight, torch.ones(16))


def test_a_tied_head_is_not_missing(tmp_path):
    folder = saved(tmp_path / "tied", LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True)))
    assert "lm_head.weight" not in load_file(folder / WEIGHTS)
    found = catalog.causal_language_model("pocket", str(folder))
    assert found.lm_head.weight is found.model.embed_tokens.weight
    configure(folder, tie_word_embeddings=False)
    assert "(lm_head.weight), so its predictions would be random" in said(catalog.causal_language_model, folder)


def test_biases_that_the_config_does_not_know(tmp_path):
    folder = saved(tmp_path / "qwen", Qwen2ForCausalLM(Qwen2Config(**LLAMA)))
    configure(folder, model_type="llama", architectures=["LlamaForCausalLM"])
    sentence = said(catalog.causal_language_model, folder)
    assert "6 are not expected (model.layers.0.self_attn.k_proj.bias, model.layers.0.self_attn.q_proj.bias," in sentence


def test_old_tables_in_the_file_are_fine(tmp_path):
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    folder = saved(tmp_path / "gpt2", GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), **sizes)))
    rewrite(folder, lambda tensors: tensors | {"transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32)})
    rewrite(folder, lambda tensors: tensors | {"transformer.h.0.attn.masked_bias": torch.ones(1)})
    assert catalog.causal_language_model("pocket", str(folder)).config.n_layer == 2


def test_a_new_classification_head_is_expected(decoder, capsys):
    catalog.say_new_head.cache_clear()
    for _ in range(2):
        catalog.classifier("pocket", str(decoder))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("model: ")]  # beside the bars
    assert said == [f"model: the classification head on {decoder} is new; its weights are random until you train them."]
    scorer = load_model(AutoModelForSequenceClassification, str(decoder), num_labels=1)
    assert scorer.score.weight.shape == (1, 16)
    rewrite(decoder, without("layers.1."))
    with pytest.raises(UserError, match="are missing from the file"):
        load_model(AutoModelForSequenceClassification, str(decoder), num_labels=1)


def test_loading_draws_no_random_numbers(encoder):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    catalog.masked_language_model("pocket", str(encoder))
    assert torch.equal(torch.get_rng_state(), before)


# Files that are not what their names say, and folders that are not a model.


def text(name, content):
    def write(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def only(*names):
    """Leave nothing in the folder but these, which are made if need be."""

    def clear(folder):
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()
        for name in names:
            (folder / name).touch()

    return clear


def adapter(base, kind="LORA", whole=False):
    def make(folder):
        if not whole:
            only("tokenizer.json")(folder)
        save_file({"base_model.model.query.lora_A.weight": torch.ones(2, 2)}, folder / "adapter_model.safetensors")
        settings = {"peft_type": kind, "base_model_name_or_path": base, "r": 2, "lora_alpha": 4}
        (folder / "adapter_config.json").write_text(json.dumps(settings))

    return make


def cut(share):
    def shorten(folder):
        content = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(content[: int(len(content) * share)])

    return shorten


def stored(dtype):
    return lambda folder: rewrite(folder, changed(".weight", lambda value: value.to(dtype)))


def indexed(change):
    def make(folder):
        index = shard(folder)
        change(folder, index)
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return make


def link(folder, target):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(target)


def header(entries):
    content = json.dumps(entries).encode()
    return struct.pack("<Q", len(content)) + content


MERGE = "PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(new_folder)."
GONE = "model-00002-of-00002.safetensors"
FOLDERS = [
    (
        "a LoRA adapter", adapter("bert-base-uncased"),
        "model: HERE is a LoRA adapter for bert-base-uncased and no whole model; give its base, bert-base-uncased, or "
        f"merge it: {MERGE}",
    ),
    (
        "an adapter without a base", adapter(None),
        "model: HERE is a LoRA adapter and no whole model, and does not say for which base model; give the model that "
        f"it was trained on, or merge it: {MERGE}",
    ),
    ("an IA3 adapter", adapter("gpt2", "IA3"), "model: HERE is an IA3 adapter for gpt2 and no whole model;"),
    (
        "a model and an adapter", adapter("gpt2", whole=True),
        "model: HERE holds a whole model and a LoRA adapter (adapter_config.json), which would be added to it; move "
        "the adapter's files to a folder of their own.",
    ),
    ("an adapter's broken settings", text("adapter_config.json", "{"), "adapter_config.json is not valid JSON;"),
    (
        "weights by Git LFS", text(WEIGHTS, LFS),
        'model: HERE/model.safetensors is a Git LFS pointer and not the file itself; run "git lfs pull" where you '
        "cloned it, and copy it again.",
    ),
    ("a config by Git LFS", text("config.json", LFS), "model: HERE/config.json is a Git LFS pointer and not the file"),
    ("a tokenizer by Git LFS", text("tokenizer.json", LFS), "model: HERE/tokenizer.json is a Git LFS pointer and not"),
    ("empty weights", text(WEIGHTS, ""), "model: HERE/model.safetensors is empty; copy or download it again."),
    ("an empty config", text("config.json", ""), "model: HERE/config.json is empty; copy or download it again."),
    ("an empty tokenizer", text("tokenizer.json", ""), "model: HERE/tokenizer.json is empty; copy or download it"),
    ("half a tokenizer", text("tokenizer.json", '{"version": '), "model: HERE/tokenizer.json is not valid JSON;"),
    (
        "a web page", text(WEIGHTS, "<!DOCTYPE html><html>Sign in</html>"),
        "model: HERE/model.safetensors is a web page and not the file itself; download the file again,",
    ),
    ("a renamed pickle", text(WEIGHTS, b"\x80\x02}q\x00."), "model: HERE/model.safetensors is a pickle with another"),
    ("a renamed zip", text(WEIGHTS, b"PK\x03\x04data.pkl"), "model: HERE/model.safetensors is a pickle with another"),
    ("a renamed GGUF", text(WEIGHTS, b"GGUF\x03\x00\x00\x00"), "model: HERE/model.safetensors is a GGUF file with"),
    ("weights cut short", cut(0.9), "model: HERE/model.safetensors is damaged (it has "),
    ("a header cut short", cut(0.01), "model: HERE/model.safetensors is damaged (its "),
    ("a header of nonsense", text(WEIGHTS, header([1, 2])), "is damaged (its header is not that of a safetensors"),
    ("no tensor", text(WEIGHTS, header({"__metadata__": {}})), "model: the weights in HERE hold no tensor; save the"),
    (
        "a missing shard", indexed(lambda folder, _: (folder / GONE).unlink()),
        f"model: 1 of 2 files of weights in HERE are missing ({GONE}); copy them too.",
    ),
    (
        "a shard that the index leaves out",
        indexed(lambda _, index: [index["weight_map"].pop(k) for k, v in [*index["weight_map"].items()] if v == GONE]),
        f"model: HERE/model.safetensors.index.json leaves out {GONE}, so those weights would not be loaded;",
    ),
    (
        "a shard of another model", indexed(lambda folder, _: save_file({"x": torch.ones(1)}, folder / GONE)),
        "weights that HERE/model.safetensors.index.json lists are not in the files it names (",
    ),
    (
        "an index without its files",
        indexed(lambda folder, _: [path.unlink() for path in folder.glob("*.safetensors")]),
        "model: 2 of 2 files of weights in HERE are missing (model-00001-of-00002.safetensors, model-00002-of-00002.",
    ),
    (
        "a link that leads nowhere", lambda folder: link(folder, "../blobs/4d7a"),
        "model: HERE/model.safetensors is a link to ../blobs/4d7a, which does not exist; copy the file itself",
    ),
    (
        "a folder with the weights' name", lambda folder: ((folder / WEIGHTS).unlink(), (folder / WEIGHTS).mkdir()),
        "model: HERE/model.safetensors is a folder; copy the file itself",
    ),
    (
        "an unknown family", lambda folder: configure(folder, model_type="superbert"),
        'is of the family "superbert", which the installed transformers does not know; choose a model of another',
    ),
    ("no map in the index", indexed(lambda _, index: index.clear()), "model.safetensors.index.json has no weight_map;"),
    (
        "an index that leads out", indexed(lambda _, index: index["weight_map"].update(x="../secret.safetensors")),
        "index.json lists ../secret.safetensors, which is no safetensors file in this folder;",
    ),
    (
        "an index of pickles", indexed(lambda _, index: index["weight_map"].update(x="pytorch_model-1.bin")),
        "index.json lists pytorch_model-1.bin, which is no safetensors file in this folder;",
    ),
    (
        "other names", lambda folder: (folder / WEIGHTS).rename(folder / "best.safetensors"),
        "model: HERE has neither model.safetensors nor model.safetensors.index.json, only best.safetensors; save the",
    ),
    (
        "an optimizer alone",
        lambda folder: rewrite(folder, lambda all: {f"state.0.exp_avg.{key}": value for key, value in all.items()}),
        "model: HERE holds only the state of an optimizer (state.0.exp_avg.bert.",
    ),
    ("8-bit integers", stored(torch.int8), "model: the weights in HERE are quantized (bert.embeddings."),
    ("float8", stored(torch.float8_e4m3fn), ".weight is stored as F8_E4M3), and what they mean is known only to the"),
    (
        "4 bits without a config", lambda folder: rewrite(folder, rename("query.weight", "query.qweight")),
        "model: the weights in HERE are already quantized (bert.encoder.layer.0.attention.self.query.qweight, ",
    ),
    (
        "GPTQ", lambda folder: configure(folder, quantization_config={"quant_method": "gptq", "bits": 4}),
        "model: HERE is already quantized (gptq, 4 bits); the lessons train and quantize plain weights (float32, "
        "float16 or bfloat16): give the model that it was made from.",
    ),
    (
        "AWQ", lambda folder: configure(folder, quantization_config={"quant_method": "awq", "w_bit": 4}),
        "model: HERE is already quantized (awq, 4 bits);",
    ),
    (
        "bitsandbytes",
        lambda folder: configure(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "model: HERE is already quantized (bitsandbytes, 4 bits);",
    ),
    (
        "FP8", lambda folder: configure(folder, quantization_config={"quant_method": "fp8"}),
        "model: HERE is already quantized (fp8);",
    ),
    ("no model_type", lambda folder: configure(folder, model_type=None), "config.json names no model_type; save the"),
    ("a model_type of lists", lambda folder: configure(folder, model_type=["bert"]), "names no model_type; save the"),
    (
        "a width as text", lambda folder: configure(folder, hidden_size="16"),
        "model: HERE cannot be loaded: StrictDataclassFieldValidationError: Validation error for field 'hidden_size': "
        "TypeError: Field 'hidden_size' expected int, got str (value: '16').",
    ),
    (
        "heads that do not divide", lambda folder: configure(folder, num_attention_heads=5),
        "model: HERE cannot be loaded: The hidden size (16) is not a multiple of the number of attention heads (5).",
    ),
    ("an unknown activation", lambda folder: configure(folder, hidden_act="swoosh"), "cannot be loaded: KeyError: "),
    ("T5", lambda folder: T5Config().save_pretrained(folder), "model: a t5 model is an encoder-decoder, and the"),
    ("BART", lambda folder: BartConfig().save_pretrained(folder), "model: a bart model is an encoder-decoder, and the"),
    ("a GGUF alone", only("config.json", "model.gguf"), "holds its weights as a GGUF file (model.gguf) and"),
    ("TensorFlow alone", only("config.json", "tf_model.h5"), "holds its weights as a TensorFlow file (tf_model.h5)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in FOLDERS], ids=[case[0] for case in FOLDERS])
def test_folders_that_are_no_model(encoder, change, words):
    change(encoder)
    assert words in said(body, encoder)


def test_a_header_whose_length_begins_like_a_pickle_is_none(encoder):
    content = (encoder / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    spaces = -(length - 0x80) % 256  # the format allows spaces after the header
    padded = content[8 : 8 + length] + b" " * spaces + content[8 + length :]
    (encoder / WEIGHTS).write_bytes(struct.pack("<Q", length + spaces) + padded)
    assert (encoder / WEIGHTS).read_bytes()[0] == 0x80
    assert body("pocket", str(encoder)).config.hidden_size == 16


def test_a_file_in_a_folders_place(encoder):
    sentence = said(body, encoder / WEIGHTS)
    assert sentence == f"model: HERE is a file; give the folder that it lies in, {encoder}."


def test_a_model_one_folder_further_down(tmp_path, made):
    shutil.copytree(made / "encoder", tmp_path / "run" / "checkpoint-500")
    sentence = said(body, tmp_path / "run")
    assert sentence.endswith("its architecture is unknown; give the folder that has one, HERE/checkpoint-500.")


def test_shards_and_their_index_load(encoder):
    whole = catalog.masked_language_model("pocket", str(encoder)).state_dict()
    shard(encoder)
    again = catalog.masked_language_model("pocket", str(encoder)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_plain_weights_of_every_width_load(encoder, dtype):
    rewrite(encoder, lambda tensors: {name: value.to(dtype) for name, value in tensors.items()})
    assert catalog.body("encoder", "pocket", str(encoder)).dtype == torch.float32


def test_a_model_of_images(tmp_path):
    config = ViTConfig(**SHAPE, image_size=8, patch_size=4)
    folder = saved(tmp_path / "images", ViTModel(config, add_pooling_layer=False))
    sentence = said(body, folder)
    assert sentence.startswith("model: a vit model cannot read a text by its token numbers alone (")
    assert sentence.endswith("the lessons need an encoder such as BERT or a decoder such as Llama.")


def test_an_import_error_is_one_sentence(encoder, monkeypatch):
    def refuse(*_, **__):
        raise ImportError("This needs `nowhere`.\nInstall it with pip.")

    monkeypatch.setattr(catalog.AutoModel, "from_pretrained", refuse)
    assert said(body, encoder) == (
        "model: HERE needs a package that is not installed here (This needs `nowhere`.); give a model that "
        "transformers loads without it."
    )


# Tokenizers and their chat templates.


def test_no_tokenizer(encoder):
    (encoder / "tokenizer.json").unlink()
    sentence = said(tokenizer, encoder)
    assert sentence.startswith("model: HERE has no tokenizer (none of tokenizer.json, vocab.json, vocab.txt, ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (text("tokenizer.json", "{}"), "model: HERE cannot be loaded: "),
        (text("tokenizer.json", '{"version": "1.0", "model": {"type": "Odd"}}'), "model: HERE cannot be loaded: "),
        (text("tokenizer_config.json", "[]"), "model: HERE cannot be loaded: "),
        (lambda folder: save_tokenizer(folder, WORDS | {"more": 10, "words": 11}), "has 2 token(s) more than the 10"),
        (
            lambda folder: tokenizer_settings(folder, model_max_length=0),
            "cuts texts to 0 tokens, and 0 of them are special, so nothing of a text is left; correct model_max_length",
        ),
        (lambda folder: save_tokenizer(folder, {"[PAD]": 0, "[UNK]": 1}), "knows no word: its vocabulary holds 3"),
    ],
)  # fmt: skip
def test_tokenizers_that_do_not_load_or_fit(encoder, change, words):
    change(encoder)
    assert words in said(tokenizer, encoder)


RAISING = "{{ raise_exception('A system turn has to come first') }}"
ALTERNATING = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ raise_exception('No assistant') }}"
    "{% endif %}{{ message['content'] }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            RAISING,
            "fails on one user turn and its answer (A system turn has to come first); correct chat_template.jinja",
        ),
        (ALTERNATING, "fails on one user turn and its answer (No assistant); correct chat_template.jinja"),
        ("{% for message in messages %}", "fails on one user turn and its answer (Unexpected end of template."),
        ("{{ messages[0].content.parts[0] }}", "fails on one user turn and its answer ("),
        ("{{ messages | nonsense }}", "fails on one user turn and its answer (No filter named 'nonsense'.)"),
        ("<user><assistant>", "leaves out what the user or the assistant says; correct chat_template.jinja"),
        ("{{ messages[0]['content'] }}", "leaves out what the user or the assistant says; correct chat_template.jinja"),
    ],
)
@pytest.mark.parametrize("role", ["decoder", "instruct"])
def test_chat_templates_that_fail(decoder, template, words, role):
    save_tokenizer(decoder, template=template)
    sentence = said(lambda track, folder: catalog.tokenizer(role, track, folder), decoder)
    assert sentence.startswith("model: the chat template of the tokenizer in HERE ") and words in sentence


def test_a_decoder_without_a_chat_template_gets_one_if_its_words_allow(decoder):
    assert catalog.tokenizer("decoder", "pocket", str(decoder)).chat_template == CHAT
    save_tokenizer(decoder, {word: place for word, place in WORDS.items() if word != "<|im_start|>"})
    with pytest.raises(UserError, match=r"no chat template, nor an <\|im_start\|> and <\|im_end\|> to make one with"):
        catalog.tokenizer("decoder", "pocket", str(decoder))
    assert catalog.tokenizer("encoder", "pocket", str(decoder)).chat_template is None  # no lesson asks it to chat


@pytest.mark.parametrize("role", ["encoder", "decoder", "instruct"])
def test_the_committed_models_pass(role):
    folder = str(catalog.POCKET_MODELS[role])
    kind = catalog.masked_language_model if role == "encoder" else catalog.causal_language_model
    assert kind("pocket", folder).config.vocab_size >= len(catalog.tokenizer(role, "pocket", folder))
    assert isinstance(catalog.body(role, "pocket", folder), nn.Module) and Path(folder).is_dir()
    if role != "encoder":
        raw = AutoModelForCausalLM.from_pretrained(folder).state_dict()
        assert all(torch.equal(value, raw[name]) for name, value in kind("pocket", folder).state_dict().items())
