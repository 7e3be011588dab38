"""The exercises of lesson 01: a causal mask, a block that mixes the right things, a perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from helpers.checks import Wrong, attempted, differs, exercise, expect


@exercise(
    "01.1",
    hints=[
        "Before the softmax, a score of minus infinity becomes a weight of exactly 0.",
        "torch.ones(seq, seq).tril() is 1 where a token may look and 0 where it may not.",
        "return scores.masked_fill(torch.ones_like(scores).tril() == 0, -math.inf).softmax(dim=-1)",
    ],
)
def causal_weights(answer: Callable) -> None:
    """answer(scores): (seq, seq) scores in, the decoder's attention weights out."""
    scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    wanted = scores.masked_fill(torch.ones(5, 5).tril() == 0, -math.inf).softmax(dim=-1)
    got = answer(scores.clone())
    problem = differs("the weights", got, wanted)
    if problem and torch.is_tensor(got) and got.shape == wanted.shape:
        if (got.triu(1) > 1e-6).any():
            raise Wrong(f"a token still looks ahead: {problem}")
        uneven = ((got.sum(dim=-1) - 1).abs() > 1e-5).nonzero()
        if len(uneven):
            raise Wrong(f"row {int(uneven[0])} does not sum to 1: mask before the softmax, not after")
    expect("the weights", got, wanted)


@exercise(
    "01.2",
    hints=[
        "Which axis does the layer take for the words? Read the signature of nn.TransformerEncoderLayer.",
        "By default it expects (seq, batch, hidden); we hand it (batch, seq, hidden). One argument says so.",
        "return nn.TransformerEncoderLayer(hidden, heads, dim_feedforward=64, dropout=0.0, batch_first=True)",
    ],
)
def batch_first_block(answer: Callable) -> None:
    """answer(hidden, heads): a block for (batch, seq, hidden)."""
    torch.manual_seed(0)
    block = attempted(answer(32, 4))
    if not isinstance(block, torch.nn.Module):
        raise Wrong(f"it should return a module, not {type(block).__name__}")
    block.eval()
    reviews = torch.randn(3, 6, 32)
    with torch.inference_mode():
        together = block(reviews)
        alone = block(reviews[:1])
        changed = reviews.clone()
        changed[0, 5] += torch.randn(32)
        other_word = block(changed)
    if together.shape != reviews.shape:
        raise Wrong(f"it should return shape {tuple(reviews.shape)}, not {tuple(together.shape)}")
    if not torch.allclose(together[0], alone[0], atol=1e-4):
        raise Wrong("a review still gives other vectors alone than in a batch, so reviews look at each other")
    if torch.allclose(together[0, 0], other_word[0, 0], atol=1e-6):
        same = "the first word's vector does not change when the last word does"
        raise Wrong(f"{same}, so words do not look at each other")


@exercise(
    "01.3",
    hints=[
        "Which of the losses belong to real tokens? attention_mask has a 1 for each.",
        "Sum the losses of the real tokens, divide by how many there are, and only then take the exponential.",
        "return math.exp((losses * attention_mask).sum() / attention_mask.sum())",
    ],
)
def padded_perplexity(answer: Callable) -> None:
    """answer(losses, attention_mask): both (batch, seq); the perplexity over real tokens."""
    losses = torch.tensor([[1.0, 2.0, 3.0], [0.5, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    mistakes = {
        "that is the mean of the exponentials; take the mean first, then the exponential": losses.exp()[
            mask.bool()
        ].mean(),
        "the padding is still counted: its losses must not enter the mean": losses.mean().exp(),
    }
    expect("the perplexity", answer(losses, mask), math.exp(6.5 / 4), tolerance=1e-2, mistakes=mistakes)
