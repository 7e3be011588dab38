"""How lesson 06 judges a policy, the solution of its third exercise, and its pairs of real sentences."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from helpers import catalog
from helpers.batches import Batch
from helpers.intervals import Interval, mean_t
from helpers.language_model import IGNORED
from helpers.lessons.lesson_05.beside_real import Finding, beside_invented, finding, level, sign
from helpers.lessons.lesson_05.experiment import Judge, JudgedAnswers, judge_answers
from helpers.recipes import recipe
from helpers.reference import Reference, recorded
from helpers.reward_model import Pair, preference_batches
from helpers.runtime import seed_everything
from helpers.sft import Row, answer, collate, split_conversation
from helpers.training import to_device

TEMPERATURE = 0.6  # of the answers that are judged: at 1.0 random typing errors hide what was learned
NEW_TOKENS = 24  # the longest line of the grammar takes a few less
REAL_PROMPT = "Write one sentence of a film review."
REAL_PAIRS, REAL_HELD_OUT = 96, 48  # pairs of real sentences to train on, and to measure with
CLEAR = 1.5  # a sentence is chosen from this mean rating on, and rejected from minus this; ratings go from -4 to 4
TOKENS = range(8, 19)  # of a real sentence: short ones are cheap
REAL_TITLES = {
    "chosen_likelier_{}": "held-out pairs whose chosen sentence is the more probable one",
    "pair_accuracy_{}": "held-out pairs with a positive margin (implicit rewards)",
    "margin_{}": "mean margin of the log-ratios (nats)",
    "change_chosen_{}": "change of log-probability, chosen sentences (nats)",
    "change_rejected_{}": "change of log-probability, rejected sentences (nats)",
}


def judge_policy(
    model: nn.Module, tokenizer, prompts: Sequence[str], judge: Judge, *, seed: int, temperature: float = TEMPERATURE
) -> JudgedAnswers:
    """Draw one answer to each request and let `judge`, such as `microworld.judge.judge_answer`, judge it."""
    answers = answer(model, tokenizer, prompts, NEW_TOKENS, temperature=temperature, seed=seed)
    return judge_answers(prompts, answers, judge)


def loss_gradients(chosen_rewards: Tensor, rejected_rewards: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The DPO loss's derivatives by the log-probabilities of the chosen and the rejected answers, (batch,) each."""
    weight = beta * torch.sigmoid(rejected_rewards - chosen_rewards)
    return -weight, weight


