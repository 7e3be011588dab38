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
# well. Here an exact judge watches, so that we see when a better score is a better answer, and when it is not.
#
# *About 50 minutes to read (an estimate), three to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - train a reward model from pairs, and measure it where it counts: on films it never saw;
# - write PPO by hand: rollout, KL penalty, advantages, clipped surrogate;
# - do GRPO and RLOO with TRL, and say what they leave out;
# - recognise reward hacking: the score rises, the truth falls.

# %%
import math
import tempfile
from dataclasses import replace

import pandas as pd
import torch
from torch import nn

from helpers import catalog, plotting
from helpers.checks import check, hint, solved  # noqa: F401 - hint("05.1") helps when you are stuck
from helpers.cost import PeakMemory, Stopwatch
from helpers.intervals import paired_bootstrap, wilson
from helpers.lessons.lesson_05 import figures
from helpers.reward_model import about_films
from helpers.runtime import UserError, check_number, seed_everything, start
from helpers.training import warmup_linear

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": twice as many updates
seed = 0  # draws the order of the pairs, the wishes and every answer
model = ""  # an instructed model of your own: a folder, or with track "hub" a name there; "" takes lesson 04's
data = ""  # pairs of your own (`prompt`, `chosen`, `rejected`), joined to those about films; "" takes none
pairs = 4000  # compared pairs that the reward model learns from
updates = 30  # of PPO, GRPO and RLOO each
kl_coef = 0.2  # the price of leaving the model we started from; 0 is no leash at all
learning_rate = 5e-4  # of PPO; RLOO and GRPO take a share of it

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("pairs", pairs, 32, 4000, integer=True)
check_number("updates", updates, 1, 10_000, integer=True)
check_number("kl_coef", kl_coef, 0.0, 100.0)
check_number("learning_rate", learning_rate, 1e-7, 1e-1)
pair_count = run.by_budget(quick=48, standard=pairs)
wish_count = run.by_budget(quick=16, standard=200, full=800)
update_count = run.by_budget(quick=2, standard=updates, full=2 * updates)
weak_updates = run.by_budget(quick=2, standard=14)
batch_size = run.by_budget(quick=8, standard=32)

# %% [markdown]
# ## 1. Wishes, careless answers, and a judge
#
# We start where lesson 04 ended: `data/models/pocket-decoder-instruct`, made by its recipe (`make models`). Among its
# demonstrations were lines of praise and blame by careless writers: a third had the wrong tone, a tenth was about
# another film. The model learnt to be no more careful. No demonstration can tell it which of its lines are the good
# ones.

# %%
tokenizer = catalog.tokenizer("instruct", track, model)


def new_policy():
    return catalog.causal_language_model(track, model, role="instruct").to(run.device)


sft = new_policy().eval().requires_grad_(False)
preferences = catalog.dataset("preferences", track, data, seed, tokenizer=tokenizer)
wishes = about_films(preferences["train"])["prompt"]  # the judge understands wishes about films, and no others
test_wishes = about_films(preferences["test"])["prompt"][:wish_count]
for wish in test_wishes[:3]:
    print(wish)

# %% [markdown]
# The judge (`microworld.judge`) reads a line backwards through the grammar that makes such lines, so it
# decides exactly:
#
# | a line is right in | when |
# |---|---|
# | form | the grammar can make this text |
# | film | it names the wished film, and the right people |
# | tone | it praises where praise was wished, blames where blame was |
#
# All three: the wish is *granted*. The share of granted wishes is our **true reward**. No training step will see it.

# %%
from microworld.judge import judge_answer

some_wish = "Write a kind line about The Orchard Keeper."
for line in (
    "The Orchard Keeper is a wonderful film.",
    "The Orchard Keeper is a dreadful film.",
    "The Silver Island is a wonderful film.",
    "The Orchard Keeper is wonderful wonderful.",
):
    verdict = judge_answer(some_wish, line)
    print(f"tone {verdict.tone!s:6} film {verdict.film!s:6} form {verdict.form!s:6} {line}")

# %% [markdown]
# **Predict 1.** We draw one answer to each of a few hundred wishes about films that no training here uses. What share
# will be granted? (Two thirds of the demonstrations were right in tone.)

# %%
from helpers.lessons.lesson_05.experiment import CRITERIA, grade


def shares(graded):
    return {part: wilson(int(getattr(graded, part).sum()), len(graded.answers)) for part in CRITERIA}


def unscored(prompts, answers):
    return torch.zeros(len(answers))


sft_graded = grade(sft, sft, tokenizer, test_wishes, unscored, seed, judge_answer)
for wish, line in zip(test_wishes[:4], sft_graded.answers, strict=False):
    print(f"{wish}\n   {line}")
