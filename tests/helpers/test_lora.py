"""helpers.lora: nothing changes at the start, peft's layer to the bit, merging and its undoing, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations
from transformers import BertConfig, BertForMaskedLM, BertModel, LlamaConfig, LlamaForCausalLM

from helpers.linear_layers import linear_names, sharing
from helpers.lora import LoRALinear, inject, lora_layers, merge
from helpers.models import MeanPoolClassifier
from helpers.runtime import UserError
from helpers.training import trainable_parameters

TARGETS = ("query", "value")


def tiny(seed: int = 0) -> MeanPoolClassifier:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(**sizes, vocab_size=50, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return MeanPoolClassifier(BertModel(config, add_pooling_layer=False)).eval()


@pytest.fixture
def batch():
    ids = torch.randint(5, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def stir(model: nn.Module) -> None:
    """Give every B values that are not zero, as training would."""
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=draws))


def test_outputs_do_not_change_at_the_start(batch):
    model = tiny()
    before = model(**batch).logits
    inject(model, TARGETS, rank=4, alpha=8)
    assert torch.equal(model(**batch).logits, before)


def test_only_the_branch_and_the_named_modules_learn(batch):
    model = tiny()
    paths = inject(model, TARGETS, rank=4, alpha=8, modules_to_save=("head",))
    assert len(paths) == 4 and all(path.endswith(TARGETS) for path in paths)
    assert trainable_parameters(model) == 4 * 4 * (16 + 16) + 16 * 2 + 2
    before = copy.deepcopy(dict(model.named_parameters()))
    model(**batch, labels=torch.tensor([0, 1, 1])).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    # B is zero, so A has no gradient yet: only B and the head move at the first step.
    assert moved == {f"{path}.lora_B" for path in paths} | {"head.weight", "head.bias"}


@pytest.mark.parametrize("training", [False, True])
def test_the_layer_is_pefts_layer_to_the_bit(training):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(12, 20))
    ours = LoRALinear(copy.deepcopy(base[0]), rank=3, alpha=5, dropout=0.25 * training)
    nn.init.normal_(ours.lora_B)
    theirs = get_peft_model(base, LoraConfig(r=3, lora_alpha=5, lora_dropout=0.25 * training, target_modules=["0"]))
    layer = theirs.base_model.model[0]
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(ours.lora_A)
        layer.lora_B["default"].weight.copy_(ours.lora_B)
    x = torch.randn(2, 7, 12)
    results = []
    for module in (ours.train(training), theirs.train(training)):
        torch.manual_seed(3)  # the same dropout
        results.append(module(x))
    assert torch.equal(*results)
    for result in results:
        result.square().sum().backward()
    assert torch.equal(ours.lora_A.grad, layer.lora_A["default"].weight.grad)
    assert torch.equal(ours.lora_B.grad, layer.lora_B["default"].weight.grad)


def test_the_first_matrices_are_drawn_like_pefts():
    from peft import LoraConfig, get_peft_model

    base = nn.Sequential(nn.Linear(400, 300))
    ours = LoRALinear(copy.deepcopy(base[0]), rank=16, alpha=5)
    theirs = get_peft_model(base, LoraConfig(r=16, target_modules=["0"])).base_model.model[0]
    drawn = [ours.lora_A.detach(), theirs.lora_A["default"].weight.detach()]
    assert [a.abs().max().item() for a in drawn] == pytest.approx([400**-0.5] * 2, rel=0.01)
    assert drawn[0].std().item() == pytest.approx(drawn[1].std().item(), rel=0.05)
    assert not theirs.lora_B["default"].weight.any() and not ours.lora_B.any()


def test_merging_keeps_the_outputs_and_unmerging_the_weights(batch):
    model = tiny()
    inject(model, TARGETS, rank=4, alpha=8)
    stir(model)
    weights = {path: layer.base.weight.clone() for path, layer in lora_layers(model).items()}
    apart = model(**batch).logits
    merged = merge(merge(model))(**batch).logits  # merging twice adds once
    assert (merged - apart).abs().max() < 1e-5
    assert all(not torch.equal(layer.base.weight, weights[path]) for path, layer in lora_layers(model).items())
    for layer in lora_layers(model).values():
        layer.unmerge()
    assert all(torch.equal(layer.base.weight, weights[path]) for path, layer in lora_layers(model).items())
    assert torch.equal(model(**batch).logits, apart)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    share=st.floats(0, 1),
    alpha=st.floats(1e-3, 1e6),
    spread=st.floats(1e-6, 1e6),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_merge_then_unmerge_is_the_identity(sizes, share, alpha, spread, bias, seed):
    torch.manual_seed(seed)
    base = nn.Linear(*sizes, bias=bias)
    layer = LoRALinear(base, rank=max(1, round(share * min(sizes))), alpha=alpha)
    nn.init.normal_(layer.lora_B, std=spread)
    before = base.weight.detach().clone()
    layer.merge()
    assert torch.equal(base.weight, before + layer.change())
    layer.unmerge()
    assert torch.equal(base.weight, before)


def test_the_change_has_the_rank_it_was_given():
    layer = LoRALinear(nn.Linear(30, 20), rank=5, alpha=5)
    nn.init.normal_(layer.lora_B)
    assert torch.linalg.matrix_rank(layer.change()) == 5


def test_scaling_is_alpha_over_rank():
    layer = LoRALinear(nn.Linear(6, 6, bias=False), rank=4, alpha=2)
    nn.init.ones_(layer.lora_A), nn.init.ones_(layer.lora_B)
    assert torch.allclose(layer.change(), torch.full((6, 6), 2 / 4 * 4))


def test_a_whole_path_is_a_target_too():
    model = tiny()
    path = "body.encoder.layer.0.output.dense"
    assert inject(model, [path], rank=1, alpha=1) == [path]


def test_linear_names_are_what_targets_may_say():
    assert linear_names(tiny()) == ["dense", "head", "key", "query", "value"]


@pytest.mark.parametrize(
    ("targets", "options", "said"),
    [
        (("qery",), {}, r'No linear layer is called "qery"; there are: dense, head, .*\. Did you mean "query"\?'),
        (("query", "LayerNorm"), {}, 'No linear layer is called "LayerNorm"'),
        ((), {}, "targets is empty; there are: dense, head"),
        (TARGETS, {"rank": 0}, "rank is 0, but it has to lie from 1 to 16"),
        (TARGETS, {"rank": -1}, "rank is -1"),
        (TARGETS, {"rank": 17}, "rank is 17, but it has to lie from 1 to 16"),
        (TARGETS, {"rank": 2.0}, "rank is 2.0, but it has to be a whole number"),
        (TARGETS, {"alpha": 0}, "alpha is 0"),
        (TARGETS, {"alpha": float("nan")}, "alpha is nan"),
        (TARGETS, {"dropout": 1.0}, "dropout is 1.0"),
        (TARGETS, {"modules_to_save": ("haed",)}, r'no module "haed"; there are: body, head\. Did you mean "head"'),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(targets, options, said):
    model = tiny()
    with pytest.raises(UserError, match=said):
        inject(model, targets, **{"rank": 4, "alpha": 8} | options)
    assert not lora_layers(model) and all(parameter.requires_grad for parameter in model.parameters())


def test_a_rank_that_fits_some_layers_only_changes_none():
    model = tiny()
    with pytest.raises(UserError, match="rank is 3, but it has to lie from 1 to 2"):
        inject(model, ("query", "head"), rank=3, alpha=1)
    assert not lora_layers(model)


def test_a_second_injection_is_refused():
    model = tiny()
    inject(model, TARGETS, rank=4, alpha=8)
    with pytest.raises(UserError, match="has LoRA layers already"):
        inject(model, ("key",), rank=4, alpha=8)


SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}


def decoder(tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied)).eval()


def one_layer_twice() -> nn.Module:
    layer = nn.Linear(8, 8)
    return nn.ModuleDict({"first": layer, "second": layer})


def one_weight_twice() -> nn.Module:
    model = nn.ModuleDict({"first": nn.Linear(8, 8), "second": nn.Linear(8, 8)})
    model["second"].weight = model["first"].weight
    return model


def one_memory_twice() -> nn.Module:
    model = nn.ModuleDict({"first": nn.Linear(8, 8), "second": nn.Linear(8, 8)})
    model["second"].weight.data = model["first"].weight.data
    return model


def normed() -> nn.Module:
    return nn.ModuleDict({"first": parametrizations.weight_norm(nn.Linear(8, 8))})


def eight_bit() -> nn.Module:
    model = nn.ModuleDict({"first": nn.Linear(8, 8)})
    model["first"].weight = nn.Parameter(torch.zeros(8, 8, dtype=torch.int8), requires_grad=False)
    return model


NOT_MERGEABLE = [
    (
        lambda: decoder(tied=True),
        "lm_head",
        'The linear layer "lm_head" shares its weight with model.embed_tokens (a tied weight), so merging LoRA into it '
        "would change both; leave lm_head out of targets, or untie it first: model.lm_head.weight = "
        "nn.Parameter(model.lm_head.weight.detach().clone()) and model.config.tie_word_embeddings = False.",
    ),
    (
        lambda: BertForMaskedLM(BertConfig(**SIZES)),
        "decoder",
        'The linear layer "cls.predictions.decoder" shares its weight with bert.embeddings.word_embeddings (a tied',
    ),
    (one_layer_twice, "first", 'The linear layer "first" shares its weight with second (a tied weight), so merging'),
    (one_weight_twice, "second", 'The linear layer "second" shares its weight with first (a tied weight), so merging'),
    (one_memory_twice, "second", 'The linear layer "second" shares its weight with first (a tied weight), so merging'),
    (
        normed,
        "first",
        "is computed from other parameters (torch's parametrize), so LoRA cannot be merged into it; call",
    ),
    (eight_bit, "first", "is stored as torch.int8 (quantized), so LoRA cannot be merged into it; use peft for"),
]


@pytest.mark.parametrize(("make", "target", "said"), NOT_MERGEABLE)
def test_a_weight_that_is_not_the_layers_own_takes_no_lora(make, target, said):
    model = make()
    with pytest.raises(UserError) as problem:
        inject(model, [target], rank=2, alpha=4)
    assert said in str(problem.value) and "\n" not in str(problem.value)
    assert not lora_layers(model)


def test_the_other_layers_of_a_tied_model_take_lora():
    model, ids = decoder(tied=True), torch.tensor([[3, 4, 5]])
    inject(model, ("q_proj", "down_proj"), rank=2, alpha=4)
    stir(model)
    apart = model(input_ids=ids).logits
    assert (merge(model)(input_ids=ids).logits - apart).abs().max() < 1e-4


def test_an_untied_head_takes_lora_and_merges():
    model, ids = decoder(tied=True), torch.tensor([[3, 4, 5]])
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    embeddings = model.model.embed_tokens.weight.detach().clone()
    inject(model, ("lm_head",), rank=2, alpha=4)
    stir(model)
    apart = model(input_ids=ids).logits
    assert (merge(model)(input_ids=ids).logits - apart).abs().max() < 1e-4
    assert torch.equal(model.model.embed_tokens.weight, embeddings)


def test_a_head_tied_after_the_injection_is_not_merged():
    model = decoder(tied=False)
    inject(model, ("lm_head", "q_proj"), rank=2, alpha=4)
    stir(model)
    model.lm_head.base.weight = model.model.embed_tokens.weight
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    with pytest.raises(UserError, match='"lm_head" shares its weight with model.embed_tokens'):
        merge(model)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert all(layer.original is None for layer in lora_layers(model).values())


def test_blocks_that_repeat_are_no_sharing():
    block = nn.Sequential(nn.Linear(8, 8), nn.GELU())
    model = nn.ModuleDict({"blocks": nn.ModuleList([block, block])})
    assert sharing(model) == {} and sharing(tiny()) == {}
    x = torch.randn(2, 8)
    inject(model, ("0",), rank=2, alpha=4)
    stir(model)
    apart = model["blocks"][1](model["blocks"][0](x))
    merge(model)
    assert (model["blocks"][1](model["blocks"][0](x)) - apart).abs().max() < 1e-4
