"""Which encoders the lesson can take apart, and the functions that stand in for open exercises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from helpers.intervals import Interval
from helpers.models import config_of
from helpers.runtime import UserError

FAMILIES = ("bert", "roberta", "distilbert")  # each block: attention, norm, feed-forward, norm
PARTS = {  # role: the name in BERT and RoBERTa, the name in DistilBERT
    "query": ("attention.self.query", "attention.q_lin"),
    "key": ("attention.self.key", "attention.k_lin"),
    "value": ("attention.self.value", "attention.v_lin"),
    "mixing": ("attention.output.dense", "attention.out_lin"),
    "attention_norm": ("attention.output.LayerNorm", "sa_layer_norm"),
    "widening": ("intermediate.dense", "ffn.lin1"),
    "narrowing": ("output.dense", "ffn.lin2"),
    "output_norm": ("output.LayerNorm", "output_layer_norm"),
}


def check_family(model: nn.Module) -> None:
    """Raise a `UserError` for an encoder whose blocks are built otherwise than those that the lesson runs by hand."""
    family = config_of(model).model_type
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(f"model: a {family} model has other blocks than are taken apart here; choose one of {known}.")


def parts_of(layer: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """The parts of one block: role -> (the library's name, the module)."""
    modules = dict(layer.named_modules())
    return {
        role: next((name, modules[name]) for name in known_as if name in modules) for role, known_as in PARTS.items()
    }


def library_attention(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, causal: bool
) -> tuple[Tensor, Tensor]:
    """PyTorch's attention: the mixed values (batch, heads, seq, d) and the weights (batch, heads, seq, seq).

    Args:
        query, key, value: (batch, heads, seq, d).
        attention_mask: (batch, seq), 1 for a token, 0 for padding.
        causal: whether a token sees only itself and those before it.
    """
    count = key.shape[-2]
    allowed = attention_mask[:, None, None, :].bool().expand(-1, 1, query.shape[-2], -1)
    if causal:
        allowed = allowed & torch.ones(query.shape[-2], count, dtype=torch.bool).tril()
    # PyTorch returns no weights; with the identity as values, the mixture is the weights.
    one_each = torch.eye(count).expand(*key.shape[:-1], count)
    attend = nn.functional.scaled_dot_product_attention
    return attend(query, key, value, attn_mask=allowed), attend(query, key, one_each, attn_mask=allowed)


def bits_per_character(losses: Tensor, attention_mask: Tensor, characters: Tensor) -> Tensor:
    """All bits of the real tokens over all characters: one number.

    Args:
        losses, attention_mask: (batch, seq), nats and 1 for a real token.
        characters: (batch,).
    """
    return losses[attention_mask.bool()].sum() / (characters.sum() * math.log(2))


def ratio_over_texts(
    one: Sequence[tuple[Tensor, int]], other: Sequence[tuple[Tensor, int]], head: tuple[int, int], seed: int
) -> Interval:
    """How much more weight a head gives to the pairs of `one` than to those of `other`, the texts drawn 1,000 times.

    Args:
        one, other: of each text, the summed weight of all heads (layers, heads), and the number of pairs.
        head: its layer and its number.
    """
    texts = [[[float(weight[head]), float(pairs)] for weight, pairs in both] for both in zip(one, other, strict=True)]
    parts = torch.tensor(texts)  # (texts, one or other, weight and pairs)
    draws = torch.randint(len(parts), (1000, len(parts)), generator=torch.Generator().manual_seed(seed))
    sums = torch.cat([parts.sum(dim=0)[None], parts[draws].sum(dim=1)])  # the first: all texts as they are
    means = sums[:, :, 0] / sums[:, :, 1]
    ratios = means[:, 0] / means[:, 1]
    low, high = ratios[1:].nanquantile(torch.tensor([0.025, 0.975])).tolist()
    return Interval(float(ratios[0]), low, high)


def real_metrics(found: Mapping[str, Any], recalled: Mapping[str, Interval]) -> dict[str, float]:
    """What section 7 measured, as metrics that `record` takes.

    Args:
        found: "tokens", "attention" and "bits" as the section's functions return them.
        recalled: form of the question -> share of the capitals, in the order of the section.
    """
    metrics = {
        "real_words_cut_differently": found["tokens"]["wrong"],
        "real_difference_block": found["attention"]["difference"],
    }
    places = ("one_before", "one_after", "not", "any_word", "sep")
    for place, (mean, _) in zip(places, found["attention"]["looks"].values(), strict=True):
        metrics[f"real_attention_{place}"] = mean
    for form, share in zip(("seen", "seat", "called", "governed", "reversed"), recalled.values(), strict=True):
        metrics[f"real_facts_recalled_{form}"] = share.value
    return metrics | {f"real_bits_per_character_{kind}": value[0] for kind, value in found["bits"].items()}


@torch.inference_mode()
def library_sample(
    model: Any, input_ids: Tensor, max_new_tokens: int, temperature: float = 1.0, top_p: float = 1.0
) -> Tensor:
    """Rows (batch, longer) of tokens drawn with the temperature and top-p of `transformers`.

    Args:
        input_ids: (batch, seq).
    """
    warpers = (TemperatureLogitsWarper(float(temperature)), TopPLogitsWarper(float(top_p)))
    for _ in range(max_new_tokens):
        scores = model(input_ids=input_ids).logits[:, -1]  # (batch, vocab)
        for warper in warpers:
            scores = warper(input_ids, scores)
        input_ids = torch.cat([input_ids, torch.multinomial(scores.softmax(dim=-1), 1)], dim=1)
    return input_ids
