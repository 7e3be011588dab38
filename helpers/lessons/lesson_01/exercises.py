"""The exercises of lesson 01: attention with its masks, masked tokens, bits per character, sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from helpers.checks import Wrong, differs, exercise, expect, parts_of, returned
from helpers.language_model import IGNORED
from helpers.lessons.lesson_01.experiment import library_attention


@exercise(
    "01.1",
    hints=[
        "Scores first: query @ key.transpose(-1, -2) / math.sqrt(d), where d is the last size of query.",
        "attention_mask[:, None, None, :] has the shape (batch, 1, 1, seq): the same keys for every head and query. "
        "For the causal mask, torch.ones(seq, seq).tril() is 1 where a token may look.",
        "A score of minus infinity becomes a weight of exactly 0: masked_fill(~allowed, -math.inf) before the softmax.",
        "scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])\n"
        "allowed = attention_mask[:, None, None, :].bool()\n"
        "if causal:\n"
        "    allowed = allowed & torch.ones_like(scores).tril().bool()\n"
        "weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)\n"
        "return weights @ value, weights",
    ],
)
def scaled_dot_product_attention(answer: Callable) -> None:
    """answer(query, key, value, attention_mask, causal): the mixed values and the weights."""
    draws = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 5, 4, generator=draws)  # (batch, heads, seq, d) each
    attention_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    for causal in (False, True):
        got = answer(query.clone(), key.clone(), value.clone(), attention_mask.clone(), causal)
        mixed, weights = parts_of(got, 2, "it should return two tensors, the mixed values and the weights")
        wanted_mixed, wanted = library_attention(query, key, value, attention_mask, causal)
        where = f"with causal={causal}, the weights"
        problem = differs(where, weights, wanted)
        if problem and torch.is_tensor(weights) and weights.shape == wanted.shape:
            raise Wrong(problem + _what_is_wrong(weights, query, key, attention_mask, causal))
        expect(where, weights, wanted)
        expect(f"with causal={causal}, the mixed values", mixed, wanted_mixed)


def _what_is_wrong(weights: Tensor, query: Tensor, key: Tensor, attention_mask: Tensor, causal: bool) -> str:
    if not torch.isfinite(weights).all() or ((weights.sum(dim=-1) - 1).abs() > 1e-4).any():
        return ": each row (the last axis) should sum to 1, so mask before the softmax and take it over the keys"
    if (weights[1, :, :, 3:] > 1e-6).any():
        return ": in the second text, a token still looks at padding"
    if causal and (weights.triu(1) > 1e-6).any():
        return ": a token still looks ahead"
    for size, said in ((1, "the scores are not divided by the square root of d"), (16, "divide by the root of d")):
        scaled = library_attention(query * math.sqrt(4 / size), key, key, attention_mask, causal)[1]
        if differs("", weights, scaled) is None:
            return f": {said}"
    return ""


@exercise(
    "01.2",
    hints=[
        "Draw one number between 0 and 1 for each token: torch.rand(input_ids.shape, generator=generator). Those below "
        "rate are chosen, unless `special` says no.",
        "labels is input_ids where a token was chosen and -100 everywhere else.",
        "A second draw decides the fate of a chosen token: below 0.8 it becomes mask_id; from 0.9 on a random token, "
        "torch.randint(vocab_size, input_ids.shape, generator=generator); in between it stays.",
        "chosen = (torch.rand(input_ids.shape, generator=generator) < rate) & ~special.bool()\n"
        "labels = input_ids.masked_fill(~chosen, -100)\n"
        "fate = torch.rand(input_ids.shape, generator=generator)\n"
        "random_ids = torch.randint(vocab_size, input_ids.shape, generator=generator)\n"
        "masked = input_ids.masked_fill(chosen & (fate < 0.8), mask_id)\n"
        "return torch.where(chosen & (fate >= 0.9), random_ids, masked), labels",
    ],
)
def masked_tokens(answer: Callable) -> None:
    """answer(input_ids, special, mask_id, vocab_size, rate, generator): what the model reads, and its labels."""
    ids = torch.randint(5, 4000, (400, 50), generator=torch.Generator().manual_seed(0))
    special = torch.zeros_like(ids)
    special[:, 0] = 1
    for rate in (0.15, 0.4):
        given = ids.clone()
        got = answer(given, special.clone(), 4, 4000, rate, torch.Generator().manual_seed(1))
        masked, labels = parts_of(got, 2, "it should return two tensors, the masked tokens and the labels")
        for what, tensor in (("the masked tokens", masked), ("the labels", labels)):
            if not torch.is_tensor(tensor) or tensor.shape != ids.shape:
                raise Wrong(f"{what} should be a tensor of shape {tuple(ids.shape)}")
        expect("your input_ids, which should stay as they were,", given, ids)
        _judge_masking(ids, special.bool(), masked, labels, rate)


def _judge_masking(ids: Tensor, special: Tensor, masked: Tensor, labels: Tensor, rate: float) -> None:
    chosen = labels != IGNORED
    if (chosen & special).any():
        raise Wrong(f"a special token was chosen, at {(chosen & special).nonzero()[0].tolist()}")
    expect("the labels of the chosen tokens", torch.where(chosen, labels, IGNORED), ids.masked_fill(~chosen, IGNORED))
    kept = masked.masked_fill(chosen, 0)
    expect("the tokens that were not chosen", kept, ids.masked_fill(chosen, 0))
    _share(f"the share of chosen tokens, at rate={rate},", chosen[~special], rate, 0.012)
    became, was = masked[chosen], ids[chosen]
    _share("of the chosen tokens, the share that became mask_id", became == 4, 0.8, 0.03)
    _share("of the chosen tokens, the share that stayed as it was", became == was, 0.1, 0.025)
    if (became != 4).any() and len(became[(became != 4) & (became != was)].unique()) < 50:
        raise Wrong("the random tokens should come from the whole vocabulary, and different ones for each place")


def _share(what: str, found: Tensor, wanted: float, tolerance: float) -> None:
    share = found.float().mean().item()
    if abs(share - wanted) > tolerance:
        raise Wrong(f"{what} should be about {wanted:.2f}, not {share:.2f}")


@exercise(
    "01.3",
    hints=[
        "There are two mistakes. Which of the losses belong to real tokens? And what does a short text weigh?",
        "Sum over all texts before you divide: all bits of the real tokens, over all characters.",
        "return (losses * attention_mask).sum() / characters.sum() / math.log(2)",
    ],
)
def bits_per_character(answer: Callable) -> None:
    """answer(losses, attention_mask, characters): bits per character of a padded batch."""
    losses = torch.tensor([[1.0, 2.0, 3.0], [0.5, 9.0, 9.0]])
    mask, characters = torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([10, 5])
    real = losses * mask
    bit = math.log(2)
    mistakes = {
        "each text weighs the same, however short; divide the sum of all bits by the sum of all characters": (
            real.sum(dim=1) / characters
        ).mean()
        / bit,
        "the padding is still counted": losses.sum() / characters.sum() / bit,
        "both mistakes are still there": (losses.sum(dim=1) / characters).mean() / bit,
        "that is nats: divide by the logarithm of 2": real.sum() / characters.sum(),
    }
    got = returned(answer(losses.clone(), mask.clone(), characters.clone()), "one number")
    expect("the bits per character", got, 6.5 / 15 / bit, tolerance=1e-3, mistakes=mistakes)


class _Chain:
    """A language model whose next token depends on the last one alone: logits (vocab, vocab)."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __call__(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits[input_ids])  # (batch, seq, vocab)


