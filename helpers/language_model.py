"""Training and evaluation of language models: masking, label shifts, losses, perplexity, greedy decoding.

Lesson 01 writes out some of these functions; a test checks that both versions agree.
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

IGNORED = -100  # the loss ignores tokens with this label


def mask_tokens(
    input_ids: Tensor,
    special: Tensor,
    *,
    mask_id: int,
    vocab_size: int,
    rate: float = 0.15,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Hide some tokens: return the model's masked input and the labels that it must predict.

    input_ids, special: (batch, seq); tokens where `special` is True are never hidden. Of the chosen
    tokens, 80 % become [MASK], 10 % a random token, 10 % stay. Source: Devlin et al. 2019, 3.1.
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
    """Return the mean cross-entropy over the hidden tokens only.

    logits: (batch, seq, vocab); labels: (batch, seq), -100 where nothing was hidden.
    """
    hidden = labels != IGNORED  # (batch, seq)
    log_probabilities = logits[hidden].log_softmax(dim=-1)  # (hidden tokens, vocab)
    right = log_probabilities.gather(-1, labels[hidden].unsqueeze(-1))
    return -right.mean()


def shift_labels(labels: Tensor) -> Tensor:
    """Return labels (batch, seq) in which each position has the next token's label, and the last one is ignored."""
    shifted = torch.full_like(labels, IGNORED)
    shifted[:, :-1] = labels[:, 1:]
    return shifted


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next tokens. The labels are aligned with the input, not yet shifted.

    logits: (batch, seq, vocab); labels: (batch, seq), -100 for padding. Source: Radford et al. 2018.
    """
    return masked_loss(logits, shift_labels(labels))


def perplexity(mean_loss: float) -> float:
    """Return exp(mean loss in nats): a choice between this many equally likely tokens has the same loss."""
    return math.exp(mean_loss)


def positions(model: nn.Module, attention_mask: Tensor) -> dict[str, Tensor]:
    """Return {"position_ids": (batch, seq)} if a left-padded batch needs them for this model, else {}.

    A model with learned positions (GPT-2) would count the left padding as positions, so it needs `position_ids`.
    Rotary positions (Llama) are relative: left padding shifts all of them equally and changes nothing.
    attention_mask: (batch, seq), 1 for a real token, 0 for padding.
    """
    rotary = getattr(config_of(model), "rope_parameters", None)
    if rotary or "position_ids" not in inspect.signature(model.forward).parameters:
        return {}
    return {"position_ids": (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)}


def count_positions_from_mask(*models: Any) -> None:
    """Add a hook to these models that passes `positions` if the caller, such as another library's trainer, does not.

    models: entries that are None are skipped, such as `GRPOTrainer.ref_model` without a KL penalty.
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
    """Append the most likely token `max_new_tokens` times or until `end_id`. Shapes: (1, seq) in, (1, longer) out."""
    for _ in range(max_new_tokens):
        logits = model(input_ids=input_ids).logits[:, -1]  # (1, vocab)
        best = logits.argmax(dim=-1, keepdim=True)  # (1, 1)
        input_ids = torch.cat([input_ids, best], dim=1)
        if end_id is not None and best.item() == end_id:
            break
    return input_ids


def recalled(logits: Tensor, labels: Tensor) -> Tensor:
    """Return, for each row, whether greedy decoding would give exactly the answer: (batch,) booleans.

    labels: (batch, seq), -100 outside the answer. One forward pass is enough: greedy decoding gives the
    answer if each of its tokens is the most likely one after the answer's tokens before it.
    """
    labels = shift_labels(labels)
    right = logits.argmax(dim=-1) == labels  # (batch, seq)
    return (right | (labels == IGNORED)).all(dim=-1)


def pack(documents: list[list[int]], length: int, start: int, end: int, seed: int) -> Tensor:
    """Shuffle documents and join them end to end in blocks; every block begins with the start of a document.

    documents: token ids without special tokens; start, end: the ids put before a block's first document and
    after every document. Returns (blocks, length). A document that exceeds the block's end is cut there.
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
    """Join texts end to end in full rows, each beginning with the start of a text: (rows, length) token ids.

    again: whether to repeat texts that are too short to fill one row.

    Raises:
        UserError: when the texts do not fill one row.
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
    """Return the mean loss in nats per token over `rows` (rows, seq), without dropout."""
    model.eval()
    device = next(model.parameters()).device
    total = 0.0
    for batch in rows.split(batch_size):
        batch = batch.to(device)
        total += next_token_loss(model(input_ids=batch).logits, batch).item() * len(batch)
    return total / len(rows)


def completion_batch(tokenizer, prompts: Sequence[str], answers: Sequence[str]) -> dict[str, Tensor]:
    """Join prompts with their answers and pad them on the right; labels are -100 outside the answers.

    Returns input_ids, attention_mask and labels, each (batch, seq).
    """
    rows, labels = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        start = tokenizer(prompt)["input_ids"]  # including the start token, if the tokenizer adds one
        end = tokenizer(" " + answer.strip(), add_special_tokens=False)["input_ids"]
        rows.append(start + end)
        labels.append(torch.tensor([IGNORED] * len(start) + end))
    padded_labels = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
    return {**padded(rows, pad_id=0), "labels": padded_labels}
