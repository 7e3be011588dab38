"""Answers to the exercises of lesson 01: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import math

import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper


def attention(query, key, value, attention_mask, causal, *, scale=None, ahead=True, padding=True, after=False, axis=-1):
    scores = torch.einsum("bhid,bhjd->bhij", query, key) / (scale or math.sqrt(query.shape[-1]))
    allowed = torch.ones_like(scores)
    if padding:
        allowed = allowed * attention_mask[:, None, None, :]
    if causal and ahead:
        allowed = allowed.tril()
    if after:
        weights = scores.softmax(dim=axis) * allowed
    else:
        weights = (scores + (1 - allowed) * -1e9).softmax(dim=axis)
    return torch.einsum("bhij,bhjd->bhid", weights, value), weights


def attention_with(**changed):
    return lambda *given: attention(*given, **changed)


def masks(
    ids, special, mask_id, vocab_size, rate, generator, *, mask=0.8, other=0.1, skip=True, inplace=False, pick=None
):
    chosen = torch.rand(ids.shape, generator=generator) < rate
    if skip:
        chosen &= ~special.bool()
    labels = torch.where(chosen, ids, -100)
    fate = torch.rand(ids.shape, generator=generator)
    masked = ids if inplace else ids.clone()
    masked[chosen & (fate < mask)] = mask_id
    random_ids = (
        torch.randint(vocab_size, ids.shape, generator=generator) if pick is None else torch.full_like(ids, pick)
    )
    swapped = chosen & (fate >= mask) & (fate < mask + other)
    masked[swapped] = random_ids[swapped]
    return masked, labels


def masks_with(**changed):
    return lambda *given: masks(*given, **changed)


def unlabelled(ids, special, mask_id, *rest):
    masked, labels = masks(ids, special, mask_id, *rest)
    return masked, torch.where(labels == -100, labels, masked)


def every_label(*given):
    masked, labels = masks(*given)
    return masked, torch.where(labels == -100, given[0], labels)


def bits(losses, attention_mask, characters):
    return losses[attention_mask.bool()].sum() / characters.sum() / math.log(2)


def write(model, ids, new, temperature, top_p, *, hot=True, nucleus=True, stuck=False):
    for _ in range(new):
        scores = model(input_ids=ids[:, :1] if stuck else ids).logits[:, -1]
        if hot:
            scores = TemperatureLogitsWarper(float(temperature))(ids, scores)
        if nucleus:
            scores = TopPLogitsWarper(float(top_p))(ids, scores)
        ids = torch.cat([ids, torch.multinomial(scores.softmax(dim=-1), 1)], dim=1)
    return ids


def write_with(**changed):
    return lambda *given: write(*given, **changed)


def short_nucleus(model, ids, new, temperature, top_p):
    for _ in range(new):
        ordered, order = (model(input_ids=ids).logits[:, -1] / temperature).softmax(dim=-1).sort(descending=True)
        out = ordered.cumsum(dim=-1) > top_p
        out[:, 0] = False
        ids = torch.cat([ids, order.gather(1, torch.multinomial(ordered.masked_fill(out, 0.0), 1))], dim=1)
    return ids


def strict_nucleus(model, ids, new, temperature, top_p, *, guarded):
    for _ in range(new):
        ordered, order = (model(input_ids=ids).logits[:, -1] / temperature).softmax(dim=-1).sort(descending=True)
        if top_p < 1 or not guarded:
            ordered = ordered.masked_fill(ordered.cumsum(dim=-1) >= top_p - 1e-6, 0.0)
        ids = torch.cat([ids, order.gather(1, torch.multinomial(ordered, 1))], dim=1)
    return ids


def strict_with(**changed):
    return lambda *given: strict_nucleus(*given, **changed)


def likeliest(model, ids, new, temperature, top_p):
    for _ in range(new):
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return ids


def upside_down(model, ids, new, temperature, top_p):
    return write(model, ids, new, 1 / temperature, top_p)


RIGHT = {"01.1": attention, "01.2": masks, "01.3": bits, "01.4": write}

MISTAKES = [
    ("01.1", attention_with(scale=1.0), "square root of d"),
    ("01.1", attention_with(ahead=False), "causal=True, the weights.*looks ahead"),
    ("01.1", attention_with(padding=False), "looks at padding"),
    ("01.1", attention_with(after=True), "should sum to 1"),
    ("01.1", attention_with(axis=-2), "should sum to 1"),
    ("01.1", lambda *given: attention(*given)[0], "two tensors"),
    ("01.1", lambda *given: attention(*given)[::-1], r"should have shape \(2, 2, 5, 5\)"),
    ("01.1", lambda *given: (given[2], attention(*given)[1]), r"the mixed values at \[0, 0, 0, 0\] should be"),
    ("01.2", masks_with(mask=1.0, other=0.0), r"became mask_id should be about 0.80, not 1.00"),
    ("01.2", masks_with(other=0.2), "stayed as it was should be about 0.10, not 0.00"),
    ("01.2", masks_with(skip=False), r"special token was chosen, at \[\d+, 0\]"),
    ("01.2", masks_with(inplace=True), r"your input_ids, which should stay"),
    ("01.2", masks_with(pick=9), "whole vocabulary"),
    ("01.2", unlabelled, r"the labels of the chosen tokens at \[\d+, \d+\] should be"),
    ("01.2", every_label, "was chosen"),
    ("01.2", lambda *given: masks(*given[:4], 0.15, given[5]), "at rate=0.4, should be about 0.40, not 0.15"),
    ("01.2", lambda *given: masks(*given)[0], "two tensors"),
    (
        "01.3",
        lambda losses, mask, characters: losses.sum() / characters.sum() / math.log(2),
        "padding is still counted",
    ),
    (
        "01.3",
        lambda losses, mask, characters: ((losses * mask).sum(1) / characters).mean() / math.log(2),
        "same, however",
    ),
    ("01.3", lambda losses, mask, characters: (losses * mask).sum() / characters.sum(), "that is nats"),
    ("01.3", lambda losses, mask, characters: (losses.sum(1) / characters).mean() / math.log(2), "both mistakes"),
    ("01.4", write_with(hot=False), "share of each token after token 0.*is temperature used"),
    ("01.4", write_with(nucleus=False), "top_p 0.7.*is top_p used"),
    ("01.4", upside_down, "do not multiply"),
    ("01.4", short_nucleus, "belongs to those that stay"),
    ("01.4", strict_with(guarded=True), "top_p 0.7.*cannot draw from.*no token is left.*belongs to those that stay"),
    ("01.4", strict_with(guarded=False), "top_p 1.0.*belongs to those that stay"),
    ("01.4", write_with(stuck=True), "after token 1"),
    ("01.4", likeliest, "go on alike"),
    ("01.4", lambda model, ids, new, *rest: write(model, ids, new, *rest)[:, 1:], r"should give shape \(6000, 3\)"),
]