SHARES = torch.tensor([[0.04, 0.5, 0.15, 0.25, 0.06], [0.7, 0.05, 0.05, 0.1, 0.1]])[[0, 1, 1, 1, 1]]
ROWS = 6000


@exercise(
    "01.4",
    hints=[
        "Start from greedy: in place of the argmax, draw from the softmax with torch.multinomial(probabilities, 1).",
        "Divide the logits by the temperature before the softmax. For top_p, sort the probabilities, largest first; "
        "cumsum minus the token's own probability is what the likelier tokens hold together.",
        "A token stays when the likelier ones hold less than top_p. scatter(-1, order, kept) undoes the sorting.",
        "for _ in range(max_new_tokens):\n"
        "    logits = model(input_ids=input_ids).logits[:, -1] / temperature\n"
        "    ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)\n"
        "    before = ordered.cumsum(dim=-1) - ordered\n"
        "    kept = ordered.masked_fill(before >= top_p, 0.0)\n"
        "    probabilities = torch.zeros_like(kept).scatter(-1, order, kept)\n"
        "    input_ids = torch.cat([input_ids, torch.multinomial(probabilities, 1)], dim=1)\n"
        "return input_ids",
    ],
)
def sampling(answer: Callable) -> None:
    """answer(model, input_ids, max_new_tokens, temperature, top_p): the longer rows."""
    model, begin = _Chain(SHARES.log()), torch.zeros(ROWS, 1, dtype=torch.long)
    cases = ((1.0, 1.0), (2.0, 1.0), (1.0, 0.7), (0.5, 0.9))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for temperature, top_p in cases:
            try:
                rows = returned(answer(model, begin.clone(), 2, temperature, top_p), "the rows with the new tokens")
            except RuntimeError as error:
                if "multinomial" not in str(error) and "probability tensor" not in str(error):
                    raise
                raise Wrong(
                    f"with temperature {temperature} and top_p {top_p}, torch.multinomial got a row that it cannot "
                    f"draw from ({error}): where the likeliest token alone reaches top_p, no token is left. The "
                    "token that reaches top_p belongs to those that stay"
                ) from None
            if not torch.is_tensor(rows) or tuple(rows.shape) != (ROWS, 3):
                shape = tuple(getattr(rows, "shape", ())) or type(rows).__name__
                raise Wrong(f"one token and two new ones should give shape ({ROWS}, 3), not {shape}")
            if (rows[:, 0] != 0).any():
                raise Wrong("the prompt should come first and stay as it was")
            _judge_draws(rows, temperature, top_p)


