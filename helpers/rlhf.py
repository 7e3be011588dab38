"""What the reference runs of lesson 05 share with it: answers graded by the judge, and TRL's two trainers.

A policy is graded on wishes for films that neither it nor the reward model was trained on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers.conversations import end_of_turn, messages
from helpers.ppo import PolicyWithValue, Recipe, Score, roll_out
from helpers.preferences import Judge

PARTS = ("good", "tone", "film", "form")


@dataclass(frozen=True)
class Graded:
    """One answer to each wish: what the judge says, what the reward model says, and how far from the reference.

    good, tone, film, form: (prompts,) of 0 and 1. proxy, kl: (prompts,); kl in nats, on the answer drawn.
    """

    answers: list[str]
    good: Tensor
    tone: Tensor
    film: Tensor
    form: Tensor
    proxy: Tensor
    kl: Tensor

    @property
    def true_reward(self) -> float:
        """The share of wishes granted."""
        return self.good.mean().item()


def grade(
    model: nn.Module, reference: nn.Module, tokenizer, prompts: Sequence[str], score: Score, seed: int, judge: Judge
) -> Graded:
    """Draw one answer to each prompt and ask the judge about it; the global random state is left as it was.

    judge: such as `microworld.judge.judge_answer`.
    """
    answers, kl = [], []
    policy = PolicyWithValue(model.eval())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), 64):
            rollout = roll_out(policy, reference, tokenizer, prompts[start : start + 64], new=24)
            gap = (rollout.log_probs - rollout.reference_log_probs) * rollout.mask
            kl.append(gap.sum(dim=1))
            answers += rollout.answers
    verdicts = [judge(prompt, text) for prompt, text in zip(prompts, answers, strict=True)]
    judged = {part: torch.tensor([float(getattr(found, part)) for found in verdicts]) for part in PARTS}
    return Graded(answers, **judged, proxy=score(prompts, answers).cpu(), kl=torch.cat(kl).cpu())


def reward_function(score: Score) -> Callable:
    """Our scorer in the shape that TRL calls: conversations in, a list of numbers out."""

    def reward_model(prompts, completions, **_):
        asked = [turns[-1]["content"] for turns in prompts]
        answered = [turns[-1]["content"].strip() for turns in completions]
        return score(asked, answered).tolist()

    return reward_model


class Watched:
    """A scorer that asks the judge too, for our eyes only: no training step sees what the judge says."""

    def __init__(self, score: Score, judge: Judge):
        self.score, self.judge = score, judge
        self.proxy: list[float] = []  # one mean per call
        self.truth: list[float] = []

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
        scores = self.score(prompts, answers)
        good = [self.judge(prompt, answer).good for prompt, answer in zip(prompts, answers, strict=True)]
        self.proxy.append(scores.mean().item())
        self.truth.append(sum(good) / len(good))
        return scores


# Shares of PPO's learning rate and of its KL weight, chosen on the validation films.
SHARES = {"grpo": (0.3, 0.5), "rloo": (0.6, 1.0)}


def group_settings(updates: int, batch_size: int, seed: int) -> dict:
    """What TRL's GRPO and RLOO are told alike."""
    return {
        "per_device_train_batch_size": batch_size,  # answers, not prompts: the prompts are batch_size / 4
        "num_generations": 4,  # answers to each prompt: the group
        "num_iterations": 2,  # passes over the same answers
        "max_steps": 2 * updates,
        "max_completion_length": 24,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "seed": seed,
        "bf16": False,
        "activation_checkpointing": False,  # memory for time: not needed at this size
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "disable_tqdm": True,
    }


def group_trainer(kind: str, model: nn.Module, tokenizer, prompts: Sequence[str], score: Score, ppo: Recipe, seed: int):
    """TRL's trainer for "grpo" or "rloo", ready to `train()`, with as many updates and answers as the recipe of PPO."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    make, config = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}[kind]
    folder = tempfile.mkdtemp(prefix=kind)
    model.generation_config.eos_token_id = end_of_turn(tokenizer)  # where TRL looks for the end of an answer
    rows = Dataset.from_dict({"prompt": [messages(prompt) for prompt in prompts]})
    rate, leash = SHARES[kind]
    settings = group_settings(ppo.updates, ppo.batch_size, seed)
    settings |= {"learning_rate": rate * ppo.learning_rate, "beta": leash * ppo.kl_weight}
    arguments = config(output_dir=folder, use_cpu=model.device.type == "cpu", **settings)
    trainer = make(model, reward_function(score), args=arguments, train_dataset=rows, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return trainer
