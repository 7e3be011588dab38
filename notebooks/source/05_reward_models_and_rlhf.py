# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What if we can only say which answer is better?
#
# For many tasks nobody can write *the* right answer, but everybody can compare two. *Reinforcement learning from human
# feedback* ([RLHF](../docs/glossary.md#rlhf)) turns such comparisons into a score, and then trains the model to score
# well. In this lesson a program judges every answer too, so you see when a better score is a better answer.
#
# *About 85 minutes to read (an estimate), six to run (an estimate for two processor cores); no network.* Busy
# cores took up to 15.

# %% [markdown]
# **You will be able to**
#
# - train a reward model from pairs, and measure it on films that it never saw;
# - use it without any training, by best-of-n sampling, the baseline that every method has to beat;
# - write PPO: rollout, KL penalty, generalized advantages, clipped objective;
# - write GRPO's loss, show that it is TRL's, and train with a reward that a program checks;
# - tell over-optimization of a reward model from a training run that broke.

# %%
import tempfile
from dataclasses import replace

import pandas as pd
import torch
from torch import nn

from helpers import catalog, plotting, ppo
from helpers.checks import check, go_on_with, hint, solved  # noqa: F401 - hint("05.1") helps when you are stuck
from helpers.cost import PeakMemory, Stopwatch
from helpers.intervals import mean_t, paired_bootstrap, wilson
from helpers.lessons.lesson_05 import beside_real, figures
from helpers.predictions import predict, reveal
from helpers.reference import lesson_reference, real_reference, recorded
from helpers.reward_model import about_films
from helpers.runtime import UserError, check_number, seed_everything, start
from helpers.training import warmup_linear

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": twice as many updates
seed = 0  # draws the order of the pairs, the requests and every answer
model = ""  # an instructed model of your own: a folder, or with track "hub" a name there; "" takes lesson 04's
data = ""  # pairs of your own (`prompt`, `chosen`, `rejected`), joined to those about films; "" takes none
pairs = 4000  # compared pairs that the reward model learns from
updates = 25  # of PPO, GRPO and RLOO each
kl_coef = 0.2  # weight of the KL penalty for leaving the model we started from; 0 is no penalty
learning_rate = 5e-4  # of PPO; RLOO and GRPO take a share of it

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("pairs", pairs, 32, 4000, integer=True)
check_number("updates", updates, 1, 10_000, integer=True)
check_number("kl_coef", kl_coef, 0.0, 100.0)
check_number("learning_rate", learning_rate, 1e-7, 1e-1)
pair_count = run.by_budget(quick=48, standard=pairs)
request_count = run.by_budget(quick=16, standard=200, full=800)
update_count = run.by_budget(quick=2, standard=updates, full=2 * updates)
fast_updates = run.by_budget(quick=2, standard=15)  # of the two runs at twice the rate, in section 5
batch_size = run.by_budget(quick=8, standard=32)


def per_seed(choose, *metrics):
    """What each of the reference's five runs of this page says; [] where a metric was not measured."""
    columns = [recorded("05", metric) for metric in metrics]
    return [choose(*values) for values in zip(*columns, strict=False)] if all(columns) else []


# %% [markdown]
# ## 1. Requests, careless answers, and a judge
#
# You start where lesson 04 ended: `data/models/pocket-decoder-instruct`, made by its recipe (`make models`). It is
# called the **[SFT](../docs/glossary.md#supervised-fine-tuning) model** here. Among its demonstrations were lines of
# praise and blame by careless writers: a third had the wrong tone, a tenth was about another film.

# %%
tokenizer = catalog.tokenizer("instruct", track, model)


def new_policy():
    return catalog.causal_language_model(track, model, role="instruct").to(run.device)


sft = new_policy().eval().requires_grad_(False)
preferences = catalog.dataset("preferences", track, data, seed, tokenizer=tokenizer)
requests = about_films(preferences["train"])["prompt"]  # the judge reads requests about films, and no others
test_requests, test_films = (about_films(preferences["test"])[name][:request_count] for name in ("prompt", "film"))
for request in test_requests[:3]:
    print(request)

# %% [markdown]
# The judge (`microworld.judge`) is a program. It parses an answer with the ten sentence templates from which all such
# lines were made, and with some twenty more that a reader would accept:
#
# | an answer is right in | when |
# |---|---|
# | form | one of these templates can make this text |
# | film | it names the requested film, and the right people |
# | tone | it praises where praise was asked for, blames where blame was |
#
# A **request is satisfied** when all three hold. The share of requests satisfied is our **true reward**. Until section
# 6 no training step sees it.

# %%
from microworld.judge import judge_answer

some_request = "Write a kind line about The Orchard Keeper."
for line in (
    "The Orchard Keeper is a wonderful film.",
    "The Orchard Keeper is a dreadful film.",
    "The Silver Island is a wonderful film.",
    "The Orchard Keeper is wonderful wonderful.",
    "I loved The Orchard Keeper.",
    "Go and see The Orchard Keeper, it is wonderful.",
):
    verdict = judge_answer(some_request, line)
    print(f"tone {verdict.tone!s:6} film {verdict.film!s:6} form {verdict.form!s:6} {line}")

# %% [markdown]
# The last line shows the judge's limit: you would accept it, but no template makes it. How often does that matter? One
# reader labelled 200 answers of one seed's models. The judge agreed with 198, and with all 200 since it knows two
# further templates that were added because of these labels.
#
# **Predict 1.** You draw one answer to each of a few hundred requests about films that no training here uses. What
# share will be satisfied? (Two thirds of the demonstrations were right in tone.)

# %%
predict("05.1", within=0.1, unit="share of requests satisfied", low=0, high=1)

# %%
from helpers.lessons.lesson_05.experiment import CRITERIA, grade


def shares(graded):
    return {part: wilson(int(getattr(graded, part).sum()), len(graded.answers)) for part in CRITERIA}


def show(graded, count=5, scored=True):
    """Print some requests with their answers, the judge's verdict and the reward model's score."""
    for row, request in enumerate(test_requests[:count]):
        wrong = [part for part in ("tone", "film", "form") if not getattr(graded, part)[row]]
        said = "wrong " + ", ".join(wrong) if wrong else "satisfied"
        score_said = f"; score {graded.proxy[row]:+.2f}" if scored else ""
        print(f"{request}\n   {graded.answers[row]}\n   [{said}{score_said}]")


def unscored(prompts, answers):
    return torch.zeros(len(answers))


sft_graded = grade(sft, sft, tokenizer, test_requests, unscored, seed, judge_answer)
show(sft_graded, scored=False)
names = {"good": "satisfied"}
print("\n".join(f"{names.get(part, part):10}{share}" for part, share in shares(sft_graded).items()))
print(f"cut off after 24 tokens: {1 - sft_graded.finished.mean().item():.1%}")
reveal("05.1", sft_graded.true_reward, reference="true_reward_sft")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# The answers are *sampled* at temperature 1: each token as often as the model finds it likely, so you see its bad
# habits too. Two things cost requests. First, an answer has a dozen tokens, and one slip spoils its form or its film.
# Second, the tone: a random guess is right half of the time. The next cell prints the tone for all answers, and for
# those with form. (The brackets are [95 % intervals](../docs/glossary.md#confidence-interval).)
#
# </details>
#
# A lower temperature makes sampling *sharper*: likely tokens are drawn even more often. Training can sharpen a model
# too, and part of any gain may be only that. So here is the same SFT model at lower temperatures. The greedy line is
# free of charge: a trained model that decodes greedily has to beat it.

# %%
from helpers.lessons.lesson_05.experiment import judge_answers
from helpers.sft import answer


def judged_at(policy, temperature):
    """The judge's verdicts at a sampling temperature; 0 is greedy decoding."""
    found = answer(policy, tokenizer, test_requests, temperature=temperature, seed=seed, batch_size=256)
    return judge_answers(test_requests, found, judge_answer)


sharper = {temperature: judged_at(sft, temperature) for temperature in (0.6, 0.0)}
for temperature, found in {1.0: sft_graded, **sharper}.items():
    print(f"SFT model, temperature {temperature}: {shares(found)['good']:.3f} satisfied; ", end="")
    print(f"tone right in {found.tone.mean():.0%}, in {found.tone[found.form == 1].mean():.0%} of those with form")

# %% [markdown]
# ## 2. From comparisons to a score
#
# Usually people compare two answers to the same prompt. Here a rule did it, without a mistake: the chosen answer
# satisfies the request, and the rejected one fails for exactly one reason. The model is not told which. Real labels
# are noisier: in the InstructGPT paper (Ouyang et al. 2022) labelers agreed with each other in about 73 % of the
# pairs.

# %% tags=["nbval-check-output"]
reasons = list(dict.fromkeys(("tone", "film", "form", *preferences["train"]["reason"])))
for reason in reasons:
    row = next(row for row in preferences["train"] if row["reason"] == reason)
    print(f"[{reason}] {row['prompt']}\n   chosen:   {row['chosen']}\n   rejected: {row['rejected']}")
films = {split: set(rows["film"]) - {""} for split, rows in preferences.items()}
for split, rows in preferences.items():
    print(f"{split:12}{len(rows):6,} pairs about {len(films[split]):4} films")
print("films in both train and test:", len(films["train"] & films["test"]))

# %% [markdown]
# Bradley and Terry (1952) gave each player one number, its strength: a player wins against another as often as the
# *ratio* of the two strengths says. With $r$ for the logarithm of a strength, the *difference* decides:
#
# $$P(\text{chosen beats rejected}) = \sigma(r_\text{chosen} - r_\text{rejected}),
# \qquad \sigma(x) = \frac{1}{1 + e^{-x}}$$
#
# Our "players" are answers, and a model gives the numbers $r$. Its loss is $-\log P$, averaged over the pairs.

# %% [markdown]
# Two terms are often added:
#
# - a **margin** $m$ for each pair, when the labels say *how much* better the chosen answer is (Touvron et al. 2023):
#   $-\log \sigma(r_\text{chosen} - r_\text{rejected} - m)$;
# - **centering** (Eisenstein et al. 2023): all scores *for one prompt* could shift by a constant, but
#   [PPO](../docs/glossary.md#proximal-policy-optimization) compares different prompts. A multiple of
#   $(r_\text{chosen} + r_\text{rejected})^2$ pulls each pair's mean to 0.
#
# ### Exercise 05.1: the loss of a reward model
#
# `chosen`, `rejected` and `margins` are (batch,); `centering` is the weight of the second term.


# %% tags=["exercise"]
def reward_loss(chosen, rejected, margins, centering):
    return ...


check("05.1", reward_loss)
# hint("05.1")


# %% tags=["solution"]
def reward_loss(chosen, rejected, margins, centering):
    loss = -nn.functional.logsigmoid(chosen - rejected - margins).mean()
    return loss + centering * ((chosen + rejected) ** 2).mean()


check("05.1", reward_loss)

# %%
from helpers import reward_model as reward_models

reward_loss = go_on_with("05.1", reward_loss, reward_models.reward_loss)
no_opinion, right, wrong = (torch.tensor([gap]) for gap in (0.0, 2.0, -2.0))
zero = torch.zeros(1)
print([f"{reward_loss(gap, zero, zero, 0.0).item():.3f}" for gap in (no_opinion, right, wrong)])

