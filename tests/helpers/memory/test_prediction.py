"""helpers.memory's formulas: against counts of real modules, published sizes, and the published 780 and 48 GB."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers.memory.architecture import Architecture
from helpers.memory.measurement import storage_bytes, weight_tensors
from helpers.memory.prediction import Plan, adam_bytes, four_bit_bytes, predict, trained_sizes
from helpers.runtime import UserError


def bert(**changes):
    from transformers import BertConfig

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertConfig(vocab_size=100, max_position_embeddings=48, **(sizes | changes))


def roberta():
    from transformers import RobertaConfig

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return RobertaConfig(vocab_size=100, max_position_embeddings=50, type_vocab_size=1, **sizes)


def llama(**changes):
    from transformers import LlamaConfig

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    return LlamaConfig(vocab_size=100, max_position_embeddings=48, **(sizes | changes))


def distilbert():
    from transformers import DistilBertConfig

    return DistilBertConfig(vocab_size=100, max_position_embeddings=48, dim=32, hidden_dim=64, n_layers=2, n_heads=4)


def gpt2():
    from transformers import GPT2Config

    return GPT2Config(vocab_size=100, n_positions=48, n_embd=32, n_layer=2, n_head=4)


def qwen(kind: str, **changes):
    from transformers import Qwen2Config, Qwen3Config

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 100, "tie_word_embeddings": True}
    return {"qwen2": Qwen2Config, "qwen3": Qwen3Config}[kind](**sizes, **changes)


@pytest.mark.parametrize(
    "config",
    [
        bert(),
        roberta(),
        distilbert(),
        llama(tie_word_embeddings=True),
        llama(tie_word_embeddings=False, num_key_value_heads=2),
        llama(attention_bias=True, mlp_bias=True),
        gpt2(),
        qwen("qwen2"),
        qwen("qwen3", head_dim=16),
    ],
    ids=lambda config: config.model_type,
)
def test_parameters_are_those_of_the_real_model(config):
    from transformers import AutoModel, AutoModelForCausalLM

    kind = AutoModel if "bert" in config.model_type else AutoModelForCausalLM
    options = {"add_pooling_layer": False} if config.model_type in ("bert", "roberta") else {}
    model = kind.from_config(config, **options)
    shape = Architecture.of(config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert max(trained_sizes(shape, Plan("full", 1, 1))) == max(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "billions"), [("7B", 6.74), ("13B", 13.02), ("33B", 32.53), ("65B", 65.29)])
def test_published_sizes_have_the_published_number_of_parameters(name, billions):
    assert Architecture.published(name).parameters / 1e9 == pytest.approx(billions, abs=0.005)


def test_the_published_figures_for_65b_come_out():
    plan = Plan("full", batch=1, length=512, rank=64, value_bytes=2, checkpointed=True)
    shape = Architecture.published("65B")
    assert predict(shape, plan).peak > 780e9  # QLoRA paper: more than 780 GB
    assert predict(shape, replace(plan, method="qlora")).peak < 48e9  # and less than 48
    assert predict(shape, replace(plan, method="lora")).peak > 2 * 48e9


def test_double_quantization_costs_what_the_paper_says():
    """0.127 bits per weight in place of 0.5; the tables vanish in a large matrix."""
    numbers = 8192 * 8192
    assert 8 * four_bit_bytes(numbers) / numbers == pytest.approx(4.127, abs=0.001)


@pytest.mark.parametrize("shape", [(64, 64), (128, 512), (96, 200)])
def test_four_bit_bytes_are_those_of_bitsandbytes(shape):
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(shape[1], shape[0], bias=False, quant_type="nf4", compress_statistics=True).to("cpu")
    assert storage_bytes(weight_tensors(layer)) == four_bit_bytes(shape[0] * shape[1])


@pytest.mark.parametrize("bits", [32, 8])
def test_adam_bytes_are_those_of_the_optimizer(bits):
    import bitsandbytes as bnb

    from helpers.memory.measurement import optimizer_tensors

    model = nn.Sequential(nn.Linear(100, 60), nn.Linear(60, 7))
    kind = torch.optim.AdamW if bits == 32 else bnb.optim.AdamW8bit
    optimizer = kind(model.parameters(), lr=1e-3)
    model(torch.randn(4, 100)).sum().backward()
    optimizer.step()
    sizes = [p.numel() for p in model.parameters()]
    assert storage_bytes(optimizer_tensors(optimizer)) == adam_bytes(sizes, bits)


def test_small_tensors_gain_nothing_from_8_bits():
    assert adam_bytes([4095], bits=8) == 8 * 4095
    assert adam_bytes([4096], bits=8) < 8 * 4096


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Plan("lorra", 1, 1), 'Did you mean "lora"'),
        (lambda: Plan("lora", 0, 1), "batch is 0"),
        (lambda: Plan("lora", 1, 1, rank=-1), "rank is -1"),
        (lambda: Plan("lora", 1, True), "length is True"),
        (lambda: adam_bytes([4], bits=16), 'optimizer_bits is "16"'),
        (lambda: Architecture.published("6B"), 'There is no size "6B"'),
    ],
)
def test_bad_input_is_one_sentence(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_a_family_without_formulas_is_said():
    from transformers import OPTConfig

    with pytest.raises(
        UserError, match='no formulas for "opt"; it has them for bert, roberta, distilbert, gpt2, llama'
    ):
        Architecture.of(OPTConfig())
    with pytest.raises(UserError, match='no formula for the activation function "gelu_fast"'):
        Architecture.of(bert(hidden_act="gelu_fast"))
