"""helpers.prompt_tuning: joined where it is said, masked rightly, and `peft` computes the same."""

from __future__ import annotations

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import BertConfig, BertForMaskedLM, BertModel, LlamaConfig, LlamaModel

from helpers.prompt_tuning import add_prefix, add_soft_prompt
from helpers.runtime import UserError

LENGTH, LAYERS, HEADS, HEAD = 4, 2, 2, 8
SIZES = {"hidden_size": HEADS * HEAD, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
SIZES |= {"intermediate_size": 24, "vocab_size": 40, "max_position_embeddings": 32}


def bert() -> BertModel:
    torch.manual_seed(0)
    return BertModel(BertConfig(**SIZES), add_pooling_layer=False).eval()


def llama() -> LlamaModel:
    torch.manual_seed(0)
    return LlamaModel(LlamaConfig(**SIZES)).eval()


@pytest.fixture(params=["padded", "full"])
def batch(request) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 40, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if request.param == "padded":
        mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("new", [bert, llama])
def test_a_soft_prompt_is_pefts_to_the_bit(new, batch):
    ours = add_soft_prompt(new(), LENGTH).eval()
    config = PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=LENGTH)
    theirs = get_peft_model(new(), config).eval()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(ours.prompt)
        wanted = theirs(**batch).last_hidden_state
        got = ours(**batch).last_hidden_state
    assert wanted.shape == (3, LENGTH + 7, HEADS * HEAD)
    assert torch.equal(got, wanted[:, LENGTH:])


def test_a_prefix_is_pefts(batch):
    ours = add_prefix(bert(), LENGTH).eval()
    config = PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=LENGTH)
    theirs = get_peft_model(bert(), config).eval()
    learned = theirs.prompt_encoder["default"].embedding.weight.view(LENGTH, LAYERS, 2, HEADS, HEAD)
    learned = learned.permute(1, 2, 3, 0, 4)  # (layers, keys and values, heads, length, head)
    positions = torch.arange(LENGTH, LENGTH + 7).expand(3, -1)  # peft counts the prefix
    with torch.no_grad():
        for block, (keys, values) in zip(ours.encoder.layer, learned, strict=True):
            block.attention.self.prefix.keys.copy_(keys)
            block.attention.self.prefix.values.copy_(values)
        got = ours(**batch, position_ids=positions).last_hidden_state
        wanted = theirs(**batch).last_hidden_state
    assert (got - wanted).abs().max() <= 1e-6
    assert (got - bert()(**batch, position_ids=positions).last_hidden_state).abs().max() > 1e-3


def test_the_prompt_starts_as_words_and_alone_may_move():
    ours, words = add_soft_prompt(bert(), LENGTH), bert().get_input_embeddings().weight
    assert all((words == vector).all(dim=1).any() for vector in ours.prompt)
    assert [name for name, p in ours.named_parameters() if p.requires_grad] == ["prompt"]
    body = add_prefix(bert(), LENGTH)
    moving = [p for p in body.parameters() if p.requires_grad]
    assert [tuple(p.shape) for p in moving] == [(HEADS, LENGTH, HEAD)] * 2 * LAYERS


@pytest.mark.parametrize("add", [add_soft_prompt, add_prefix])
def test_padding_changes_nothing_with_it_either(add):
    body = add(bert(), LENGTH).eval()
    ids = torch.randint(1, 40, (1, 5), generator=torch.Generator().manual_seed(1))
    longer = torch.nn.functional.pad(ids, (0, 3))
    with torch.inference_mode():
        alone = body(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        padded = body(input_ids=longer, attention_mask=(longer != 0).long()).last_hidden_state[:, :5]
    assert torch.allclose(alone, padded, atol=1e-5)


@pytest.mark.parametrize("add", [add_soft_prompt, add_prefix])
def test_gradients_reach_what_is_learned_and_nothing_else(add, batch):
    body = add(bert(), LENGTH)
    body(**batch).last_hidden_state.square().mean().backward()
    for name, parameter in body.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        # Values of zero hide the keys: their gradient comes with the first step.
        assert parameter.grad is None or name.endswith("keys") or parameter.grad.abs().sum() > 0


def test_a_language_model_can_hold_the_prompted_body(batch):
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**SIZES)).eval()
    model.bert = add_soft_prompt(model.bert, LENGTH)
    assert model(**batch).logits.shape == (3, 7, 40)


@pytest.mark.parametrize("add", [add_soft_prompt, add_prefix])
@pytest.mark.parametrize("length", [0, -1, 32, 1.5, float("nan")])
def test_an_impossible_length_is_one_sentence(add, length):
    with pytest.raises(UserError, match="^length is .* but it has to .* 1 to 31"):
        add(bert(), length)


def test_words_and_prompt_that_are_too_long_together_are_said():
    body = add_soft_prompt(bert(), 30)
    ids = torch.ones(1, 5, dtype=torch.long)
    with pytest.raises(UserError, match="30 vectors and 5 words"):
        body(input_ids=ids, attention_mask=ids)


def test_a_decoder_gets_no_prefix():
    with pytest.raises(UserError, match=r"needs an encoder here \(bert, roberta, distilbert\).*a llama model"):
        add_prefix(llama(), LENGTH)


def test_a_second_prefix_is_refused():
    with pytest.raises(UserError, match="has a prefix already"):
        add_prefix(add_prefix(bert(), LENGTH), LENGTH)
