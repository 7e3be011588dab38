"""The reference for lesson 05: reward model, PPO, GRPO, RLOO, and KL penalties of several weights, over several seeds.

python -m benchmarks.rlhf            three seeds into data/reference/rlhf.json
python -m benchmarks.rlhf --rates    rate and KL weight apart, 14 updates each, into data/reference/rlhf_rates.json

The recipes are the lesson's. Each seed draws its own order of pairs, its own wishes and its own answers; all are graded
on wishes about films that no training used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from datasets import Dataset
from torch import nn
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from helpers import catalog
from helpers.lessons.lesson_05.experiment import grade, group_settings, reward_function
from helpers.ppo import PolicyWithValue, PPORecipe, Score, train_ppo
from helpers.reference import FOLDER, save_reference
from helpers.reward_model import Scorer, new_reward_model, preference_rows, preferred, train_reward_model
from helpers.runtime import UserError, seed_everything, start
from helpers.sft import answer, end_of_turn, messages
from microworld.judge import judge_answer

KL_WEIGHTS = (0.0, 0.05, 0.2, 0.8)
RATES = {"slow_held": (1, 0.2), "slow_free": (1, 0.0), "fast_held": (2, 0.2), "fast_free": (2, 0.0)}
RATE_UPDATES = 14
PAIRS, UPDATES, WISHES = 4000, PPORecipe.updates, 200


# Shares of PPO's learning rate and of its KL weight, chosen on the validation films.
SHARES = {"grpo": (0.3, 0.5), "rloo": (0.6, 1.0)}


def group_trainer(
    kind: str, model: nn.Module, tokenizer, prompts: Sequence[str], score: Score, ppo: PPORecipe, seed: int
):
    """TRL's trainer for "grpo" or "rloo", ready to `train()`, with PPO's number of updates and answers."""
    trainer_class, config = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}[kind]
    folder = tempfile.mkdtemp(prefix=kind)
    model.generation_config.eos_token_id = end_of_turn(tokenizer)  # where TRL looks for the end of an answer
    rows = Dataset.from_dict({"prompt": [messages(prompt) for prompt in prompts]})
    rate, kl_share = SHARES[kind]
    settings = group_settings(ppo.updates, ppo.batch_size, seed)
    settings |= {"learning_rate": rate * ppo.learning_rate, "beta": kl_share * ppo.kl_coef}
    arguments = config(output_dir=folder, use_cpu=model.device.type == "cpu", **settings)
    reward = reward_function(score, end_of_turn(tokenizer))
    trainer = trainer_class(model, reward, args=arguments, train_dataset=rows, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return trainer


class Course:
    """What every run of one seed is given: wishes, pairs, the SFT model, and a place for the figures."""

    def __init__(self, seed: int, updates: int, wishes: int):
        self.seed, self.updates = seed, updates
        self.tokenizer = catalog.tokenizer("instruct", "pocket")
        self.source = catalog.model_source("instruct", "pocket")
        self.rows = catalog.dataset("preferences", "pocket")
        self.prompts = self.rows["train"]["prompt"]
        self.test_wishes = self.rows["test"]["prompt"][:wishes]
        self.sft = self.policy().eval()
        self.values: dict[str, float] = {}

    def policy(self):
        return catalog.causal_language_model("pocket", role="instruct")

    def reward_model(self, rows) -> Scorer:
        """Train the reward model; its held-out accuracy becomes a figure."""
        seed_everything(self.seed)
        model, pad_id = new_reward_model(self.source, self.tokenizer), self.tokenizer.pad_token_id
        train_reward_model(model, preference_rows(self.tokenizer, rows), pad_id, epochs=2, seed=self.seed)
        held_out = preferred(model, preference_rows(self.tokenizer, self.rows["test"]), pad_id)
        self.values["reward_accuracy_held_out"] = held_out.mean().item()
        score = Scorer(model.requires_grad_(False), self.tokenizer)
        some = self.prompts[:256]
        score.set_scale(some, answer(self.sft, self.tokenizer, some, temperature=1.0, seed=self.seed))
        return score

    def graded(self, name: str, model, score: Scorer) -> None:
        """Put a policy's figures among the values."""
        found = grade(model, self.sft, self.tokenizer, self.test_wishes, score, self.seed, judge_answer)
        self.values[f"true_reward_{name}"] = found.true_reward
        self.values[f"proxy_{name}"] = found.proxy.mean().item()
        self.values[f"kl_{name}"] = found.kl.mean().item()
        click.echo(f"seed {self.seed}  {name:10} granted {found.true_reward:.2f}  KL {self.values[f'kl_{name}']:.1f}")

    def ppo(self, name: str, score: Scorer, kl_coef: float, faster: float = 1.0) -> None:
        seed_everything(self.seed)
        policy = PolicyWithValue(self.policy())
        rate = faster * PPORecipe.learning_rate
        recipe = PPORecipe(updates=self.updates, kl_coef=kl_coef, learning_rate=rate)
        train_ppo(policy, self.sft, self.tokenizer, self.prompts, score, recipe)
        self.graded(name, policy.model, score)

    def group(self, kind: str, score: Scorer, kl_coef: float) -> None:
        seed_everything(self.seed)
        policy, recipe = self.policy(), PPORecipe(updates=self.updates, kl_coef=kl_coef)
        group_trainer(kind, policy, self.tokenizer, self.prompts, score, recipe, self.seed).train()
        self.graded(kind, policy, score)