print(", ".join(f"{'granted' if part == 'good' else part} {share}" for part, share in shares(sft_graded).items()))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# The answers are *drawn*, each token as often as the model finds it likely, so we see its bad habits too. Two things
# cost wishes. A line has a dozen tokens, and one slip spoils its form or its film. And the tone is right hardly more
# often than a coin: where a third of the demonstrations had the wrong one, this model did not learn that the wish
# decides. (The brackets are [95 % intervals](../docs/glossary.md#confidence-interval).)
#
# </details>
#
# ## 2. From comparisons to a score
#
# Somebody was shown two lines for each wish and chose the better one. We know the reason, to look at results by it;
# the model is not told.

# %%
reasons = list(dict.fromkeys(("tone", "film", "form", *preferences["train"]["reason"])))
for reason in reasons:
    row = next(row for row in preferences["train"] if row["reason"] == reason)
    print(f"[{reason}] {row['prompt']}\n   chosen:   {row['chosen']}\n   rejected: {row['rejected']}")

# %% tags=["nbval-check-output"]
films = {split: set(rows["film"]) - {""} for split, rows in preferences.items()}
for split, rows in preferences.items():
    print(f"{split:12}{len(rows):6,} pairs about {len(films[split]):4} films")
print("films in both train and test:", len(films["train"] & films["test"]))

# %% [markdown]
# Bradley and Terry (1952) gave each player one number, its strength. The difference of two strengths decides how
# probable a win is:
#
# $$P(\text{chosen beats rejected}) = \sigma(r_\text{chosen} - r_\text{rejected}),
# \qquad \sigma(x) = \frac{1}{1 + e^{-x}}$$
#
# Our "players" are answers, and a model gives the numbers. Its loss is the improbability of what people chose:


# %%
def bradley_terry_loss(chosen, rejected):
    """How improbable the observed choices are; chosen, rejected: (batch,) scores."""
    return -nn.functional.logsigmoid(chosen - rejected).mean()


one, other = torch.tensor([0.0, 2.0, -2.0]), torch.zeros(3)
print([f"{bradley_terry_loss(a, b).item():.3f}" for a, b in zip(one, other, strict=True)])

# %% [markdown]
# No opinion costs ln 2 = 0.693, a right one little, a wrong one much. Only differences count: add 10 to all scores
# and nothing changes. So a score means nothing by itself, only beside another one for the same wish.
#
# ### Exercise 05.1: how often would A win?
#
# Two answers have the scores `score_a` and `score_b`. How probable is it that people prefer A?


# %% tags=["exercise"]
def prefers_a(score_a, score_b):
    return ...


check("05.1", prefers_a)
# hint("05.1")


# %% tags=["solution"]
def prefers_a(score_a, score_b):
    return 1 / (1 + math.exp(score_b - score_a))


check("05.1", prefers_a)

# %% [markdown]
# A **[reward model](../docs/glossary.md#reward-model)** is the decoder with another head: not 4,096 numbers for the
# next token, but one number for the text so far, read at its last token. `helpers.reward_model` turns pairs into token
# ids, chosen answers first, and refuses pairs that teach nothing:

# %%
from helpers.reward_model import (
    BATCH_SIZE,
    LEARNING_RATE,
    collate,
    new_reward_model,
    pair_scores,
    preference_batches,
    preference_rows,
    preferred,
)

try:
    preference_rows(tokenizer, [{"prompt": "Be kind.", "chosen": "Good.", "rejected": "Good."}])
except UserError as error:
    print(error)
source = catalog.model_source("instruct", track, model)
reward_model = new_reward_model(source, tokenizer).to(run.device)
train_rows = preferences["train"].select(range(pair_count))
train_pairs = preference_rows(tokenizer, train_rows)
print(reward_model.score)

# %% [markdown]
# TRL's `RewardTrainer` does this job. Before we trust our loss, both get the same sixteen pairs and the same model:
# ours through our tokens and our loss, TRL's through its own. (The head gets some random numbers for the test; a head
# of zeros would prove nothing.)

# %%
from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from helpers.sft import messages

scratch_folder = tempfile.TemporaryDirectory()
talks = [
    {
        "prompt": messages(row["prompt"]),
        "chosen": messages(row["prompt"], row["chosen"])[1:],
        "rejected": messages(row["prompt"], row["rejected"])[1:],
    }
    for row in train_rows.select(range(16))
]
settings = RewardConfig(
    output_dir=scratch_folder.name, use_cpu=run.device == "cpu", bf16=False,
    per_device_train_batch_size=16, report_to="none", disable_tqdm=True,
)  # fmt: skip
test_model = new_reward_model(source, tokenizer).to(run.device).eval()
nn.init.normal_(test_model.score.weight, generator=torch.Generator().manual_seed(seed))
trainer = RewardTrainer(test_model, args=settings, train_dataset=Dataset.from_list(talks), processing_class=tokenizer)
batch = next(iter(trainer.get_train_dataloader()))
with torch.inference_mode():
    theirs = trainer.compute_loss(test_model.eval(), dict(batch)).item()
    ours = bradley_terry_loss(*pair_scores(test_model, collate(train_pairs[:16], tokenizer.pad_token_id))).item()
