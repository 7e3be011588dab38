"""Answers to the exercises of lesson 04: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

from functools import partial

import torch

from helpers.sft import collate


def labels(input_ids, start_id, end_id, *, mark=False, end=True, first_only=False):
    """The labels of exercise 04.4 with one thing done wrongly."""
    found, speaking, turns = [], False, 0
    for token in input_ids:
        wanted = speaking and (end or token != end_id)
        found.append(token if wanted or (mark and token == start_id) else -100)
        if token == start_id:
            turns += 1
            speaking = not first_only or turns == 1
        elif token == end_id:
            speaking = False
    return found


def hurried(rows, pad_id, *, mask_only=False):
    batch = collate(rows, pad_id)
    batch["attention_mask"] = (batch["input_ids"] != pad_id).long()
    if not mask_only:
        batch["labels"][batch["labels"] == pad_id] = -100
    return batch


def prefix(prompt_ids, conversation_ids, *, ends=True):
    same = [one == other for one, other in zip(prompt_ids, conversation_ids, strict=False)]
    count = [*same, False].index(False)
    return count, (count == len(prompt_ids) if ends else all(same))


def decode(model, input_ids, max_new_tokens, end_id, *, cached=True, stop=True):
    written, cache, new = input_ids, None, input_ids
    for _ in range(max_new_tokens):
        outputs = model(input_ids=new, past_key_values=cache if cached else None, use_cache=True)
        cache = outputs.past_key_values
        token = outputs.logits[:, -1].argmax(dim=-1, keepdim=True)
        written = torch.cat([written, token], dim=1)
        new = token if cached else written
        if stop and token.item() == end_id:
            break
    return written


def packed(rows, length, *, restart=True, hide=True, fits=0):
    found = []
    for row in rows:
        if not found or len(found[-1]["input_ids"]) + len(row["input_ids"]) > length + fits:
            found.append({"input_ids": [], "labels": [], "position_ids": []})
        start = 0 if restart else len(found[-1]["input_ids"])
        found[-1]["position_ids"] += range(start, start + len(row["input_ids"]))
        found[-1]["input_ids"] += row["input_ids"]
        found[-1]["labels"] += [-100, *row["labels"][1:]] if hide else row["labels"]
    return found


def loss(logits, labels, *, shifted=True, by_row=False):
    if by_row:
        return torch.stack([loss(logits[i : i + 1], labels[i : i + 1]) for i in range(len(labels))]).mean()
    if shifted:
        logits, labels = logits[:, :-1], labels[:, 1:]
    kept = labels != -100
    return -logits[kept].log_softmax(-1).gather(-1, labels[kept].unsqueeze(-1)).mean()


RIGHT = {
    "04.1": prefix,
    "04.2": loss,
    "04.3": decode,
    "04.5": packed,
    "04.4": labels,
    "04.6": collate,
}

MISTAKES = [
    ("04.1", partial(prefix, ends=False), "whether the prompt is a prefix"),
    ("04.1", lambda one, other: (len(one), one == other[: len(one)]), "the count of"),
    ("04.2", partial(loss, shifted=False), "shift the labels by one"),
    ("04.2", partial(loss, by_row=True), "not a mean of the rows' means"),
    ("04.3", partial(decode, cached=False), "call 2 reads 3 tokens"),
    ("04.3", partial(decode, stop=False), "end_id 9"),
    ("04.3", lambda model, ids, most, end: None, "returns None"),
    ("04.5", partial(packed, restart=False), "position_ids of packed row"),
    ("04.5", partial(packed, hide=False), "labels of packed row"),
    ("04.5", partial(packed, fits=1), "should (be|have)"),
    ("04.4", partial(labels, end=False), "never learn to stop"),
    ("04.4", partial(labels, mark=True), "mark of the assistant is in the prompt already"),
    ("04.4", partial(labels, first_only=True), r"\]\[11\] should be 31, not -100\."),
    ("04.4", lambda ids, *_: ids, r"should be -100, not 4"),
    ("04.6", hurried, "end of the turn is still masked"),
    ("04.6", partial(hurried, mask_only=True), r"Attention_mask at \[0, 2\] should be 1"),
    ("04.6", lambda rows, pad_id: torch.zeros(2), "should return a dictionary"),
]