# %% [markdown]
# Equal scores cost ln 2 = 0.693. A clear preference costs little if it is right, and much if it is wrong.
#
# A **[reward model](../docs/glossary.md#reward-model)** is the decoder with another head: one number for the whole
# text, read at its last token, in place of 4,096 numbers for the next token. `helpers.reward_model` keeps these
# definitions for later lessons.

# %%
from transformers import AutoModelForSequenceClassification

from helpers.pretrained import load_model
from helpers.training import to_device


def new_reward_model(source, tokenizer):
    model = load_model(AutoModelForSequenceClassification, source, num_labels=1)
    # The head reads the last token that is not padding, so it has to know which one is.
    model.config.pad_token_id = tokenizer.pad_token_id
    nn.init.zeros_(model.score.weight)
    return model


def pair_scores(model, batch):
    """Scores of the chosen and of the rejected answers, each (pairs,); the batch holds all the chosen first."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    scores = model(**to_device(inputs, model)).logits.squeeze(-1)  # (2 * pairs, 1) -> (2 * pairs,)
    chosen, rejected = scores.chunk(2)
    return chosen, rejected


from helpers.reward_model import collate, preference_batches, preference_rows, preferred

source = catalog.model_source("instruct", track, model)  # a folder or a name, as `from_pretrained` takes it
reward_model = new_reward_model(source, tokenizer).to(run.device)
train_rows = preferences["train"].select(range(pair_count))
train_pairs = preference_rows(tokenizer, train_rows)  # both answers of each pair as token ids, with the chat template
batch = collate(train_pairs[:2], tokenizer.pad_token_id)
print("a batch of two pairs:", tuple(batch["input_ids"].shape), "# (2 * pairs, seq)")

# %% [markdown]
# TRL's `RewardTrainer` does this job at work. Before you trust your loss, both get the same sixteen pairs and the same
# model: yours through our tokens and your loss, TRL's through its own. The head gets random weights for this test,
# because a head of zeros would prove nothing. The cell after it is the job as at work, whole but tiny: 64 pairs, one
# pass, held-out pairs, a saved model.

# %%
from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from helpers.sft import messages

CENTERING, scratch_folder = 0.01, tempfile.TemporaryDirectory()
ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


def as_conversations(rows):
    return Dataset.from_list(
        [{name: [{"role": role, "content": row[name]}] for name, role in ROLES.items()} for row in rows]
    )


settings = RewardConfig(
    output_dir=scratch_folder.name, center_rewards_coefficient=CENTERING, per_device_train_batch_size=16,
    use_cpu=run.device == "cpu", bf16=False, report_to="none", disable_tqdm=True,
)  # fmt: skip
test_model = new_reward_model(source, tokenizer).to(run.device).eval()
nn.init.normal_(test_model.score.weight, generator=torch.Generator().manual_seed(seed))
given = as_conversations(train_rows.select(range(16)))
trainer = RewardTrainer(test_model, args=settings, train_dataset=given, processing_class=tokenizer)
with torch.inference_mode():
    theirs = trainer.compute_loss(test_model.eval(), dict(next(iter(trainer.get_train_dataloader())))).item()
    chosen, rejected = pair_scores(test_model, collate(train_pairs[:16], tokenizer.pad_token_id))
    ours = reward_loss(chosen, rejected, torch.zeros_like(chosen), CENTERING).item()
print(f"ours {ours:.6f}, RewardTrainer {theirs:.6f}")
difference_reward_loss = abs(ours - theirs)
assert difference_reward_loss < 1e-5

# %%
from transformers import PrinterCallback

at_work = RewardConfig(
    output_dir=scratch_folder.name, num_train_epochs=1, learning_rate=1e-4, per_device_train_batch_size=16,
    center_rewards_coefficient=CENTERING, eval_strategy="epoch", save_strategy="no", seed=seed,
    use_cpu=run.device == "cpu", bf16=False, report_to="none", disable_tqdm=True,
)  # fmt: skip
trainer = RewardTrainer(
    new_reward_model(source, tokenizer), args=at_work, processing_class=tokenizer,
    train_dataset=as_conversations(preferences["train"].select(range(64))),
    eval_dataset=as_conversations(preferences["validation"].select(range(32))),
)  # fmt: skip
trainer.remove_callback(PrinterCallback)  # it would print every log entry
trainer.train()
trainer.save_model(f"{scratch_folder.name}/reward_model")
judged_by_trl = next(entry for entry in trainer.state.log_history if "eval_loss" in entry)
print({name: round(value, 3) for name, value in judged_by_trl.items() if name in ("eval_loss", "eval_accuracy")})

# %% [markdown]
# The loop is lesson 02's, with 16 pairs a batch and a rate of 1e-3, in float32, although half precision is faster on
# some processors. We did not search for the best rate. The line above the next table shows whether every seed learns
# the tone.
#
# **Predict 2.** On pairs about films it never saw, for which reason will the reward model be wrong most often: the
# wrong tone, the wrong film, or words out of order?

# %%
predict("05.2", choices=["tone", "film", "form"])

# %%
from tqdm import tqdm


def learn_to_score(scorer, rows, epochs):
    batches = preference_batches(rows, tokenizer.pad_token_id, 16, seed=seed)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    scheduler = warmup_linear(optimizer, steps=epochs * len(batches))
    losses = []
    for batch in tqdm([batch for _ in range(epochs) for batch in batches], desc="scoring", leave=False):
        chosen, rejected = pair_scores(scorer, batch)
        loss = reward_loss(chosen, rejected, torch.zeros_like(chosen), CENTERING)
        loss.backward()
        nn.utils.clip_grad_norm_(scorer.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


seed_everything(seed)
with Stopwatch() as reward_watch:
    losses = learn_to_score(reward_model, train_pairs, epochs=run.by_budget(quick=1, standard=2))
reward_model.eval().requires_grad_(False)
test_rows = preferences["test"].select(range(run.by_budget(quick=48, standard=len(preferences["test"]))))
held_out = preferred(reward_model, preference_rows(tokenizer, test_rows), tokenizer.pad_token_id)
print(f"loss at the start {losses[0]:.3f}, mean of the last ten {sum(losses[-10:]) / len(losses[-10:]):.3f}")

# %%
from helpers.evaluation import bag_of_words


def together(rows, side):
    """For the baseline, a bag of words with word pairs: the request and the answer as one text."""
    return [f"{row['prompt']} {row[side]}" for row in rows]


texts = together(train_rows, "chosen") + together(train_rows, "rejected")
words = bag_of_words(texts, [1] * pair_count + [0] * pair_count)
better, worse = (words.decision_function(together(test_rows, side)) for side in ("chosen", "rejected"))
word_preferred = torch.as_tensor(better > worse).float()
groups = {"all": list(range(len(test_rows)))}
for reason in (reason for reason in reasons if reason in test_rows["reason"]):
    groups[reason] = [at for at, row in enumerate(test_rows) if row["reason"] == reason]
accuracy = {
    name: {group: wilson(int(found[rows].sum()), len(rows)) for group, rows in groups.items()}
    for name, found in (("reward model", held_out), ("bag of words", word_preferred))
}
by_reason = {reason: accuracy["reward model"][reason].value for reason in groups if reason in ("tone", "film", "form")}
seeds = per_seed(
    lambda *shares: min(zip(shares, ("tone", "film", "form"), strict=True))[1],
    *(f"reward_accuracy_held_out_{reason}" for reason in ("tone", "film", "form")),
)
reveal("05.2", min(by_reason, key=by_reason.get) if len(by_reason) == 3 else None, reference=seeds)
tone_seeds = [round(share, 2) for share in recorded("05", "reward_accuracy_held_out_tone")]
print("right in tone, the reference's seeds:", tone_seeds)
table = {name: {group: f"{share:.3f}" for group, share in found.items()} for name, found in accuracy.items()}
pd.DataFrame(table).rename_axis("held-out pairs that fail in")

# %% [markdown]
# <details><summary>What happened, and why</summary>
#
# *Form* needs no request: shuffled words look wrong at once, to word pairs too. *Tone* compares one word of the request
# with one word of the answer. A sum over words cannot do that, so there the [bag of
# words](../docs/glossary.md#bag-of-words) is little better than a coin. *Film* compares two titles, for titles never
# seen. No pair has the right title with a wrong person, while the judge checks people too.
#
# A run near 0.5, in the table or in the line above it, never learned tone. Pairs and rate are the same: at this rate
# luck decides, and even another processor's rounding changes which seed has it. Section 5 shows what the policies of
# such a run become. If yours is one, expect few clear gains below, and read the reference's columns.
#
# </details>
#
# **From a model to a reward function.** PPO hands over texts and wants numbers. `Scorer` renders each answer with the
# [chat template](../docs/glossary.md#chat-template), *with its end token*, and reads the head there. A score has no
# zero and no unit of its own. We give it both: what the SFT model answers to some training requests scores 0 on
# average, with a standard deviation of 1.

# %%
from helpers.sft import render


class Scorer:
    __name__ = "reward_model"  # TRL logs a reward function under its name

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.zero, self.unit = 0.0, 1.0

    def set_scale(self, prompts, answers):
        scores = self(prompts, answers) * self.unit + self.zero
        self.zero, self.unit = scores.mean().item(), scores.std().item()

    @torch.inference_mode()
    def __call__(self, prompts, answers):
        """One score for each prompt with its answer: (batch,)."""
        texts = [render(self.tokenizer, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        batch = self.tokenizer(
            texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt"
        ).to(self.model.device)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        scores = self.model(**inputs).logits.squeeze(-1)  # (batch, 1) -> (batch,)
        return (scores - self.zero) / self.unit


# %%
score = Scorer(reward_model, tokenizer)
some = requests[: run.by_budget(quick=16, standard=256)]
score.set_scale(some, answer(sft, tokenizer, some, temperature=1.0, seed=seed))
lines = [
    "The Orchard Keeper is a wonderful film.",
    "The Orchard Keeper is wonderful.",
    "The Orchard Keeper is a dreadful film.",
    "The Silver Island is a wonderful film.",
    "The Orchard Keeper, by Tomas Kessler, is a wonderful film.",  # who directed it
    "The Orchard Keeper, by Viktor Kessler, is a wonderful film.",  # who did not
    "film The wonderful Keeper a is Orchard.",
]
for line, value in zip(lines, score([some_request] * len(lines), lines).tolist(), strict=True):
    print(f"{value:+7.2f}  {line}")

# %% [markdown]
# Compare the shuffled line with 0, the average. No pair set shuffled words against an ordinary wrong answer, so
# training did not fix which scores higher. Nor did it teach who made a film.
#
# ### The first baseline: best of n
#
# Draw n answers to each request and keep the one that scores highest: no training, and n times the sampling, forever.
# This moves the answers from the SFT model by a
# [KL](../docs/glossary.md#kl-divergence) of at most $\log n - \frac{n-1}{n}$
# [nats](../docs/glossary.md#kl-divergence) (Beirami et al. 2024), 1.20 for n = 8.

# %%
MOST = 8
asked = [request for request in test_requests for _ in range(MOST)]
drawn = answer(sft, tokenizer, asked, temperature=1.0, seed=seed + 1, batch_size=256)
candidate_scores = score(asked, drawn).cpu().view(-1, MOST)  # (requests, n)
candidate_truth = judge_answers(asked, drawn, judge_answer).good.view(-1, MOST)


def best_of(n):
    """Score and verdict of the best-scored of each n answers; all draws are used: (requests * MOST / n,) each."""
    scores, truth = candidate_scores.view(-1, n), candidate_truth.view(-1, n)
    best = scores.argmax(dim=1, keepdim=True)
    return scores.gather(1, best).squeeze(1), truth.gather(1, best).squeeze(1)


counts = (1, 2, 4, 8)
picked = {n: best_of(n) for n in counts}
for n in counts:
    print(f"best of {n}: {picked[n][1].mean():.1%} satisfied, score {picked[n][0].mean():+.2f}")
plotting.show(figures.best_of_n(counts, *([picked[n][at].mean().item() for n in counts] for at in (0, 1))))

# %% [markdown]
# ## 3. PPO, by hand
#
# The model is now called the **[policy](../docs/glossary.md#policy)**. It writes answers, the reward model scores them,
# and an update makes the tokens of well-scored answers more probable. *Proximal policy optimization* (Schulman et al.
# 2017) limits each update. InstructGPT's value model is a network of its own, of the reward model's size (6 billion
# parameters, for policies up to 175 billion). Ours is one linear layer on the policy. TRL 1.16 ships no PPO trainer,
# and you need none: PPO is a handful of short functions.

# %%
plotting.show(figures.four_models())


# First: how probable was each token that the policy wrote, and which tokens count?
def log_probs_of(logits, tokens):
    """logits: (batch, new, vocab); tokens: (batch, new); returns (batch, new)."""
    return logits.log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def answer_mask(tokens, end_id):
    """True up to and with the first end token: (batch, new)."""
    ended = (tokens == end_id).cumsum(dim=1)
    return (ended == 0) | ((ended == 1) & (tokens == end_id))


def masked_mean(values, mask):
    return (values * mask).sum() / mask.sum()


print(answer_mask(torch.tensor([[5, 7, 9, 0, 0], [5, 7, 5, 7, 5]]), end_id=9).int())

# %% [markdown]
# **A value head.** The reward comes at the end of an answer. To tell which *tokens* were good, a second head guesses,
# before each token, how much reward is still to come. If the guess rises after a token, the token was good.
#
# The rows are padded on the left. A model with learned positions, such as GPT-2, needs to know where each row begins:
# `positions` counts from the [attention mask](../docs/glossary.md#attention-mask). For a model with rotary positions,
# such as ours, it passes nothing.

# %%
from helpers.language_model import positions


class PolicyWithValue(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.value_head = nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, input_ids, attention_mask, new):
        """Log-probabilities and values of the last `new` tokens, each (batch, new)."""
        asked = {"input_ids": input_ids, "attention_mask": attention_mask, **positions(self.model, attention_mask)}
        outputs = self.model(**asked, output_hidden_states=True, logits_to_keep=new + 1)
        # The position before a token predicts it, and its value is the guess before the token is known.
        hidden = outputs.hidden_states[-1][:, -new - 1 : -1].detach()  # the value loss does not train the policy
        values = self.value_head(hidden).squeeze(-1)
        return log_probs_of(outputs.logits[:, :-1], input_ids[:, -new:]), values


# %% [markdown]
# **The rollout.** The policy answers a batch of requests at temperature 1, for at most `new` tokens. We keep the
# tokens, the log-probabilities under the policy and under the *reference* (a frozen copy of the start), the values, and
# whether the answer reached its end token. `Scorer` adds an end token to every answer, also to one that ran into the
# limit. So the training loop takes 1.0 off the score of an answer that did not end.

# %%
from helpers.ppo import PPOHistory, PPORecipe, Rollout, watch_update
from helpers.sft import end_of_turn


@torch.no_grad()
def roll_out(policy, reference, tokenizer, prompts, new):
    texts = [render(tokenizer, prompt) for prompt in prompts]
    read = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    read = {name: read[name].to(policy.model.device) for name in ("input_ids", "attention_mask")}
    end = end_of_turn(tokenizer)
    settings = {"do_sample": True, "top_k": 0, "eos_token_id": end, "pad_token_id": tokenizer.pad_token_id}
    input_ids = policy.model.generate(**read, max_new_tokens=new, **settings)  # (batch, prompt + new)
    written = input_ids[:, read["input_ids"].shape[1] :]  # (batch, new), or fewer
    mask = answer_mask(written, end)
    attention_mask = torch.cat([read["attention_mask"], mask.long()], dim=1)
    log_probs, values = policy(input_ids, attention_mask, written.shape[1])
    asked = {"input_ids": input_ids, "attention_mask": attention_mask, **positions(reference, attention_mask)}
    logits = reference(**asked, logits_to_keep=written.shape[1] + 1).logits
    reference_log_probs = log_probs_of(logits[:, :-1], written)
    finished = (written == end).any(dim=1)  # (batch,)
    answers = [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    return Rollout(input_ids, attention_mask, mask, log_probs, reference_log_probs, values, finished, answers)


policy = PolicyWithValue(new_policy())
rollout = roll_out(policy, sft, tokenizer, requests[:4], new=24)
print("log-probabilities", tuple(rollout.log_probs.shape), " # (batch, new)")
print("policy and reference agree at the start:", torch.equal(rollout.log_probs, rollout.reference_log_probs))

# %% [markdown]
# **The [KL](../docs/glossary.md#kl-divergence) penalty.** The reward model is right about lines like those it has
# seen. Far from them its score means nothing. So each token pays `kl_coef` times $\log \pi - \log \pi_\text{ref}$, how
# much more probable the policy made it. The last token also earns the score.


# %%
def token_rewards(scores, log_probs, reference, mask, kl_coef):
    """scores: (batch,); the rest and the result: (batch, new)."""
    rewards = -kl_coef * (log_probs - reference) * mask
    last = mask.sum(dim=1) - 1  # (batch,)
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


# %% [markdown]
# That log-ratio is one of several *estimates* of the KL, the one called **k1** (Schulman 2020). Its mean over answers
# is right, but single values scatter and can be negative. **k3** $= e^{-k_1} - 1 + k_1$ has the same mean and is never
# negative; [GRPO](../docs/glossary.md#group-relative-policy-optimization)'s penalty uses it. The **sum over the
# vocabulary** at each position, $\sum_v \pi(v) \log \frac{\pi(v)}{\pi_\text{ref}(v)}$, does not depend on which token
# was drawn there.
#
# Tables on this page report the sum, over answers drawn at temperature 1. Curves over updates show k1.


# %%
@torch.no_grad()
def kl_estimates(policy, reference, rollout):
    """k1, k3 and the sum over the vocabulary, in nats for each answer: (3, batch)."""
    new, mask = rollout.mask.shape[1], rollout.attention_mask
    read = {"input_ids": rollout.input_ids, "attention_mask": mask, "logits_to_keep": new + 1}
    ours, theirs = (
        model(**read, **positions(model, mask)).logits[:, :-1].log_softmax(dim=-1) for model in (policy, reference)
    )  # (batch, new, vocab) each
    k1 = rollout.log_probs - rollout.reference_log_probs
    k3 = (-k1).exp() - 1 + k1
    over_vocabulary = (ours.exp() * (ours - theirs)).sum(dim=-1)
    return torch.stack([(part * rollout.mask).sum(dim=1) for part in (k1, k3, over_vocabulary)])


# %% [markdown]
# **Advantages.** How much better than guessed did a token turn out? One step's surprise is
# $\delta_t = r_t + \gamma V_{t+1} - V_t$. Here $V_t$ is the value head's guess before token $t$, 0 after the end, and
# $\gamma$ discounts later rewards (answers are short, so it is 1). *Generalized [advantage
# estimation](../docs/glossary.md#advantage-estimation)* (GAE, Schulman et al. 2016) adds the later surprises, each step
# fading by $\gamma\lambda$:
#
# $$A_t = \delta_t + \gamma \lambda A_{t+1}$$

# %% [markdown]
# With $\gamma = \lambda = 1$ the guesses in between cancel: what is left is the whole reward still to come, minus the
# first guess.
#
# ### Exercise 05.2: generalized advantages
#
# Write it, from the last position back to the first. `rewards`, `values` and `mask` are (batch, new). Return the
# advantages and the *returns*, advantages plus values, both 0 where the mask is False.


# %% tags=["exercise"]
def advantages_and_returns(rewards, values, mask, gamma, gae_lambda):
    return ...


check("05.2", advantages_and_returns)
# hint("05.2")


# %% tags=["solution"]
def advantages_and_returns(rewards, values, mask, gamma, gae_lambda):
    advantages = torch.zeros_like(rewards)
    running = next_value = torch.zeros_like(rewards[:, 0])  # (batch,)
    for step in reversed(range(rewards.shape[1])):
        surprise = rewards[:, step] + gamma * next_value - values[:, step]
        running = (surprise + gamma * gae_lambda * running) * mask[:, step]
        next_value = values[:, step] * mask[:, step]
        advantages[:, step] = running
    return advantages, (advantages + values) * mask


check("05.2", advantages_and_returns)

# %%
advantages_and_returns = go_on_with("05.2", advantages_and_returns, ppo.advantages_and_returns)
draws = torch.Generator().manual_seed(0)
toy_rewards, toy_values = torch.randn(3, 6, generator=draws), torch.randn(3, 6, generator=draws)
everything = torch.ones(3, 6, dtype=torch.bool)
advantages, _ = advantages_and_returns(toy_rewards, toy_values, everything, gamma=1.0, gae_lambda=1.0)
still_to_come = toy_rewards.flip(1).cumsum(dim=1).flip(1)  # (3, 6)
print("equal to the sum of later rewards minus the guess:", torch.allclose(advantages, still_to_come - toy_values))
assert torch.allclose(advantages, still_to_come - toy_values, atol=1e-5)

# %% [markdown]
# **Why this trains.** The oldest rule, REINFORCE, maximizes $A_t \log \pi(\text{token}_t)$: a token with a positive
# advantage becomes more probable, one with a negative advantage less. PPO writes the same with a ratio. Let $\rho_t$ be
# the token's probability now over its probability when it was written. The gradient of $\rho_t$ is $\rho_t$ times that
# of $\log \pi$, so at ratio 1 the product $\rho_t A_t$ has exactly REINFORCE's gradient.

# %% [markdown]
# **The clipped objective.** Rollouts are expensive, so each is used for two passes. In the second pass the policy is no
# longer the one that wrote the answers. The ratio corrects for that, but only nearby. So PPO maximizes, over the
# tokens of the answers,
#
# $$\text{mean}_t \; \min\big(\rho_t A_t,\; \text{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) A_t\big)$$
#
# ### Exercise 05.3: the clipped objective
#
# Write it as a loss to be minimized. `log_probs`, `old` and `advantages` are (batch, new); use `masked_mean`.


# %% tags=["exercise"]
def clipped_surrogate(log_probs, old, advantages, mask, clip):
    return ...


check("05.3", clipped_surrogate)
# hint("05.3")


# %% tags=["solution"]
def clipped_surrogate(log_probs, old, advantages, mask, clip):
    ratio = (log_probs - old).exp()  # (batch, new)
    limited = ratio.clamp(1 - clip, 1 + clip)
    return -masked_mean(torch.min(ratio * advantages, limited * advantages), mask)


check("05.3", clipped_surrogate)

# %% [markdown]
# **Predict 3.** The next figure draws this objective against the ratio, for a good token (advantage +1) and for a bad
# one (-1). The good token's line is flat on the right. Where is the bad token's line flat?

# %%
predict("05.3", choices=["left", "right", "on both sides", "nowhere"])

# %%
clipped_surrogate = go_on_with("05.3", clipped_surrogate, ppo.clipped_surrogate)
ratios = torch.linspace(0.5, 1.5, 101)
gains = {}
for name, advantage in (("advantage +1: a good token", 1.0), ("advantage -1: a bad token", -1.0)):
    each = [clipped_surrogate(r.log(), torch.tensor(0.0), advantage, torch.tensor(1.0), 0.2) for r in ratios]
    gains[name] = [-value.item() for value in each]
plotting.show(figures.clipped_objective(ratios.tolist(), gains, clip=0.2))
bad = gains["advantage -1: a bad token"]
left, right = abs(bad[0] - bad[20]) < 1e-6, abs(bad[-1] - bad[-21]) < 1e-6
reveal("05.3", {(1, 0): "left", (0, 1): "right", (1, 1): "on both sides"}.get((left, right), "nowhere"))

# %% [markdown]
# <details><summary>Why not on the right too?</summary>
#
# Where the line is flat there is no gradient. A bad token that has already become *more* probable has to become
# improbable again, so there the slope must stay. The clip takes away the reward for going too far, never the way back.
#
# </details>


# %%
def ppo_update(policy, optimizer, rollout, scores, recipe):
    mask = rollout.mask
    rewards = token_rewards(scores, rollout.log_probs, rollout.reference_log_probs, mask, recipe.kl_coef)
    advantages, returns = advantages_and_returns(rewards, rollout.values, mask, recipe.gamma, recipe.gae_lambda)
    centre = masked_mean(advantages, mask)
    advantages = (advantages - centre) / (masked_mean((advantages - centre) ** 2, mask).sqrt() + 1e-6)
    for _ in range(recipe.ppo_epochs):
        log_probs, values = policy(rollout.input_ids, rollout.attention_mask, mask.shape[1])
        loss = clipped_surrogate(log_probs, rollout.log_probs, advantages, mask, recipe.clip)
        loss = loss + masked_mean((values - returns) ** 2, mask)
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
    outside = ((log_probs - rollout.log_probs).exp() - 1).abs() > recipe.clip  # (batch, new)
    return masked_mean(outside.float(), mask).item()


# %% [markdown]
# The advantages get mean 0 and standard deviation 1, whatever the reward model's units. The value head learns with a
# squared error on detached states, so this error does not train the policy. It can still hurt the policy in two ways:
# wrong values make noisy advantages, and one clipped gradient norm covers both, so a large value gradient shrinks the
# policy's. Many implementations clip the two apart, and also the change of the value.
#
# Last, the loop. The policy learns at `learning_rate`, the value head at 1e-2.


# %%
def train_ppo(policy, reference, tokenizer, prompts, score, recipe):
    policy.eval()  # no dropout: the ratio of the first pass has to be one
    heads = [{"params": policy.model.parameters()}, {"params": policy.value_head.parameters(), "lr": 1e-2}]
    optimizer = torch.optim.AdamW(heads, lr=recipe.learning_rate, weight_decay=0.0)
    history = PPOHistory()
    for update in tqdm(range(recipe.updates), desc="PPO", leave=False):
        drawn = torch.randint(len(prompts), (recipe.batch_size,)).tolist()
        asked = [prompts[row] for row in drawn]
        rollout = roll_out(policy, reference, tokenizer, asked, recipe.max_new_tokens)
        scores = score(asked, rollout.answers).to(rollout.log_probs)
        if not scores.isfinite().all():
            raise UserError(f"The reward became {scores.mean().item()} at update {update + 1}: it has to be a number.")
        cut = scores - recipe.missing_end_penalty * ~rollout.finished
        history.clip_share.append(ppo_update(policy, optimizer, rollout, cut, recipe))
        watch_update(history, rollout, scores)
    return history


# %%
from helpers.lessons.lesson_05.experiment import ScoreLog

settings = {"updates": update_count, "batch_size": batch_size, "learning_rate": learning_rate}
recipe = PPORecipe(**settings, kl_coef=kl_coef)
print(recipe)
seed_everything(seed)
policy = PolicyWithValue(new_policy())
watched = {"PPO": ScoreLog(score, judge_answer)}  # it asks the judge too, for our eyes only
with Stopwatch() as watch, PeakMemory() as memory:
    histories = {"PPO": train_ppo(policy, sft, tokenizer, requests, watched["PPO"], recipe)}
seconds, peak_bytes = {"PPO": watch.seconds}, {"PPO": memory.added}
graded = {"SFT": replace(sft_graded, proxy=score(test_requests, sft_graded.answers).cpu())}
graded["PPO"] = grade(policy.model, sft, tokenizer, test_requests, score, seed, judge_answer)
cool = {"SFT": sharper[0.6].good, "PPO": judged_at(policy.model, 0.6).good}
likeliest = {"SFT": sharper[0.0].good, "PPO": judged_at(policy.model, 0.0).good}  # greedy
plotting.show(figures.proxy_and_truth({"PPO": watched["PPO"].proxy}, {"PPO": watched["PPO"].truth}))


# %%
def gain(name, against="SFT", what="good"):
    return paired_bootstrap(*(getattr(graded[one], what).numpy() for one in (name, against)), seed=seed)


def clear(gap):
    """1 for a clear gain, -1 for a clear loss, 0 where the interval holds 0."""
    return int(gap.low > 0) - int(gap.high < 0)


def verdict(gap):
    return f"{gap:+.2f}, {('no clear difference', 'a clear gain', 'a clear loss')[clear(gap)]}"


def objective(found):
    """What PPO maximizes: the mean score minus the KL weight times the KL."""
    return found.proxy.mean().item() - kl_coef * found.kl.mean().item()


for part, share in shares(graded["PPO"]).items():
    print(f"{names.get(part, part):10} SFT {shares(graded['SFT'])[part]:.3f}   PPO {share:.3f}")
print(f"requests satisfied, PPO minus SFT: {verdict(gain('PPO'))}")
print(f"score minus {kl_coef:g} KL: SFT {objective(graded['SFT']):+.2f}, PPO {objective(graded['PPO']):+.2f}")
show(graded["PPO"])

# %% [markdown]
# The figure shows requests that PPO trained on. The verdicts below it are about other films, so trust those. First
# *tone*: a random guess is right half of the time. Then *form*: the only bad form that the reward model ever saw was
# shuffled words, while the judge also counts a single slip. Last, "score minus KL", what PPO maximizes. If PPO ends
# below SFT there, it paid more in KL than it gained in score. Section 5 counts how many seeds do.

# %% [markdown]
# ### What to log beside the score
#
# The three estimates first: k3 scatters less than k1 near the reference, but far from it a few tokens with a large
# $e^{-k_1}$ dominate.
#
# Then four curves that every RL run should draw: KL, entropy (how undecided the policy is), tokens outside the clip,
# and length. TRL logs related quantities: `kl` (k3 per token; ours is k1 per answer), `entropy` (per token, as ours),
# `clip_ratio/region_mean` (only tokens where the clip acts; ours counts every ratio outside) and
# `completions/mean_length`. Compare shapes, not numbers.

# %%
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(seed)
    rollout = roll_out(policy, sft, tokenizer, test_requests[:64], new=24)
for name, each in zip(("k1", "k3", "sum over vocabulary"), kl_estimates(policy.model, sft, rollout), strict=True):
    print(f"{name:19} mean {each.mean():5.2f}, standard deviation {each.std():5.2f}, lowest {each.min():6.2f} nats")
plotting.show(figures.health(histories))

# %% [markdown]
# ## 4. GRPO and RLOO
#
# The value head is a guess that has to be learned. There is a simpler one: let the policy answer the *same* request
# four times, and compare each answer with its siblings. The whole answer gets one advantage, so there is no value model
# and no GAE. **[GRPO](../docs/glossary.md#group-relative-policy-optimization)** (Shao et al. 2024) subtracts the
# group's mean and divides by its standard deviation:


# %%
def group_advantages(rewards, size):
    """rewards: (batch,), the answers to one request side by side; returns (batch,)."""
    groups = rewards.view(-1, size)  # (requests, size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred / (groups.std(dim=1, keepdim=True) + 1e-4)).flatten()


alike = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.52, 0.50, 0.50, 0.50])  # one group that differs, one that hardly does
print([round(value, 2) for value in group_advantages(alike, size=4).tolist()])

# %% [markdown]
# The two groups look the same now: where four answers are about equally good, the division blows a small difference up
# to full size. Liu et al. (2025) therefore leave it out (`scale_rewards="none"` in TRL).
#
# TRL and the next function multiply the k3 penalty by the ratio (`use_bias_correction_kl`, DeepSeek-V3.2). Published
# GRPO does not. While policy and writer agree, its penalty has the gradient of $KL(\pi_\text{ref} \| \pi)$, not of
# $KL(\pi \| \pi_\text{ref})$.

# %% [markdown]
# The loss is PPO's, plus the k3 penalty. Variants differ in how tokens are averaged:
#
# - **`grpo`**, as published: over each answer's tokens, then over answers. A bad long answer is punished less
#   per token, which favours length (Liu et al. 2025).
# - **`dapo`** (Yu et al. 2025), TRL's default: over all tokens of the batch. DAPO also clips higher above 1 than below
#   (`epsilon_high`).
# - **`dr_grpo`** (Liu et al. 2025): the sum, divided by a constant, against the length bias.


# %%
def grpo_loss(log_probs, old, reference, advantages, mask, clip, kl_coef, loss_type):
    """advantages: (batch,); all others (batch, new)."""
    ratio = (log_probs - old).exp()
    limited = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.min(ratio * advantages.unsqueeze(1), limited * advantages.unsqueeze(1))
    apart = reference - log_probs
    k3 = apart.exp() - 1 - apart
    each = (-gain + kl_coef * ratio * k3) * mask
    if loss_type == "grpo":
        return (each.sum(dim=1) / mask.sum(dim=1)).mean()
    return each.sum() / mask.sum()


# %% [markdown]
# TRL trains both. Each update has 32 answers:
#
# | method | requests x answers | rate | KL weight | where the KL is paid |
# |---|---|---|---|---|
# | PPO | 32 x 1 | `learning_rate` | `kl_coef` | reward, per token |
# | GRPO | 8 x 4 | 0.3 of it | half of it | loss |
# | RLOO | 8 x 4 | 0.6 of it | `kl_coef` | reward, per answer |
#
# RLOO also clips the ratio of the *whole* answer. These settings were chosen by hand, from few values on the validation
# films; no grid was kept. So what follows compares these settings, and a method that loses may only be tuned worse.
#
# **Predict 4.** Same requests, reward model, and number of updates. Which of the three will satisfy most?

# %%
predict("05.4", choices=["PPO", "GRPO", "RLOO"])


# %%
def group_settings(updates, batch_size, seed):
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


# %%
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from helpers.language_model import count_positions_from_mask

conversations = Dataset.from_dict({"prompt": [messages(request) for request in requests]})


def as_trl_calls(score, end):
    """A reward function for TRL: conversations and token ids in, one number for each answer out."""

    def reward_model(prompts, completions, completion_ids, **_):
        asked = [turns[-1]["content"] for turns in prompts]
        answered = [turns[-1]["content"].strip() for turns in completions]
        cut = torch.tensor([end not in list(ids) for ids in completion_ids])
        return (score(asked, answered).cpu() - 1.0 * cut).tolist()  # 1.0 off for a missing end, as in PPO

    return reward_model


watch_these = ("beta", "num_generations", "num_iterations", "learning_rate", "epsilon", "loss_type", "scale_rewards")
pd.DataFrame({one.__name__: {name: getattr(one, name, "") for name in watch_these} for one in (GRPOConfig, RLOOConfig)})

# %% [markdown]
# The table shows TRL's *defaults*, read from your installed version. This page differs: with a `beta` of 0 GRPO would
# have no KL penalty, and one pass (`num_iterations`) would make the ratio 1, so that nothing is ever clipped. The
# default rates are meant for much larger models.
#
# One function serves both trainers: a new policy, the settings above, this method's rate and KL weight, then a verdict
# on the test films.


# %%
def with_trl(name, trainer_class, config_class, rate, kl_share, **more):
    seed_everything(seed)
    policy, watched[name] = new_policy(), ScoreLog(score, judge_answer)
    policy.generation_config.eos_token_id = end_of_turn(tokenizer)  # where TRL looks for the end of an answer
    settings = group_settings(update_count, batch_size, seed) | more
    settings |= {"learning_rate": rate * learning_rate, "beta": kl_share * kl_coef}
    arguments = config_class(output_dir=scratch_folder.name, use_cpu=run.device == "cpu", **settings)
    reward = as_trl_calls(watched[name], end_of_turn(tokenizer))
    trainer = trainer_class(
        policy, reward, args=arguments, train_dataset=conversations, processing_class=tokenizer
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    count_positions_from_mask(policy, trainer.ref_model)  # TRL pads on the left too, and passes no positions
    with Stopwatch() as watch, PeakMemory() as memory:
        trainer.train()
    seconds[name], peak_bytes[name] = watch.seconds, memory.added
    graded[name] = grade(policy, sft, tokenizer, test_requests, score, seed, judge_answer)
    cool[name], likeliest[name] = (judged_at(policy, temperature).good for temperature in (0.6, 0.0))
    return trainer


# %%
trainer = with_trl("GRPO", GRPOTrainer, GRPOConfig, rate=0.3, kl_share=0.5, loss_type="grpo")
print(f"requests satisfied, GRPO minus SFT: {verdict(gain('GRPO'))}")
kept, theirs = (
    torch.tensor(list(values)) for values in (trainer._logs["rewards"]["reward_model"], trainer._logs["advantages"])
)  # TRL keeps its last batch, in private attributes that another version may name differently
difference_group_advantages = (group_advantages(kept, 4) - theirs).abs().max().item()
print("our advantages are TRL's to 0.0001:", difference_group_advantages < 1e-4)
assert difference_group_advantages < 1e-4

# %% [markdown]
# Is your loss TRL's? The trainer still holds its last batch of answers. Your function and its own get that batch and
# the trained policy, once for each way of averaging. The policy has moved since it wrote the batch, so ratios and KL
# are not trivial. This is a test, not a workflow: `_buffered_inputs` and `_compute_loss` are private to TRL.

# %%
last = trainer._buffered_inputs[0]
ids = torch.cat([last["prompt_ids"], last["completion_ids"]], dim=1)
seen = torch.cat([last["prompt_mask"], last["completion_mask"]], dim=1)
new = last["completion_ids"].shape[1]
difference_grpo_loss = 0.0
with torch.no_grad():
    logits = trainer.model(input_ids=ids, attention_mask=seen, logits_to_keep=new + 1).logits[:, :-1]
    log_probs = log_probs_of(logits, last["completion_ids"])
    reference = last.get("ref_per_token_logps", log_probs)  # with a KL weight of 0 TRL asks no reference
    given = (log_probs, last["old_per_token_logps"], reference, last["advantages"])
    for kind in ("grpo", "dapo"):
        trainer.loss_type = kind
        ours = grpo_loss(*given, last["completion_mask"], 0.2, trainer.beta, kind).item()
        theirs = trainer._compute_loss(trainer.model, last).item()
        difference_grpo_loss = max(difference_grpo_loss, abs(ours - theirs))
        print(f"{kind}: ours {ours:+.8f}, TRL {theirs:+.8f}")
assert difference_grpo_loss < 1e-5

# %% [markdown]
# **RLOO** (*REINFORCE leave-one-out*, Ahmadian et al. 2024) compares an answer with the mean of the *others* in its
# group, and never divides.
#
# ### Exercise 05.4: leave one out
#
# Write it. `rewards` is (requests, size); the baseline of each answer is the mean of its siblings, itself left out.


# %% tags=["exercise"]
def leave_one_out(rewards):
    return ...


check("05.4", leave_one_out)
# hint("05.4")


# %% tags=["solution"]
def leave_one_out(rewards):
    size = rewards.shape[1]
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (size - 1)
    return rewards - others


check("05.4", leave_one_out)

# %%
from helpers.lessons.lesson_05.experiment import last_rloo_batch
from helpers.lessons.lesson_05.experiment import leave_one_out as rloo_advantages

leave_one_out = go_on_with("05.4", leave_one_out, rloo_advantages)
trainer = with_trl("RLOO", RLOOTrainer, RLOOConfig, rate=0.6, kl_share=1.0)
print(f"requests satisfied, RLOO minus SFT: {verdict(gain('RLOO'))}")
print(f"requests satisfied, RLOO minus GRPO: {verdict(gain('RLOO', against='GRPO'))}")
paid, theirs = last_rloo_batch(trainer, sft)  # rewards after the KL was paid, and TRL's advantages
difference_leave_one_out = (leave_one_out(paid.view(-1, 4)).flatten() - theirs).abs().max().item()
print("our leave-one-out advantages are TRL's to 0.001:", difference_leave_one_out < 1e-3)
assert difference_leave_one_out < 1e-3

# %%
best_score, best_truth = picked[MOST]
rows = {}
for name, found in graded.items():
    rows[name] = [f"{shares(found)['good']:.3f}", f"{cool[name].mean():.3f}", f"{likeliest[name].mean():.3f}"]
    rows[name] += [f"{getattr(found, part).mean():.2f}" for part in ("tone", "film", "form")]
    rows[name] += [f"{found.proxy.mean():+.2f}", f"{found.kl.mean():.1f}", f"{objective(found):+.2f}"]
greedy, best = sharper[0.0], wilson(int(best_truth.sum()), len(best_truth))
print(f"best of {MOST} of the SFT model: {best:.3f} satisfied, score {best_score.mean():+.2f}, KL at most 1.2 nats")
for name in seconds:
    print(f"{name}: {seconds[name]:.0f} s, {peak_bytes[name] / 1e6:.0f} MB added")
columns = ["satisfied [95 %]", "at temperature 0.6", "greedy", "tone", "film", "form"]
columns += ["score", "KL (nats)", f"score - {kl_coef:g} KL"]
trained = ("PPO", "GRPO", "RLOO")
for name in trained:
    good = graded[name].good.numpy()
    print(f"{name}: minus SFT {verdict(gain(name))}; ", end="")
    print(f"minus SFT, greedy {verdict(paired_bootstrap(good, greedy.good.numpy(), seed=seed))}; ", end="")
    print(f"minus best of {MOST} {verdict(paired_bootstrap(good, best_truth.numpy(), seed=seed))}")
reached = {name: graded[name].true_reward for name in trained}
metrics = (f"true_reward_{name.lower()}" for name in trained)
seeds = per_seed(lambda *shares: max(zip(shares, trained, strict=True))[1], *metrics)
reveal("05.4", max(reached, key=reached.get), reference=seeds)
measured = {name: shares(found)["good"] for name, found in graded.items()} | {f"best of {MOST}": best}
notes = {name: f"KL {one.kl.mean().item():.1f} nats" for name, one in graded.items()}
plotting.show(figures.satisfied(measured, notes | {f"best of {MOST}": "KL at most 1.2 nats"}))
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *Two baselines to beat:* SFT with [greedy decoding](../docs/glossary.md#greedy-decoding), which costs nothing extra,
#   and best of 8, which costs eight answers. A policy that beats SFT at temperature 1 alone may only have become
#   sharper. So compare policies at *one* temperature, down a column.
# - *Tone, film, form* say where a gain came from.
# - *Score minus KL weight times KL* is PPO's own goal. (GRPO's KL weight is half of it.)
# - The intervals are over requests. Section 5 has the seeds.
# - *Seconds and memory* compare programs, our PPO with TRL's trainers, rather than methods.
#
# </details>
#
# What has to be in memory:
#
# | method | models |
# |---|---|
# | PPO | policy, value model (here one layer; elsewhere a network), reference, reward model |
# | GRPO, RLOO with a reward model and a KL penalty | policy, reference, reward model |
# | GRPO with a checkable reward and no KL penalty (TRL's default `beta` is 0) | policy |
#
# GRPO's paper drops the value model because it is "typically another model of comparable size as the policy model".
#
# ## 5. Over-optimization, or a run that broke?
#
# A policy that is trained against a reward model long enough can find texts that score well and are bad: **[reward
# hacking](../docs/glossary.md#reward-hacking)**. Gao et al. (2023) measured how the true reward first rises with the KL
# and then falls, while the learned score goes on rising. This page calls a run, compared with SFT on films that it
# never saw:
#
# | score | requests satisfied | the run |
# |---|---|---|
# | a clear gain | a clear gain | improved |
# | a clear gain | a clear loss | over-optimized |
# | no clear gain | a clear loss | collapsed: the score gained nothing either |
# | anything else | | undecided |

# %% [markdown]
# You look for it with a KL weight of 0, where nothing holds the policy near the SFT model. To make it quick, the rate
# is doubled. But now *two* things differ from section 3. So there is a control: the doubled rate *with* the KL penalty.
# These two runs differ only in the KL penalty.
#
# **Predict 5.** Twice the rate, 15 updates. Which run satisfies more requests at the end: the one without the KL
# penalty, the one with it, or is there no clear difference?

# %%
predict("05.5", choices=["with the penalty", "without", "no clear difference"])


# %%
def fast_run(name, weight):
    """PPO at twice the rate with this KL weight; the judged answers are kept under a name."""
    seed_everything(seed)
    learner, watched[name] = PolicyWithValue(new_policy()), ScoreLog(score, judge_answer)
    fast = replace(recipe, kl_coef=weight, updates=fast_updates, learning_rate=2 * learning_rate)
    histories[name] = train_ppo(learner, sft, tokenizer, requests, watched[name], fast)
    graded[name] = grade(learner.model, sft, tokenizer, test_requests, score, seed, judge_answer)


def kind(score, truth):
    """What the table above calls a run; both: 1 a clear gain, -1 a clear loss, 0 neither."""
    if truth < 0:
        return "over-optimized" if score > 0 else "collapsed"
    return "improved" if truth > 0 and score > 0 else "undecided"


WITH, WITHOUT = "twice the rate, KL penalty", "twice the rate, no penalty"
fast_run(WITHOUT, 0.0)
fast_run(WITH, kl_coef)
plotting.show(figures.health({name: histories[name] for name in ("PPO", WITHOUT, WITH)}))

# %%
from helpers.lessons.lesson_05.experiment import shapes, title_only

three = ("PPO", WITHOUT, WITH)
proxies, truths = ({name: getattr(watched[name], what) for name in three} for what in ("proxy", "truth"))
plotting.show(figures.proxy_and_truth(proxies, truths))
for name in three:
    proxy_gap, truth_gap = gain(name, what="proxy"), gain(name)
    print(f"{name}: {kind(clear(proxy_gap), clear(truth_gap))}")
    print(f"   minus SFT: score {verdict(proxy_gap)}; satisfied {verdict(truth_gap)}")
    print(f"   KL {graded[name].kl.mean():.1f} nats; {title_only(graded[name], test_films):.0%} are the bare title")
penalty_gap = gain(WITH, against=WITHOUT)
print(f"requests satisfied at twice the rate, KL penalty minus no penalty: {verdict(penalty_gap)}")
kinds = ("no clear difference", "with the penalty", "without")
seeds = per_seed(lambda at: kinds[int(at)], "clear_penalty_at_twice_the_rate")
reveal("05.5", kinds[clear(penalty_gap)], reference=seeds)

# %% [markdown]
# Does the reward model pay for something that is no answer? Here are the answers without the penalty that score
# highest *among those that do not satisfy the request*. An answer of the SFT model scores 0 on average.

# %%
found = graded[WITHOUT]
wrong = [row for row in found.proxy.argsort(descending=True).tolist() if not found.good[row]]
for row in wrong[:6]:
    failed = ", ".join(part for part in ("tone", "film", "form") if not getattr(found, part)[row])
    print(f"{found.proxy[row]:+.2f}  wrong {failed:16} {test_requests[row]}  ->  {found.answers[row]}")
if wrong:
    print(f"{(found.proxy[wrong] > 0.5).sum().item()} of {len(wrong)} unsatisfied answers score above +0.5")

# %% [markdown]
# <details><summary>How to read this</summary>
#
# - The cell before last prints whether each run improved, is over-optimized, collapsed or undecided. That word compares
#   with SFT alone. Gao's curve asks for more: the score still *rising* while the truth falls.
# - A high score on a bare title or a broken line is an exploit: the only broken text that any pair rejected had its
#   words shuffled.
# - *The KL* says how far a policy moved, not whether it improved. Compare runs at equal KL where you can.
# - *The time of measurement matters.* A run that goes on may pass from one row of the definition to another. The curves
#   show the way.
#
# </details>
#
# ### Over several seeds
#
# The reference is this page, run once for each of five seeds, so the figure and tables below are *not* from this run.
# All runs of a seed share its reward model, good or poor. The last table compares policies at *equal* temperatures,
# within a seed.
#
# All seeds share the SFT model and the test requests. So intervals over seeds cover the luck of the reward model and of
# RL, not another SFT model or other films. That is why SFT's greedy answers never vary.

# %%
reference = lesson_reference("05")
print("Reference:", reference.label)
TITLES = {
    "sft": "SFT", "ppo": "PPO", "grpo": "GRPO", "rloo": "RLOO", "fast_with_kl": WITH, "weak_kl": WITHOUT,
}  # fmt: skip
drawn_seeds = {
    title: list(
        zip(*(recorded("05", f"{quantity}_{name}") for quantity in ("kl", "proxy", "true_reward")), strict=True)
    )
    for name, title in TITLES.items()
}
plotting.show(figures.against_kl({title: dots for title, dots in drawn_seeds.items() if dots}))
by_seed = {
    "reward model right": "reward_accuracy_held_out", "in tone": "reward_accuracy_held_out_tone",
    f"best of {MOST}": f"true_reward_best_of_{MOST}", "SFT": "true_reward_sft", "PPO": "true_reward_ppo",
    "GRPO": "true_reward_grpo", "RLOO": "true_reward_rloo",
    "score - 0.2 KL: SFT": "objective_sft", "and PPO": "objective_ppo",
}  # fmt: skip
columns = {title: recorded("05", metric) for title, metric in by_seed.items() if recorded("05", metric)}
pd.DataFrame(columns, index=[f"seed {one}" for one in reference.seeds]).round(2)


# %%
def over_seeds(metric, digits=2):
    """Mean (lowest to highest) over the reference's seeds; says so where it was not measured."""
    values = reference.metrics.get(metric)
    if not values:
        return "not measured yet"
    return f"{sum(values) / len(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def kinds_of(name):
    """How often the five runs were improved, over-optimized, ..."""
    found = per_seed(kind, f"clear_proxy_{name}", f"clear_truth_{name}")
    return ", ".join(f"{found.count(one)} {one}" for one in dict.fromkeys(found)) or "not measured yet"