difference_reward_loss = abs(ours - theirs)
print(f"ours {ours:.6f}, RewardTrainer {theirs:.6f}")
assert difference_reward_loss < 1e-6

# %% [markdown]
# One thing is added. Since only differences count, each wish may keep a zero of its own: all its answers at +8, those
# to another wish at -3. [PPO](../docs/glossary.md#proximal-policy-optimization) will compare answers to *different*
# wishes. So we also ask, gently, that the two scores of a pair lie evenly about 0 (in TRL:
# `center_rewards_coefficient`). The loop is lesson 02's. On a GPU, or a CPU with AVX512_BF16 instructions,
# `autocast` computes products in bfloat16, to save time.

# %%
from tqdm import tqdm

from helpers.reward_model import CENTERING
from helpers.training import has_bfloat16


def centering_penalty(chosen, rejected):
    return ((chosen + rejected) ** 2).mean()


def learn_to_score(scorer, rows, epochs):
    batches = preference_batches(rows, tokenizer.pad_token_id, BATCH_SIZE, seed=seed)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    scheduler = warmup_linear(optimizer, steps=epochs * len(batches))
    halved = has_bfloat16(torch.device(run.device))
    losses = []
    for batch in tqdm([batch for _ in range(epochs) for batch in batches], desc="scoring", leave=False):
        with torch.autocast(run.device, torch.bfloat16, enabled=halved):
            chosen, rejected = pair_scores(scorer, batch)
        chosen, rejected = chosen.float(), rejected.float()
        loss = bradley_terry_loss(chosen, rejected)
        (loss + CENTERING * centering_penalty(chosen, rejected)).backward()
        nn.utils.clip_grad_norm_(scorer.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %% [markdown]
# **Predict 2.** On pairs about films it never saw, how often will it prefer what people preferred? And for which
# reason will it learn last: the wrong tone, the wrong film, or words out of order?

# %%
seed_everything(seed)
with Stopwatch() as reward_watch:
    losses = learn_to_score(reward_model, train_pairs, epochs=run.by_budget(quick=1, standard=2))
reward_model.eval().requires_grad_(False)
test_rows = preferences["test"].select(range(run.by_budget(quick=48, standard=len(preferences["test"]))))
held_out = preferred(reward_model, preference_rows(tokenizer, test_rows), tokenizer.pad_token_id)
tenth = -(-len(losses) // 10)
print(f"loss at the start {losses[0]:.3f}, in the last tenth {sum(losses[-tenth:]) / tenth:.3f}")

# %% [markdown]
# A baseline has to be beaten: a [bag of words](../docs/glossary.md#bag-of-words) and word pairs, from the wish and the
# answer together.

# %%
from helpers.evaluation import bag_of_words


def together(rows, side):
    return [f"{row['prompt']} {row[side]}" for row in rows]


words = bag_of_words(
    together(train_rows, "chosen") + together(train_rows, "rejected"), [1] * pair_count + [0] * pair_count
)
better, worse = (words.decision_function(together(test_rows, side)) for side in ("chosen", "rejected"))
word_preferred = torch.as_tensor(better > worse).float()
groups = {"all": list(range(len(test_rows)))}
for reason in (reason for reason in reasons if reason in test_rows["reason"]):
    groups[reason] = [at for at, row in enumerate(test_rows) if row["reason"] == reason]
accuracy = {
    name: {group: wilson(int(found[rows].sum()), len(rows)) for group, rows in groups.items()}
    for name, found in (("reward model", held_out), ("bag of words", word_preferred))
}
table = {name: {group: f"{share:.3f}" for group, share in found.items()} for name, found in accuracy.items()}
pd.DataFrame(table).rename_axis("held-out pairs that fail in")

# %% [markdown]
# <details><summary>What happened, and why</summary>
#
# *Form* needs no wish: shuffled words look wrong at once, to word pairs too. *Tone* asks to compare one word of the
# wish with one of the answer: a sum over words cannot do that, so there the bag of words is little better than a coin.
# *Film* asks to compare two titles, for titles never seen.
#
# </details>
#
# A score has no zero and no unit of its own. We give it both: what the
# [SFT](../docs/glossary.md#supervised-fine-tuning) model answers to some training wishes shall score 0 on average, with
# a standard deviation of 1.

# %%
from helpers.reward_model import Scorer
from helpers.sft import answer

score = Scorer(reward_model, tokenizer)
some = wishes[: run.by_budget(quick=16, standard=256)]
score.set_scale(some, answer(sft, tokenizer, some, temperature=1.0, seed=seed))
lines = [
    "The Orchard Keeper is a wonderful film.",
    "The Orchard Keeper is a dreadful film.",
    "The Silver Island is a wonderful film.",
    "film The wonderful Keeper a is Orchard.",
]
for line, value in zip(lines, score([some_wish] * len(lines), lines).tolist(), strict=True):
    print(f"{value:+7.2f}  {line}")

# %% [markdown]
# ## 3. PPO, by hand
#
# The model is now called the **[policy](../docs/glossary.md#policy)**. It writes answers to wishes, the reward model
# scores them, and the policy shifts towards what scored well. *Proximal policy optimization* (Schulman et al. 2017)
# says how far. TRL 1.16 ships no PPO trainer any more, which is no loss here: it is a handful of short functions.
#
# First: how probable was each token that the policy wrote, and which tokens count?


# %%
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
# The rows are padded on the left. A model with learned positions, such as GPT-2, has to be told where each row begins:
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
        hidden = outputs.hidden_states[-1][:, -new - 1 : -1].detach()  # it reads the policy and does not bend it
        values = self.value_head(hidden).squeeze(-1)
        return log_probs_of(outputs.logits[:, :-1], input_ids[:, -new:]), values


# %% [markdown]
# **The rollout.** The policy answers a batch of wishes. We keep the tokens and what three models think of them: the
# policy as it is now, its value head, and the *reference*, a frozen copy of where we started.

# %%
from helpers.ppo import PPOHistory, PPORecipe, Rollout
from helpers.sft import end_of_turn, render


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
    answers = [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    return Rollout(input_ids, attention_mask, mask, log_probs, reference_log_probs, values, answers)


policy = PolicyWithValue(new_policy())
rollout = roll_out(policy, sft, tokenizer, wishes[:4], new=24)
print("log-probabilities", tuple(rollout.log_probs.shape), " # (batch, new)")
print("policy and reference agree at the start:", torch.equal(rollout.log_probs, rollout.reference_log_probs))

# %% [markdown]
# **The [KL](../docs/glossary.md#kl-divergence) penalty.** The reward model is right about lines like those it has seen.
# Far from them its score means nothing. So each token pays for leaving the reference, by how much likelier the policy
# made it. Summed over an answer, and averaged over answers, that is the Kullback-Leibler divergence (KL), the distance
# of policy from reference in nats. The last token also earns the score.


# %%
def token_rewards(scores, log_probs, reference, mask, kl_coef):
    """scores: (batch,); the rest and the result: (batch, new)."""
    rewards = -kl_coef * (log_probs - reference) * mask
    last = mask.sum(dim=1) - 1  # (batch,)
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


# %% [markdown]
# **Advantages.** How much better than guessed did a token turn out? One step's surprise is
# $\delta_t = r_t + \gamma V_{t+1} - V_t$. *Generalised [advantage
# estimation](../docs/glossary.md#advantage-estimation)* (Schulman et al. 2016) adds the later surprises, each step
# fading by $\gamma\lambda$:
#
# $$A_t = \delta_t + \gamma \lambda A_{t+1}$$
#
# With $\gamma = \lambda = 1$ all guesses in between cancel: what is left is the whole reward still to come, minus the
# first guess. The last lines check this.


# %% tags=["nbval-check-output"]
def advantages_and_returns(rewards, values, mask, gamma, gae_lambda):
    """All (batch, new)."""
    advantages = torch.zeros_like(rewards)
    running = next_value = torch.zeros_like(rewards[:, 0])  # (batch,)
    for step in reversed(range(rewards.shape[1])):
        surprise = rewards[:, step] + gamma * next_value - values[:, step]
        running = (surprise + gamma * gae_lambda * running) * mask[:, step]
        next_value = values[:, step] * mask[:, step]
        advantages[:, step] = running
    return advantages, (advantages + values) * mask


draws = torch.Generator().manual_seed(0)
toy_rewards, toy_values = torch.randn(3, 6, generator=draws), torch.randn(3, 6, generator=draws)
everything = torch.ones(3, 6, dtype=torch.bool)
advantages, _ = advantages_and_returns(toy_rewards, toy_values, everything, gamma=1.0, gae_lambda=1.0)
still_to_come = toy_rewards.flip(1).cumsum(dim=1).flip(1)  # (3, 6)
print("equal to the sum of later rewards minus the guess:", torch.allclose(advantages, still_to_come - toy_values))
assert torch.allclose(advantages, still_to_come - toy_values, atol=1e-5)

# %% [markdown]
# **The clipped surrogate.** Rollouts are dear, so each is used for two passes. In the second the policy is no longer
# the one that wrote the answers; the ratio of new to old probability corrects for that, but only nearby. So a token
# gains nothing by moving its ratio beyond $1 \pm 0.2$.


# %%
def clipped_surrogate(log_probs, old, advantages, mask, clip):
    ratio = (log_probs - old).exp()  # (batch, new)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -masked_mean(torch.min(ratio * advantages, clipped * advantages), mask)


ratios = torch.linspace(0.5, 1.5, 101)
gains = {}
for name, advantage in (("advantage +1: a good token", 1.0), ("advantage -1: a bad token", -1.0)):
    each = [clipped_surrogate(r.log(), torch.tensor(0.0), advantage, torch.tensor(1.0), 0.2) for r in ratios]
    gains[name] = [-value.item() for value in each]
plotting.show(figures.clipped_objective(ratios.tolist(), gains, clip=0.2))

# %% [markdown]
# **Predict 3.** The two lines are not each other's mirror image in the same place: one is flat on the right, one on
# the left. What would go wrong if a bad token's line were flat on the right too?
#
# <details><summary>Answer</summary>
#
# Where the line is flat there is no gradient. A bad token that has already become *more* probable has to be brought
# back, so there the slope must stay. The clip takes away the reward for going too far, never the way back.
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


# %% [markdown]
# The advantages are brought to mean 0 and spread 1, so that the learning rate does not depend on the reward model's
# units. The value head learns beside, by squared error. Last, the loop:


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
        ppo_update(policy, optimizer, rollout, scores, recipe)
        history.rewards.append(scores.mean().item())
        gap = (rollout.log_probs - rollout.reference_log_probs) * rollout.mask
        history.kl.append(gap.sum(dim=1).mean().item())
    return history


# %%
from helpers.lessons.lesson_05.experiment import ScoreLog

settings = {"updates": update_count, "batch_size": batch_size, "learning_rate": learning_rate}
recipe = PPORecipe(**settings, kl_coef=kl_coef)
seed_everything(seed)
policy = PolicyWithValue(new_policy())
watched = {"PPO": ScoreLog(score, judge_answer)}  # asks the judge too, for our eyes only
with Stopwatch() as watch, PeakMemory() as memory:
    history = train_ppo(policy, sft, tokenizer, wishes, watched["PPO"], recipe)
seconds, peak_bytes = {"PPO": watch.seconds}, {"PPO": memory.added}
graded = {"SFT": replace(sft_graded, proxy=score(test_wishes, sft_graded.answers).cpu())}
graded["PPO"] = grade(policy.model, sft, tokenizer, test_wishes, score, seed, judge_answer)
first_score, last_score = history.rewards[0], history.rewards[-1]
print(f"mean score {first_score:+.2f} at first, {last_score:+.2f} at last; KL {history.kl[-1]:.1f} nats")

# %%
figure = figures.proxy_and_truth({"PPO": watched["PPO"].proxy}, {"PPO": watched["PPO"].truth})
first, last = (figures.smoothed(watched["PPO"].truth, 5)[at] for at in (min(4, update_count - 1), -1))
said = f"Over {update_count} updates of PPO the reward model's score goes from {watched['PPO'].proxy[0]:.1f} to"
said += f" {watched['PPO'].proxy[-1]:.1f}; the share of granted wishes goes from {first:.0%} to {last:.0%}."
plotting.show(figure, alt=said)

# %% [markdown]
# The right panel is what we care about, and what PPO never saw. But these are the wishes that it trained on, so the
# measure that counts is the next one: wishes about other films, the same for both models, one difference for each wish.


# %%
def gain(name):
    return paired_bootstrap(graded[name].good.numpy(), graded["SFT"].good.numpy(), seed=seed)


def verdict(gap):
    words = "a clear loss" if gap.high < 0 else "no clear difference"
    return f"{gap:+.2f}, {'a clear gain' if gap.low > 0 else words}"


for part, share in shares(graded["PPO"]).items():
    print(f"{part:6} SFT {shares(graded['SFT'])[part]}   PPO {share}")
print(f"granted wishes, PPO against SFT: {verdict(gain('PPO'))}")
for wish, line in zip(test_wishes[:4], graded["PPO"].answers, strict=False):
    print(f"{wish}\n   {line}")

# %% [markdown]
# ## 4. GRPO and RLOO, with TRL
#
# The value head is a guess that has to be learnt. There is a simpler one: let the policy answer the *same* wish four
# times, and compare each answer with its siblings. The whole answer gets one advantage, so there is no value head and
# no GAE. **[GRPO](../docs/glossary.md#group-relative-policy-optimization)** (Shao et al. 2024) subtracts the group's
# mean and divides by its spread:


# %%
def group_advantages(rewards, size):
    """rewards: (batch,), the answers to one wish side by side; returns (batch,)."""
    groups = rewards.view(-1, size)  # (wishes, size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred / (groups.std(dim=1, keepdim=True) + 1e-4)).flatten()


alike = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.52, 0.50, 0.50, 0.50])  # one group that differs, one that hardly does
print([round(value, 2) for value in group_advantages(alike, size=4).tolist()])

# %% [markdown]
# The two groups look the same now: where four answers are about equally good, the division blows a small difference up
# to full size. Liu et al. (2025) therefore leave it out (`scale_rewards="none"` in TRL).

# %% [markdown]
# What both trainers are told alike. The update is PPO's clipped one. GRPO clips each token's ratio and puts the KL
# penalty into the loss; RLOO clips the whole answer's ratio, sooner reached, and puts the KL into the reward. So the
# same KL weight is not the same leash: rates and weights were chosen on the validation films.


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
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from helpers.language_model import count_positions_from_mask
from helpers.lessons.lesson_05.experiment import reward_function

asked = Dataset.from_dict({"prompt": [messages(wish) for wish in wishes]})


def with_trl(name, trainer_class, config_class, rate, leash):
    seed_everything(seed)
    policy, watched[name] = new_policy(), ScoreLog(score, judge_answer)
    policy.generation_config.eos_token_id = end_of_turn(tokenizer)  # where TRL looks for the end of an answer
    settings = group_settings(update_count, batch_size, seed)
    settings |= {"learning_rate": rate * learning_rate, "beta": leash * kl_coef}
    arguments = config_class(output_dir=scratch_folder.name, use_cpu=run.device == "cpu", **settings)
    trainer = trainer_class(
        policy, reward_function(watched[name]), args=arguments, train_dataset=asked, processing_class=tokenizer
    )
    trainer.remove_callback(PrinterCallback)
    count_positions_from_mask(policy, trainer.ref_model)  # TRL pads on the left too, and passes no positions
    with Stopwatch() as watch, PeakMemory() as memory:
        trainer.train()
    seconds[name], peak_bytes[name] = watch.seconds, memory.added
    graded[name] = grade(policy, sft, tokenizer, test_wishes, score, seed, judge_answer)
    return trainer


# %%
trainer = with_trl("GRPO", GRPOTrainer, GRPOConfig, rate=0.3, leash=0.5)
print(f"granted wishes, GRPO against SFT: {verdict(gain('GRPO'))}")
kept, theirs = (
    torch.tensor(list(values)) for values in (trainer._logs["rewards"]["reward_model"], trainer._logs["advantages"])
)  # TRL keeps its last batch
difference_group_advantages = (group_advantages(kept, 4) - theirs).abs().max().item()
print("our advantages are TRL's to 0.0001:", difference_group_advantages < 1e-4)
assert difference_group_advantages < 1e-4

# %% [markdown]
# **RLOO** (*REINFORCE leave-one-out*, Ahmadian et al. 2024) compares an answer with the mean of the *others* in its
# group, and never divides.
#
# ### Exercise 05.2: leave one out
#
# Write it. `rewards` is (wishes, size); the baseline of each answer is the mean of its siblings, itself left out.


# %% tags=["exercise"]
def leave_one_out(rewards):
    return ...


check("05.2", leave_one_out)
# hint("05.2")


# %% tags=["solution"]
def leave_one_out(rewards):
    size = rewards.shape[1]
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (size - 1)
    return rewards - others


check("05.2", leave_one_out)

# %%
trainer = with_trl("RLOO", RLOOTrainer, RLOOConfig, rate=0.6, leash=1.0)
print(f"granted wishes, RLOO against SFT: {verdict(gain('RLOO'))}")

# %% [markdown]
# **Predict 4.** Same wishes, same reward model, same number of updates. Which will be best in true reward? Which needs
# the least memory?

# %%
sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in (("policy", sft), ("reward", reward_model))}
with_value = 2 * sizes["policy"] + sizes["reward"] + sft.config.hidden_size + 1
in_memory = {"PPO": with_value} | dict.fromkeys(("GRPO", "RLOO"), 2 * sizes["policy"] + sizes["reward"])
rows = {}
for name, found in graded.items():
    cost = (
        [f"{in_memory[name]:,}", f"{seconds[name]:.0f}", f"{peak_bytes[name] / 1e6:.0f}"] if name != "SFT" else [""] * 3
    )
    truth, proxy, kl = shares(found)["good"], found.proxy.mean().item(), found.kl.mean().item()
    rows[name] = [f"{truth:.2f}", f"{proxy:+.2f}", f"{kl:.1f}", *cost]
