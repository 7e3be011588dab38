"""helpers.lora_files: peft reads what we write, we read what peft writes, and what does not fit is refused."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.lora import inject, lora_layers, merge
from helpers.lora_files import CONFIG, WEIGHTS, load_adapter, save_adapter
from helpers.runtime import UserError
from tests.helpers.test_lora import TARGETS, decoder, stir, tiny


@pytest.fixture
def batch():
    ids = torch.randint(5, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture
def saved(tmp_path):
    """An adapted model, and the folder of its adapter."""
    model = tiny()
    inject(model, TARGETS, rank=4, alpha=6, dropout=0.1, modules_to_save=("head",))
    stir(model)
    with torch.no_grad():
        model.head.weight.add_(1.0)
    model.eval()
    size = save_adapter(model, tmp_path / "ours", modules_to_save=("head",), base_name="tiny")
    assert size == sum(path.stat().st_size for path in (tmp_path / "ours").iterdir())
    return model, tmp_path / "ours"


def test_peft_loads_what_we_saved(saved, batch):
    from peft import PeftModel

    model, folder = saved
    theirs = PeftModel.from_pretrained(tiny(), folder).eval()
    assert torch.equal(theirs(**batch).logits, model(**batch).logits)
    assert theirs.peft_config["default"].lora_alpha == 6


def test_we_load_what_we_saved(saved, batch):
    model, folder = saved
    again = tiny()
    assert load_adapter(again, folder) == list(lora_layers(model))
    assert torch.equal(again.eval()(**batch).logits, model(**batch).logits)


def test_we_load_what_peft_saved(batch, tmp_path):
    from peft import LoraConfig, get_peft_model

    settings = {"r": 2, "lora_alpha": 3, "target_modules": ["query", "dense"], "modules_to_save": ["head"]}
    theirs = get_peft_model(tiny(), LoraConfig(**settings, init_lora_weights=False)).eval()
    theirs.save_pretrained(tmp_path)
    ours = tiny()
    load_adapter(ours, tmp_path)
    assert torch.equal(ours.eval()(**batch).logits, theirs(**batch).logits)


def test_the_two_files_hold_the_same_names(saved, tmp_path):
    from peft import PeftModel

    _, folder = saved
    PeftModel.from_pretrained(tiny(), folder).save_pretrained(tmp_path / "theirs")
    ours, theirs = load_file(folder / WEIGHTS), load_file(tmp_path / "theirs" / WEIGHTS)
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def refused(folder, said, model=None):
    model = model or tiny()
    with pytest.raises(UserError, match=said):
        load_adapter(model, folder)
    assert not lora_layers(model) and all(parameter.requires_grad for parameter in model.parameters())


def test_an_adapter_for_other_weights_is_refused(saved):
    refused(saved[1], "made for another base model: the frozen weights are not those", tiny(seed=1))


def test_an_adapter_for_another_architecture_is_refused(saved):
    refused(saved[1], "another base model: there is no body.* in this one", torch.nn.Sequential(torch.nn.Linear(2, 2)))
    other = tiny()
    other.body.encoder.layer[0].attention.self.query = torch.nn.Linear(16, 20)
    refused(saved[1], r"lora_B.weight is \(16, 4\), where this model needs \(20, 4\)", other)


def test_a_pickle_is_refused(saved):
    _, folder = saved
    (folder / WEIGHTS).unlink()
    refused(folder, "has no adapter_model.safetensors; save")
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({}))
    refused(folder, "adapter_model.bin, a pickle, which can run code when it is opened; save the adapter as safetensor")
    (folder / "adapter_model.bin").rename(folder / WEIGHTS)
    refused(folder, r"is not a safetensors file \(a renamed pickle\?\)")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "holds no LoRA adapter \\(its peft_type is IA3\\)"),
        ({"use_dora": True}, "uses use_dora, which LoRALinear does not know; load it with peft"),
        ({"use_rslora": True}, "uses use_rslora"),
        ({"bias": "all"}, "uses bias"),
        ({"r": 0}, "needs \\(0, 16\\)"),
    ],
)
def test_a_config_of_another_kind_is_refused(saved, change, said):
    path = saved[1] / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(saved[1], said)


def test_a_broken_or_missing_config_is_refused(saved):
    path = saved[1] / CONFIG
    path.write_text("{")
    refused(saved[1], "is not valid JSON")
    path.unlink()
    refused(saved[1], "has no adapter_config.json, so it is not an adapter")


def test_a_tensor_of_a_wrong_shape_is_refused(saved):
    path = saved[1] / WEIGHTS
    tensors = load_file(path)
    name = next(iter(tensors))
    save_file(tensors | {name: torch.zeros(1, 1)}, path)
    refused(saved[1], "where this model needs")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5494400\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LFS, "^adapter_model.safetensors in ours is a Git LFS pointer and not the file itself; run .git lfs pull."),
        (b"", "^adapter_model.safetensors in ours is empty; copy or download it again"),
        (b"<html>Sign in</html>", "^adapter_model.safetensors in ours is a web page and not the file itself"),
        (b"half", "is not a safetensors file"),
    ],
)
def test_a_file_of_another_kind_is_refused(saved, content, said):
    (saved[1] / WEIGHTS).write_bytes(content)
    refused(saved[1], said)


@pytest.mark.parametrize(
    ("keep", "factor", "said"),
    [
        (
            lambda key: "lora_B" not in key,
            1,
            r"has only one half of its layers \(.*lora_A.weight, .* and 1 more\); each",
        ),
        (
            lambda key: "0.attention.self.query.lora_A" not in key,
            1,
            r"one half of its layers \([\w.]*query.lora_B.weight\)",
        ),
        (lambda key: "lora_" not in key, 1, r"holds no LoRA layer \(adapter_model.safetensors\)"),
        (lambda key: True, float("nan"), "holds numbers that are not finite .*: its training diverged"),
    ],
)
def test_an_adapter_that_is_not_whole_is_refused(saved, keep, factor, said):
    tensors = {key: value * factor for key, value in load_file(saved[1] / WEIGHTS).items() if keep(key)}
    save_file(tensors, saved[1] / WEIGHTS)
    refused(saved[1], said)


def test_an_adapter_of_a_tied_head_is_refused(tmp_path):
    model = decoder(tied=False)
    inject(model, ("lm_head",), rank=2, alpha=4)
    save_adapter(model, tmp_path)
    path = tmp_path / WEIGHTS
    save_file(load_file(path), path)  # without the base's fingerprint, as peft writes it
    refused(tmp_path, '"lm_head" shares its weight with model.embed_tokens', decoder(tied=True))


def test_nothing_to_save_and_merged_are_refused(saved, tmp_path):
    with pytest.raises(UserError, match="no LoRA layers to save"):
        save_adapter(tiny(), tmp_path / "none")
    with pytest.raises(UserError, match="unmerge it before saving"):
        save_adapter(merge(saved[0]), tmp_path / "merged")
    assert not (tmp_path / "none").exists() and not (tmp_path / "merged").exists()