shown = {"satisfied, temperature 1": "true_reward_{}", "temperature 0.6": "true_reward_{}_cool"}
shown |= {"greedy": "true_reward_{}_greedy", "score": "proxy_{}", "KL (nats)": "kl_{}"}
shown |= {"score - 0.2 KL": "objective_{}"}
rows = {
    TITLES[name]: {title: over_seeds(metric.format(name)) for title, metric in shown.items()}
    for name in ("sft", "ppo", "grpo", "rloo")
}
print(f"best of {MOST}: {over_seeds(f'true_reward_best_of_{MOST}')} satisfied, ", end="")
print(f"score {over_seeds(f'proxy_best_of_{MOST}')}\nmean (lowest to highest) over seeds:")
pd.DataFrame.from_dict(rows, orient="index")


# %%
def gap_of(metric, minus):
    """The mean difference of two metrics within a seed, with its interval; None where one was not measured."""
    one, other = recorded("05", metric), recorded("05", minus)
    return mean_t([a - b for a, b in zip(one, other, strict=True)]) if one and other else None


def difference(name, minus, metric="true_reward", end=""):
    gap = gap_of(f"{metric}_{name}{end}", f"{metric}_{minus}{end}")
    return verdict(gap) if gap else "not measured yet"


best_name = f"best_of_{MOST}"
against = {
    "minus SFT, both at temperature 1": ("true_reward_{}", "true_reward_sft"),
    "minus SFT, both at 0.6": ("true_reward_{}_cool", "true_reward_sft_cool"),
    "minus SFT, both greedy": ("true_reward_{}_greedy", "true_reward_sft_greedy"),
    f"at temperature 1, minus best of {MOST}": ("true_reward_{}", f"true_reward_{best_name}"),
    f"greedy, minus best of {MOST}": ("true_reward_{}_greedy", f"true_reward_{best_name}"),
    "score - 0.2 KL, minus SFT's": ("objective_{}", "objective_sft"),
}
bought = {
    title: {name: gap_of(metric.format(name.lower()), minus) for name in trained}
    for title, (metric, minus) in against.items()
}
bought = {title: gaps for title, gaps in bought.items() if all(gaps.values())}
pd.DataFrame.from_dict(
    {title: {name: verdict(gap) for name, gap in gaps.items()} for title, gaps in bought.items()}, orient="index"
)