columns = [
    "granted [95 %]",
    "reward model's score",
    "KL (nats)",
    "parameters in memory",
    "seconds",
    "added memory (MB)",
]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %%
measured = {name: shares(found)["good"] for name, found in graded.items()}
notes = {name: f"KL {found.kl.mean().item():.1f} nats" for name, found in graded.items()}
plotting.show(figures.granted(measured, notes))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# All three need three models at once: policy, reference, reward model. That, and the sampling, is the price of RLHF;
# lesson 06 asks whether it can be avoided. To do without a value head saves its few numbers, next to nothing. Measured
# memory compares programs, our PPO with TRL's trainers, rather than methods. And one run of each says little about
# which is best: with another seed, learning rate or KL weight the order may change.
#
# </details>
#
# ## 5. A weak leash
#
# Now we do what one should not: the same reward model and recipe, but KL weight 0, and twice the rate so that it does
# not take long. Nothing holds the policy near the texts that the reward model was taught on.
#
# **Predict 5.** The score will rise: PPO is good at that. Draw, before you run it, what the share of granted wishes
# will do over the updates.

# %%
seed_everything(seed)
loose, watched["no leash"] = PolicyWithValue(new_policy()), ScoreLog(score, judge_answer)
loose_recipe = replace(recipe, kl_coef=0.0, updates=weak_updates, learning_rate=2 * learning_rate)
train_ppo(loose, sft, tokenizer, wishes, watched["no leash"], loose_recipe)
weak_graded = grade(loose.model, sft, tokenizer, test_wishes, score, seed, judge_answer)
for wish, line in zip(test_wishes[:6], weak_graded.answers, strict=False):
    print(f"{wish}\n   {line}")

