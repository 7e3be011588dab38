"""What lesson 05 and its reference runs share: judged answers, and the pieces that TRL's trainers need.

A policy is judged on requests about films that neither it nor the reward model was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from helpers.language_model import positions
from helpers.ppo import PolicyWithValue, Score, kl_estimates, log_probs_of, roll_out

CRITERIA = ("good", "tone", "film", "form")
# Prompt and answer in; a verdict out that has `tone`, `film`, `form`, `good` (bool) and `score` (float).
Judge = Callable[[str, str], Any]


@dataclass(frozen=True)
class JudgedAnswers:
    """Answers to requests, and what the exact judge says of each: four tensors (prompts,) of 0/1 or a score."""

    answers: list[str]
    tone: Tensor
    film: Tensor
    form: Tensor
    score: Tensor

    @property
    def good(self) -> Tensor:
        """1.0 where the answer satisfies the request: tone, film and form."""
        return self.tone * self.film * self.form

    def rates(self) -> dict[str, float]:
        """The share of answers that are right by each criterion, and by all ("good")."""
        return {name: getattr(self, name).mean().item() for name in CRITERIA}


@dataclass(frozen=True)
class GradedAnswers(JudgedAnswers):
    """Judged answers with the reward model's scores and the distance from the reference.

    proxy, kl: (prompts,); kl in nats, over the whole vocabulary at each position of the answer drawn. finished: 1.0
    where the answer reached its end token.
    """

    proxy: Tensor
    kl: Tensor
    finished: Tensor

    @property
    def true_reward(self) -> float:
        """The share of requests satisfied."""
        return self.good.mean().item()


def judge_answers(prompts: Sequence[str], answers: list[str], judge: Judge) -> JudgedAnswers:
    """What `judge`, such as `microworld.judge.judge_answer`, says of one answer to each prompt."""
    verdicts = [judge(prompt, text) for prompt, text in zip(prompts, answers, strict=True)]
    names = ("tone", "film", "form", "score")
    return JudgedAnswers(answers, *(torch.tensor([float(getattr(one, name)) for one in verdicts]) for name in names))


def grade(
    model: nn.Module, reference: nn.Module, tokenizer, prompts: Sequence[str], score: Score, seed: int, judge: Judge
) -> GradedAnswers:
    """Draw one answer to each prompt and ask the judge about it; the global random state is left as it was."""
    answers, kl, finished = [], [], []
    policy = PolicyWithValue(model.eval())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), 64):
            rollout = roll_out(policy, reference, tokenizer, prompts[start : start + 64], new=24)
            kl.append(kl_estimates(model, reference, rollout)[2])
            answers += rollout.answers
            finished.append(rollout.finished.float())
    judged = judge_answers(prompts, answers, judge)
    more: dict[str, Any] = {"kl": torch.cat(kl).cpu(), "finished": torch.cat(finished).cpu()}
    return GradedAnswers(**vars(judged), proxy=score(prompts, answers).cpu(), **more)


class ScoreLog:
    """A scorer that also logs the judge's verdicts; no training step sees them."""

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


def leave_one_out(rewards: Tensor) -> Tensor:
    """Each answer's reward minus the mean of its siblings'; rewards, result: (requests, size)."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others


@torch.no_grad()
def last_rloo_batch(trainer: Any, reference: nn.Module) -> tuple[Tensor, Tensor]:
    """The last batch of TRL's RLOO: the rewards after the KL was paid, and the advantages, each (batch,).

    TRL shuffles the batch that it trains on, and keeps rewards and advantages apart in the order in which they were
    drawn. Advantages differ from answer to answer, so their order puts the two side by side.
    """
    rewards, drawn = (
        torch.tensor(list(values)) for values in (trainer._logs["rewards"]["reward_model"], trainer._logs["advantages"])
    )
    batch = trainer._buffered_inputs[0]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    new = batch["completion_ids"].shape[1]
    asked = {"input_ids": ids, "attention_mask": mask, **positions(reference, mask)}
    logits = reference(**asked, logits_to_keep=new + 1).logits[:, :-1]
    reference_log_probs = (log_probs_of(logits, batch["completion_ids"]) * batch["completion_mask"]).sum(dim=1)
    kl = torch.empty(len(drawn))
    kl[drawn.argsort()] = (batch["old_logps"] - reference_log_probs).cpu()[batch["advantages"].cpu().argsort()]
    return rewards - trainer.beta * kl, drawn


def title_only(found: JudgedAnswers, titles: Sequence[str]) -> float:
    """The share of answers that are the film's title and nothing else."""
    bare = [text.strip(" .") == title for text, title in zip(found.answers, titles, strict=True)]
    return sum(bare) / len(bare)


