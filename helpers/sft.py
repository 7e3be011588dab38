"""Supervised fine-tuning (SFT): encodes conversations with labels, trains a model, and generates its answers.

Works for any causal language model whose tokenizer has a chat template. Lesson 04 writes out `messages`, `render` and
`encode`; a test checks that both versions of the first two agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from helpers.batches import Batch, grouped_batches, padded
from helpers.evaluation import share
from helpers.intervals import Interval
from helpers.language_model import IGNORED
from helpers.models import config_of
from helpers.runtime import UserError
from helpers.training import History, fit_adamw, to_device

COLUMNS = ("prompt", "completion")
Row = dict[str, list[int]]


@dataclass(frozen=True)
class SFTRecipe:
    """The settings of fine-tuning except the model and the rows; the defaults were chosen on validation rows."""

    learning_rate: float = 4e-4
    epochs: int = 2
    batch_size: int = 16
    weight_decay: float = 0.01


RECIPE = SFTRecipe()


def messages(prompt: str, completion: str | None = None) -> list[dict[str, str]]:
    """Return one turn or two in the form that chat templates read: a list of dicts with role and content."""
    turns = [{"role": "user", "content": prompt}]
    return turns if completion is None else [*turns, {"role": "assistant", "content": completion}]


def render(tokenizer, prompt: str, completion: str | None = None) -> str:
    """Return the conversation as one text; without a completion, it ends where the assistant's answer begins."""
    opening = completion is None
    return tokenizer.apply_chat_template(messages(prompt, completion), tokenize=False, add_generation_prompt=opening)


def encode(tokenizer, prompt: str, completion: str, answer_only: bool = True, max_length: int = 256) -> Row:
    """Return the token ids and labels of one conversation, each of length seq.

    The labels are -100 on the prompt, unless `answer_only` is False. The chat template writes the special tokens at
    the beginning and end, as in TRL's `SFTTrainer`, so the tokenizer adds none.

    Raises:
        UserError: when the completion is empty, the template or the tokenizer drops it, the template does not mark
            the end of the turn, or the conversation is longer than `max_length` tokens.
    """
    check_conversation(tokenizer, prompt, completion, max_length)
    input_ids, hidden = split_conversation(tokenizer, prompt, completion)
    if not_learned(tokenizer).issuperset(input_ids[hidden:]):
        raise UserError(
            f'completion: after the template and the tokenizer, no token is left of "{completion[:40]}", so there is '
            "nothing to learn from; change the completion, leave the row out, or use another model."
        )
    if not answer_only:
        hidden = 0
    return {"input_ids": input_ids, "labels": [IGNORED] * hidden + input_ids[hidden:]}


def not_learned(tokenizer) -> set[int]:
    """Return the special tokens that carry no text, which are all except the unknown token."""
    return {token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id}


def split_conversation(tokenizer, prompt: str, completion: str) -> tuple[list[int], int]:
    """Return the token ids of a conversation, and the number of them before the answer.

    Usually the conversation's tokens begin with the prompt's tokens. This fails if one token spans the prompt's end and
    the answer's beginning, or if the template begins a new answer differently than a given one (with `<think>`). Then
    the answer is found by its characters, and every token with at least one of them belongs to it.
    """
    opened, whole = render(tokenizer, prompt), render(tokenizer, prompt, completion)
    start, input_ids = _ids(tokenizer, opened), _ids(tokenizer, whole)
    if whole.startswith(opened):
        if input_ids[: len(start)] == start:
            return input_ids, len(start)
        place = len(opened)
    else:
        # The answer begins where another answer would change the text. Two others are tried, because one of them may
        # begin with the same letter as this answer.
        place = min(_shared(whole, render(tokenizer, prompt, other)) for other in ("A", "B"))
    return input_ids, _tokens_before(tokenizer, whole, input_ids, place)


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _shared(one: Sequence, other: Sequence) -> int:
    """Return the length of the common prefix of both sequences."""
    same = [first == second for first, second in zip(one, other, strict=False)]
    return [*same, False].index(False)


