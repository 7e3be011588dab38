"""A reference table of lesson 06: pairs that a rule wrote against pairs of the model's own answers, over several seeds.

python -m benchmarks.own_pairs           three seeds into data/reference/dpo_own_pairs.json

Both kinds: the same number of pairs and of steps. Own pairs: four answers to each request from the SFT model at
temperature 1, labelled by the judge; a right one is chosen, a wrong one rejected. What was measured is kept in a
folder, so that a run that was stopped can go on.
"""

from __future__ import annotations

import copy
from pathlib import Path

import click

from benchmarks.dpo import Bench
from helpers import dpo
from helpers.batches import sample_rows
from helpers.reference import FOLDER, kept, save_reference
from helpers.reward_model import preference_rows
from helpers.runtime import UserError, seed_everything, start
from helpers.sft import answer, exact_match
from microworld.judge import judge_answer

PAIRS, EPOCHS, DRAWS, REQUESTS, SKILLS = 320, 3, 4, 480, 120
RUNS = {  # name: (title, whose pairs, beta, SFT weight, learning rate)
    "own_dpo": ("own pairs, DPO as published, beta 0.3, rate 1e-4", "own", 0.3, 0.0, 1e-4),
    "own_chosen": ("own pairs, SFT on the chosen answers, rate 2e-4", "own", 1e-6, 1.0, 2e-4),
    "own_dpo_sft": ("own pairs, DPO with the SFT term, beta 1, rate 2e-4", "own", 1.0, 1.0, 2e-4),
    "given_dpo": ("given pairs, DPO as published, beta 0.3, rate 1e-4", "given", 0.3, 0.0, 1e-4),
    "given_chosen": ("given pairs, SFT on the chosen answers, rate 2e-4", "given", 1e-6, 1.0, 2e-4),
}


def own_pairs(bench: Bench, rows: list[dict], seed: int, requests: int) -> list[dict[str, str]]:
    """A right and a wrong answer of the SFT model to each training request that got both."""
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))[:requests]
    asked = [prompt for prompt in prompts for _ in range(DRAWS)]
    drawn = answer(bench.sft, bench.tokenizer, asked, temperature=1.0, seed=seed, batch_size=256)
    found = []
    for place, prompt in enumerate(prompts):
        answers = drawn[place * DRAWS : (place + 1) * DRAWS]
        good = [text for text in answers if judge_answer(prompt, text).good]
        bad = [text for text in answers if text and not judge_answer(prompt, text).good]
        if good and bad:
            found.append({"prompt": prompt, "chosen": good[0], "rejected": bad[0]})
    return found


def measure_seed(bench: Bench, seed: int, pairs: int, requests: int) -> dict[str, float]:
    """All metrics of one seed."""
    rows = sample_rows(bench.preferences["train"], dpo.PAIRS, seed, name="pairs").to_list()
    given = {"own": own_pairs(bench, rows, seed, requests)[:pairs]}
    given["given"] = rows[: len(given["own"])]
    encoded = {name: preference_rows(bench.tokenizer, some) for name, some in given.items()}
    pad_id = bench.tokenizer.pad_token_id
    reference = {name: dpo.reference_log_probs(bench.sft, some, pad_id) for name, some in encoded.items()}
    values, sft = bench.measure(bench.sft, "beta_sft", seed, None)  # "beta" in the name: facts and skills are left out
    for name, (_, whose, beta, weight, rate) in RUNS.items():
        policy = copy.deepcopy(bench.sft)
        seed_everything(seed)
        settings = {"beta": beta, "sft_weight": weight, "learning_rate": rate, "epochs": EPOCHS, "seed": seed}
        dpo.train_dpo(policy, encoded[whose], reference[whose], pad_id, **settings)
        found, _ = bench.measure(policy, f"beta_{name}", seed + 1000, sft)
        values |= {metric.replace("beta_", ""): value for metric, value in found.items()}
        skills = bench.asked["skills"][:SKILLS]
        said = answer(policy, bench.tokenizer, [row["prompt"] for row in skills], batch_size=SKILLS)
        values[f"skills_{name}"] = exact_match(said, [row["completion"] for row in skills]).mean().item()
    return values | {"pairs": float(len(given["own"]))}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=3, type=click.IntRange(1, 100), show_default=True, help="How many: 0, 1, 2, ...")
@click.option("--pairs", default=PAIRS, type=click.IntRange(16), show_default=True)
@click.option("--requests", default=REQUESTS, type=click.IntRange(16), show_default=True)
@click.option("--kept-in", default="runs/own_pairs", type=click.Path(path_type=Path), help="What was measured so far.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for dpo_own_pairs.json.")
def main(seeds: int, pairs: int, requests: int, kept_in: Path, into: Path) -> None:
    """Train on both kinds of pairs once per seed and write data/reference/dpo_own_pairs.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        bench, measured = Bench("test", 300), []
        settings = {"pairs": pairs, "requests": requests, "epochs": EPOCHS}
        for seed in range(seeds):

            def measure(seed: int = seed) -> dict[str, object]:
                return dict(measure_seed(bench, seed, pairs, requests))

            measured.append(kept(kept_in, f"seed-{seed}", settings | {"seed": seed}, measure))
        settings |= {"runs": {name: title for name, (title, *_) in RUNS.items()}}
        path = save_reference("dpo_own_pairs", "python -m benchmarks.own_pairs", settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
