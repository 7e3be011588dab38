"""The exercises of lesson 04, from the prefix check and the loss to packing and a collator that keeps a mark."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from helpers.checks import Wrong, attempted, called, exercise, expect, parts_of, returned
from helpers.lessons.lesson_04 import experiment

USER, ASSISTANT, END = 4, 5, 6
HIDDEN = -100


@exercise(
    "04.1",
    hints=[
        "Walk through both lists side by side and stop at the first pair that differs.",
        "zip(prompt_ids, conversation_ids) pairs the tokens; the shorter list ends it. The prompt is a prefix when "
        "every one of its tokens was equal.",
        "count = 0; for one, other in zip(prompt_ids, conversation_ids): if one != other: break; count += 1. Then "
        "return count, count == len(prompt_ids)",
    ],
)
def shared_prefix(answer: Callable) -> None:
    """answer(prompt_ids, conversation_ids): how many tokens both begin with, and whether the prompt is a prefix."""
    for given in (
        ([4, 20, 5], [4, 20, 5, 30, 6]),
        ([4, 20, 5, 9], [4, 20, 5, 31, 6]),
        ([4, 7], [9, 7]),
        ([4, 8, 9], [4]),
    ):
        name = called("shared_prefix", given)
        got = parts_of(answer(*map(list, given)), 2, f"{name} should be two things, a count and whether it is a prefix")
        wanted = experiment.shared_prefix(*given)
        expect(f"the count of {name}", got[0], wanted[0])
        expect(f"whether the prompt is a prefix in {name}", bool(got[1]), wanted[1])


@exercise(
    "04.2",
    hints=[
        "The logits at position 0 predict the token at position 1: drop the last logits and the first label.",
        "predicted = logits[:, :-1]; wanted = labels[:, 1:]; keep only the positions where wanted is not -100.",
        "nn.functional.cross_entropy(predicted.flatten(0, 1), wanted.flatten(), ignore_index=-100) is the mean.",
    ],
)
def answer_loss(answer: Callable) -> None:
    """answer(logits, labels): the mean loss of the next token over the positions whose label is not -100."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=draw, dtype=torch.double)
    for labels in ([[HIDDEN, HIDDEN, 3, 1, 6], [HIDDEN, 2, 6, HIDDEN, HIDDEN]], [[2, 4, 1, 6, 3], [5, 2, 6, 1, 4]]):
        given = torch.tensor(labels)
        got = returned(answer(logits.clone(), given.clone()), "one number, the mean loss")
        wanted = experiment.answer_loss(logits, given)
        expect(f"the loss for the labels {labels}", got, wanted, note=_loss_reason(logits, given, got))


