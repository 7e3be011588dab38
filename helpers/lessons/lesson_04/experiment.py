"""What lesson 04 asks of answers beside exact matches: how many are made up, and how sure the model was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from helpers.language_model import IGNORED, shift_labels
from helpers.sft import collate, exact_match, split_conversation
from helpers.training import to_device

YEAR = re.compile(r"\d{4}\.")
NAME = re.compile(r"[A-Z][\w']*(?: (?:[A-Z][\w']*|and|of|the))*\.")


def looks_like_an_answer(kind: str, text: str) -> bool:
    """Whether a text has the form of an answer to this kind of question: a year, or a name; right or wrong."""
    return bool((YEAR if kind == "fact_year" else NAME).fullmatch(text.strip()))


def made_up(rows: Sequence[Mapping], answers: Sequence[str]) -> Tensor:
    """1.0 where an answer has the form of an answer and is not the true one: (rows,)."""
    correct = exact_match(answers, [row["completion"] for row in rows])
    formed = [looks_like_an_answer(row["kind"], text) for row, text in zip(rows, answers, strict=True)]
    return torch.tensor(formed, dtype=correct.dtype) * (1 - correct)


@torch.inference_mode()
def confidence(
    model: nn.Module, tokenizer, prompts: Sequence[str], answers: Sequence[str], batch_size: int = 64
) -> Tensor:
    """The probability that the model gives to each answer as a whole, its end included: (rows,).

    A model may answer nothing at all: that has the probability of the end of the turn.
    """
    model.eval()
    pad_id = tokenizer.pad_token_id
    parts = [split_conversation(tokenizer, *pair) for pair in zip(prompts, answers, strict=True)]
    rows = [{"input_ids": ids, "labels": [IGNORED] * hidden + ids[hidden:]} for ids, hidden in parts]
    found = []
    for start in range(0, len(rows), batch_size):
        batch = to_device(collate(rows[start : start + batch_size], pad_id), model)
        labels = shift_labels(batch.pop("labels"))  # (batch, seq)
        log_probabilities = model(**batch).logits.float().log_softmax(dim=-1)  # (batch, seq, vocab)
        chosen = log_probabilities.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)  # (batch, seq)
        found.append((chosen * (labels != IGNORED)).sum(dim=-1).exp().cpu())
    return torch.cat(found)