def shapes(found: JudgedAnswers, titles: Sequence[str]) -> float:
    """Different sentences, as a share of all, once the film's title and people's names are masked."""
    masked = [
        re.sub(r"[A-Z]\w+ [A-Z]\w+", "NAME", text.replace(title, "TITLE"))
        for text, title in zip(found.answers, titles, strict=True)
    ]
    return len(set(masked)) / len(masked)


def metrics_of(found: GradedAnswers, end: str, objective: float, titles: Sequence[str]) -> dict[str, float]:
    """What the lesson records of one policy, under names that end with `end`."""
    return {
        f"true_reward_{end}": found.true_reward,
        f"proxy_{end}": found.proxy.mean().item(),
        f"kl_{end}": found.kl.mean().item(),
        **{f"{part}_rate_{end}": getattr(found, part).mean().item() for part in ("tone", "film", "form")},
        f"finished_rate_{end}": found.finished.mean().item(),
        f"objective_{end}": objective,
        f"title_only_rate_{end}": title_only(found, titles),
        f"shape_rate_{end}": shapes(found, titles),
    }


def curves_of(log: ScoreLog, end: str) -> dict[str, float | list[float]]:
    """The judge's and the reward model's means at each update, and over five updates at every fifth."""
    values: dict[str, float | list[float]] = {}
    for what, curve in (("truth", log.truth), ("proxy", log.proxy)):
        values[f"{what}_by_update_{end}"] = curve
        values |= {f"{what}_at_{at}_{end}": sum(curve[at - 5 : at]) / 5 for at in range(5, len(curve) + 1, 5)}
    return values


def metrics_by_name(
    picked: Mapping[int, tuple[Tensor, Tensor]],
    cool: Mapping[str, Tensor],
    peak_bytes: Mapping[str, float],
    seconds: Mapping[str, float],
) -> dict[str, float]:
    """Best of n (score, truth), shares at temperature 0.6, bytes and seconds, for each name."""
    values = {f"true_reward_best_of_{n}": truth.mean().item() for n, (_, truth) in picked.items()}
    values |= {f"proxy_best_of_{n}": scores.mean().item() for n, (scores, _) in picked.items()}
    values |= {f"true_reward_{name.lower()}_cool": good.mean().item() for name, good in cool.items()}
    values |= {f"peak_memory_bytes_{name.lower()}": value for name, value in peak_bytes.items()}
    return values | {f"seconds_{name.lower()}": value for name, value in seconds.items()}


# On real text: the gap of two mean ratings, above the first and up to the second.
GAPS = {"close": (0.0, 1.0), "apart": (1.0, 3.0), "far": (3.0, 8.1), "all": (0.0, 8.1)}


def right_by_gap(scores: Tensor, ratings: Tensor) -> dict[str, float]:
    """The share of pairs of sentences in which the better rated one scores higher, by the gap of their ratings."""
    better, worse = torch.nonzero(ratings.unsqueeze(1) > ratings.unsqueeze(0), as_tuple=True)
    gap, right = ratings[better] - ratings[worse], (scores[better] > scores[worse]).float()
    return {name: right[(gap > low) & (gap <= high)].mean().item() for name, (low, high) in GAPS.items()}


def best_rating(scores: Tensor, ratings: Tensor, n: int = 8) -> float:
    """The mean rating of the best-scored sentence of each n."""
    groups = len(scores) // n * n
    best = scores[:groups].view(-1, n).argmax(dim=1, keepdim=True)
    return ratings[:groups].view(-1, n).gather(1, best).mean().item()
