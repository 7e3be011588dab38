"""The encoders that the lesson can take apart, and what stands in for open exercises, against known numbers."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, LlamaConfig, LlamaModel

from helpers.intervals import wilson
from helpers.lessons.lesson_01.exercises import nucleus
from helpers.lessons.lesson_01.experiment import (
    bits_per_character,
    check_family,
    library_attention,
    library_sample,
    parts_of,
    ratio_over_texts,
    real_metrics,
)
from helpers.runtime import UserError

SIZES = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}


def test_another_family_is_named():
    check_family(BertModel(BertConfig(**SIZES)))
    with pytest.raises(UserError, match="a llama model has other blocks"):
        check_family(LlamaModel(LlamaConfig(**SIZES, num_key_value_heads=2)))


def test_the_parts_of_a_block_have_their_roles_in_both_families():
    bert = BertModel(BertConfig(**SIZES)).encoder.layer[0]
    distilled = DistilBertModel(DistilBertConfig(vocab_size=30, dim=8, n_layers=1, n_heads=2, hidden_dim=12))
    for layer, name in ((bert, "intermediate.dense"), (distilled.transformer.layer[0], "ffn.lin1")):
        parts = parts_of(layer)
        assert parts["widening"][0] == name and parts["widening"][1].weight.shape == (12, 8)
        assert [parts[role][1].weight.shape for role in ("query", "mixing", "narrowing")] == [(8, 8), (8, 8), (8, 12)]


@pytest.mark.parametrize("causal", [False, True])
def test_the_librarys_attention_returns_its_weights_too(causal):
    query, key, value = torch.randn(3, 2, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    mixed, weights = library_attention(query, key, value, mask, causal)
    torch.testing.assert_close(weights @ value, mixed)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 4))
    assert (weights[1, :, :, 2:] == 0).all() and (not causal or (weights.triu(1) == 0).all())


def test_the_librarys_sampling_draws_from_the_nucleus():
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    wanted = nucleus(shares.log(), temperature=1.0, top_p=0.7)
    torch.testing.assert_close(wanted, torch.tensor([0.625, 0.375, 0.0, 0.0]))
    torch.manual_seed(0)
    network = lambda input_ids: SimpleNamespace(logits=shares.log().expand(*input_ids.shape, 4))  # noqa: E731
    rows = library_sample(network, torch.zeros(4000, 1, dtype=torch.long), 1, temperature=1.0, top_p=0.7)
    found = torch.bincount(rows[:, 1], minlength=4) / 4000
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0)


def test_bits_per_character_counts_real_tokens_and_all_characters():
    losses = torch.tensor([[1.0, 2.0], [3.0, 9.0]])
    found = bits_per_character(losses, torch.tensor([[1, 1], [1, 0]]), torch.tensor([4, 8]))
    assert found.item() == pytest.approx(6 / 12 / math.log(2))


def test_what_the_real_section_measured_is_recorded_under_its_names():
    looks = {name: [share, 1.0] for name, share in zip("abcde", (0.1, 0.2, 0.3, 0.4, 0.5), strict=True)}
    found = {"tokens": {"wrong": 2}, "attention": {"difference": 1e-6, "looks": looks}, "bits": {"tweets": [2.1, 2, 3]}}
    metrics = real_metrics(found, {str(form): wilson(form, 4) for form in range(5)})
    assert metrics["real_words_cut_differently"] == 2 and metrics["real_attention_sep"] == 0.5
    assert metrics["real_facts_recalled_seen"] == 0 and metrics["real_facts_recalled_reversed"] == 1
    assert metrics["real_bits_per_character_tweets"] == 2.1


def test_the_ratio_pools_the_texts_and_its_interval_holds_it():
    one = [(torch.full((2, 3), 0.4 * pairs), pairs) for pairs in (1, 4, 2)]
    other = [(torch.full((2, 3), 0.1 * pairs), pairs) for pairs in (5, 7, 9)]
    even = ratio_over_texts(one, other, (1, 2), seed=0)
    assert (even.value, even.low, even.high) == pytest.approx((4, 4, 4))
    one[0] = (torch.zeros(2, 3), 1)
    uneven = ratio_over_texts(one, other, (1, 2), seed=0)
    assert uneven.value == pytest.approx(4 * 6 / 7)
    assert uneven.low < uneven.value < uneven.high