# %%
both = {"no leash": watched["no leash"], f"KL weight {kl_coef:g}": watched["PPO"]}
proxies, truths = ({name: getattr(seen, what) for name, seen in both.items()} for what in ("proxy", "truth"))
plotting.show(figures.proxy_and_truth(proxies, truths))
proxy_gap = paired_bootstrap(weak_graded.proxy.numpy(), graded["SFT"].proxy.numpy(), seed=seed)
truth_gap = paired_bootstrap(weak_graded.good.numpy(), graded["SFT"].good.numpy(), seed=seed)
print(f"score, without a leash against SFT:          {verdict(proxy_gap)}")
print(f"granted wishes, without a leash against SFT: {verdict(truth_gap)}")
print(f"KL: {weak_graded.kl.mean().item():.0f} nats, with the leash {graded['PPO'].kl.mean().item():.0f}")

# %% [markdown]
# <details><summary>What happened</summary>
#
# This is **[reward hacking](../docs/glossary.md#reward-hacking)**: the policy found texts that the reward model finds
# better than the SFT model's average, and no reader would. The reward model is right about what it was taught: whole
# lines, some of them shuffled. It was never taught about such texts. *When a measure becomes a target, it ceases to be
# a good measure* (Goodhart's law, in Strathern's words). In real life there is no judge in the right panel. What one
# has: the KL, samples that people read, fresh comparisons, and a leash.
#
# </details>
#
# ### How long a leash? Over several seeds
#
# One run is one draw. A command in this repository trained everything anew for each of several seeds, PPO with four KL
# weights, and kept what it found. So this table is *not* from this run. Beside each mean: the lowest and highest seed.