def _tokens_before(tokenizer, text: str, input_ids: list[int], place: int) -> int:
    """Return the number of tokens that end at or before the character position `place`."""
    if not tokenizer.is_fast:  # slow tokenizers return no character offsets
        return _shared(input_ids, _ids(tokenizer, text[:place]))
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return next((number for number, (_, end) in enumerate(spans) if end > place), len(spans))


def check_conversation(tokenizer, prompt: str, completion: str, max_length: int = 256) -> None:
    """Raise a UserError if the completion is empty, the template marks no end of turn, or the text is too long."""
    if not isinstance(completion, str) or not completion.strip():
        raise UserError(f'completion: empty for the prompt "{prompt[:40]}"; write an answer or leave the row out.')
    end_of_turn(tokenizer)
    max_length = most_tokens(tokenizer, max_length)
    texts = render(tokenizer, prompt), render(tokenizer, prompt, completion)
    alone, together = (len(_ids(tokenizer, text)) for text in texts)
    fix = f"but the context holds {max_length}; shorten it, leave the row out, or raise max_length if the model can."
    if prompt_is_too_long(alone, max_length):
        raise UserError(f'prompt: "{prompt[:40]}..." takes {alone} tokens, {fix}')
    if together > max_length:
        raise UserError(f'completion: with its prompt "{prompt[:40]}..." it takes {together} tokens, {fix}')


def most_tokens(tokenizer, max_length: int) -> int:
    """Return `max_length`, or the tokenizer's `model_max_length` if that is smaller."""
    return min(max_length, getattr(tokenizer, "model_max_length", max_length))


def prompt_is_too_long(tokens: int, max_length: int) -> bool:
    """Whether a prompt of this many tokens leaves no room for one token of an answer and the end of the turn."""
    return tokens > max_length - 2


def end_of_turn(tokenizer) -> int:
    """Return the id of the end-of-turn token, which the template puts after an answer and where generation stops.

    Raises:
        UserError: when the tokenizer has no template, or the template puts no special token after an answer.
    """
    if not tokenizer.chat_template:
        raise UserError("chat_template: this tokenizer has none; set tokenizer.chat_template first.")
    answer = "an answer"
    tail = render(tokenizer, "a question", answer).rpartition(answer)[2]
    special = set(tokenizer.all_special_ids)
    marks = [token for token in tokenizer(tail, add_special_tokens=False)["input_ids"] if token in special]
    if not marks:
        raise UserError(
            "chat_template: it puts no end-of-turn token after an answer, so a model trained on it would never learn "
            "to stop; put a special token, such as <|end|>, after the assistant's content."
        )
    return marks[0]


def check_columns(row: Mapping, columns: Sequence[str] = COLUMNS, field: str = "instructions") -> None:
    """Raise a UserError that names the first of the columns that is missing in a row, if any."""
    missing = [name for name in columns if name not in row]
    if missing:
        raise UserError(f"{field}: there is no column {missing[0]}, only {', '.join(row)}; rename one to it.")


def encode_rows(
    tokenizer, rows: Iterable[Mapping], answer_only: bool = True, max_length: int = 256, field: str = "instructions"
) -> list[Row]:
    """Call `encode` on rows with the columns prompt and completion; raise a UserError for a missing column."""
    encoded = []
    for row in rows:
        check_columns(row, field=field)
        encoded.append(encode(tokenizer, row["prompt"], row["completion"], answer_only, max_length))
    return encoded


def collate(rows: Sequence[Row], pad_id: int) -> Batch:
    """Pad rows on the right to one batch: input_ids, attention_mask and labels, each (batch, seq)."""
    labels = [torch.tensor(row["labels"]) for row in rows]
    padded_labels = pad_sequence(labels, batch_first=True, padding_value=IGNORED)
    return {**padded([row["input_ids"] for row in rows], pad_id), "labels": padded_labels}


