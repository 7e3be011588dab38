"""What a language model is trained on and judged by: masks, shifts, losses, perplexity, greedy text.

Lesson 01 writes some of these definitions out; a test checks that both versions are the same.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers.batches import padded
from helpers.models import config_of
from helpers.runtime import UserError

IGNORED = -100  # the label that a loss leaves out


def mask_tokens(
    input_ids: Tensor,
    special: Tensor,
    *,
    mask_id: int,
    vocab_size: int,
    rate: float = 0.15,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Hide some tokens: return what the model reads and the labels it must restore.

    input_ids, special: (batch, seq); special is True where no token may be hidden. Of the chosen
    tokens 80 % become [MASK], 10 % a random token, 10 % stay. Source: Devlin et al. 2019, 3.1.
    """
    draw = torch.rand(input_ids.shape, generator=generator)
    chosen = (draw < rate) & ~special.bool()  # (batch, seq)
    labels = input_ids.masked_fill(~chosen, IGNORED)
    fate = torch.rand(input_ids.shape, generator=generator)
    random_ids = torch.randint(vocab_size, input_ids.shape, generator=generator)
    masked = input_ids.masked_fill(chosen & (fate < 0.8), mask_id)
    masked = torch.where(chosen & (fate >= 0.9), random_ids, masked)
    return masked, labels


def masked_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the hidden tokens alone.

    logits: (batch, seq, vocab); labels: (batch, seq), -100 where nothing was hidden.
    """
    hidden = labels != IGNORED  # (batch, seq)
    log_probabilities = logits[hidden].log_softmax(dim=-1)  # (hidden tokens, vocab)
    right = log_probabilities.gather(-1, labels[hidden].unsqueeze(-1))
    return -right.mean()


def shift_labels(labels: Tensor) -> Tensor:
    """The label of each position is the next token: (batch, seq) in, the same out, last one ignored."""
    shifted = torch.full_like(labels, IGNORED)
    shifted[:, :-1] = labels[:, 1:]
    return shifted


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each next token; labels as for the model, not yet shifted.

    logits: (batch, seq, vocab); labels: (batch, seq), -100 for padding. Source: Radford et al. 2018.
    """
    return masked_loss(logits, shift_labels(labels))


def perplexity(mean_loss: float) -> float:
    """The number of equally likely tokens that the model in effect chooses between: exp of the mean loss in nats."""
    return math.exp(mean_loss)


def positions(model: nn.Module, attention_mask: Tensor) -> dict[str, Tensor]:
    """The argument `position_ids` (batch, seq) that a batch padded on the left needs, or no argument.

    A model with learned positions (GPT-2) counts them from the left edge, padding included, unless it is told where a
    row's text begins. Rotary positions (Llama) are relative: padding on the left moves all of them alike.
    attention_mask: (batch, seq), 1 for a real token, 0 for padding.
    """
    rotary = getattr(config_of(model), "rope_parameters", None)
    if rotary or "position_ids" not in inspect.signature(model.forward).parameters:
        return {}
    return {"position_ids": (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)}


def count_positions_from_mask(*models: Any) -> None:
    """From now on these models pass themselves `positions`, where a trainer of another library passes none.

    models: None is no model, as `GRPOTrainer.ref_model` is without a KL penalty.
    """

    def add_positions(called: Any, arguments: tuple, named: dict) -> tuple[tuple, dict]:
        mask = named.get("attention_mask")
        if mask is None or mask.dim() != 2 or "position_ids" in named or named.get("past_key_values") is not None:
            return arguments, named
        return arguments, {**named, **positions(called, mask)}

    for model in (model for model in models if model is not None and positions(model, torch.ones(1, 1))):
        model.register_forward_pre_hook(add_positions, with_kwargs=True)


@torch.inference_mode()
def greedy(model: nn.Module, input_ids: Tensor, max_new_tokens: int, end_id: int | None = None) -> Tensor:
    """Append the likeliest next token again and again. input_ids: (1, seq); returns (1, longer)."""
    for _ in range(max_new_tokens):
        logits = model(input_ids=input_ids).logits[:, -1]  # (1, vocab)
        best = logits.argmax(dim=-1, keepdim=True)  # (1, 1)
        input_ids = torch.cat([input_ids, best], dim=1)
        if end_id is not None and best.item() == end_id:
            break
    return input_ids


def recalled(logits: Tensor, labels: Tensor) -> Tensor:
    """Which rows greedy decoding would complete exactly: (batch,) of True and False.

    labels: (batch, seq), -100 outside the answer. Greedy text is the answer exactly when, after the
    right beginning, each token of the answer is the likeliest one: one forward pass tells.
    """
    labels = shift_labels(labels)
    right = logits.argmax(dim=-1) == labels  # (batch, seq)
    return (right | (labels == IGNORED)).all(dim=-1)


def pack(documents: list[list[int]], length: int, start: int, end: int, seed: int) -> Tensor:
    """Shuffle documents and lay them end to end in blocks; every block begins where a document begins.

    documents: token ids without special tokens; start, end: the ids put before a block's first document and
    after every document. Returns (blocks, length); what hangs over a block's end is left out.
    """
    order = np.random.default_rng(seed).permutation(len(documents))
    blocks, block = [], [start]
    for index in order:
        block.extend(documents[index])
        block.append(end)
        if len(block) >= length:
            blocks.append(block[:length])
            block = [start]
    return torch.tensor(np.array(blocks, dtype=np.int64))


def blocks_of_text(tokenizer, texts: Iterable[str], length: int, seed: int = 0, *, again: bool = False) -> Tensor:
    """Texts laid end to end in full rows, each beginning where a text begins: (rows, length) token ids.

    again: where the texts are too short for one row, take them as often as it needs.

    Raises:
        UserError: when the texts are too short for one row.
    """
    texts = list(texts)
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    end = tokenizer.eos_token_id
    start = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if again and encoded:
        tokens = sum(len(ids) + 1 for ids in encoded)
        encoded = encoded * max(1, -(-(length - 1) // tokens))
    rows = pack(encoded, length, start, end, seed)
    if len(rows) == 0:
        count = sum(len(ids) for ids in encoded)
        raise UserError(
            f"{len(encoded)} texts with {count} tokens are too few: one row takes {length} tokens. Use more texts, or "
            "longer ones."
        )
    return rows


@torch.inference_mode()
def mean_next_token_loss(model: nn.Module, rows: Tensor, batch_size: int = 32) -> float:
    """The mean loss in nats per token over `rows` (rows, seq), without dropout."""
    model.eval()
    device = next(model.parameters()).device
    total = 0.0
    for batch in rows.split(batch_size):
        batch = batch.to(device)
        total += next_token_loss(model(input_ids=batch).logits, batch).item() * len(batch)
    return total / len(rows)


def completion_batch(tokenizer, prompts: Sequence[str], answers: Sequence[str]) -> dict[str, Tensor]:
    """Prompts with their answers, right-padded; labels are -100 outside the answers.

    Returns input_ids, attention_mask and labels, each (batch, seq).
    """
    rows, labels = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        start = tokenizer(prompt)["input_ids"]  # with the token that opens every text
        end = tokenizer(" " + answer.strip(), add_special_tokens=False)["input_ids"]
        rows.append(start + end)
        labels.append(torch.tensor([IGNORED] * len(start) + end))
    padded_labels = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
    return {**padded(rows, pad_id=0), "labels": padded_labels}