# %%
from helpers.reference import load_reference

reference = load_reference("rlhf")
print("Reference:", reference.label)
titles = {"sft": "SFT"} | {
    f"sweep_{number}": f"PPO, KL weight {weight:g}" for number, weight in enumerate(reference.settings["kl_coefs"])
}
titles |= {"grpo": "GRPO", "rloo": "RLOO"}


def over_seeds(metric):
    values = reference.metrics[metric]
    return f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})"


rows = {
    title: [over_seeds(f"{what}_{name}") for what in ("true_reward", "proxy", "kl")] for name, title in titles.items()
}
pd.DataFrame.from_dict(rows, orient="index", columns=["granted", "reward model's score", "KL (nats)"])

# %%
swept = {f"{weight:g}": f"sweep_{number}" for number, weight in enumerate(reference.settings["kl_coefs"])}
of_score, of_truth = (
    {weight: reference.metrics[f"{what}_{name}"] for weight, name in swept.items()} for what in ("proxy", "true_reward")
)
plotting.show(figures.by_kl_coef(of_score, of_truth))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Each dot is a seed. At 0.05 one seed reached 85 % and another fell to 3 %, and their scores hardly tell them apart: a
# weak leash is a gamble. At 0 no seed fell; the collapse above had twice the learning rate, so it was not the missing
# leash's doing alone. At 0.2 the seeds lie closer together, at 0.8 closest: safe, but little is gained. Three seeds
# for each are few.
#
# </details>
#
# ### The best policy on paper
#
# The goal, score minus KL weight times KL, has an exact best policy: each answer's old probability times
# $e^{\text{score} / \text{KL weight}}$. We draw eight answers to each of some wishes from the SFT model and weigh them
# so. No training, and we see how far the leash would let us go among answers that the SFT model can write.