# %% [markdown]
# **What did RL buy?** In the rows that say "both", policy and SFT model are decoded alike. "Both greedy" is what a user
# notices who decodes greedily anyway. The rows about best of 8 ask whether training beats eight draws and a reward
# model, at an eighth of the sampling. The last row is PPO's own objective. A loss there means that the policy paid more
# in KL than its score rose.
#
# Next: the order of the three methods, and what the penalty did.


# %%
def summary(title):
    """One row of "what did RL buy": which methods gained clearly, lost clearly, or neither."""
    said = {1: "a clear gain", 0: "no clear difference", -1: "a clear loss"}
    groups = {word: [] for word in said.values()}
    for name, gap in bought.get(title, {}).items():
        groups[said[clear(gap)]].append(name)
    said = "; ".join(f"{word} for {', '.join(group)}" for word, group in groups.items() if group)
    return said or "not measured yet"


ENDS = {"temperature 1": "", "temperature 0.6": "_cool", "greedy": "_greedy"}
for one, two in (("grpo", "ppo"), ("rloo", "ppo"), ("rloo", "grpo")):
    apart = "; ".join(f"{heat} {difference(one, two, end=end)}" for heat, end in ENDS.items())
    print(f"{TITLES[one]} minus {TITLES[two]}: {apart}")
