"""Measure supervised fine-tuning over several seeds, for data/reference/instructions.json.

.venv/bin/python benchmarks/instructions.py               five seeds on the test rows
.venv/bin/python benchmarks/instructions.py --tune        search learning rates on validation rows; only prints

The recipe is `helpers.sft.RECIPE`, which lesson 04 runs. A seed decides the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import torch

from helpers import catalog
from helpers.intervals import mean_t
from helpers.lessons.lesson_04.experiment import made_up
from helpers.reference import FOLDER, save_reference
from helpers.runtime import UserError, seed_everything, start
from helpers.sft import RECIPE, SFTRecipe, answer, encode_rows, exact_match, fine_tune
from microworld.instructions import SKILLS

GRID = (2e-4, 3e-4, 4e-4, 6e-4, 1e-3)
ARMS = ("sft", "everything", "without_space")


def without_space(tokenizer):
    """Remove the space before each turn's text from the tokenizer's chat template. Return the tokenizer."""
    tokenizer.chat_template = tokenizer.chat_template.replace(" {{ message", "{{ message")
    return tokenizer


def judged(instructions, split: str, limit: int) -> list[dict]:
    """Return up to `limit` rows of a split that have one exact answer."""
    rows = instructions[split].filter(lambda row: row["kind"] != "line").shuffle(seed=0)
    return rows.select(range(min(limit, len(rows)))).to_list()


def shares(rows: list[dict], answers: list[str]) -> dict[str, float]:
    """Return the exact-answer rates on told facts, on each skill and on all skills, and the rate of made-up answers."""
    right = exact_match(answers, [row["completion"] for row in rows])
    invented = made_up(rows, answers)

    def mean(values: torch.Tensor, wanted: Callable[[dict], bool]) -> float:
        chosen = [place for place, row in enumerate(rows) if wanted(row)]
        return values[chosen].mean().item() if chosen else 0.0

    found = {f"exact_{kind}": mean(right, lambda row, kind=kind: row["kind"] == kind) for kind in SKILLS}
    found["exact_match_known"] = mean(right, lambda row: row["known"] == "told")
    found["exact_match_skills"] = mean(right, lambda row: row["known"] == "skill")
    found["made_up_unknown"] = mean(invented, lambda row: row["known"] == "untold")
    return found


def measure(instructions, arm: str, seed: int, recipe: SFTRecipe, split: str, limit: int) -> dict[str, float]:
    """Fine-tune the pocket decoder once and judge its answers. The arm "base" is not trained."""
    seed_everything(seed)
    tokenizer, model = catalog.tokenizer("decoder", "pocket"), catalog.causal_language_model("pocket")
    tokenizer = without_space(tokenizer) if arm == "without_space" else tokenizer
    seconds = 0.0
    if arm != "base":
        train = instructions["train"].shuffle(seed=0).select(range(min(limit, len(instructions["train"]))))
        encoded = encode_rows(tokenizer, train, answer_only=arm != "everything")
        seconds = fine_tune(model, encoded, tokenizer.pad_token_id, recipe, seed=seed).seconds
    rows = judged(instructions, split, limit)
    found = shares(rows, answer(model, tokenizer, [row["prompt"] for row in rows]))
    click.echo(f"seed {seed}  {arm:14}" + "  ".join(f"{name} {value:.3f}" for name, value in found.items()))
    return {f"{name}_{arm}": value for name, value in (found | {"seconds": seconds}).items()}


def tune(instructions, seeds: int, limit: int) -> None:
    """Print the mean validation rates of every learning rate, over the seeds."""
    for rate in GRID:
        recipe = replace(RECIPE, learning_rate=rate)
        found = [measure(instructions, "sft", seed, recipe, "validation", limit) for seed in range(seeds)]
        means = {
            name: mean_t([one[name] for one in found]).value
            for name in ("exact_match_known_sft", "exact_match_skills_sft")
        }
        click.echo(f"{rate:8.0e}  " + "  ".join(f"{name} {value:.3f}" for name, value in means.items()))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seeds",
    default=5,
    type=click.IntRange(1, 100),
    show_default=True,
    help="Number of seeds; 3 means seeds 0, 1 and 2.",
)
@click.option("--limit", default=100_000, type=click.IntRange(1), help="Maximum number of rows, for a trial run.")
@click.option("--tune", "tuning", is_flag=True, help="Try learning rates on validation rows; write nothing.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for instructions.json.")
def main(seeds: int, limit: int, tuning: bool, into: Path) -> None:
    """Fine-tune once per seed and arm, and write data/reference/instructions.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        instructions = catalog.dataset("instructions", "pocket")
        if tuning:
            return tune(instructions, seeds, limit)
        base = measure(instructions, "base", 0, RECIPE, "test", limit)
        measured = []
        for seed in range(seeds):
            values = dict(base)
            for arm in ARMS:
                values |= measure(instructions, arm, seed, RECIPE, "test", limit)
            measured.append(values)
        settings = {"learning_rate": RECIPE.learning_rate, "epochs": RECIPE.epochs, "batch": RECIPE.batch_size}
        path = save_reference("instructions", "python benchmarks/instructions.py", settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
