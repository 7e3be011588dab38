"""Finds the rows of a table that lessons 04 to 06 refuse, because of the chat template or the maximum length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers import sft
from helpers.own_data.table import TOO_LONG, Table
from helpers.runtime import UserError

ANSWERS = ("completion", "chosen", "rejected")
AT_ONCE = 500  # number of conversations to tokenize together


def without_unfit(table: Table, tokenizer: Any, max_length: int = 256) -> Table:
    """Return a table in which the rows that `sft.encode` would refuse count as problems, not as usable rows.

    A table without prompts and answers is returned unchanged.

    Raises:
        UserError: when the tokenizer has no chat template, or its template does not mark the end of a turn.
    """
    answers = [role for role in ANSWERS if role in table.rows]
    if "prompt" not in table.rows or not answers or table.rows.empty:
        return table
    sft.end_of_turn(tokenizer)
    max_length = sft.most_tokens(tokenizer, max_length)
    special = sft.not_learned(tokenizer)
    problems: dict[str, str] = {}
    for start in range(0, len(table.rows), AT_ONCE):
        rows = table.rows.iloc[start : start + AT_ONCE].map(str)
        asked = [sft.render(tokenizer, prompt) for prompt in rows["prompt"]]
        prompts = [len(ids) for ids in _ids(tokenizer, asked)]
        for role in answers:
            pairs = list(zip(rows["prompt"], rows[role], strict=True))
            whole = [sft.render(tokenizer, *pair) for pair in pairs]
            lengths, alone = map(len, _ids(tokenizer, whole)), _ids(tokenizer, list(rows[role]))
            for place, pair, text, prompt, length, ids in zip(
                rows.index, pairs, whole, prompts, lengths, alone, strict=True
            ):
                said = _too_long(role, prompt, length, max_length)
                kept = pair[1].strip() in text and not special.issuperset(ids)
                if not said and not kept and not _learns(tokenizer, pair[0], pair[1], max_length):
                    said = f"no token of its {role} is left after the chat template and the tokenizer"
                if said:
                    problems.setdefault(place, said)
    return _moved(table, problems)


def _learns(tokenizer: Any, prompt: str, answer: str, max_length: int) -> bool:
    """Whether `sft.encode` accepts this conversation."""
    try:
        sft.encode(tokenizer, prompt, answer, max_length=max_length)
    except UserError:
        return False
    return True


def _too_long(role: str, prompt: int, whole: int, most: int) -> str:
    if sft.prompt_is_too_long(prompt, most):
        return f"{TOO_LONG}: its prompt takes {prompt:,} tokens, where a model reads {most:,} with the answer"
    if whole > most:
        return f"{TOO_LONG}: prompt and {role} take {whole:,} tokens, where a model reads {most:,}"
    return ""


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]


def _moved(table: Table, problems: Mapping[str, str]) -> Table:
    in_order = {place: problems[place] for place in table.rows.index if place in problems}
    rows = table.rows.drop(index=list(in_order))
    return Table(table.request, table.columns, table.choice, rows, {**table.problems, **in_order}, table.long)