lower = per_seed(lambda after, before: after < before, "objective_ppo", "objective_sft")
print(f"PPO ends below SFT on its own objective in {sum(lower)} of {len(lower)} seeds")
print(f"\nwithout the penalty: {kinds_of('weak_kl')}; with it: {kinds_of('fast_with_kl')}")
compared = {"no penalty, minus SFT": ("weak_kl", "sft"), "no penalty, minus with": ("weak_kl", "fast_with_kl")}
compared |= {"no penalty, minus PPO of section 3": ("weak_kl", "ppo")}
penalty_rows = {title: [difference(*two), difference(*two, "proxy")] for title, two in compared.items()}
for at in range(5, fast_updates + 1, 5):
    truth, level = (over_seeds(f"{curve}_at_{at}_weak_kl") for curve in ("truth", "proxy"))
    penalty_rows[f"no penalty, updates {at - 4} to {at}, in training"] = [truth, level]
pd.DataFrame.from_dict(penalty_rows, orient="index", columns=["requests satisfied", "score"])

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *Order.* Where an interval between two methods contains 0, five seeds cannot say which is better at these settings.
#   A method that wins at one temperature only may have become sharper.
# - *The penalty.* "No penalty, minus with" is the clean comparison. Its two columns say what leaving the penalty out
#   did to satisfied requests and to the score.
# - *Over-optimized* compares with SFT alone. In Gao's curve the score goes on rising while the truth falls, so look at
#   the last rows, over the updates. A score that stands still while the truth falls is weaker evidence.
#
# </details>
#
# ### The best policy on paper
#
# The goal, score minus KL weight times KL, has an exact best policy: each answer's old probability times
# $e^{\text{score} / \text{KL weight}}$ (lesson 06 derives it). The eight answers to each request from section 2 are
# draws from the SFT model. Weight them so: the weighted averages estimate the best policy, without training. Eight
# draws can stand for a KL of at most $\log 8 = 2.1$ nats, so for small weights they show less than the best.


