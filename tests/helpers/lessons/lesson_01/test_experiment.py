"""The parts of a block by their roles, in every family that is known."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    LlamaConfig,
    LlamaModel,
    RobertaConfig,
    RobertaModel,
)

from helpers.lessons.lesson_01.experiment import encoder_block
from helpers.runtime import UserError

SIZES = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
SMALL = {"vocab_size": 30, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12}


@pytest.mark.parametrize(
    "model",
    [
        BertModel(BertConfig(**SIZES)),
        RobertaModel(RobertaConfig(**SIZES)),
        DistilBertForMaskedLM(DistilBertConfig(**SMALL)),
    ],
    ids=lambda model: model.config.model_type,
)
def test_the_parts_make_the_block(model):
    model.eval()
    block = encoder_block(model, 1)
    ids = torch.arange(6, 12).unsqueeze(0)
    with torch.inference_mode():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
        hidden = states[1]  # (1, seq, hidden): what block 1 reads
        heads = [part(hidden).view(1, -1, 2, 4).transpose(1, 2) for part in (block.query, block.key, block.value)]
        mixed = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        hidden = block.attention_norm(hidden + block.mixing(mixed))
        wide = torch.nn.functional.gelu(block.widening(hidden))
        torch.testing.assert_close(block.output_norm(hidden + block.narrowing(wide)), states[2])


def test_another_family_is_named():
    sizes = SIZES | {"num_key_value_heads": 2}
    with pytest.raises(UserError, match="a llama model has other blocks"):
        encoder_block(LlamaModel(LlamaConfig(**sizes)), 0)