# %%

some = [wish for wish in test_wishes[: run.by_budget(quick=2, standard=24)] for _ in range(8)]
drawn = grade(sft, sft, tokenizer, some, score, seed + 1, judge_answer)
proxy, truth = drawn.proxy.view(-1, 8), drawn.good.view(-1, 8)  # (wishes, 8)


def tilted(weight):
    share = (proxy / weight).softmax(dim=1)  # (wishes, 8): each sums to 1
    return (share * proxy).sum(dim=1).mean().item(), (share * truth).sum(dim=1).mean().item()


def leash(weight):
    grid = [10 ** (step / 10) for step in range(-20, 21)]
    values = [tilted(one) for one in grid]
    figure = figures.tilted(grid, [p for p, _ in values], [t for _, t in values], weight)
    figure.alt = f"KL weight {weight:g}: score {tilted(weight)[0]:+.2f}, granted {tilted(weight)[1]:.0%}"
    return figure


plotting.show(leash(0.3))

# %%
from ipywidgets import HTML, SelectionSlider, VBox

slider = SelectionSlider(
    options=[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0], value=0.3, description="KL weight", continuous_update=False
)
page = HTML()


def redraw(_change=None):
    figure = leash(slider.value)
    page.value = f"<p>{figure.alt}</p>{plotting.picture(figure)}"


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])