def conversation_batches(
    rows: Sequence[Row], pad_id: int, batch_size: int = 32, seed: int = 0, shuffle: bool = True
) -> DataLoader:
    """Return padded batches of conversations of similar length; every pass has a new order, set by the seed."""
    lengths = [len(row["input_ids"]) for row in rows]
    padded = partial(collate, pad_id=pad_id)
    return grouped_batches(rows, lengths, padded, batch_size, shuffle=shuffle, seed=seed)


def fine_tune(
    model: nn.Module,
    rows: Sequence[Row],
    pad_id: int,
    recipe: SFTRecipe = RECIPE,
    *,
    seed: int = 0,
    progress: str = "fine-tuning",
) -> History:
    """Train in place on encoded conversations; the seed determines their order.

    Raises:
        UserError: as `train`, for example when a loss is not finite.
    """
    batches = conversation_batches(rows, pad_id, recipe.batch_size, seed=seed)
    rate, epochs, decay = recipe.learning_rate, recipe.epochs, recipe.weight_decay
    return fit_adamw(model, batches, rate, epochs=epochs, weight_decay=decay, progress=progress)


@torch.inference_mode()
def answer(
    model: Any,
    tokenizer,
    prompts: Sequence[str],
    max_new_tokens: int = 24,
    temperature: float = 0.0,
    seed: int | None = None,
    batch_size: int = 64,
) -> list[str]:
    """Return the model's answer to each prompt, by greedy decoding, or by sampling if `temperature` is above 0.

    seed: for sampling; the global random state does not change. Raises a UserError when a prompt leaves no room for
    an answer in the model's context.
    """
    model.eval()
    ids = [tokenizer(render(tokenizer, prompt), add_special_tokens=False)["input_ids"] for prompt in prompts]
    _check_room(model, ids, prompts, max_new_tokens)
    settings = _decoding(tokenizer, temperature) | {"max_new_tokens": max_new_tokens}
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))  # similar lengths together need less padding
    answers = [""] * len(ids)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            # Left padding, so that every row ends at the right edge, where the next token is added.
            batch = to_device(padded([ids[row] for row in rows], settings["pad_token_id"], side="left"), model)
            written = model.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :]  # (batch, new tokens)
            for row, text in zip(rows, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
                answers[row] = text.strip()
    return answers


def _decoding(tokenizer, temperature: float) -> dict:
    """Return the decoding arguments for `generate`."""
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    stops = [token for token in (end_of_turn(tokenizer), end) if token is not None]
    settings = {"eos_token_id": stops, "pad_token_id": end if pad is None else pad, "do_sample": temperature > 0}
    # By default, `generate` samples only from the 50 most likely tokens.
    return settings | ({"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {})


def exact_match(answers: Sequence[str], completions: Sequence[str]) -> Tensor:
    """Return 1.0 for each answer that equals its completion except for surrounding white space, else 0.0: (rows,)."""
    pairs = zip(answers, completions, strict=True)
    return torch.tensor([float(given.strip() == wanted.strip()) for given, wanted in pairs])


def exact_match_rates(rows: Sequence[Mapping], answers: Sequence[str], column: str = "kind") -> dict[str, Interval]:
    """Return the share of exact matches for each value of `column`, in the order of the values' first occurrence."""
    correct = exact_match(answers, [row["completion"] for row in rows])
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row[column], []).append(place)
    return {value: share(correct[chosen]) for value, chosen in places.items()}


def _check_room(model: nn.Module, ids: Sequence[list[int]], prompts: Sequence[str], max_new_tokens: int) -> None:
    context = getattr(config_of(model), "max_position_embeddings", None)
    for row, prompt in zip(ids, prompts, strict=True):
        if context is not None and len(row) + max_new_tokens > context:
            raise UserError(
                f'prompt: "{prompt[:40]}..." takes {len(row)} tokens; with {max_new_tokens} for the answer that is '
                f"more than the model's context of {context}. Shorten it."
            )