def measure(seed: int, pairs: int, updates: int, wishes: int) -> dict[str, float]:
    """All figures of one seed."""
    course = Course(seed, updates, wishes)
    score = course.reward_model(course.rows["train"].select(range(pairs)))
    course.graded("sft", course.sft, score)
    for number, weight in enumerate(KL_WEIGHTS):
        course.ppo(f"sweep_{number}", score, weight)
    for kind in ("grpo", "rloo"):
        course.group(kind, score, PPORecipe.kl_coef)
    return course.values


def measure_rates(seed: int, pairs: int, wishes: int) -> dict[str, float]:
    """Rate and KL weight apart: the four runs of one seed."""
    course = Course(seed, RATE_UPDATES, wishes)
    score = course.reward_model(course.rows["train"].select(range(pairs)))
    course.graded("sft", course.sft, score)
    for name, (faster, weight) in RATES.items():
        course.ppo(name, score, weight, faster)
    return course.values


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=3, type=click.IntRange(1, 100), show_default=True, help="How many: 0, 1, 2, ...")
@click.option("--pairs", default=PAIRS, type=click.IntRange(16, 4000), show_default=True)
@click.option("--updates", default=UPDATES, type=click.IntRange(1), show_default=True)
@click.option("--wishes", default=WISHES, type=click.IntRange(1, 800), show_default=True)
@click.option("--rates", is_flag=True, help="Rate and KL weight apart, into rlhf_rates.json.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for rlhf.json.")
def main(seeds: int, pairs: int, updates: int, wishes: int, rates: bool, into: Path) -> None:
    """Run lesson 05 once per seed and write data/reference/rlhf.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        if rates:
            measured = [measure_rates(seed, pairs, wishes) for seed in range(seeds)]
            settings = {"pairs": pairs, "updates": RATE_UPDATES, "wishes": wishes}
            path = save_reference("rlhf_rates", "python -m benchmarks.rlhf --rates", settings, measured, into)
            click.echo(f"written: {path.name}")
            return
        measured = [measure(seed, pairs, updates, wishes) for seed in range(seeds)]
        settings = {"pairs": pairs, "updates": updates, "wishes": wishes}
        settings |= {"kl_coefs": list(KL_WEIGHTS), "learning_rate": PPORecipe.learning_rate}
        path = save_reference("rlhf", "python -m benchmarks.rlhf", settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
