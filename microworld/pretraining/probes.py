"""Probes of a model during pretraining: how well it completes facts and recognizes the tone of a review."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from transformers import PreTrainedModel

PRAISE = ("good", "wonderful", "great", "lovely", "brilliant", "excellent")
BLAME = ("bad", "dull", "awful", "boring", "poor", "terrible")
SUMMARY = " In short, the film is"  # prompt of the polarity cloze: which word does the model put next?


def batches(tokenizer, texts: list[str], device: torch.device, size: int = 50) -> Iterator[dict[str, Tensor]]:
    """Yield padded batches of the texts, in their order, on `device`."""
    for start in range(0, len(texts), size):
        rows = tokenizer(texts[start : start + size], padding=True, truncation=True, return_tensors="pt")
        yield {name: rows[name].to(device) for name in ("input_ids", "attention_mask")}


@torch.inference_mode()
def features(model: PreTrainedModel, tokenizer, texts: list[str]) -> np.ndarray:
    """Return the mean-pooled last hidden states, (texts, hidden)."""
    model.eval()
    pooled = []
    for batch in batches(tokenizer, texts, model.device):
        hidden = model.base_model(**batch).last_hidden_state  # (batch, seq, hidden)
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled.append(((hidden * mask).sum(1) / mask.sum(1)).float().cpu())
    return torch.cat(pooled).numpy()


def linear_probe(model: PreTrainedModel, tokenizer, train: dict, held_out: dict) -> float:
    """Return the accuracy on `held_out` of a linear classifier on frozen features of `train` (columns text, label)."""
    probe = LogisticRegression(max_iter=1000).fit(features(model, tokenizer, train["text"]), train["label"])
    return float(probe.score(features(model, tokenizer, held_out["text"]), held_out["label"]))


@torch.inference_mode()
def polarity_cloze(model: PreTrainedModel, tokenizer, rows: dict) -> float:
    """Return the zero-shot accuracy: after "In short, the film is", are words that fit the label more probable?"""
    model.eval()
    masked = tokenizer.mask_token
    texts = [text + SUMMARY + (f" {masked}." if masked else "") for text in rows["text"]]
    pick = [[_first_id(tokenizer, word) for word in words] for words in (BLAME, PRAISE)]
    guesses = []
    for batch in batches(tokenizer, texts, model.device):
        logits = model(**batch).logits  # (batch, seq, vocabulary)
        if masked:
            at = (batch["input_ids"] == tokenizer.mask_token_id).float().argmax(1)
        else:
            at = batch["attention_mask"].sum(1) - 1
        scores = logits[torch.arange(len(at), device=at.device), at].log_softmax(-1)
        blame, praise = (scores[:, ids].logsumexp(-1) for ids in pick)
        guesses += (praise > blame).long().tolist()
    return float(np.mean(np.array(guesses) == np.array(rows["label"])))


def _first_id(tokenizer, word: str) -> int:
    text = word if tokenizer.mask_token else " " + word
    return tokenizer(text, add_special_tokens=False)["input_ids"][0]


@torch.inference_mode()
def facts_recalled(model: PreTrainedModel, tokenizer, rows: dict, size: int = 120) -> float:
    """Return the share of facts (columns prompt and answer) that greedy decoding completes exactly."""
    model.eval()
    prompts = [tokenizer(prompt)["input_ids"] for prompt in rows["prompt"]]
    answers = [tokenizer(" " + answer, add_special_tokens=False)["input_ids"] for answer in rows["answer"]]
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), len(answers[row])))
    right, start = 0, 0
    while start < len(order):
        length = len(prompts[order[start]])
        group = [row for row in order[start : start + size] if len(prompts[row]) == length]
        ids = torch.tensor([prompts[row] for row in group], device=model.device)
        for _ in range(max(len(answers[row]) for row in group)):
            following = model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, following], dim=1)
        right += sum(
            ids[place, length : length + len(answers[row])].tolist() == answers[row] for place, row in enumerate(group)
        )
        start += len(group)
    return right / len(prompts)