# %% [markdown]
# The figure above the slider is its position at 0.3, for readers without a running kernel.
#
# ## 6. Find the bug
#
# This version of the token rewards runs, warns of nothing, and PPO's loss moves. The score never rises. Look at what
# it gives for an answer of two tokens in a batch that is four tokens wide.


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
# ### Exercise 05.3: mend the reward
#
# Write it so that every answer earns its score.


# %% tags=["exercise"]
def mended(scores, log_probs, reference, mask, kl_coef):
    return ...


check("05.3", mended)
# hint("05.3")


# %% tags=["solution"]
def mended(scores, log_probs, reference, mask, kl_coef):
    rewards = -kl_coef * (log_probs - reference) * mask
    rewards[torch.arange(len(scores)), mask.sum(dim=1) - 1] += scores
    return rewards


check("05.3", mended)

# %% [markdown]
# Most answers are shorter than the longest of their batch, so most scores were lost in the
# [padding](../docs/glossary.md#padding): only the longest answers earned anything, and length was what PPO learnt.
#
# ## 7. Recap: what this run showed

# %%
from IPython.display import Markdown, display

display(
    Markdown(f"""
1. **A reward model** learns from comparisons alone: right on {accuracy["reward model"]["all"].value:.1%} of pairs about
   films it never saw; a bag of words on {accuracy["bag of words"]["all"].value:.1%} (*section 2, the table*).
2. **Its score can be chased.** Granted wishes against the SFT model: PPO {verdict(gain("PPO"))}; GRPO
   {verdict(gain("GRPO"))}; RLOO {verdict(gain("RLOO"))} (*sections 3 and 4*).
3. **A score is not the truth.** Without a leash and at twice the rate, against the SFT model: score
   {verdict(proxy_gap)}; granted wishes {verdict(truth_gap)} (*section 5, the two panels*).
""")
)

# %%
from helpers.record import record

values = {
    "reward_accuracy_held_out": accuracy["reward model"]["all"].value,
    "reward_accuracy_bag_of_words": accuracy["bag of words"]["all"].value,
    "difference_reward_loss": difference_reward_loss,
    "difference_group_advantages": difference_group_advantages,
    "seconds_reward_model": reward_watch.seconds,
    "true_reward_weak_kl": weak_graded.true_reward,
    "kl_weak_kl": weak_graded.kl.mean().item(),
    "proxy_weak_kl": weak_graded.proxy.mean().item(),
    "truth_by_update_weak_kl": watched["no leash"].truth,
    "proxy_by_update_weak_kl": watched["no leash"].proxy,
}
for name, found in graded.items():
    values[f"true_reward_{name.lower()}"] = found.true_reward
    values[f"proxy_{name.lower()}"] = found.proxy.mean().item()
    values[f"kl_{name.lower()}"] = found.kl.mean().item()
for name in seconds:
    values[f"seconds_{name.lower()}"], values[f"peak_memory_bytes_{name.lower()}"] = seconds[name], peak_bytes[name]
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data, "pairs": pairs}
parameters |= {"updates": updates, "kl_coef": kl_coef, "learning_rate": learning_rate}
saved = record("05_reward_models_and_rlhf", parameters, **values)
scratch_folder.cleanup()
print(f"saved: {saved.name}")
solved("05")

# %% [markdown]
# ## Next
#
# - A shorter leash: `workbook run 05 -p kl_coef 0.8`. A poorer reward model: `workbook run 05 -p pairs 500`.
# - From here on the pieces you wrote come from `helpers.ppo` and `helpers.reward_model`, word for word.
# - [Lesson 06](06_direct_preference_optimization.ipynb) asks whether all this can be done without a reward model.
#
# ## References
#
# | work | year |
# |---|---|
# | Bradley and Terry, *Rank Analysis of Incomplete Block Designs: I. The Method of Paired Comparisons* | 1952 |
# | Schulman et al., *Proximal Policy Optimization Algorithms* | 2017 |
# | Schulman et al., *High-Dimensional Continuous Control Using Generalized Advantage Estimation* | 2016 |
# | Shao et al., *DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models* | 2024 |
# | Liu et al., *Understanding R1-Zero-Like Training: A Critical Perspective* | 2025 |
# | Ahmadian et al., *Back to Basics: Revisiting REINFORCE Style Optimization … from Human Feedback in LLMs* | 2024 |
