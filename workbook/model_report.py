"""Finds out which lessons accept a learner's own model folder, with the same checks that the lessons run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helpers import catalog, qlora
from helpers.lessons.lesson_01.experiment import check_family
from helpers.memory.architecture import Architecture
from helpers.prompt_tuning import check_prefix
from helpers.runtime import UserError

LEDGER = 64  # tokens per row in lesson 11's memory ledger


def refusals(model: str) -> dict[str, str]:
    """Lesson -> the message with which it refuses the folder `model`, or "" if it accepts the folder."""
    answers = {question: _answer(question, model) for question in {ask for asked in ASKED.values() for ask in asked}}
    return {lesson: next((answers[ask] for ask in asked if answers[ask]), "") for lesson, asked in ASKED.items()}


def _answer(question: Callable[[str], Any], model: str) -> str:
    try:
        question(model)
    except UserError as error:
        return str(error)
    return ""


def _reads(model: str) -> None:
    catalog.tokenizer("encoder", "pocket", model)
    catalog.body("encoder", "pocket", model)


def _fills_blanks(model: str) -> Any:
    catalog.tokenizer("encoder", "pocket", model)
    return catalog.masked_language_model("pocket", model)


def _has_known_blocks(model: str) -> None:
    check_family(_fills_blanks(model))


def _takes_a_prefix(model: str) -> None:
    check_prefix(catalog.body("encoder", "pocket", model))


def _answers(model: str) -> None:
    catalog.tokenizer("instruct", "pocket", model)
    catalog.causal_language_model("pocket", model, role="instruct")


def _has_a_ledger(model: str) -> None:
    body = catalog.body("encoder", "pocket", model)
    Architecture.of(body.config)
    qlora.check_rows(body)
    most = catalog.tokenizer("encoder", "pocket", model).model_max_length
    if most < LEDGER:
        raise UserError(
            f"model: it reads {most} tokens at most, and this needs rows of {LEDGER}; choose another model."
        )


ASKED: dict[str, tuple[Callable[[str], Any], ...]] = {
    "00": (_fills_blanks,),
    "01": (_has_known_blocks,),
    "02": (_reads,),
    "03": (_fills_blanks,),
    "04": (_answers,),
    "05": (_answers,),
    "06": (_answers,),
    "07": (_fills_blanks, _takes_a_prefix),
    "08": (_reads,),
    "09": (_reads,),
    "10": (_reads,),
    "11": (_reads, _has_a_ledger),
}
