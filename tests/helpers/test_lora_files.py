"""helpers.lora_files: what `peft` saves is read, and what does not fit its base is refused in one sentence."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from helpers.lora_files import CONFIG, WEIGHTS, check_base, fingerprint, read_config, read_weights
from helpers.runtime import UserError
from tests.helpers.test_lora import tiny


@pytest.fixture
def saved(tmp_path):
    """The folder of an adapter that `peft` saved."""
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["query", "value"], modules_to_save=["head"])
    get_peft_model(tiny(), config).save_pretrained(tmp_path / "ours")
    return tmp_path / "ours"


def checked(folder, model=None, made_for=""):
    tensors, noted = read_weights(folder)
    check_base(model or tiny(), read_config(folder), tensors, made_for or noted)


def refused(folder, said, model=None, made_for=""):
    with pytest.raises(UserError, match=said):
        checked(folder, model, made_for)


def test_an_adapter_on_its_base_passes(saved):
    checked(saved)
    checked(saved, made_for=fingerprint(tiny(), ("head",)))
    assert read_config(saved)["lora_alpha"] == 6


def test_an_adapter_for_other_weights_is_refused(saved):
    noted = fingerprint(tiny(), ("head",))
    refused(saved, "made for another base model: the frozen weights are not those", tiny(seed=1), noted)


def test_an_adapter_for_another_architecture_is_refused(saved):
    refused(saved, "another base model: there is no body.* in this one", torch.nn.Sequential(torch.nn.Linear(2, 2)))
    other = tiny()
    other.body.encoder.layer[0].attention.self.query = torch.nn.Linear(16, 20)
    refused(saved, r"lora_B.weight is \(16, 4\), where this model needs \(20, 4\)", other)


def test_a_pickle_is_refused(saved):
    (saved / WEIGHTS).unlink()
    refused(saved, "has no adapter_model.safetensors; save")
    (saved / "adapter_model.bin").write_bytes(pickle.dumps({}))
    refused(saved, "adapter_model.bin, a pickle, which can run code when it is opened; save the adapter as safetensor")
    (saved / "adapter_model.bin").rename(saved / WEIGHTS)
    refused(saved, r"is not a safetensors file \(a renamed pickle\?\)")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "holds no LoRA adapter \\(its peft_type is IA3\\)"),
        ({"r": 0}, "needs \\(0, 16\\)"),
    ],
)
def test_a_config_of_another_kind_is_refused(saved, change, said):
    path = saved / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(saved, said)


def test_a_broken_or_missing_config_is_refused(saved):
    path = saved / CONFIG
    path.write_text("{")
    refused(saved, "is not valid JSON")
    path.unlink()
    refused(saved, "has no adapter_config.json, so it is not an adapter")


def test_a_tensor_of_a_wrong_shape_is_refused(saved):
    path = saved / WEIGHTS
    tensors = load_file(path)
    name = next(iter(tensors))
    save_file(tensors | {name: torch.zeros(1, 1)}, path)
    refused(saved, "where this model needs")


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
    (saved / WEIGHTS).write_bytes(content)
    refused(saved, said)
