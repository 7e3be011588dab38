"""Supervised fine-tuning (SFT): conversations as token ids with labels, the training, and the model's answers.

For any causal language model whose tokenizer has a chat template. Lesson 04 writes `messages`, `render` and `encode`
out; a test keeps the first two the same.
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
    """What decides a fine-tuning, but for the model and the rows; chosen on validation rows."""

    learning_rate: float = 4e-4
    epochs: int = 2
    batch_size: int = 16
    weight_decay: float = 0.01


RECIPE = SFTRecipe()


def messages(prompt: str, completion: str | None = None) -> list[dict[str, str]]:
    """One turn, or two, in the form that chat templates read: a list of role and content."""
    turns = [{"role": "user", "content": prompt}]
    return turns if completion is None else [*turns, {"role": "assistant", "content": completion}]


def render(tokenizer, prompt: str, completion: str | None = None) -> str:
    """The conversation as one text; without a completion it ends where the assistant is to begin."""
    opening = completion is None
    return tokenizer.apply_chat_template(messages(prompt, completion), tokenize=False, add_generation_prompt=opening)


def encode(tokenizer, prompt: str, completion: str, answer_only: bool = True, max_length: int = 256) -> Row:
    """Token ids and labels of one conversation, each of length seq; the labels are -100 on what is only read.

    The template decides how a text begins and ends, as in TRL's `SFTTrainer`, so nothing is added around it.

    Raises:
        UserError: when the completion is empty, the template or the tokenizer drops it, the template leaves the end
            of the turn unmarked, or the conversation is longer than `max_length` tokens.
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
    """The tokens that say nothing: all special ones but the unknown token, which stands for a word."""
    return {token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id}


def split_conversation(tokenizer, prompt: str, completion: str) -> tuple[list[int], int]:
    """The token ids of a conversation, and how many of them come before the answer.

    Mostly the prompt's own tokens begin the whole. They do not when a token joins the end of the prompt and the
    beginning of the answer, or when the template opens an answer differently than it records one (with `<think>`).
    Then the answer is found by its characters; a token that holds one of them belongs to it.
    """
    opened, whole = render(tokenizer, prompt), render(tokenizer, prompt, completion)
    start, input_ids = _ids(tokenizer, opened), _ids(tokenizer, whole)
    if whole.startswith(opened):
        if input_ids[: len(start)] == start:
            return input_ids, len(start)
        place = len(opened)
    else:
        # The answer begins where another one would change the text; two that differ, since one may begin as this one.
        place = min(_shared(whole, render(tokenizer, prompt, other)) for other in ("A", "B"))
    return input_ids, _tokens_before(tokenizer, whole, input_ids, place)


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _shared(one: Sequence, other: Sequence) -> int:
    """With how many equal items both begin."""
    same = [first == second for first, second in zip(one, other, strict=False)]
    return [*same, False].index(False)


def _tokens_before(tokenizer, text: str, input_ids: list[int], place: int) -> int:
    """How many tokens hold no character from `place` on."""
    if not tokenizer.is_fast:  # it cannot say which characters a token holds
        return _shared(input_ids, _ids(tokenizer, text[:place]))
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return next((number for number, (_, end) in enumerate(spans) if end > place), len(spans))


def check_conversation(tokenizer, prompt: str, completion: str, max_length: int = 256) -> None:
    """Raise a UserError, naming the field and the fix, when `encode` could not make a sound row of this."""
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
    """`max_length`, or what the tokenizer says that its model has positions for, if that is less."""
    return min(max_length, getattr(tokenizer, "model_max_length", max_length))


def prompt_is_too_long(tokens: int, max_length: int) -> bool:
    """Whether a prompt of so many tokens leaves no room for a token of an answer and its end."""
    return tokens > max_length - 2


def end_of_turn(tokenizer) -> int:
    """The id of the token that the template puts after an answer: where a model has to stop.

    Raises:
        UserError: when there is no template, or it puts no special token there.
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
    """Raise a UserError that names the first of the columns which a row does not have."""
    missing = [name for name in columns if name not in row]
    if missing:
        raise UserError(f"{field}: there is no column {missing[0]}, only {', '.join(row)}; rename one to it.")


def encode_rows(
    tokenizer, rows: Iterable[Mapping], answer_only: bool = True, max_length: int = 256, field: str = "instructions"
) -> list[Row]:
    """`encode` over rows with the columns prompt and completion; a UserError names a column that is missing."""
    encoded = []
    for row in rows:
        check_columns(row, field=field)
        encoded.append(encode(tokenizer, row["prompt"], row["completion"], answer_only, max_length))
    return encoded


def collate(rows: Sequence[Row], pad_id: int) -> Batch:
    """Rows of different lengths as input_ids, attention_mask and labels, each (batch, seq), padded on the right."""
    labels = [torch.tensor(row["labels"]) for row in rows]
    padded_labels = pad_sequence(labels, batch_first=True, padding_value=IGNORED)
    return {**padded([row["input_ids"] for row in rows], pad_id), "labels": padded_labels}


def conversation_batches(
    rows: Sequence[Row], pad_id: int, batch_size: int = 32, seed: int = 0, shuffle: bool = True
) -> DataLoader:
    """Padded batches of conversations of like length; every pass gives a new order, the same for the same seed."""
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
    """Train in place on encoded conversations; the seed decides their order.

    Raises:
        UserError: before the weights are touched, when a loss is not finite.
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
    """What the model answers to each prompt: the likeliest tokens, or at a temperature drawn from all of them.

    seed: for drawing; the global random state is left as it was. Raises a UserError when a prompt leaves no room
    for an answer in the model's context.
    """
    model.eval()
    ids = [tokenizer(render(tokenizer, prompt), add_special_tokens=False)["input_ids"] for prompt in prompts]
    _check_room(model, ids, prompts, max_new_tokens)
    settings = _decoding(tokenizer, temperature) | {"max_new_tokens": max_new_tokens}
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))  # like lengths together: less padding
    answers = [""] * len(ids)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            # Every row ends at the right edge, where the next token goes.
            batch = to_device(padded([ids[row] for row in rows], settings["pad_token_id"], side="left"), model)
            written = model.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :]  # (batch, new tokens)
            for row, text in zip(rows, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
                answers[row] = text.strip()
    return answers


def _decoding(tokenizer, temperature: float) -> dict:
    """What `generate` has to be told."""
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    stops = [token for token in (end_of_turn(tokenizer), end) if token is not None]
    settings = {"eos_token_id": stops, "pad_token_id": end if pad is None else pad, "do_sample": temperature > 0}
    # By itself `generate` would draw from the 50 likeliest tokens only.
    return settings | ({"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {})


def exact_match(answers: Sequence[str], completions: Sequence[str]) -> Tensor:
    """1.0 where an answer is the completion to the letter, else 0.0: (rows,)."""
    pairs = zip(answers, completions, strict=True)
    return torch.tensor([float(given.strip() == wanted.strip()) for given, wanted in pairs])


def exact_match_rates(rows: Sequence[Mapping], answers: Sequence[str], column: str = "kind") -> dict[str, Interval]:
    """The share of exact matches for each value of `column`, in the order in which the values first appear."""
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