def relative_losses(
    policy: Tensor, reference: Tensor, lengths: Tensor, beta: float, epsilon: float, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The losses of IPO (per token, as in TRL), robust DPO and SimPO, (batch,) each.

    policy, reference: log-probabilities of whole answers; lengths: in tokens; all (2, batch), chosen answers first.
    Source: Azar et al. 2024; Chowdhury et al. 2024; Meng et al. 2024.
    """
    log_sigmoid, ratios = nn.functional.logsigmoid, policy - reference
    ratio_per_token, log_prob_per_token = ratios / lengths, policy / lengths
    ipo = (ratio_per_token[0] - ratio_per_token[1] - 1 / (2 * beta)) ** 2
    margin = beta * (ratios[0] - ratios[1])
    robust = -((1 - epsilon) * log_sigmoid(margin) - epsilon * log_sigmoid(-margin)) / (1 - 2 * epsilon)
    simpo = -log_sigmoid(beta * (log_prob_per_token[0] - log_prob_per_token[1]) - gamma)
    return ipo, robust, simpo


@torch.inference_mode()
def kl_per_answer(
    policy: nn.Module,
    reference: nn.Module,
    tokenizer,
    prompts: Sequence[str],
    answers: Sequence[str],
    batch_size: int = 64,
) -> Tensor:
    """How far the policy has moved, on answers that it drew: (prompts,) in nats per answer.

    At each token of an answer the whole next-token distributions are compared, sum of p (log p - log q) over the
    vocabulary, and added up over the answer: the exact divergence at each place, so only the places are drawn.
    """
    policy.eval(), reference.eval()
    rows = [_answer_row(tokenizer, *pair) for pair in zip(prompts, answers, strict=True)]
    found = []
    for start in range(0, len(rows), batch_size):
        batch = to_device(collate(rows[start : start + batch_size], tokenizer.pad_token_id), policy)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        ours, theirs = (model(**inputs).logits[:, :-1].log_softmax(dim=-1) for model in (policy, reference))
        apart = (ours.exp() * (ours - theirs)).sum(dim=-1)  # (batch, seq - 1, vocab) -> (batch, seq - 1)
        found.append((apart * (batch["labels"][:, 1:] != IGNORED)).sum(dim=-1).cpu())
    return torch.cat(found)


def _answer_row(tokenizer, prompt: str, text: str) -> Row:
    """A drawn answer with labels on it; unlike `encode` it takes an empty one, since a policy may say nothing."""
    input_ids, hidden = split_conversation(tokenizer, prompt, text)
    return {"input_ids": input_ids, "labels": [IGNORED] * hidden + input_ids[hidden:]}


def gap_over_seeds(metric: str, one: str, other: str, source: Reference | None = None) -> Interval | None:
    """One run's metric minus another's of the same seed; None where not both have several seeds.

    metric: with a place for the run's ending, such as "win_rate_{}". source: None is this lesson's five runs.
    """
    names = (metric.format(ending) for ending in (one, other))
    ours, theirs = (source.metrics.get(name, []) if source else recorded("06", name) for name in names)
    return mean_t([a - b for a, b in zip(ours, theirs, strict=True)]) if len(ours) == len(theirs) > 1 else None


def gap_said(metric: str, one: str, other: str, here: Mapping[str, float], fallback: Reference | None = None) -> str:
    """The gap over the lesson's seeds, else over those of `fallback`, else of this run (`here`), with its source."""
    gap, seeds = gap_over_seeds(metric, one, other), len(recorded("06", metric.format(one)))
    if gap is None and fallback is not None:  # it trains on all pairs only, so its names do not say so
        gap = gap_over_seeds(metric, one.removesuffix("_all"), other.removesuffix("_all"), fallback)
        seeds = len(fallback.seeds)
    if gap is None:
        return f"{here[metric.format(one)] - here[metric.format(other)]:+.3f} (this run)"
    return f"{gap:+.3f} ({seeds} seeds)"


def beside_rl(
    titles: Mapping[str, str], here: Mapping[str, float], rl: Reference, ends: tuple[str, str] = ("_at_1", "")
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Requests satisfied at one temperature, and the gains over the start: title -> one value per seed.

    titles: a run's ending -> its title; where the reference lacks it, the one value of this run (`here`) stands.
    rl: lesson 05's reference. ends: how the two lessons' metrics of that temperature end, here of temperature 1.
    """
    end, rl_end = ends
    satisfied: dict[str, list[float]] = {}
    gained: dict[str, list[float]] = {}
    for ending, title in titles.items():
        values, begin = recorded("06", f"good_rate_{ending}{end}"), recorded("06", f"good_rate_sft{end}")
        if not values or len(values) != len(begin):
            values, begin = [here[f"good_rate_{ending}{end}"]], [here[f"good_rate_sft{end}"]]
        satisfied[title], gained[title] = values, [now - before for now, before in zip(values, begin, strict=True)]
    for name in ("PPO", "GRPO", "RLOO"):
        values, begin = rl.metrics[f"true_reward_{name.lower()}{rl_end}"], rl.metrics[f"true_reward_sft{rl_end}"]
        satisfied[name], gained[name] = values, [now - before for now, before in zip(values, begin, strict=True)]
    return satisfied, gained


RECAP = {  # what was compared: the metric, and the two runs
    "An eighth of that rate, win rate, minus the rate itself": ("win_rate_{}", "dpo_slow", "dpo_without_sft"),
    "The SFT term at beta 1, a quarter of the pairs, win rate, with minus without": (
        "win_rate_{}", "dpo_with_sft_quarter", "dpo_beta_quarter",
    ),
    "The SFT term at beta 1, all pairs, requests satisfied, with minus without": (
        "good_rate_{}", "dpo", "dpo_no_term_all",
    ),
    "The rejected answers, a quarter of the pairs, win rate, DPO with beta 1 and the term minus SFT on the chosen": (
        "win_rate_{}", "dpo_with_sft_quarter", "chosen_only",
    ),
}  # fmt: skip
EXTREMES: tuple[tuple[str, Callable], ...] = (("kl", max), ("form_rate", min))  # what a low beta may bring about


def recap_of_seeds() -> dict[str, str]:
    """The comparisons of `RECAP` that several seeds of this lesson measured."""
    gaps = {title: gap_over_seeds(*what) for title, what in RECAP.items()}
    return {title: f"{gap:+.3f}" for title, gap in gaps.items() if gap is not None}


def gain_said(gains: Sequence[float]) -> str:
    """The mean gain over seeds with its interval; a single gain is this run's."""
    return f"{mean_t(gains):+.2f}" if len(gains) > 1 else f"{gains[0]:+.2f} (this run)"


def how_often(source: Reference, metric: str, betas: Sequence[float], most: Callable) -> int:
    """In how many seeds the first beta has the highest (`most`: max) or the lowest (min) value of a metric."""
    columns = [source.metrics[f"{metric}_dpo_beta_{beta:g}".replace(".", "_")] for beta in betas]
    return sum(values[0] == most(values) for values in zip(*columns, strict=True))


def beside_control(shown: Mapping[str, str], fallback: Reference) -> tuple[dict[str, dict[str, str]], str]:
    """DPO with the SFT term beside SFT on the chosen answers, all pairs: a table by metric, and one sentence part.

    shown: title -> metric, with a place for the run's ending. fallback: where this lesson's seeds lack the control.
    """
    table: dict[str, dict[str, str]] = {}
    words: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for title, metric in shown.items():
        for source, control in ((None, "chosen_only_all"), (fallback, "chosen_only")):
            gap = gap_over_seeds(metric, "dpo", control, source)
            if gap is None:
                continue
            names = [metric.format(ending) for ending in ("dpo", control)]
            values = [source.metrics[name] if source else recorded("06", name) for name in names]
            sides = dict(zip(("DPO with the SFT term", "SFT on the chosen answers"), values, strict=True))
            table[title] = {side: f"{mean_t(seeds):.3f}" for side, seeds in sides.items()}
            table[title] |= {"difference": f"{gap:+.3f}", "seeds": str(len(values[0]))}
            words[sign(gap)].append(title)
            break
    said = {1: "clearly higher in", -1: "clearly lower in", 0: "no clear difference in"}
    parts = [f"{said[way]} {', '.join(titles)}" for way, titles in words.items() if titles]
    return table, "; ".join(parts) or "not measured with several seeds"


def preferences_beside_real(pocket: Reference, real: Reference) -> str:
    """Markdown: beta 0.1 without the SFT term and its control, in the invented world and on real sentences."""
    runs = {"DPO": ("dpo_without_sft", "dpo"), "SFT on the chosen": ("chosen_only", "sft")}
    findings: list[Finding | None] = [
        finding(
            f"{side} answers' change under {title}",
            (pocket, f"held_change_{side}_{ending}", ""),
            (real, f"change_{side}_{on_real}", ""),
            (" nats", " nats"),
        )
        for title, (ending, on_real) in runs.items()
        for side in ("chosen", "rejected")
    ]
    sides = ("chosen", "rejected")
    names = [f"held_change_{side}_{ending}" for ending, _ in runs.values() for side in sides]
    more = []
    if all(name in pocket.metrics for name in names):
        seeds = zip(*(pocket.metrics[name] for name in names), strict=True)
        invented = mean_t([(chosen - rejected) - (also - other) for chosen, rejected, also, other in seeds])
        question = "Margin between chosen and rejected answers, DPO minus SFT on the chosen"
        findings.append(Finding(question, invented, real.gap("margin_dpo", "margin_sft"), " nats", " nats"))
    if "pair_accuracy_dpo_without_sft" in pocket.metrics:
        levels = [pocket.interval("pair_accuracy_dpo_without_sft"), real.interval("pair_accuracy_dpo")]
        more.append(level("Held-out pairs with a positive margin after DPO", *levels))
    return beside_invented(findings, more)


def real_pairs(tokenizer, split: str, count: int, seed: int) -> list[dict[str, str]]:
    """Pairs of film sentences with equally many tokens: the chosen one is rated high, the rejected one low.

    Each sentence is in one pair at most, and length cannot tell the two sides apart.
    """
    sides: tuple[dict, dict] = (defaultdict(list), defaultdict(list))  # rejected, chosen: tokens -> sentences
    for row in catalog.dataset("reviews", "real")[split].shuffle(seed=seed):
        size = len(tokenizer(row["text"], add_special_tokens=False)["input_ids"])
        if size in TOKENS and abs(row["rating"]) >= CLEAR:
            sides[row["label"]][size].append(row["text"])
    found = [
        {"prompt": REAL_PROMPT, "chosen": good, "rejected": bad}
        for size in TOKENS
        for good, bad in zip(sides[1][size], sides[0][size], strict=False)
    ]
    random.Random(seed).shuffle(found)
    return found[:count]


def lora_policy(seed: int) -> nn.Module:
    """SmolLM2-135M-Instruct with a new LoRA adapter on every linear layer; at the start it is the published model."""
    from peft import LoraConfig, get_peft_model  # slow to import

    how = recipe("lora_decoder", "published")
    model = catalog.causal_language_model("real", role="instruct")
    seed_everything(seed)
    config = LoraConfig(r=how.rank, lora_alpha=how.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config).eval()


def shared_prompt_log_probs(model: nn.Module, batch: Batch) -> Tensor:
    """The log-probability of each row's answer, (batch,), where all rows have one prompt: it is read only once.

    The keys and values of the prompt are repeated for every row, and only the answers run through the model.
    """
    labels, mask = batch["labels"], batch["attention_mask"]
    size = int((labels[0] != IGNORED).nonzero()[0])  # tokens of the prompt
    prompt = model(input_ids=batch["input_ids"][:1, :size], use_cache=True, logits_to_keep=1)
    cache = prompt.past_key_values
    cache.batch_repeat_interleave(len(labels))
    inputs = {"input_ids": batch["input_ids"][:, size:-1], "attention_mask": mask[:, :-1], "past_key_values": cache}
    logits = torch.cat([prompt.logits.expand(len(labels), -1, -1), model(**inputs, use_cache=True).logits], dim=1)
    answers = labels[:, size:]  # (batch, answer)
    log_probs = logits.log_softmax(dim=-1).gather(-1, answers.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (log_probs * (answers != IGNORED)).sum(dim=-1)


@torch.inference_mode()
def real_log_probs(model: nn.Module, pairs: Sequence[Pair], pad_id: int) -> Tensor:
    """`helpers.dpo.reference_log_probs` for pairs of one prompt: (pairs, 2), chosen first."""
    found = torch.empty(len(pairs), 2)
    for batch in preference_batches(pairs, pad_id, 8, shuffle=False):
        rows = batch.pop("rows")
        found[rows] = shared_prompt_log_probs(model, batch).view(2, -1).T
    return found


def real_measures(now: Tensor, start: Tensor, name: str) -> dict[str, float]:
    """What `REAL_TITLES` lists for one policy; now, start: (pairs, 2) log-probabilities, chosen first."""
    change = now - start
    margins = change[:, 0] - change[:, 1]
    values = (now[:, 0] > now[:, 1], margins > 0, margins, change[:, 0], change[:, 1])
    return {title.format(name): value.double().mean().item() for title, value in zip(REAL_TITLES, values, strict=True)}
