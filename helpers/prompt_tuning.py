"""Soft prompts and prefixes: learned vectors for a frozen transformer, before its input or in every layer.

soft prompt   | p p p p | w w w w w w |      concatenated with the input embeddings, once
prefix        | k k k k | keys of w   |      concatenated with the keys and the values of every layer
              | v v v v | values of w |
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.modeling_outputs import BaseModelOutput

from helpers.models import blocks, config_of, device_of
from helpers.pretrained import first_position
from helpers.runtime import UserError, check_number

ENCODERS = ("bert", "roberta", "distilbert")  # a decoder's causal mask would need extra code


def join(prompt: Tensor, words: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate the prompt and the words' embeddings, and extend the attention mask.

    prompt: (length, hidden); words: (batch, seq, hidden); attention_mask: (batch, seq). Returns
    (batch, length + seq, hidden) and (batch, length + seq).
    """
    joined = torch.cat([prompt.expand(len(words), -1, -1), words], dim=1)
    return joined, nn.functional.pad(attention_mask, (len(prompt), 0), value=1)


class SoftPrompt(nn.Module):
    """A frozen body that reads `length` learned vectors before the words.

    The vectors (length, hidden) are initialized to the embeddings of random tokens. The output leaves out their
    positions, so that it has one vector per input token, as without a prompt.

    Source: Lester et al. 2021, "The power of scale for parameter-efficient prompt tuning".
    """

    def __init__(self, body: Any, length: int) -> None:
        super().__init__()
        self.body, self.config = body.requires_grad_(False), body.config
        words = body.get_input_embeddings().weight
        drawn = torch.randint(len(words), (length,), device=words.device)
        self.prompt = nn.Parameter(words[drawn].detach().clone())

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: object) -> BaseModelOutput:
        """input_ids, attention_mask: (batch, seq). Returns an output with last_hidden_state (batch, seq, hidden)."""
        words = self.body.get_input_embeddings()(input_ids)  # (batch, seq, hidden)
        joined, mask = join(self.prompt, words, attention_mask)  # (batch, length + seq, hidden), (batch, length + seq)
        others = {name: value for name, value in others.items() if value is not None}
        output = self.body(inputs_embeds=joined, attention_mask=mask, **others)
        return BaseModelOutput(last_hidden_state=output.last_hidden_state[:, len(self.prompt) :])


class Prefix(nn.Module):
    """Learned keys and values of one layer, each (heads, length, head)."""

    def __init__(self, heads: int, length: int, head: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(heads, length, head))
        self.values = nn.Parameter(torch.zeros(heads, length, head))


def attention_with_prefix(module: Any, query, key, value, attention_mask, scaling=None, **others):
    """Compute attention over the learned keys and values of `module.prefix`, followed by the text's.

    query, key, value: (batch, heads, seq, head); attention_mask: additive, (batch, 1, seq, seq), or None.
    Returns (batch, seq, heads, head) and None. Source: Li and Liang 2021, "Prefix-tuning".
    """
    rows, length = len(key), module.prefix.keys.shape[1]
    keys, values = (learned.expand(rows, -1, -1, -1).to(key.dtype) for learned in module.prefix.parameters())
    key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)  # (batch, heads, length + seq, head)
    if attention_mask is not None:
        attention_mask = nn.functional.pad(attention_mask, (length, 0))  # 0 means not masked
    found = nn.functional.scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
    return found.transpose(1, 2).contiguous(), None  # (batch, heads, seq, head) -> (batch, seq, heads, head)


AttentionInterface.register("prefix", attention_with_prefix)
AttentionMaskInterface.register("prefix", eager_mask)


def add_soft_prompt(body: nn.Module, length: int) -> SoftPrompt:
    """Freeze the body and return it with a soft prompt before its input.

    Args:
        length: the number of the prompt's vectors; prompt and words together must fit the body's positions.
    """
    positions = config_of(body).max_position_embeddings - first_position(body)
    check_number("length", length, 1, positions - 1, integer=True)

    def refuse_what_is_too_long(_: nn.Module, __: tuple, given: dict[str, Tensor]) -> None:
        found = given["inputs_embeds"].shape[1]
        if found > positions:
            raise UserError(f"The soft prompt's {length} vectors and {found - length} words are more than {positions}.")

    body.register_forward_pre_hook(refuse_what_is_too_long, with_kwargs=True)
    return SoftPrompt(body, length)


def add_prefix(body: Any, length: int) -> Any:
    """Freeze an encoder and give every attention layer `length` learned keys and values.

    Raises:
        UserError: when the body is not an encoder of a known family, or already has a prefix.
    """
    check_prefix(body)
    config = config_of(body)
    check_number("length", length, 1, config.max_position_embeddings - 1, integer=True)
    heads = config.num_attention_heads
    if config._attn_implementation == "prefix":
        raise UserError("This model has a prefix already.")
    body.requires_grad_(False)
    for block in blocks(body):
        # `transformers` passes the module with `scaling` to the attention function, so this module gets the prefix.
        attention = next(module for module in block.modules() if hasattr(module, "scaling"))
        attention.prefix = Prefix(heads, length, config.hidden_size // heads).to(device_of(block))
    body.set_attn_implementation("prefix")
    return body


def check_prefix(body: nn.Module) -> None:
    """Raise a UserError if the body is not an encoder of a family that `add_prefix` supports."""
    family = config_of(body).model_type
    if family not in ENCODERS:
        raise UserError(f"A prefix needs an encoder here ({', '.join(ENCODERS)}), and this is a {family} model.")


def prefixes(body: nn.Module) -> list[Prefix]:
    """Return the prefix of every layer, from the first to the last."""
    return [module for module in body.modules() if isinstance(module, Prefix)]


def peft_knows_prefix(body: nn.Module) -> bool:
    """Whether `peft` can add a prefix to this model with the same position ids as ours.

    `peft` needs a key-value cache, which DistilBERT lacks, and position ids that begin at 0, unlike RoBERTa's.
    """
    return "past_key_values" in inspect.signature(type(body).forward).parameters and not first_position(body)