def _loss_reason(logits: Tensor, labels: Tensor, got: object) -> str:
    found = torch.as_tensor(got, dtype=torch.double)
    if found.numel() != 1:
        return ""
    flat = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=HIDDEN)
    by_row = torch.stack([experiment.answer_loss(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]).mean()
    if torch.isclose(found, flat):
        return " (the logits at a position predict the next token: shift the labels by one)"
    if torch.isclose(found, by_row):
        return " (take one mean over the tokens of all rows, not a mean of the rows' means)"
    return ""


class _Counter(nn.Module):
    """Its next token is the sum of all tokens so far, modulo 11; it notes how many tokens each call reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []

    def forward(
        self, input_ids: Tensor, past_key_values: int | None = None, use_cache: bool = False
    ) -> SimpleNamespace:
        self.read.append(input_ids.shape[1])
        total = input_ids.cumsum(dim=1) + (past_key_values or 0)  # (1, seq)
        logits = nn.functional.one_hot(total % 11, 11).double()  # (1, seq, 11)
        return SimpleNamespace(logits=logits, past_key_values=int(total[0, -1]) if use_cache else None)


@exercise(
    "04.3",
    hints=[
        "Keep two things from call to call: all tokens so far, and the cache. The model reads only what is new.",
        "outputs = model(input_ids=new, past_key_values=cache, use_cache=True); the next token is "
        "outputs.logits[:, -1].argmax(dim=-1, keepdim=True), of shape (1, 1). In the first call `new` is the prompt.",
        "written, cache, new = input_ids, None, input_ids; in the loop: call it, cache = outputs.past_key_values; "
        "new = the next token, written = torch.cat([written, new], dim=1), break when new.item() == end_id.",
    ],
)
def greedy_cached(answer: Callable) -> None:
    """answer(model, input_ids, max_new_tokens, end_id): all ids; after the first call one token goes in at a time."""
    for prompt, most, end_id in (([3, 1], 4, 99), ([2, 3], 6, 9), ([5], 1, 99)):
        model, twin, ids = _Counter(), _Counter(), torch.tensor([prompt])
        got = returned(answer(model, ids.clone(), most, end_id), "the prompt's ids and the new ones, (1, longer)")
        wanted = experiment.greedy_cached(twin, ids, most, end_id)
        if max(model.read[1:], default=1) > 1:
            raise Wrong(f"call 2 reads {model.read[1]} tokens: with the cache it needs the newest one only")
        expect(f"the ids after {prompt} (end_id {end_id})", got, wanted)
        if len(model.read) > len(twin.read):
            raise Wrong(f"it calls the model {len(model.read)} times for {len(twin.read)} new tokens")


@exercise(
    "04.4",
    hints=[
        "Go through the ids from left to right and remember one thing: is the assistant speaking?",
        "The mark start_id itself is not learned; what follows it is, and end_id too. Note the label first, then look "
        "whether this token changes who speaks.",
        "for token in input_ids: labels.append(token if speaking else -100); then speaking = True after start_id, "
        "False after end_id.",
    ],
)
def assistant_labels(answer: Callable) -> None:
    """answer(input_ids, start_id, end_id): labels as long as the ids, -100 outside the assistant's turns."""
    one = [USER, 20, 21, END, ASSISTANT, 30, END]
    for ids in (one, [*one, USER, 22, END, ASSISTANT, 31, 32, END], [USER, 20, END]):
        got = attempted(answer(list(ids), ASSISTANT, END))
        expect(f"the labels of {ids}", got, _labels(ids), note=_reason(ids, got))


def _labels(ids: list[int]) -> list[int]:
    labels, speaking = [], False
    for token in ids:
        labels.append(token if speaking else HIDDEN)
        speaking = (speaking or token == ASSISTANT) and token != END
    return labels


def _reason(ids: list[int], got: object) -> str:
    if not isinstance(got, (list, tuple)) or len(got) != len(ids):
        return ""
    ends = [place for place, label in enumerate(_labels(ids)) if label == END]
    if any(got[place] == HIDDEN != got[place - 1] for place in ends):
        return " (without the end of the turn among the labels it would never learn to stop)"
    if any(token == ASSISTANT and label != HIDDEN for token, label in zip(ids, got, strict=True)):
        return " (the mark of the assistant is in the prompt already: it need not be learned)"
    return ""


@exercise(
    "04.5",
    hints=[
        "Keep a list of packed rows. Does the next conversation still fit into the last one? Else start a new one.",
        "Positions of a conversation are 0, 1, 2, ... wherever it stands. Its first label becomes -100, as the token "
        "before it belongs to another conversation.",
        "packed[-1]['input_ids'] += row['input_ids']; packed[-1]['labels'] += [-100, *row['labels'][1:]]; "
        "packed[-1]['position_ids'] += range(len(row['input_ids'])), after appending an empty row where needed.",
    ],
)
def pack(answer: Callable) -> None:
    """answer(rows, length): packed rows with input_ids, labels and position_ids."""
    rows = [
        {"input_ids": [USER, 20, ASSISTANT, 30, END], "labels": [HIDDEN] * 3 + [30, END]},
        {"input_ids": [ASSISTANT, 31, END], "labels": [ASSISTANT, 31, END]},
        {"input_ids": [USER, ASSISTANT, 32, END], "labels": [HIDDEN] * 2 + [32, END]},
    ]
    for length in (7, 8, 12):
        before = [{name: list(ids) for name, ids in row.items()} for row in rows]
        got = returned(answer(rows, length), "a list of packed rows")
        wanted = experiment.pack(before, length)
        if rows != before:
            raise Wrong("it changes the rows that it was given: start each packed row from new, empty lists")
        expect(f"the number of packed rows for length {length}", len(got), len(wanted))
        for place, (one, right) in enumerate(zip(got, wanted, strict=True)):
            for name, values in right.items():
                expect(f"{name} of packed row {place} (length {length})", list(one[name]), values)


@exercise(
    "04.6",
    hints=[
        "Print the labels of a row beside its input_ids. Which token that should be learned is not?",
        "The pad token and the end of the turn are the same id here, so an id does not say what is padding. The "
        "length of the row does.",
        "Pad the labels with -100 and not with pad_id, fill attention_mask with 1 for len(row['input_ids']) places and "
        "0 for the rest, and compare nothing with pad_id.",
    ],
)
def collate_with_end(answer: Callable) -> None:
    """answer(rows, pad_id): input_ids, attention_mask, labels (batch, seq), also when pad_id ends a turn."""
    rows = [
        {"input_ids": [USER, 20, END, ASSISTANT, 30, END], "labels": [HIDDEN] * 4 + [30, END]},
        {"input_ids": [USER, END, ASSISTANT, END], "labels": [HIDDEN] * 3 + [END]},
    ]
    got = attempted(answer(rows, END))
    if not isinstance(got, dict) or set(got) != {"input_ids", "attention_mask", "labels"}:
        raise Wrong("it should return a dictionary with input_ids, attention_mask and labels")
    wanted = {
        "input_ids": torch.tensor([rows[0]["input_ids"], [*rows[1]["input_ids"], END, END]]),
        "labels": torch.tensor([rows[0]["labels"], [*rows[1]["labels"], HIDDEN, HIDDEN]]),
        "attention_mask": torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]]),
    }
    if torch.is_tensor(got["labels"]) and got["labels"].shape == (2, 6) and (got["labels"][0, 5] == HIDDEN):
        raise Wrong("the end of the turn is still masked: labels[0, 5] should be the end id, not -100")
    for name, value in wanted.items():
        expect(name, got[name], value)
