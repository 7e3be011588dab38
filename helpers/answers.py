"""What a model's answers are worth: how many are right, kind by kind; how many are made up; how sure it was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from helpers.conversations import collate, encode, exact
from helpers.intervals import Interval, wilson
from helpers.language_models import IGNORED, shift_labels

SKILLS = ("sentiment", "passive", "comma")
YEAR = re.compile(r"\d{4}\.")
NAME = re.compile(r"[A-Z][\w']*(?: (?:[A-Z][\w']*|and|of|the))*\.")


def share(right: Tensor) -> Interval:
    """The share of ones among zeros and ones, (rows,), with Wilson's interval."""
    return wilson(int(right.sum()), len(right))


def rates(rows: Sequence[Mapping], answers: Sequence[str], column: str = "kind") -> dict[str, Interval]:
    """Exact-answer rate for each value of `column`, in the order in which the values first appear."""
    right = exact(answers, [row["completion"] for row in rows])
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row[column], []).append(place)
    return {value: share(right[chosen]) for value, chosen in places.items()}


def looks_like_an_answer(kind: str, text: str) -> bool:
    """Whether a text has the form of an answer to this kind of question: a year, or a name; right or wrong."""
    return bool((YEAR if kind == "fact_year" else NAME).fullmatch(text.strip()))


def made_up(rows: Sequence[Mapping], answers: Sequence[str]) -> Tensor:
    """1.0 where an answer has the form of an answer and is not the true one: (rows,)."""
    right = exact(answers, [row["completion"] for row in rows])
    formed = [looks_like_an_answer(row["kind"], text) for row, text in zip(rows, answers, strict=True)]
    return torch.tensor(formed, dtype=right.dtype) * (1 - right)


@torch.inference_mode()
def confidence(
    model: nn.Module, tokenizer, prompts: Sequence[str], answers: Sequence[str], batch_size: int = 64
) -> Tensor:
    """The probability that the model gives to each answer as a whole, its end included: (rows,)."""
    model.eval()
    pad_id = tokenizer.pad_token_id
    rows = [encode(tokenizer, *pair) for pair in zip(prompts, answers, strict=True)]
    found = []
    for start in range(0, len(rows), batch_size):
        batch = {
            name: value.to(model.device) for name, value in collate(rows[start : start + batch_size], pad_id).items()
        }
        labels = shift_labels(batch.pop("labels"))  # (batch, seq)
        log_probabilities = model(**batch).logits.float().log_softmax(dim=-1)  # (batch, seq, vocab)
        chosen = log_probabilities.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)  # (batch, seq)
        found.append((chosen * (labels != IGNORED)).sum(dim=-1).exp().cpu())
    return torch.cat(found)
