"""The classifier: pooling leaves padding out, freezing frees what it says, cached features change nothing."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
)

from helpers.models import (
    HeadClassifier,
    MeanPoolClassifier,
    blocks,
    cache_features,
    freeze_all_but,
    mean_pool,
    without_dropout,
)
from helpers.runtime import UserError


def bert(dropout: float = 0.0) -> BertModel:
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertModel(config, add_pooling_layer=False)


BODIES = {
    "bert": bert,
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=50, dim=16, n_layers=3, n_heads=2, hidden_dim=32, dropout=0.0)
    ),
    "llama": lambda: LlamaModel(
        LlamaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
    ),
    "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=50, n_embd=16, n_layer=3, n_head=2, n_positions=32)),
}
each_body = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)


def batch(rows: int = 4, length: int = 7) -> dict[str, torch.Tensor]:
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[0, 4:] = 0
    return {
        "input_ids": torch.randint(5, 50, (rows, length)) * mask,
        "attention_mask": mask,
        "labels": torch.arange(rows) % 2,
    }


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("length", [1, 6])
@pytest.mark.parametrize("padding", [0, 1, 5])
def test_pooling_does_not_see_padding(rows, length, padding):
    generator = torch.Generator().manual_seed(rows + length + padding)
    hidden = torch.randn(rows, length + padding, 3, generator=generator)
    mask = torch.cat([torch.ones(rows, length), torch.zeros(rows, padding)], dim=1).long()
    assert torch.allclose(mean_pool(hidden, mask), hidden[:, :length].mean(dim=1), atol=1e-6)


def test_pooling_a_row_of_padding_gives_zeros_not_nan():
    assert mean_pool(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.long)).tolist() == [[0.0, 0.0]]


@each_body
def test_a_padded_review_gets_the_scores_that_it_gets_alone(body):
    model = MeanPoolClassifier(body()).eval()
    rows = batch()
    together = model(rows["input_ids"], rows["attention_mask"]).logits[0]
    alone = model(rows["input_ids"][:1, :4], rows["attention_mask"][:1, :4]).logits[0]
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_loss_is_the_mean_cross_entropy_and_absent_without_labels():
    model, rows = MeanPoolClassifier(bert(), num_labels=3), batch()
    found = model(**rows)
    assert found.logits.shape == (4, 3)
    assert torch.allclose(found.loss, torch.nn.functional.cross_entropy(found.logits, rows["labels"]))
    assert model(rows["input_ids"], rows["attention_mask"]).loss is None


@each_body
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_only_the_last_blocks_and_the_head_are_free(body, count):
    model = freeze_all_but(MeanPoolClassifier(body()), count)
    stack = blocks(model.body)
    free = [all(p.requires_grad for p in block.parameters()) for block in stack]
    frozen = [not any(p.requires_grad for p in block.parameters()) for block in stack]
    assert free == [False] * (3 - count) + [True] * count
    assert frozen == [not one for one in free]
    assert all(p.requires_grad for p in model.head.parameters())
    assert not any(p.requires_grad for p in model.body.get_input_embeddings().parameters())


def test_none_frees_everything_again():
    model = freeze_all_but(freeze_all_but(MeanPoolClassifier(bert()), 0), None)
    assert all(p.requires_grad for p in model.parameters())


def test_frozen_parameters_get_no_gradient():
    model = freeze_all_but(MeanPoolClassifier(bert()), 1)
    model(**batch()).loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_a_body_without_blocks_is_refused_in_words():
    with pytest.raises(UserError, match="No stack of transformer blocks"):
        blocks(torch.nn.Linear(2, 2))


@each_body
def test_the_head_on_cached_features_equals_the_whole_model(body):
    model = MeanPoolClassifier(body()).eval()
    parts = [batch(), batch(3, 5)]
    features, labels = cache_features(model, parts)
    whole = torch.cat([model(**part).logits for part in parts])
    assert features.shape == (7, 16) and labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert torch.allclose(HeadClassifier(model.head)(features).logits, whole, atol=1e-5)


def test_cached_features_can_be_trained_on():
    model = MeanPoolClassifier(bert())
    features, labels = cache_features(model, [batch()])
    HeadClassifier(model.head)(features, labels).loss.backward()
    assert model.head.weight.grad.abs().sum() > 0


def test_without_dropout_training_mode_gives_the_scores_of_evaluation():
    model, rows = MeanPoolClassifier(bert(dropout=0.5)), batch()
    evaluated = model.eval()(**rows).logits
    assert not torch.allclose(model.train()(**rows).logits, evaluated), "the planted dropout does nothing"
    assert torch.equal(without_dropout(model).train()(**rows).logits, evaluated)