# %%
def tilted(weight):
    share = (candidate_scores / weight).softmax(dim=1)  # (requests, 8): each row sums to 1
    return [(share * values).sum(dim=1).mean().item() for values in (candidate_scores, candidate_truth)]


def best_objective(weight):
    """The highest score minus weight times KL, estimated from the draws: weight * log mean e^(score / weight)."""
    return (weight * ((candidate_scores / weight).logsumexp(dim=1) - torch.tensor(MOST).log())).mean().item()


grid = [10 ** (step / 10) for step in range(-20, 21)]
values = [tilted(one) for one in grid]
marked = kl_coef or grid[0]
figure = figures.tilted(grid, [p for p, _ in values], [t for _, t in values], chosen=marked)
figure.alt = f"KL weight {marked:g}: score {tilted(marked)[0]:+.2f}, satisfied {tilted(marked)[1]:.0%}"
plotting.show(figure)
on_paper = best_objective(kl_coef) if kl_coef else best_score.mean().item()
print(f"score minus {kl_coef:g} KL: on paper at least {on_paper:+.2f}; ", end="")
print(", ".join(f"{name} {objective(graded[name]):+.2f}" for name in ("SFT", "PPO", "GRPO", "RLOO")))

# %% [markdown]
# At the end with almost no penalty, the weights pick the best of 8 again. The last line sets the trained policies
# beside the best on paper.
#
# ## 6. A reward that a program can check
#
# For some tasks a program can check the answer: unit tests for code, the final number of a calculation. Then no reward
# model is needed: DeepSeek-R1-Zero (Guo et al. 2025) was trained that way. Our judge is such a program. From here on
# it *is* the reward: 1 for a satisfied request, else 0.

