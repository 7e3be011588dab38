"""What peft accepts in silence is refused in one sentence, and what is right passes."""

from __future__ import annotations

import pickle

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from helpers.lessons.lesson_09.experiment import check_config, check_folder, stamp
from helpers.lora_files import WEIGHTS
from helpers.runtime import UserError
from tests.helpers.test_lora import tiny

RIGHT = {"r": 4, "target_modules": ["query", "value"], "modules_to_save": ["head"]}


@pytest.fixture(params=[{}, {"use_dora": True}, {"use_rslora": True}], ids=["lora", "dora", "rslora"])
def saved(request, tmp_path):
    """The folder of an adapter that peft saved and we stamped."""
    get_peft_model(tiny(), LoraConfig(**RIGHT, **request.param)).save_pretrained(tmp_path / "adapter")
    stamp(tmp_path / "adapter", tiny())
    return tmp_path / "adapter"


def test_a_right_config_gives_the_paths_that_peft_adapts():
    paths = check_config(tiny(), LoraConfig(**RIGHT))
    assert paths == get_peft_model(tiny(), LoraConfig(**RIGHT)).targeted_module_names


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"target_modules": ["qeury"]}, 'No linear layer is called "qeury"; there are: dense, .*Did you mean "query"'),
        ({"target_modules": ["query", "vlaue"]}, 'No linear layer is called "vlaue"'),
        ({"target_modules": []}, "targets is empty"),
        ({"r": 1000}, "rank is 1000, but it has to lie from 1 to 16"),
        ({"modules_to_save": ["haed"]}, 'There is no module "haed"; there are: body, .*Did you mean "head"'),
    ],
)
def test_a_wrong_config_is_one_sentence(wrong, said):
    with pytest.raises(UserError, match=said):
        check_config(tiny(), LoraConfig(**RIGHT | wrong))


def test_a_stamped_adapter_passes_on_its_base_and_peft_loads_it(saved):
    check_folder(saved, tiny())
    assert isinstance(PeftModel.from_pretrained(tiny(), saved), PeftModel)


def refused(folder, said, model=None):
    with pytest.raises(UserError, match=said):
        check_folder(folder, model or tiny())


def test_another_base_model_is_refused(saved):
    refused(saved, "another base model: the frozen weights are not those it grew on", tiny(seed=1))
    refused(saved, "another base model: there is no", torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_the_head_is_no_part_of_the_base(saved):
    other = tiny()
    torch.nn.init.normal_(other.head.weight)
    check_folder(saved, other)


def test_a_pickle_is_refused_before_it_is_opened(saved):
    (saved / WEIGHTS).unlink()
    (saved / "adapter_model.bin").write_bytes(pickle.dumps({}))
    refused(saved, "adapter_model.bin, a pickle, which can run code when it is opened; save the adapter as safetensors")
    (saved / "adapter_model.bin").rename(saved / WEIGHTS)
    refused(saved, r"is not a safetensors file \(a renamed pickle\?\)")


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    refused(tmp_path, "has no adapter_config.json, so it is not an adapter")
