"""Which rows of a table lessons 04 to 06 refuse: by the model's chat template and the number of tokens it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers import sft
from helpers.own_data.table import TOO_LONG, Table

ANSWERS = ("completion", "chosen", "rejected")
AT_ONCE = 500  # conversations tokenized together


def without_unfit(table: Table, tokenizer: Any, max_length: int = 256) -> Table:
    """The table, with the rows that `sft.encode` would refuse among its problems; any other table as it is.

    Raises:
        UserError: when the tokenizer has no chat template, or one that does not mark the end of a turn.
    """
    answers = [role for role in ANSWERS if role in table.rows]
    if "prompt" not in table.rows or not answers or table.rows.empty:
        return table
    sft.end_of_turn(tokenizer)
    max_length = sft.most_tokens(tokenizer, max_length)
    problems: dict[str, str] = {}
    for start in range(0, len(table.rows), AT_ONCE):
        rows = table.rows.iloc[start : start + AT_ONCE].map(str)
        asked = [sft.render(tokenizer, prompt) for prompt in rows["prompt"]]
        prompts = _lengths(tokenizer, asked)
        for role in answers:
            whole = [sft.render(tokenizer, *pair) for pair in zip(rows["prompt"], rows[role], strict=True)]
            for place, prompt, length in zip(rows.index, prompts, _lengths(tokenizer, whole), strict=True):
                said = _too_long(role, prompt, length, max_length)
                if said:
                    problems.setdefault(place, said)
    return _moved(table, problems)


def _too_long(role: str, prompt: int, whole: int, most: int) -> str:
    if sft.prompt_is_too_long(prompt, most):
        return f"{TOO_LONG}: its prompt takes {prompt:,} tokens, where a model reads {most:,} with the answer"
    if whole > most:
        return f"{TOO_LONG}: prompt and {role} take {whole:,} tokens, where a model reads {most:,}"
    return ""


def _lengths(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]


def _moved(table: Table, problems: Mapping[str, str]) -> Table:
    in_order = {place: problems[place] for place in table.rows.index if place in problems}
    rows = table.rows.drop(index=list(in_order))
    return Table(table.request, table.columns, table.choice, rows, {**table.problems, **in_order}, table.long)
