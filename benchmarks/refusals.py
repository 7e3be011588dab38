"""Measure lesson 04's sections 5 and 7 over several seeds, for data/reference/refusals.json.

.venv/bin/python benchmarks/refusals.py --seeds 5

Each seed trains lesson 04's model at the lesson's own settings and then trains copies of it further: on refusals (half
or a tenth of the rows), on old rows (the control), and on questions about one film as two turns or as single turns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click
import torch
from torch import Tensor

from helpers import catalog, sft
from helpers.lessons.lesson_04.experiment import (
    about_no_film,
    assistant_labels,
    confidence,
    film_pairs,
    greedy_cached,
    made_up,
    threshold_for,
)
from helpers.reference import FOLDER, kept, save_reference
from helpers.runtime import UserError, seed_everything, start

RECIPE = replace(sft.RECIPE, learning_rate=6e-4, epochs=1)
REFUSAL = "I do not know."
FURTHER, TALKS, SKILLED, ALLOWED = 800, 480, 90, 0.1


def shares(rows: Sequence, exact: Tensor, invented: Tensor, refused: Tensor, way: str) -> dict[str, float]:
    """The shares of lesson 04's table of refusals for one way of training."""

    def of(group: str, values: Tensor) -> float:
        return values[[row["known"] == group for row in rows]].double().mean().item()

    return {
        f"unknown_made_up_{way}": of("untold", invented),
        f"unknown_refused_{way}": of("untold", refused),
        f"known_right_{way}": of("told", exact),
        f"known_refused_{way}": of("told", refused),
        f"known_wrong_{way}": of("told", 1 - exact - refused),
        f"skills_right_{way}": of("skill", exact),
    }


def with_threshold(rows: Sequence, sure: Tensor, right: Tensor) -> Tensor:
    """1.0 where the model stays silent; each half of the questions gets the threshold chosen on the other half."""
    silent = torch.zeros(len(rows))
    facts = [place for place, row in enumerate(rows) if row["known"] != "skill"]
    skilled = [place for place, row in enumerate(rows) if row["known"] == "skill"]
    for half in range(2):
        chosen_on = facts[1 - half :: 2]
        threshold = threshold_for(sure[chosen_on].tolist(), right[chosen_on].bool().tolist(), ALLOWED)
        counted = facts[half::2] + skilled[half::2]
        silent[counted] = (sure[counted] < (2.0 if threshold is None else threshold)).float()
    return silent


def measure(instructions, seed: int) -> dict[str, float]:
    """Every metric of one seed."""
    tokenizer = catalog.tokenizer("decoder", "pocket")
    end, pad_id = sft.end_of_turn(tokenizer), tokenizer.pad_token_id
    start_id = tokenizer.convert_tokens_to_ids("<|assistant|>")
    every = [row for row in instructions["test"].shuffle(seed=0) if row["kind"] != "line"]
    skilled = [row for row in every if row["known"] == "skill"][:SKILLED]
    rows = [row for row in every if row["known"] != "skill"] + skilled
    prompts, wanted = [row["prompt"] for row in rows], [row["completion"] for row in rows]

    seed_everything(seed)
    model = catalog.causal_language_model("pocket")
    sft.fine_tune(model, sft.encode_rows(tokenizer, instructions["train"]), pad_id, RECIPE, seed=seed)

    def further(encoded: Sequence, epochs: int = 1, batch_size: int = RECIPE.batch_size):
        pupil = copy.deepcopy(model)
        recipe = replace(RECIPE, epochs=epochs, batch_size=batch_size, learning_rate=RECIPE.learning_rate / 2)
        sft.fine_tune(pupil, encoded, pad_id, recipe, seed=seed)
        return pupil

    mixed = instructions["train"].shuffle(seed=seed)
    trained = [row for row in mixed if row["known"] == "trained"]
    titles = sorted({row["film"] for row in instructions["train"]} - {""})
    parts = (*instructions.values(), catalog.dataset("facts", "pocket")["test"])
    unknown = about_no_film(trained, titles, {row["film"] for part in parts for row in part} - {""}, REFUSAL)
    pupils = {"before": model}
    for way, count in {"control": 0, "refusals_half": FURTHER // 2, "refusals_tenth": FURTHER // 10}.items():
        some = unknown[:count] + list(mixed.select(range(FURTHER - count)))
        pupils[way] = further(sft.encode_rows(tokenizer, some))
    found: dict[str, float] = {}
    for way, pupil in pupils.items():
        given = sft.answer(pupil, tokenizer, prompts)
        exact, refused = sft.exact_match(given, wanted), torch.tensor([float(text == REFUSAL) for text in given])
        found |= shares(rows, exact, made_up(rows, given), refused, way)
        if way == "before":
            silent = with_threshold(rows, confidence(model, tokenizer, prompts, given), exact)
            spoken = 1 - silent
            found |= shares(rows, exact * spoken, made_up(rows, given) * spoken, silent, "threshold")

    def encoded(turns: Sequence) -> sft.Row:
        ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
        return {"input_ids": ids, "labels": assistant_labels(ids, start_id, end)}

    trained = [row for row in instructions["train"] if row["known"] == "trained"]
    pairs = film_pairs(trained)[:TALKS]
    asked = film_pairs([row for row in instructions["test"] if row["known"] == "told"], per_film=3)
    learners = {"old_single": pupils["control"]}
    learners["same_single"] = further(
        [encoded(sft.messages(row["prompt"], row["completion"])) for pair in pairs for row in pair],
        epochs=2,
        batch_size=2 * RECIPE.batch_size,
    )
    learners["two_turns"] = further([encoded(talk(*pair)) for pair in pairs], epochs=2)
    for way, learner in learners.items():
        found[f"second_turn_{way}"] = second_answers(learner.eval(), tokenizer, [talk(*pair) for pair in asked], end)
    return found


def talk(first, second) -> list[dict[str, str]]:
    """A conversation of two turns; the second question says "it" for the film."""
    follow = second["prompt"].replace(second["film"], "it")
    return [*sft.messages(first["prompt"], first["completion"]), *sft.messages(follow, second["completion"])]


def second_answers(model, tokenizer, talks: Sequence, end: int) -> float:
    """The share of second questions answered to the letter, the first turn given."""
    right = 0
    for turns in talks:
        text = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        written = greedy_cached(model, ids, 24, end)[0, ids.shape[1] :]
        right += tokenizer.decode(written, skip_special_tokens=True).strip() == turns[-1]["content"]
    return right / len(talks)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=5, type=click.IntRange(1, 100), show_default=True, help="Number of seeds.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for refusals.json.")
@click.option("--keep", default=Path("runs/refusals"), type=click.Path(path_type=Path), help="What is done so far.")
def main(seeds: int, into: Path, keep: Path) -> None:
    """Measure every seed, and write data/reference/refusals.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        instructions = catalog.dataset("instructions", "pocket")
        settings = {
            "learning_rate": RECIPE.learning_rate,
            "batch": RECIPE.batch_size,
            "rows_further": FURTHER,
            "conversations": TALKS,
        }
        measured = []
        for seed in range(seeds):
            one: Callable[[], dict[str, object]] = lambda seed=seed: dict(measure(instructions, seed))  # noqa: E731
            measured.append(kept(keep, "refusals", settings | {"seed": seed}, one))
            click.echo(f"seed {seed}: {measured[-1]}")
        click.echo(save_reference("refusals", "python benchmarks/refusals.py", settings, measured, into).name)
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