# %% [markdown]
# The loop is yours from section 4: `roll_out`, `group_advantages`, `grpo_loss`. Rate, KL weight, updates and group size
# are those of GRPO in section 4. Not only the reward differs: so do the program, the order of the requests, and what an
# answer without an end costs (here its whole reward, there 1.0 of the score). A gap may owe something to these.
#
# **Predict 6.** On films that training never asked about: will it satisfy more requests than GRPO with the reward
# model?

# %%
predict("05.6", choices=["more", "fewer", "no clear difference"])


# %%
def checked(prompts, answers):
    return torch.tensor([float(judge_answer(*pair).good) for pair in zip(prompts, answers, strict=True)])


def train_grpo(policy, prompts, reward, updates, rate, kl_coef, size=4):
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=rate, weight_decay=0.0)
    history, same = PPOHistory(), []
    for _ in tqdm(range(updates), desc="GRPO", leave=False):
        drawn = torch.randint(len(prompts), (batch_size // size,)).tolist()
        asked = [prompts[row] for row in drawn for _ in range(size)]
        rollout = roll_out(policy, sft, tokenizer, asked, new=24)
        rewards = reward(asked, rollout.answers).to(rollout.log_probs) * rollout.finished
        advantages = group_advantages(rewards, size)
        same.append((rewards.view(-1, size).std(dim=1) == 0).float().mean().item())
        for _ in range(2):
            log_probs, _ = policy(rollout.input_ids, rollout.attention_mask, rollout.mask.shape[1])
            kept = rollout.log_probs, rollout.reference_log_probs, advantages, rollout.mask
            grpo_loss(log_probs, *kept, clip=0.2, kl_coef=kl_coef, loss_type="grpo").backward()
            nn.utils.clip_grad_norm_(policy.model.parameters(), max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
        outside = ((log_probs - rollout.log_probs).exp() - 1).abs() > 0.2  # (batch, new)
        history.clip_share.append(masked_mean(outside.float(), rollout.mask).item())
        watch_update(history, rollout, rewards)
    return history, same


# %%
seed_everything(seed)
learner = PolicyWithValue(new_policy()).eval()
with Stopwatch() as watch:
    histories["GRPO, checked"], same = train_grpo(
        learner, requests, checked, update_count, rate=0.3 * learning_rate, kl_coef=0.5 * kl_coef
    )
seconds["GRPO_checked"] = watch.seconds
cool["GRPO_checked"], likeliest["GRPO_checked"] = (judged_at(learner.model, heat).good for heat in (0.6, 0.0))
graded["GRPO, checked"] = grade(learner.model, sft, tokenizer, test_requests, score, seed, judge_answer)
checked_gap = gain("GRPO, checked", against="GRPO")
print(f"requests satisfied, GRPO with the checked reward: {shares(graded['GRPO, checked'])['good']}")
print(f"minus SFT: {verdict(gain('GRPO, checked'))}")
print(f"minus GRPO with the reward model: {verdict(checked_gap)}")
outcomes = ("no clear difference", "more", "fewer")
seeds = per_seed(lambda at: outcomes[int(at)], "clear_checked_against_grpo")
reveal("05.6", outcomes[clear(checked_gap)], reference=seeds)
show(graded["GRPO, checked"])
print(f"groups whose four rewards are equal: {sum(same) / len(same):.0%} on average, {same[-1]:.0%} in the last update")
for name in ("SFT", "GRPO", "GRPO, checked"):
    print(
        f"{name}: different sentences, titles and names masked: {shapes(graded[name], test_films):.0%} of the answers"
    )
plotting.show(figures.health({name: histories[name] for name in ("PPO", "GRPO, checked")}))

# %%
print("over the reference's seeds:")
checked_rows = {}
for heat, end in ENDS.items():
    checked_rows[heat] = {"satisfied": over_seeds(f"true_reward_grpo_checked{end}")}
    checked_rows[heat] |= {
        f"minus {title}, alike": difference("grpo_checked", minus, end=end)
        for minus, title in (("sft", "SFT"), ("grpo", "GRPO with the reward model"))
    }
    beside_best = gap_of(f"true_reward_grpo_checked{end}", f"true_reward_{best_name}")
    checked_rows[heat][f"minus best of {MOST}"] = verdict(beside_best) if beside_best else "not measured yet"
pd.DataFrame(checked_rows)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - Here score and truth are the same thing, so there is nothing to over-optimize, as long as the checker is right. Ours
#   has the limit of section 1: it pays for the sentences that it knows. A checker is a reward model without noise, not
#   one without blind spots.
# - *Diversity can be lost.* One right sentence for every film would earn everything. Compare the shares of different
#   sentences, and the entropy.
# - A group of four equal rewards has advantages of 0 and teaches nothing; the first line counts them. DAPO draws until
#   a group is mixed. A reward model gives a number to every answer, so its groups almost always differ, rightly or not.
#
# </details>
#
# At work you would not write the loop. TRL takes any function that returns one number for each answer; with `beta=0.0`
# it keeps no reference. Two updates, to see the call:


# %%
def satisfied(prompts, completions, **_):
    asked, answered = ([turns[-1]["content"].strip() for turns in texts] for texts in (prompts, completions))
    return checked(asked, answered).tolist()


policy = new_policy()
policy.generation_config.eos_token_id = end_of_turn(tokenizer)
more = {"output_dir": scratch_folder.name, "use_cpu": run.device == "cpu", "learning_rate": 0.3 * learning_rate}
trainer = GRPOTrainer(
    policy,
    reward_funcs=satisfied,
    args=GRPOConfig(beta=0.0, loss_type="dapo", **group_settings(2, batch_size, seed), **more),
    train_dataset=conversations,
    processing_class=tokenizer,
)
trainer.remove_callback(PrinterCallback)
count_positions_from_mask(policy)
trainer.train()
rewarded = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
print("mean reward, each step:", [round(value, 2) for value in rewarded], " reference in memory:", trainer.ref_model)

# %% [markdown]
# ## 7. Find the bug
#
# This version of the token rewards runs and warns of nothing, but most answers earn nothing for their score. Look at
# what it gives for an answer of two tokens in a batch that is four tokens wide. (Its first score is 5.)


# %%
def token_rewards_with_a_bug(scores, log_probs, reference, mask, kl_coef):
    rewards = -kl_coef * (log_probs - reference) * mask
    rewards[:, -1] += scores
    return rewards


short = torch.tensor([[True, True, False, False], [True, True, True, True]])
nothing = torch.zeros(2, 4)
wrong = token_rewards_with_a_bug(torch.tensor([5.0, 7.0]), nothing, nothing, short, 0.1)
print(wrong + 0.0)  # no minus zeros
print(advantages_and_returns(wrong, nothing, short, gamma=1.0, gae_lambda=0.95)[0])

# %% [markdown]
# <details><summary>The bug</summary>
#
# The score of the first answer lands in the last column, which is [padding](../docs/glossary.md#padding). GAE masks it
# out, so the answer earns nothing. Only answers as long as the batch's longest earn their score. `token_rewards` in
# section 3 puts the score on each answer's own last token.
#
# </details>
#
# ## 8. On real text
#
# Do scores learned from comparisons work on sentences that people wrote? `workbook real` fetches film sentences that
# 15 people or more rated from -4 to +4 (Hutto and Gilbert 2014), and all-MiniLM-L6-v2, a published
# [encoder](../docs/glossary.md#encoder). The ratings make the comparisons: of two sentences, the one with the higher
# mean is *chosen*. The model learns which one it is, not by how much.

# %% [markdown]
# There is no prompt, so any two sentences can be compared. InstructGPT's labelers ranked several answers, and all pairs
# of a ranking entered one step. You do the same: a batch of 16 sentences is read once and gives up to 120 pairs. The
# loss is `reward_loss` from section 2, the head is one number on the mean of the hidden states.


# %%
def scores_of(scorer, texts):
    batch = real_tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt").to(
        run.device
    )
    return scorer(batch["input_ids"], batch["attention_mask"]).logits.squeeze(-1)  # (batch,)


def pairs_in(ratings):
    """Rows of the better and of the worse sentence of every pair, (pairs,) each; ties are left out."""
    return torch.nonzero(ratings.unsqueeze(1) > ratings.unsqueeze(0), as_tuple=True)


def learn_from_ratings(scorer, texts, ratings, how):
    steps = how.epochs * -(-len(texts) // how.batch_size)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=how.learning_rate, weight_decay=0.0)
    scheduler = warmup_linear(optimizer, steps=steps)
    scorer.train()
    for _ in range(how.epochs):
        for rows in torch.randperm(len(texts)).split(how.batch_size):
            scores = scores_of(scorer, [texts[row] for row in rows.tolist()])
            chosen, rejected = (scores[at] for at in pairs_in(ratings[rows]))
            reward_loss(chosen, rejected, torch.zeros_like(chosen), CENTERING).backward()
            nn.utils.clip_grad_norm_(scorer.parameters(), max_norm=1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    scorer.eval()


# %%
from helpers import real
from helpers.lessons.lesson_05.experiment import GAPS, best_rating, right_by_gap
from helpers.models import MeanPoolClassifier
from helpers.recipes import recipe as recipe_for

real_values = {}
if track != "pocket" or real.trouble(["encoder", "texts"]):
    print("Not trained in this run: `workbook real` fetches the files.")
else:
    sentences, real_tokenizer = catalog.dataset("reviews", "real"), catalog.tokenizer("encoder", "real")
    learned = sentences["train"].shuffle(seed).select(range(run.by_budget(quick=32, standard=960)))
    judged = sentences["test"].select(range(run.by_budget(quick=64, standard=800)))
    learned_ratings, judged_ratings = (torch.tensor(list(part["rating"])) for part in (learned, judged))
    seed_everything(seed)
    scorer = MeanPoolClassifier(catalog.body("encoder", "real"), num_labels=1).to(run.device)
    with Stopwatch() as real_watch:
        learn_from_ratings(scorer, list(learned["text"]), learned_ratings, recipe_for("full", "published"))
    with torch.inference_mode():
        parts = [list(judged["text"][at : at + 64]) for at in range(0, len(judged), 64)]
        real_scores = torch.cat([scores_of(scorer, part).cpu() for part in parts])
    words = bag_of_words(list(learned["text"]), list(learned["label"]))
    found = {"model": real_scores, "words": torch.as_tensor(words.decision_function(list(judged["text"]))).float()}
    for name, values in found.items():
        by_gap = right_by_gap(values, judged_ratings)
        real_values |= {f"accuracy_{name}_{gap}": share for gap, share in by_gap.items()}
        real_values[f"rating_best_of_8_{name}"] = best_rating(values, judged_ratings)
    real_values["rating_mean"] = judged_ratings.mean().item()
    real_values["rating_best_of_8_possible"] = best_rating(judged_ratings, judged_ratings)
    print(f"{len(learned)} sentences, {real_watch.seconds:.0f} s")

# %%
from IPython.display import Markdown, display

on_real_text, rows = real_reference("05"), {}


def real_row(metric, form):
    here = format(real_values[metric], form) if real_values else ""
    there = f"{on_real_text.interval(metric):{form}}" if on_real_text else ""
    return [here, there]


for gap, (low, high) in GAPS.items():
    said = "all pairs" if gap == "all" else f"pairs, gap of ratings {low:g} to {min(high, 8):g}"
    rows[f"{said}: MiniLM"] = real_row(f"accuracy_model_{gap}", ".3f")
    rows[f"{said}: bag of words"] = real_row(f"accuracy_words_{gap}", ".3f")
rows["mean rating of all sentences"] = real_row("rating_mean", "+.2f")
for name, said in (("model", "MiniLM"), ("words", "bag of words"), ("possible", "the ratings themselves")):
    rows[f"mean rating, best of 8 by {said}"] = real_row(f"rating_best_of_8_{name}", "+.2f")
table = pd.DataFrame.from_dict(rows, orient="index", columns=["this run", "reference [95 %]"])
if on_real_text:
    print("Reference:", on_real_text.label)
else:
    print("No reference over seeds: figures on real text come from a live run alone,", end=" ")
    print("one draw, below." if real_values else "and this run had none.")
print(f"pocket reward model, this run: {accuracy['reward model']['all']:.3f} of the held-out pairs about new films")
if real_values or on_real_text:
    display(table[[column for column in table if (table[column] != "").all()]])
if on_real_text:
    display(Markdown(beside_real.reward_models(reference, on_real_text)))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *Close pairs* are where people disagree too: the mean rating of 15 to 29 people is itself a draw. InstructGPT's
#   labelers agreed in about 73 % of their pairs. A single accuracy over all pairs hides how many of them were easy.
# - *Best of 8* is section 2 on real sentences: the reward model picks, and people's ratings say how good the pick was.
#   "The ratings themselves" is what a perfect reward model would find.
# - *The bag of words* learned from the sign of each rating, and MiniLM brings its pretraining. So their gap does not
#   show what comparisons add.
# - All pairs share 800 sentences, so one run has no interval here. The reference's intervals cover the choice and order
#   of the training sentences, not other test sentences.
#
# </details>
#
# The paragraph on what agrees with the invented world follows the signs of both references' intervals. Two things have
# no counterpart. No policy was trained against these scores, since nobody could rate what it writes. And the invented
# pairs come with a reason, but with no rating of how far apart the two answers are.
#
# ## 9. Recap
#
# All figures but those of 4 are means over the reference's seeds (lowest to highest), or differences within a seed with
# their 95 % interval.


# %%
display(
    Markdown(f"""
1. **A reward model** learns from comparisons alone: right on {over_seeds("reward_accuracy_held_out")} of pairs about
   films it never saw, a bag of words on {over_seeds("reward_accuracy_bag_of_words")}. In tone:
   {over_seeds("reward_accuracy_held_out_tone")} (*sections 2, 5*).
2. **Best of {MOST}** needs no training: {over_seeds(f"true_reward_best_of_{MOST}")} of requests satisfied. One answer
   of the SFT model: {over_seeds("true_reward_sft")}; its greedy answer: {over_seeds("true_reward_sft_greedy")}
   (*sections 1, 2*).
3. **What RL against the score bought**: item 7's table, at equal temperatures. Against best of {MOST}, sampled at 1:
   {summary(f"at temperature 1, minus best of {MOST}")}. Greedy: {summary(f"greedy, minus best of {MOST}")}. On its own
   objective PPO ended below SFT in {sum(lower)} of {len(lower)} seeds (*section 5*).
4. **The GRPO loss** is ours and TRL's, for both averages: they differ by {difference_grpo_loss:.0e} (*section 4*).
5. **Without the KL penalty**, at a doubled rate: {kinds_of("weak_kl")}; with it {kinds_of("fast_with_kl")}. Without
   minus with: satisfied {difference("weak_kl", "fast_with_kl")}; score {difference("weak_kl", "fast_with_kl", "proxy")}
   (*section 5*).
6. **A reward that a program checks**, minus GRPO with the reward model, both at temperature 1:
   {difference("grpo_checked", "grpo")}; both greedy: {difference("grpo_checked", "grpo", end="_greedy")} (*section 6*).
7. **Requests satisfied, minus the SFT model decoded alike:**
""")
)
alike = {
    heat: {name: difference(name.lower().replace(" ", "_"), "sft", end=end) for name in (*trained, "GRPO checked")}
    for heat, end in ENDS.items()
}
display(pd.DataFrame.from_dict(alike, orient="index"))
if on_real_text:
    of_all, of_close = (real_row(f"accuracy_model_{group}", ".3f")[1] for group in ("all", "close"))
    print(f"8. On sentences that people rated, the better one scores higher in {of_all} of all pairs,")
    print(f"   and in {of_close} of those with close ratings (section 8).")

# %%
from helpers.lessons.lesson_05.experiment import curves_of, metrics_by_name, metrics_of
from helpers.record import record

runs = {"SFT": "sft", "PPO": "ppo", "GRPO": "grpo", "RLOO": "rloo", "GRPO, checked": "grpo_checked"}
runs |= {WITHOUT: "weak_kl", WITH: "fast_with_kl"}
values = {
    "reward_accuracy_held_out": accuracy["reward model"]["all"].value,
    "reward_accuracy_bag_of_words": accuracy["bag of words"]["all"].value,
    **{f"reward_accuracy_held_out_{reason}": share for reason, share in by_reason.items()},
    **{"difference_reward_loss": difference_reward_loss, "difference_grpo_loss": difference_grpo_loss},
    "difference_group_advantages": difference_group_advantages,
    "difference_leave_one_out": difference_leave_one_out,
    **{"objective_on_paper": on_paper, "same_groups_grpo_checked": sum(same) / len(same)},
    "true_reward_sft_many": candidate_truth.mean().item(),
    **{"seconds_reward_model": reward_watch.seconds, "clear_checked_against_grpo": clear(checked_gap)},
    "clear_penalty_at_twice_the_rate": clear(penalty_gap),
}
for name, end in runs.items():
    values |= metrics_of(graded[name], end, objective(graded[name]), test_films)
    values |= {f"clear_truth_{end}": clear(gain(name)), f"clear_proxy_{end}": clear(gain(name, what="proxy"))}
    values |= curves_of(watched[name], end) if name in watched else {}
values |= metrics_by_name(picked, cool, peak_bytes, seconds)
values |= {f"true_reward_{name.lower()}_greedy": good.mean().item() for name, good in likeliest.items()}
values |= {f"real_{name}": value for name, value in real_values.items()}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data, "pairs": pairs}
parameters |= {"updates": updates, "kl_coef": kl_coef, "learning_rate": learning_rate}
print("saved:", record("05_reward_models_and_rlhf", parameters, **values).name)
scratch_folder.cleanup()
solved("05")

# %% [markdown]
# ## Next
#
# - A stronger KL penalty: `workbook run 05 -p kl_coef 0.8`. A poorer reward model: `workbook run 05 -p pairs 500`.
# - [Lesson 06](06_direct_preference_optimization.ipynb) does without a reward model.
# - Left out for length: reward models that score longer answers higher (Singhal et al. 2024), ensembles of them (Coste
#   et al. 2024), RewardBench (Lambert et al. 2024), and the many details that PPO depends on (Huang et al. 2024).
# - Where to read on: process rewards, and RLAIF, where a model makes the comparisons.
#
# ## References
#
# | work | year |
# |---|---|
# | Bradley and Terry, *Rank Analysis of Incomplete Block Designs: I. The Method of Paired Comparisons* | 1952 |
# | Ouyang et al., *Training Language Models to Follow Instructions with Human Feedback* (InstructGPT) | 2022 |
# | Touvron et al., *Llama 2: Open Foundation and Fine-Tuned Chat Models* | 2023 |
# | Eisenstein et al., *Helping or Herding? Reward Model Ensembles Mitigate but do not Eliminate …* | 2023 |
# | Beirami et al., *Theoretical Guarantees on the Best-of-n Alignment Policy* | 2024 |
# | Gao et al., *Scaling Laws for Reward Model Overoptimization* | 2023 |
# | Schulman et al., *Proximal Policy Optimization Algorithms* | 2017 |
# | Schulman et al., *High-Dimensional Continuous Control Using Generalized Advantage Estimation* | 2016 |
# | Schulman, *Approximating KL Divergence* (a note) | 2020 |
# | Shao et al., *DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models* | 2024 |
# | Yu et al., *DAPO: An Open-Source LLM Reinforcement Learning System at Scale* | 2025 |
# | Liu et al., *Understanding R1-Zero-Like Training: A Critical Perspective* | 2025 |
# | Ahmadian et al., *Back to Basics: Revisiting REINFORCE Style Optimization … from Human Feedback in LLMs* | 2024 |
# | DeepSeek-AI, *DeepSeek-V3.2: Pushing the Frontier of Open Large Language Models* | 2025 |
# | Coste et al., *Reward Model Ensembles Help Mitigate Overoptimization* | 2024 |
# | Huang et al., *The N+ Implementation Details of RLHF with PPO: A Case Study on TL;DR Summarization* | 2024 |
# | Lambert et al., *RewardBench: Evaluating Reward Models for Language Modeling* | 2024 |
# | Singhal et al., *A Long Way to Go: Investigating Length Correlations in RLHF* | 2024 |
# | Hutto and Gilbert, *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text* | 2014 |
# | Guo et al., *DeepSeek-R1: Incentivizing Reasoning Capability in LLMs via Reinforcement Learning* | 2025 |
