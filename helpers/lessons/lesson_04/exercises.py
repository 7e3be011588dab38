"""The exercises of lesson 04: labels of several turns, when to stay silent, and a mark that must not be masked."""

from __future__ import annotations

from collections.abc import Callable

import torch

from helpers.checks import Wrong, attempted, exercise, expect

USER, ASSISTANT, END = 4, 5, 6
HIDDEN = -100


@exercise(
    "04.1",
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
    "04.2",
    hints=[
        "Only thresholds that are one of the confidences can change who speaks. Try them from the lowest up.",
        "At a threshold, those with a confidence of at least it speak; the share of wrong ones among them decides.",
        "for threshold in sorted(confidences): spoken = [ok for sure, ok in zip(confidences, right) if sure >= "
        "threshold]; return it if 1 - sum(spoken) / len(spoken) <= allowed. After the loop: return None",
    ],
)
def threshold_for(answer: Callable) -> None:
    """answer(confidences, right, allowed): the lowest threshold with at most that share of wrong answers."""
    sure, right = [0.9, 0.2, 0.6, 0.4, 0.8], [True, False, False, True, True]
    for confidences, truths, allowed, wanted in (
        (sure, right, 0.0, 0.8),
        (sure, right, 0.25, 0.4),
        (sure, right, 0.5, 0.2),
        ([0.3, 0.7], [True, False], 0.1, None),
    ):
        got = answer(list(confidences), list(truths), allowed)
        note = ": the surest answer is wrong" if wanted is None else ""
        expect(f"the threshold for {confidences}, right {truths}, allowed {allowed}", got, wanted, note=note)


@exercise(
    "04.3",
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
