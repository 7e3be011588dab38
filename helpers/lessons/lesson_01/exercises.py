"""The exercises of lesson 01: a causal mask, a block that mixes the right things, a perplexity."""

from __future__ import annotations

import math

import torch

from helpers.checks import NotAttempted, attempted, differs, exercise


@exercise(
    "01.1",
    hints=[
        "Before the softmax, a score of minus infinity becomes a weight of exactly 0.",
        "torch.ones(seq, seq).tril() is 1 where a token may look and 0 where it may not.",
        "return scores.masked_fill(torch.ones_like(scores).tril() == 0, -math.inf).softmax(dim=-1)",
    ],
)
def causal_weights(answer) -> str | None:
    """answer(scores): (seq, seq) scores in, the decoder's attention weights out."""
    scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    want = scores.masked_fill(torch.ones(5, 5).tril() == 0, -math.inf).softmax(dim=-1)
    got = attempted(answer(scores.clone()))
    problem = differs("the weights", got, want)
    if problem is None:
        return None
    if torch.is_tensor(got) and got.shape == want.shape:
        if (got.triu(1) > 1e-6).any():
            return f"a token still looks ahead: {problem}"
        if not torch.allclose(got.sum(dim=-1), torch.ones(5), atol=1e-5):
            return f"row {_first_bad_row(got)} does not sum to 1: mask before the softmax, not after"
    return problem


def _first_bad_row(weights: torch.Tensor) -> int:
    wrong = (weights.sum(dim=-1) - 1).abs() > 1e-5
    return int(wrong.nonzero()[0])


@exercise(
    "01.2",
    hints=[
        "Which axis does the layer take for the words? Read the signature of nn.TransformerEncoderLayer.",
        "By default it expects (seq, batch, hidden); we hand it (batch, seq, hidden). One argument says so.",
        "return nn.TransformerEncoderLayer(hidden, heads, dim_feedforward=64, dropout=0.0, batch_first=True)",
    ],
)
def mended_block(answer) -> str | None:
    """answer(hidden, heads): a block for (batch, seq, hidden)."""
    torch.manual_seed(0)
    block = attempted(answer(32, 4))
    if not isinstance(block, torch.nn.Module):
        return f"it should return a module, not {type(block).__name__}"
    block.eval()
    reviews = torch.randn(3, 6, 32)
    with torch.inference_mode():
        together = block(reviews)
        alone = block(reviews[:1])
        changed = reviews.clone()
        changed[0, 5] += torch.randn(32)
        other_word = block(changed)
    if together.shape != reviews.shape:
        return f"it should return shape {tuple(reviews.shape)}, not {tuple(together.shape)}"
    if not torch.allclose(together[0], alone[0], atol=1e-4):
        return "a review still gives other vectors alone than in a batch, so reviews look at each other"
    if torch.allclose(together[0, 0], other_word[0, 0], atol=1e-6):
        return "the first word's vector does not change when the last word does, so words do not look at each other"
    return None


@exercise(
    "01.3",
    hints=[
        "Which of the losses belong to real tokens? attention_mask has a 1 for each.",
        "Sum the losses of the real tokens, divide by how many there are, and only then take the exponential.",
        "return math.exp((losses * attention_mask).sum() / attention_mask.sum())",
    ],
)
def padded_perplexity(answer) -> str | None:
    """answer(losses, attention_mask): both (batch, seq); the perplexity over real tokens."""
    losses = torch.tensor([[1.0, 2.0, 3.0], [0.5, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    got = answer(losses, mask)
    if got is ...:
        raise NotAttempted
    problem = differs("the perplexity", got, math.exp(6.5 / 4), tolerance=1e-3)
    if problem and not differs("", got, losses.exp()[mask.bool()].mean().item(), tolerance=1e-3):
        return "that is the mean of the exponentials; take the mean first, then the exponential"
    if problem and not differs("", got, math.exp(losses.mean()), tolerance=1e-2):
        return "the padding is still counted: its losses must not enter the mean"
    return problem
