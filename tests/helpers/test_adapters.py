"""helpers.adapters: they start as the identity, only they move, and `peft` computes the same."""

from __future__ import annotations

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    LlamaConfig,
    LlamaModel,
    MambaConfig,
    MambaModel,
)

from helpers.adapters import BottleneckAdapter, Rescale, add_bottlenecks, add_ia3, open_biases
from helpers.linear_layers import block_paths
from helpers.runtime import UserError

SIZES = {"vocab_size": 40, "max_position_embeddings": 32}


def bert(seed: int = 0) -> BertModel:
    torch.manual_seed(seed)
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, **SIZES)
    return BertModel(config, add_pooling_layer=False).eval()


def distilbert() -> DistilBertModel:
    torch.manual_seed(0)
    return DistilBertModel(DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=24, **SIZES)).eval()


def llama() -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, **SIZES)
    return LlamaModel(config).eval()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 40, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def hidden(body: nn.Module, batch) -> torch.Tensor:
    with torch.inference_mode():
        return body(**batch).last_hidden_state


def moving(body: nn.Module) -> set[str]:
    return {name for name, parameter in body.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("new", [bert, distilbert, llama])
@pytest.mark.parametrize("add", [lambda body: add_bottlenecks(body, 4), add_ia3], ids=["bottleneck", "ia3"])
def test_nothing_changes_before_the_first_step(new, add, batch):
    assert torch.equal(hidden(add(new()), batch), hidden(new(), batch))


@pytest.mark.parametrize("new", [bert, distilbert, llama])
def test_only_what_was_added_moves_and_it_does(new, batch):
    weights = torch.randn(16, generator=torch.Generator().manual_seed(0))  # a plain square would be normalised away
    for add, per_block in ((lambda body: add_bottlenecks(body, 4), 2 * 4), (add_ia3, 3)):
        body, before = add(new()), set(new().state_dict())
        assert len(moving(body)) == 2 * per_block
        start = {name: value.clone() for name, value in body.state_dict().items()}
        optimizer = torch.optim.SGD([p for p in body.parameters() if p.requires_grad], lr=1.0)
        for _ in range(2):  # `down` gets its first gradient once `up` has left zero
            optimizer.zero_grad()
            (body(**batch).last_hidden_state * weights).sum().backward()
            optimizer.step()
        changed = {name for name, value in body.state_dict().items() if not torch.equal(value, start[name])}
        assert changed == moving(body)
        assert len(body.state_dict()) == len(before) + 2 * per_block


def test_the_adapter_is_its_formula():
    torch.manual_seed(0)
    adapter, x = BottleneckAdapter(8, 3), torch.randn(2, 5, 8)
    nn.init.normal_(adapter.up.weight)
    wanted = x + nn.functional.gelu(x @ adapter.down.weight.T + adapter.down.bias) @ adapter.up.weight.T
    assert torch.allclose(adapter(x), wanted, atol=1e-6)
    assert sum(p.numel() for p in adapter.parameters()) == 2 * 8 * 3 + 8 + 3


def test_ia3_is_pefts_to_the_bit(batch):
    ours = add_ia3(bert())
    inner = r".*layer\.\d+\.output\.dense"
    config = IA3Config(target_modules=rf"{inner}|.*(key|value)", feedforward_modules=inner)
    theirs = get_peft_model(bert(), config).eval()
    vectors = [p for name, p in theirs.named_parameters() if "ia3_l" in name]
    scales = [module.scale for module in ours.modules() if isinstance(module, Rescale)]
    assert len(vectors) == len(scales) == 6
    with torch.no_grad():
        for vector, scale in zip(vectors, scales, strict=True):
            scale.normal_(1.0, 0.3)
            vector.copy_(scale.reshape(vector.shape))
    assert torch.equal(hidden(ours, batch), hidden(theirs, batch))
    assert not torch.equal(hidden(ours, batch), hidden(bert(), batch))


def test_bitfit_opens_the_biases_that_peft_would():
    ours = moving(open_biases(bert()))
    theirs = moving(get_peft_model(bert(), LoraConfig(target_modules=["query"], bias="all")))
    plain = {name.removeprefix("base_model.model.").replace(".base_layer", "") for name in theirs if "lora" not in name}
    assert ours == plain and len(ours) == 1 + 2 * 8
    assert all(name.endswith("bias") for name in ours)


@pytest.mark.parametrize("size", [0, -1, 17, 2.5, float("nan")])
def test_an_impossible_size_is_one_sentence_and_changes_nothing(size):
    body = bert()
    with pytest.raises(UserError, match=r"^size is .* but it has to (be a whole number from|lie from) 1 to 16"):
        add_bottlenecks(body, size)
    assert list(body.state_dict()) == list(bert().state_dict())
    assert moving(body) == moving(bert())


def test_a_block_without_attention_is_one_sentence():
    config = MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(UserError, match="^In a mamba model, query, key, value and feed-forward layers are not found"):
        block_paths(MambaModel(config))


def test_adding_twice_is_refused():
    body = add_ia3(bert())
    with pytest.raises(UserError, match='"attention.self.key" is a Sequential and no linear layer'):
        add_ia3(body)


def test_another_adapter_class_can_be_put_in(batch):
    class Own(BottleneckAdapter):
        pass

    body = add_bottlenecks(bert(), 4, Own)
    assert sum(isinstance(module, Own) for module in body.modules()) == 4