def _judge_draws(rows: Tensor, temperature: float, top_p: float) -> None:
    where = f"with temperature {temperature} and top_p {top_p}"
    if top_p == 1.0 and len(rows[:, 1].unique()) == 1:
        raise Wrong(f"{where}, all {ROWS} rows go on alike: draw the token, do not take the likeliest")
    for step in (1, 2):
        for last in rows[:, step - 1].unique().tolist():
            drawn = rows[rows[:, step - 1] == last, step]
            if len(drawn) < 500:
                continue
            wanted = nucleus(SHARES[last].log(), temperature, top_p)
            got = torch.bincount(drawn, minlength=len(wanted)) / len(drawn)
            problem = differs(
                f"{where}, the share of each token after token {last}", got, wanted, 4 / len(drawn) ** 0.5
            )
            if problem:
                raise Wrong(problem + _which(got, last, temperature, top_p, 4 / len(drawn) ** 0.5))


def _which(got: Tensor, last: int, temperature: float, top_p: float, tolerance: float) -> str:
    logits = SHARES[last].log()
    usual = {
        ": is temperature used?": nucleus(logits, 1.0, top_p),
        ": is top_p used?": nucleus(logits, temperature, 1.0),
        ": divide the logits by the temperature, do not multiply": nucleus(logits, 1 / temperature, top_p),
        ": the token that reaches top_p belongs to those that stay": nucleus(logits, temperature, top_p, short=True),
        ": the token that reaches top_p belongs to those that stay, also the last one": nucleus(
            logits, temperature, top_p - 1e-4, short=True
        ),
    }
    return next((said for said, shares in usual.items() if differs("", got, shares, tolerance) is None), "")


def nucleus(logits: Tensor, temperature: float, top_p: float, short: bool = False) -> Tensor:
    """The probabilities (vocab,) of top-p sampling; short: without the token that reaches top_p, a usual mistake."""
    ordered, order = (logits / temperature).softmax(dim=-1).sort(descending=True)
    held = ordered.cumsum(dim=-1)
    out = (held > top_p) if short else (held - ordered >= top_p)
    out[0] = False
    kept = ordered.masked_fill(out, 0.0)
    return torch.zeros_like(kept).scatter(-1, order, kept / kept.sum())
