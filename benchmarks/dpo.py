"""Measure the reference of lesson 06: DPO at several betas, and RLHF, over several seeds, for data/reference/dpo.json.

python -m benchmarks.dpo                        three seeds, requests about the test films
python -m benchmarks.dpo --judged validation    the same on validation films, to choose settings; only prints

Each seed draws its own pairs, order and answers. The recipes are the lesson's: `helpers.dpo`, `helpers.reward_model`
and `helpers.ppo`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import click
from torch import Tensor, nn

from helpers import catalog, dpo, ppo, reward_model
from helpers.batches import sample_rows
from helpers.cost import PeakMemory, Stopwatch
from helpers.dpo import reference_log_probs, win_rate
from helpers.lessons.lesson_05.experiment import JudgedAnswers
from helpers.lessons.lesson_06.experiment import TEMPERATURE, judge_policy, kl_per_answer
from helpers.reference import FOLDER, save_reference
from helpers.reward_model import Pair, preference_rows
from helpers.runtime import UserError, seed_everything, start
from helpers.sft import answer, exact_match
from microworld.judge import judge_answer


def metric_of(beta: float) -> str:
    """Return the ending of a beta's metric names, such as dpo_beta_0_1 for 0.1."""
    return f"dpo_beta_{beta:g}".replace(".", "_")


CONTROLS = {"dpo_without_sft": (dpo.BETAS[0], 0.0), "chosen_only": (1e-6, dpo.SFT_WEIGHT)}  # name: (beta, sft_weight)

KEPT = {"facts": "told", "skills": "skill"}  # abilities that DPO should keep, although no pair trains them


class Bench:
    """What all seeds share: the SFT model, the requests to judge, and the questions."""

    def __init__(self, judged: str, wishes: int) -> None:
        self.tokenizer = catalog.tokenizer("instruct", "pocket")
        self.sft = catalog.causal_language_model("pocket", role="instruct").eval()
        self.preferences = catalog.dataset("preferences", "pocket")
        self.wishes = self.preferences[judged]["prompt"][:wishes]
        rows = catalog.dataset("instructions", "pocket")[judged]
        self.asked = {what: [row for row in rows if row["known"] == known] for what, known in KEPT.items()}

    def pairs(self, count: int, seed: int) -> tuple[list[str], list[Pair], Tensor, float]:
        """Return the drawn prompts, their pairs, the reference model's log-probabilities, and the seconds for these."""
        rows = sample_rows(self.preferences["train"], count, seed, name="pairs")
        pairs = preference_rows(self.tokenizer, rows)
        with Stopwatch() as watch:
            reference = reference_log_probs(self.sft, pairs, self.tokenizer.pad_token_id)
        return sorted(set(rows["prompt"])), pairs, reference, watch.seconds

    def measure(self, policy: nn.Module, name: str, seed: int, sft: JudgedAnswers | None) -> tuple[dict, JudgedAnswers]:
        """Judge one policy. Return metrics whose names end in `name`, and the judged answers."""
        judged = judge_policy(policy, self.tokenizer, self.wishes, judge_answer, seed=seed)
        values = {f"{way}_rate_{name}": rate for way, rate in judged.rates().items()}
        if "beta" not in name:  # the slowest measurement, so it is skipped for the betas
            for what, rows in self.asked.items():
                answers = answer(policy, self.tokenizer, [row["prompt"] for row in rows])
                right = exact_match(answers, [row["completion"] for row in rows])
                values[f"exact_answer_rate_{what}_{name}"] = right.mean().item()
        if sft is not None:
            apart = kl_per_answer(policy, self.sft, self.tokenizer, self.wishes, judged.answers)
            values |= {f"win_rate_{name}": win_rate(judged.good, sft.good), f"kl_{name}": apart.mean().item()}
        click.echo(f"seed {seed % 1000}  " + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
        return values, judged


def measure_seed(bench: Bench, seed: int, count: int, updates: int, betas: Sequence[float]) -> dict[str, float]:
    """Return all metrics of one seed."""
    prompts, pairs, reference, seconds = bench.pairs(count, seed)
    values, sft = bench.measure(bench.sft, "sft", seed, None)
    few = max(32, count // 4)  # as in the lesson: few pairs and no SFT loss show the effect of beta
    runs = {"dpo": (dpo.BETA, dpo.SFT_WEIGHT, count)}
    if betas:
        runs |= {name: (*setting, count) for name, setting in CONTROLS.items()}
        runs |= {metric_of(beta): (beta, 0.0, few) for beta in betas}
    for name, (beta, sft_weight, rows) in runs.items():
        policy = copy.deepcopy(bench.sft)
        seed_everything(seed)
        data = pairs[:rows], reference[:rows], bench.tokenizer.pad_token_id
        trained = dpo.train_dpo(policy, *data, beta=beta, sft_weight=sft_weight, seed=seed)
        values |= bench.measure(policy, name, seed + 1000, sft)[0]
        if name == "dpo":
            values |= {"seconds_dpo": seconds + trained.seconds, "peak_memory_bytes_dpo": trained.peak_bytes}
    return values | rlhf(bench, seed, prompts, pairs, sft, updates)


def rlhf(bench: Bench, seed: int, prompts, pairs: Sequence[Pair], sft: JudgedAnswers, updates: int) -> dict[str, float]:
    """Train a reward model on the same pairs, then PPO against it. Return the judge's metrics, seconds and memory."""
    seed_everything(seed)
    with PeakMemory() as memory, Stopwatch() as watch:
        scorer = reward_model.new_reward_model(catalog.model_source("instruct", "pocket"), bench.tokenizer)
        reward_model.train_reward_model(scorer, pairs, bench.tokenizer.pad_token_id, epochs=2, seed=seed)
        score = reward_model.Scorer(scorer.requires_grad_(False), bench.tokenizer)
        some = prompts[:256]
        score.set_scale(some, answer(bench.sft, bench.tokenizer, some, temperature=1.0, seed=seed))
        learner = ppo.PolicyWithValue(copy.deepcopy(bench.sft))
        recipe = ppo.PPORecipe(updates=updates)
        ppo.train_ppo(learner, bench.sft, bench.tokenizer, prompts, score, recipe)
    found, _ = bench.measure(learner.model.eval(), "rlhf", seed + 1000, sft)
    return found | {"seconds_rlhf": watch.seconds, "peak_memory_bytes_rlhf": memory.added}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seeds",
    default=3,
    type=click.IntRange(1, 100),
    show_default=True,
    help="Number of seeds; 3 means seeds 0, 1 and 2.",
)
@click.option("--pairs", default=dpo.PAIRS, type=click.IntRange(32), show_default=True)
@click.option("--wishes", default=300, type=click.IntRange(2), show_default=True)
@click.option("--updates", default=ppo.PPORecipe.updates, type=click.IntRange(1), show_default=True)
@click.option(
    "--sweep/--no-sweep", default=True, show_default=True, help="Measure all betas and controls, or only DPO and RLHF."
)
@click.option("--judged", default="test", type=click.Choice(["validation", "test"]), show_default=True)
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for dpo.json.")
def main(seeds: int, pairs: int, wishes: int, updates: int, sweep: bool, judged: str, into: Path) -> None:
    """Train and judge once per seed and write data/reference/dpo.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        bench, betas = Bench(judged, wishes), dpo.BETAS if sweep else ()
        measured = [measure_seed(bench, seed, pairs, updates, betas) for seed in range(seeds)]
        if judged == "validation":
            return
        command = "python -m benchmarks.dpo" + ("" if sweep else " --no-sweep")
        settings = {
            "pairs": pairs,
            "beta": dpo.BETA,
            "sft_weight": dpo.SFT_WEIGHT,
            "wishes": len(bench.wishes),
            "updates": updates,
            "temperature": TEMPERATURE,
        }
        path = save_reference("dpo", command, settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
