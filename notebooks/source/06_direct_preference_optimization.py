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
# # Can we skip the reward model?
#
# Lesson 05 learned a reward from pairs of answers, and then trained against it with reinforcement learning. *[Direct
# preference optimization](../docs/glossary.md#direct-preference-optimization)* (DPO) uses the same pairs, and needs
# neither the [reward model](../docs/glossary.md#reward-model) nor sampling: one loss, the ordinary loop.
#
# *About 55 minutes to read (an estimate), three to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - derive the DPO loss from the goal of RLHF, step by step, and write it with its gradient;
# - write its relatives IPO, robust DPO and SimPO, and show that yours are those of TRL;
# - measure a win rate with its ceiling, and say what was lost on the way;
# - ask of every gain whether the rejected answers brought it: the control is SFT on the chosen ones;
# - compare DPO with lesson 05's methods at the same start.

# %%
import copy
import math
import tempfile
from itertools import islice

import pandas as pd
import torch
from torch import nn

from helpers import catalog, dpo, plotting
from helpers.checks import check, go_on_with, hint, solved  # noqa: F401 - hint("06.1") helps when you are stuck
from helpers.cost import PeakMemory, Stopwatch
from helpers.intervals import paired_bootstrap, wilson
from helpers.lessons.lesson_06 import experiment, figures
from helpers.predictions import predict, reveal
from helpers.reward_model import about_films
from helpers.runtime import UserError, check_number, seed_everything, start
from helpers.sft import answer, exact_match
from microworld.judge import judge_answer

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": trains twice as long
seed = 0  # draws the pairs, their order and every answer
model = ""  # an instructed model of your own: a folder, or with track "hub" a name there; "" takes lesson 04's
data = ""  # pairs of your own (`prompt`, `chosen`, `rejected`), joined to those about films; "" takes none
pairs = 3200  # training pairs
beta = 1.0  # price of leaving the reference: high keeps the policy near, low lets it go far
sft_weight = 1.0  # weight of the chosen answers' own loss; 0.0 is DPO as first published
learning_rate = 2e-4  # below lesson 04's: the model can already write

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("pairs", pairs, 32, 4000, integer=True)
check_number("beta", beta, 1e-3, 10.0)
check_number("sft_weight", sft_weight, 0.0, 10.0)
check_number("learning_rate", learning_rate, 1e-7, 1e-1)
pair_count = run.by_budget(quick=32, standard=pairs, full=min(2 * pairs, 4000))
few_count = max(32, pair_count // 4)  # of the runs that are compared with each other in section 8
request_count = run.by_budget(quick=16, standard=300, full=800)
question_count = run.by_budget(quick=8, standard=180, full=800)  # of facts, and of skills

# %% [markdown]
# ## 1. A model that follows instructions, carelessly
#
# You start where lesson 04 ended: `data/models/pocket-decoder-instruct`, made by its recipe (`make models` makes it
# anew). It is the **[SFT](../docs/glossary.md#supervised-fine-tuning) model**. Among its demonstrations were lines of
# praise and of blame by careless writers: one in three had the wrong tone, one in ten was about another film.
#
# The answers are sampled at temperature 0.6, for every model alike. Lesson 05 sampled at 1, where slips of single
# tokens are more frequent; section 7 has both.

# %%
sft = catalog.causal_language_model(track, model, role="instruct").to(run.device).eval()
tokenizer = catalog.tokenizer("instruct", track, model)
preferences = catalog.dataset("preferences", track, data, seed, tokenizer=tokenizer)
requests = about_films(preferences["test"])["prompt"][:request_count]  # the judge understands no others
sft_judged = experiment.judge_policy(sft, tokenizer, requests, judge_answer, seed=seed)


def show(judged, count=5):
    """Print some requests with their answers and the judge's verdict."""
    for row, request in enumerate(requests[:count]):
        wrong = [part for part in ("tone", "film", "form") if not getattr(judged, part)[row]]
        said = "wrong " + ", ".join(wrong) if wrong else "satisfied"
        print(f"{request}\n   {judged.answers[row]}   [{said}]")


show(sft_judged)

# %% [markdown]
# `microworld.judge`, a program, gives the verdicts, as in lesson 05. It parses an answer with the ten sentence
# templates from which all such lines were made, and with some twenty more that a reader would accept:
#
# | the answer is right in its | when |
# |---|---|
# | form | one of these templates can make this text |
# | film | it names the requested film, and says nothing false about its people |
# | tone | it praises where praise was asked for, blames where blame was |
#
# A **request is satisfied** when all three hold. The judge has a limit: a fluent answer in yet another form
# counts as wrong in form. Lesson 05 says how often.

# %% [markdown]
# **Predict 1.** What share of requests does the SFT model satisfy? And the model before SFT, which has read a lot
# and never saw an instruction?

# %%
predict("06.1", within=0.1, unit="share of requests that the SFT model satisfies", low=0, high=1)

# %%
pretrained = catalog.causal_language_model(track).to(run.device).eval()
before_judged = experiment.judge_policy(pretrained, tokenizer, requests, judge_answer, seed=seed)
WAYS = ("good", "tone", "film", "form")


def rates(judged):
    return {way: wilson(int(getattr(judged, way).sum()), len(judged.answers)) for way in WAYS}


shares = {"pretrained": rates(before_judged), "after SFT": rates(sft_judged)}
for title, found in shares.items():
    said = (f"{'satisfied' if way == 'good' else way} {share:.2f}" for way, share in found.items())
    print(f"{title:12}", ", ".join(said))
reveal("06.1", sft_judged.rates()["good"], reference="good_rate_sft")

# %% [markdown]
# ## 2. The pairs
#
# DPO needs pairs: two answers to the same prompt, and which one is better. Usually people say so. Here a rule wrote the
# pairs, without a mistake: the chosen answer satisfies the request, the rejected one fails for exactly one reason. The
# model wrote neither of them. Training never sees the reason.

# %%
for reason in dict.fromkeys(("tone", "film", "form", *preferences["train"]["reason"])):
    row = next(row for row in preferences["train"] if row["reason"] == reason)
    print(f"[{reason}] {row['prompt']}\n   chosen:   {row['chosen']}\n   rejected: {row['rejected']}")

# %% tags=["nbval-check-output"]
films = {split: set(rows["film"]) - {""} for split, rows in preferences.items()}
for split, rows in preferences.items():
    print(f"{split:12}{len(rows):6,} pairs about {len(films[split]):4} films")
print("films in both train and test:", len(films["train"] & films["test"]))

# %% [markdown]
# `preference_rows` turns pairs into token ids, as lesson 04 did with demonstrations: labels on the answer only. It
# refuses pairs that would teach nothing or break silently.

# %% tags=["nbval-check-output"]
from helpers.batches import sample_rows
from helpers.reward_model import collate, preference_rows

same = {"prompt": "One kind word on Silver Letter, please.", "chosen": "A gem.", "rejected": "A gem."}
columns = {"question": "Silver Letter: be kind.", "good": "A gem.", "bad": "A bore."}
for faulty in (same, columns):
    try:
        preference_rows(tokenizer, [faulty])
    except UserError as error:
        print(error)

# %%
train_pairs = preference_rows(tokenizer, sample_rows(preferences["train"], pair_count, seed, name="pairs"))
batch = collate(train_pairs[:8], tokenizer.pad_token_id)  # 8 chosen answers, then the 8 rejected ones
print({name: tuple(tensor.shape) for name, tensor in batch.items()}, "# (2 * pairs, seq)")
print(tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0] == 1]))

# %% [markdown]
# ## 3. The derivation
#
# **The goal.** [RLHF](../docs/glossary.md#rlhf) wants answers $y$ to a prompt $x$ with a high reward $r$, without
# moving far from the SFT model, now called the **reference** $\pi_\text{ref}$:
#
# $$\max_\pi \; \mathbb{E}_{y \sim \pi(\cdot \mid x)}\big[r(x, y)\big]
# - \beta \, \text{KL}\big(\pi(\cdot \mid x) \,\|\, \pi_\text{ref}(\cdot \mid x)\big)$$

# %% [markdown]
# **Step 1: one expectation.** The [KL](../docs/glossary.md#kl-divergence) is the expectation of $\log
# \frac{\pi}{\pi_\text{ref}}$ under $\pi$. Divide by $-\beta$, and maximizing becomes minimizing:
#
# $$\min_\pi \; \mathbb{E}_{y \sim \pi}\Big[\log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)}
# - \frac{1}{\beta} r(x, y)\Big]
# = \min_\pi \; \mathbb{E}_{y \sim \pi}\Big[\log \frac{\pi(y \mid x)}
# {\pi_\text{ref}(y \mid x) \, e^{r(x, y) / \beta}}\Big]$$
#
# **Step 2: make the denominator a distribution.** Its sum over all answers is the **[partition
# function](../docs/glossary.md#partition-function)**
#
# $$Z(x) = \sum_y \pi_\text{ref}(y \mid x) \, e^{r(x, y) / \beta}$$
#
# Divide by it, and the denominator is a distribution, $\pi^*(y \mid x) = \frac{1}{Z(x)} \pi_\text{ref}(y \mid x) \,
# e^{r(x, y) / \beta}$. What you divided by stays behind as a constant:
#
# $$\min_\pi \; \text{KL}\big(\pi \,\|\, \pi^*\big) - \log Z(x)$$

# %% [markdown]
# **Step 3: the best [policy](../docs/glossary.md#policy).** $Z(x)$ does not depend on $\pi$, and a KL is never negative
# and 0 only between equals. So the best [policy](../docs/glossary.md#policy) is $\pi^*$. Nobody can compute it for a
# language model, because $Z(x)$ sums over all texts.
#
# For a prompt with four possible answers you can. A numerical search, which knows nothing of the formula, should find
# the same policy.


# %%
def optimal_policy(reference, rewards, beta):
    """The probabilities that maximize mean reward minus beta times KL. All: (answers,)."""
    weighted = reference * (rewards / beta).exp()
    return weighted / weighted.sum()  # the sum is Z


def objective(policy, reference, rewards, beta):
    kl = (policy * (policy.log() - reference.log())).sum()
    return (policy * rewards).sum() - beta * kl


toy_reference = torch.tensor([0.50, 0.25, 0.15, 0.10], dtype=torch.double)
toy_rewards = torch.tensor([0.0, 0.4, 1.0, 0.7], dtype=torch.double)
scores = torch.zeros(4, dtype=torch.double, requires_grad=True)
search = torch.optim.Adam([scores], lr=0.05)
for _ in range(500):
    search.zero_grad()
    (-objective(scores.softmax(dim=-1), toy_reference, toy_rewards, beta=0.3)).backward()
    search.step()

# %% tags=["nbval-check-output"]
found, written = scores.detach().softmax(dim=-1), optimal_policy(toy_reference, toy_rewards, beta=0.3)
print("found by search:", [round(share, 3) for share in found.tolist()])
print("written down:   ", [round(share, 3) for share in written.tolist()])
assert (found - written).abs().max() < 1e-3

# %% [markdown]
# **Step 4: turn it round.** Take the logarithm of $\pi^*$ and solve for the reward:
#
# $$r(x, y) = \beta \log \frac{\pi^*(y \mid x)}{\pi_\text{ref}(y \mid x)} + \beta \log Z(x)$$
#
# The first part is the **implicit reward** of a policy. The second part cannot be computed, but it is the same for
# every answer to this prompt. On the toy:

# %% tags=["nbval-check-output"]
implicit = 0.3 * (written.log() - toy_reference.log())
constant = 0.3 * (toy_reference * (toy_rewards / 0.3).exp()).sum().log()
print("beta log Z:                      ", round(constant.item(), 3))
print("implicit rewards plus beta log Z:", [round(r, 3) for r in (implicit + constant).tolist()])
print("true rewards:                    ", [round(r, 3) for r in toy_rewards.tolist()])
assert (implicit + constant - toy_rewards).abs().max() < 1e-9

# %% [markdown]
# **Step 5: put it into Bradley and Terry's loss.** Their model (lesson 05) needs only the *difference* of the rewards
# of the chosen answer $y_w$ and the rejected answer $y_l$. There $\beta \log Z(x)$ cancels. With the trained policy
# $\pi_\theta$ in the place of $\pi^*$, the loss of a pair is (Rafailov et al. 2023, equation 7)
#
# $$\mathcal{L}_\text{DPO} = -\log \sigma\Big(\beta \log \frac{\pi_\theta(y_w \mid x)}
# {\pi_\text{ref}(y_w \mid x)} - \beta \log \frac{\pi_\theta(y_l \mid x)}{\pi_\text{ref}(y_l \mid x)}\Big)$$
#
# So every language model *is* a reward model, as the title of the paper says. Move beta to see what the goal asks of a
# policy:

# %%
from ipywidgets import HTML, SelectionSlider, VBox


def toy_at(beta):
    """The toy's best policy for one beta."""
    best = optimal_policy(toy_reference, toy_rewards, beta).tolist()
    labels = [f"answer {i + 1}\nreward {reward:.1f}" for i, reward in enumerate(toy_rewards.tolist())]
    title = f"beta = {beta:g}"
    figure = figures.policies({"reference": toy_reference.tolist(), "best policy": best}, labels, title)
    said = ", ".join(f"{share:.0%}" for share in best)
    figure.alt = f"With {title} the best policy gives the four answers {said}; the reference 50%, 25%, 15%, 10%."
    return figure


plotting.show(toy_at(0.3))

# %%
slider = SelectionSlider(options=[0.03, 0.1, 0.3, 1.0, 3.0], value=0.1, description="beta", continuous_update=False)
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(toy_at(slider.value))


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])

# %% [markdown]
# The figure above the slider is its position at 0.3, for readers without a running kernel.

# %% [markdown]
# ## 4. The loss by hand
#
# Two pieces. First: how probable is a whole answer? The sum over its tokens of the log-probability of each, given all
# that stands before it. Prompt and [padding](../docs/glossary.md#padding) have the label -100 and stay out of the sum.

# %%
IGNORED = -100


def sequence_log_probs(model, batch):
    """The log-probability of each row's answer: (batch,)."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    log_probs = logits[:, :-1].log_softmax(dim=-1)  # (batch, seq - 1, vocab): each place predicts the next token
    labels = batch["labels"][:, 1:]  # (batch, seq - 1)
    answer = labels != IGNORED
    chosen = log_probs.gather(-1, labels.where(answer, 0).unsqueeze(-1)).squeeze(-1)  # (batch, seq - 1)
    return (chosen * answer).sum(dim=-1)


# %% [markdown]
# Second: the loss. Four log-probabilities per pair come in, of two answers under two models.
#
# ### Exercise 06.1: the DPO loss
#
# Write it. All four are (batch,). Return the loss of each pair, and the implicit rewards of the chosen and of the
# rejected answers, each (batch,).


# %% tags=["exercise"]
def dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta):
    return ...


check("06.1", dpo_loss)
# hint("06.1")


# %% tags=["solution"]
def dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta):
    chosen_rewards = beta * (policy_chosen - reference_chosen)
    rejected_rewards = beta * (policy_rejected - reference_rejected)
    losses = -nn.functional.logsigmoid(chosen_rewards - rejected_rewards)
    return losses, chosen_rewards, rejected_rewards


check("06.1", dpo_loss)

# %% [markdown]
# **Predict 2.** Policy and reference both start as the SFT model. Which loss does the first batch have, before anything
# was learned? The answer does not depend on the batch.

# %%
predict("06.2", within=0.01, unit="nats", low=0)

# %%
dpo_loss = go_on_with("06.1", dpo_loss, dpo.dpo_loss)
batch = {name: tensor.to(run.device) for name, tensor in batch.items()}
policy = copy.deepcopy(sft)
with torch.no_grad():
    reference_log_probs = sequence_log_probs(sft, batch)
log_probs = sequence_log_probs(policy, batch)
losses, chosen_rewards, rejected_rewards = dpo_loss(*log_probs.chunk(2), *reference_log_probs.chunk(2), beta)
loss_first_step = losses.mean().item()
margin_first_step = (chosen_rewards - rejected_rewards).abs().max().item()
print(f"loss {loss_first_step:.4f}, ln 2 = {math.log(2):.4f}, margin {margin_first_step:.1f}")
reveal("06.2", loss_first_step)
assert abs(loss_first_step - math.log(2)) < 1e-6 and margin_first_step == 0

# %% [markdown]
# <details><summary>Why</summary>
#
# Every log-ratio is 0, so both rewards are 0, their margin is 0, and a fair coin costs $-\log \frac12 = \ln 2$. A DPO
# run that starts anywhere else has a bug: another reference, [dropout](../docs/glossary.md#dropout) that is on in one
# of the models, or a prompt that was tokenized in two ways.
#
# </details>
#
# ### Exercise 06.2: the gradient
#
# What does a pair do to the two log-probabilities? Call the margin of the two implicit rewards $m$. Differentiate
# $-\log \sigma(m)$ by $\log \pi_\theta(y_w)$ and by $\log \pi_\theta(y_l)$, on paper, and write the two derivatives.
# No autograd: the check compares you with it.


# %% tags=["exercise"]
def loss_gradients(chosen_rewards, rejected_rewards, beta):
    return ...


check("06.2", loss_gradients)
# hint("06.2")


# %% tags=["solution"]
def loss_gradients(chosen_rewards, rejected_rewards, beta):
    weight = beta * torch.sigmoid(rejected_rewards - chosen_rewards)
    return -weight, weight


check("06.2", loss_gradients)

# %%
loss_gradients = go_on_with("06.2", loss_gradients, experiment.loss_gradients)
generator = torch.Generator().manual_seed(seed)
four = torch.randn(4, 6, generator=generator, dtype=torch.double) * 5 - 20  # log-probabilities of six pairs
four.requires_grad_()
losses, chosen_rewards, rejected_rewards = dpo_loss(*four, beta=0.1)
losses.sum().backward()
by_chosen, by_rejected = loss_gradients(chosen_rewards.detach(), rejected_rewards.detach(), 0.1)
by_hand = torch.stack([by_chosen, by_rejected])
difference_dpo_gradient = (four.grad[:2] - by_hand).abs().max().item()
print("the two derivatives are autograd's to 1e-6:", difference_dpo_gradient < 1e-6)
assert difference_dpo_gradient < 1e-6

# %% [markdown]
# The two are equal and opposite, with the weight $\beta \, \sigma(-m)$: large while the pair is ranked wrongly, near 0
# once the margin is wide. So the loss cares for a *difference*. Nothing in it says that the chosen answer should become
# more probable.

# %% [markdown]
# The same through the whole model: by the chain rule, the gradient of every parameter is the gradient of the
# log-probabilities, each times its weight.

# %% tags=["nbval-check-output"]
with torch.no_grad():  # a policy that has moved a little, so that the weights differ from pair to pair
    for parameter in policy.parameters():
        parameter.add_(0.002 * torch.randn(parameter.shape, generator=generator).to(parameter))
log_probs = sequence_log_probs(policy, batch)
losses, chosen_rewards, rejected_rewards = dpo_loss(*log_probs.chunk(2), *reference_log_probs.chunk(2), beta)
parameters = list(policy.parameters())
by_autograd = torch.autograd.grad(losses.mean(), parameters, retain_graph=True)
weights = torch.cat(loss_gradients(chosen_rewards.detach(), rejected_rewards.detach(), beta)) / len(losses)
by_hand = torch.autograd.grad((weights * log_probs).sum(), parameters)
largest = max(gradient.abs().max().item() for gradient in by_autograd)
apart = max((a - b).abs().max().item() for a, b in zip(by_autograd, by_hand, strict=True))
print("the gradients of all weights agree to a millionth of the largest:", apart < 1e-6 * max(largest, 1.0))
assert apart < 1e-6 * max(largest, 1.0)

# %% [markdown]
# ## 5. The loop, and the library
#
# The reference never changes. So it runs **once** over the pairs, its two numbers per pair are kept, and it can leave
# the memory. What remains is the loop of lesson 02 with another loss.


# %%
def dpo_by_hand(policy, batches, reference, optimizer, scheduler, beta):
    """reference: (pairs, 2) log-probabilities; each batch says in `rows` which pairs it holds."""
    policy.train()
    losses = []
    for batch in batches:
        chosen, rejected = sequence_log_probs(policy, batch).chunk(2)
        loss = dpo_loss(chosen, rejected, *reference[batch["rows"]].T, beta)[0].mean()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %% [markdown]
# A few steps by hand, then the same steps with TRL's `DPOTrainer`: same start, same pairs in the same order. Beta is
# 0.1 in both: rounding of the log-probabilities, near a hundred-thousandth, enters the loss times beta.

# %%
from helpers.dpo import reference_log_probs, win_rate
from helpers.training import to_device

steps = run.by_budget(quick=2, standard=4)
few = train_pairs[: 8 * steps]
few_reference = reference_log_probs(sft, few, tokenizer.pad_token_id).to(run.device)
batches = []
for first in range(0, len(few), 8):
    rows = torch.arange(first, min(first + 8, len(few)))
    batches.append(to_device(collate([few[row] for row in rows], tokenizer.pad_token_id) | {"rows": rows}, sft))
policy = copy.deepcopy(sft)
optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-4, weight_decay=0.0)
constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
losses_by_hand = dpo_by_hand(policy, batches, few_reference, optimizer, constant, beta=0.1)
print([round(loss, 3) for loss in losses_by_hand])

# %% [markdown]
# `DPOTrainer` takes the pairs as conversations, tokenizes them itself, and keeps both models in memory, unless
# `precompute_ref_log_probs=True` tells it to do as we do.

# %%
from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


def as_conversation(row):
    return {name: [{"role": role, "content": row[name]}] for name, role in roles.items()}


same_rows = sample_rows(preferences["train"], pair_count, seed, name="pairs").select(range(len(few)))
scratch_folder = tempfile.TemporaryDirectory()
config = DPOConfig(
    output_dir=scratch_folder.name, seed=seed, use_cpu=run.device == "cpu", bf16=False,
    beta=0.1, num_train_epochs=1, per_device_train_batch_size=8,
    learning_rate=2e-4, lr_scheduler_type="constant", optim="adamw_torch",
    train_sampling_strategy="sequential", activation_checkpointing=False,
    save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True,
)  # fmt: skip

# %%
trainer = DPOTrainer(
    model=copy.deepcopy(sft),
    ref_model=copy.deepcopy(sft),
    args=config,
    train_dataset=Dataset.from_list([as_conversation(row) for row in same_rows]),
    processing_class=tokenizer,
)
trainer.remove_callback(PrinterCallback)
trainer.train()
losses_trainer = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

# %% tags=["nbval-check-output"]
difference_dpo_loss = max(abs(a - b) for a, b in zip(losses_by_hand, losses_trainer, strict=True))
print(f"{len(losses_by_hand)} losses by hand, {len(losses_trainer)} from DPOTrainer")
print("largest difference below 0.000001:", difference_dpo_loss < 1e-6)
assert difference_dpo_loss < 1e-6

# %% [markdown]
# The first loss is ln 2 in both and would prove little. The later ones depend on every step before them.
#
# ### The relatives
#
# With $h$ for the difference of the two log-ratios, DPO's loss is $-\log \sigma(\beta h)$. It never stops pulling: a
# pair that is always ranked the same way would like $h$ to be infinite. Three answers to that:

# %% [markdown]
# - **IPO** (Azar et al. 2024) asks for a *finite* gap: $\big(h - \frac{1}{2\beta}\big)^2$. TRL divides the log-ratios
#   by the answers' lengths first, as the authors' experiments did.
# - **Robust DPO** (Chowdhury et al. 2024) assumes that a share $\epsilon$ of the labels is flipped, and corrects the
#   loss for it: $\frac{(1 - \epsilon) \, \ell(h) - \epsilon \, \ell(-h)}{1 - 2 \epsilon}$. Plain *label smoothing* is
#   $(1 - \epsilon) \, \ell(h) + \epsilon \, \ell(-h)$.
# - **SimPO** (Meng et al. 2024) has **no reference**: it compares log-probabilities *per token*, and asks for a margin
#   $\gamma$: $-\log \sigma\big(\beta \frac{\log \pi(y_w)}{|y_w|} - \beta \frac{\log \pi(y_l)}{|y_l|} - \gamma\big)$.


# %%
def ipo_loss(chosen_ratio, rejected_ratio, chosen_length, rejected_length, beta):
    """The ratios: log pi - log reference of whole answers; lengths in tokens; all (batch,)."""
    return (chosen_ratio / chosen_length - rejected_ratio / rejected_length - 1 / (2 * beta)) ** 2


def robust_loss(chosen_ratio, rejected_ratio, beta, flipped):
    log_sigmoid, margin = nn.functional.logsigmoid, beta * (chosen_ratio - rejected_ratio)
    return -((1 - flipped) * log_sigmoid(margin) - flipped * log_sigmoid(-margin)) / (1 - 2 * flipped)


def simpo_loss(chosen_log_probs, rejected_log_probs, chosen_length, rejected_length, beta, gamma):
    per_token = chosen_log_probs / chosen_length - rejected_log_probs / rejected_length
    return -nn.functional.logsigmoid(beta * per_token - gamma)


# %% [markdown]
# The trainer above still holds its trained policy and its reference. So it can say what each loss is on a batch of its
# pairs. SimPO lives in TRL's `CPOTrainer` (`trl.experimental.cpo`); its loss takes log-probabilities per token.

# %%
import os
from types import SimpleNamespace

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # TRL's notice that the names of this part may change
from trl.experimental.cpo import CPOTrainer

theirs = next(iter(trainer.get_train_dataloader()))
trained_policy, trainer.label_smoothing = trainer.model.eval(), 0.1
with torch.no_grad():
    ours = sequence_log_probs(trained_policy, batches[0]), sequence_log_probs(sft, batches[0])
    from_trl = {}
    for kind in ("ipo", "robust"):
        trainer.loss_types, trainer.loss_weights = [kind], [1.0]
        from_trl[kind] = trainer._compute_loss(trained_policy, theirs, return_outputs=False).item()
chosen_ratio, rejected_ratio = (ours[0] - ours[1]).chunk(2)
lengths = (batches[0]["labels"] != IGNORED).sum(dim=1)
settings = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "label_smoothing": 0.0, "alpha": 0.0}
simpo = SimpleNamespace(**settings, accelerator=SimpleNamespace(device=run.device))
from_trl["simpo"] = CPOTrainer.cpo_loss(simpo, *(ours[0] / lengths).chunk(2))[0].mean().item()

# %%
by_hand = {
    "ipo": ipo_loss(chosen_ratio, rejected_ratio, *lengths.chunk(2), beta=0.1),
    "robust": robust_loss(chosen_ratio, rejected_ratio, beta=0.1, flipped=0.1),
    "simpo": simpo_loss(*ours[0].chunk(2), *lengths.chunk(2), beta=2.0, gamma=0.5),
}
difference_relatives = 0.0
for kind, losses in by_hand.items():
    apart = abs(losses.mean().item() - from_trl[kind])
    difference_relatives = max(difference_relatives, apart / max(1.0, abs(from_trl[kind])))
    print(f"{kind:7} ours {losses.mean().item():.6f}, TRL {from_trl[kind]:.6f}")
assert difference_relatives < 1e-5

# %% [markdown]
# ## 6. Train, and look at the likelihoods
#
# The loss sees only a *difference*, so it falls even when both answers become improbable, as long as the rejected one
# does so faster. A common remedy is an **SFT term**: add the chosen answers' ordinary loss per token, as in lesson 04
# (Pang et al. 2024; `loss_type=["sigmoid", "sft"]` in TRL). So this is the loop again, with that term, a warm-up and
# linear decay, and a log. (`helpers.dpo` keeps it for the commands that measure.)


# %%
from tqdm import tqdm

from helpers.reward_model import preference_batches
from helpers.training import warmup_linear


def train_on_pairs(policy, pairs, reference, beta, sft_weight):
    """One pass over encoded pairs, 16 a batch; reference: (pairs, 2). Returns one dict of means for each step."""
    policy.train()
    batches = preference_batches(pairs, tokenizer.pad_token_id, 16, seed=seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    scheduler, log = warmup_linear(optimizer, steps=len(batches)), []
    for batch in tqdm(batches, desc=f"DPO, beta {beta:g}", leave=False):
        rows, batch = batch["rows"], to_device(batch, policy)
        chosen, rejected = sequence_log_probs(policy, batch).chunk(2)
        losses, *rewards = dpo_loss(chosen, rejected, *reference[rows].T.to(chosen), beta)
        tokens = (batch["labels"][: len(chosen)] != IGNORED).sum()
        (losses.mean() - sft_weight * chosen.sum() / tokens).backward()
        nn.utils.clip_grad_norm_(policy.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        log.append(
            {"loss": losses.mean().item(), "chosen": rewards[0].mean().item(), "rejected": rewards[1].mean().item()}
        )
    return log


# %% [markdown]
# **Predict 3.** You train with the SFT term; then, on a quarter of the pairs, with a low beta and without the term. In
# which of the two runs will the chosen answers end up more probable than they were? (Several things differ between the
# two, so this shows what *can* happen. Section 8 changes one thing at a time.)

# %%
predict("06.3", choices=["with the SFT term", "without", "both", "neither"])

# %%
with Stopwatch() as watch:
    train_reference = reference_log_probs(sft, train_pairs, tokenizer.pad_token_id)
seconds_reference = watch.seconds
policies, logs = {}, {}


def train_with(name, beta, sft_weight, rows):
    """DPO from the SFT model on the first `rows` pairs; keeps the policy and its log under a name."""
    seed_everything(seed)
    policies[name] = copy.deepcopy(sft)
    logs[name] = train_on_pairs(policies[name], train_pairs[:rows], train_reference[:rows], beta, sft_weight)


with Stopwatch() as main_watch, PeakMemory() as main_memory:
    train_with("main", beta, sft_weight, pair_count)
print(f"{len(logs['main'])} steps in {main_watch.seconds:.1f} s, the reference's numbers in {seconds_reference:.1f} s")
low = dpo.BETAS[0]
train_with(low, low, 0.0, few_count)

# %%
changes, last = {}, {}


def draw_likelihoods(name, beta, title):
    """The loss of one run, and how much likelier each side became than the reference finds it."""
    log, over = logs[name], max(1, len(logs[name]) // 10)
    sides = {side: [step[side] / beta for step in log] for side in ("chosen", "rejected")}
    ends = {side: sum(values[-over:]) / over for side, values in sides.items()}
    curve = [step["loss"] for step in log]
    figure = figures.likelihoods(sides["chosen"], sides["rejected"], curve, over)
    said = (
        f"{title}: the DPO loss goes from {curve[0]:.2f} to {sum(curve[-over:]) / over:.2f}. Against the reference, "
        f"chosen answers change by {ends['chosen']:+.1f} nats at the end, rejected ones by {ends['rejected']:+.1f}."
    )
    plotting.show(figure, alt=said)
    print(said)
    changes[name], last[name] = sides, ends


draw_likelihoods("main", beta, f"beta {beta:g}, SFT weight {sft_weight:g}")

# %%
draw_likelihoods(low, low, f"beta {low:g}, no SFT term")
rose = [last[name]["chosen"] > 0 for name in ("main", low)]
reveal(
    "06.3", {(1, 0): "with the SFT term", (0, 1): "without", (1, 1): "both", (0, 0): "neither"}[tuple(map(int, rose))]
)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Look at the green lines. Both runs have a falling loss and a growing margin. Yet in one of them the *chosen* answers
# lose probability too. What both sides lose goes to answers that nobody compared, good or bad. So never judge a DPO run
# by loss or margin: judge what it writes, as you do next.
#
# </details>
#
# ## 7. Is it better? The win rate
#
# Both models answer the same requests about films of the test split, which no pair was about. A model wins a comparison
# when its answer satisfies the request and the other one's does not. When both do, or neither, it is a tie, and **a tie
# counts half**. So a model wins 50 % against itself.
#
# With verdicts of 0 and 1, this [win rate](../docs/glossary.md#win-rate) is one half plus half of the change in
# requests satisfied. A perfect model ties wherever its start was right too. So the **ceiling** is $1 - \frac12 \cdot$
# the start's share, well below 100 %.


# %%
def measured_win_rate(judged):
    """Win rate against the SFT model with its 95 % interval over requests."""
    wins = (judged.good > sft_judged.good).double() + 0.5 * (judged.good == sft_judged.good).double()
    return paired_bootstrap(wins, torch.zeros_like(wins), seed=seed)


judged = {"main": experiment.judge_policy(policies["main"], tokenizer, requests, judge_answer, seed=seed + 1)}
win_rate_dpo = measured_win_rate(judged["main"])
assert abs(win_rate_dpo.value - win_rate(judged["main"].good, sft_judged.good)) < 1e-9  # helpers' definition
ceiling = 1 - sft_judged.rates()["good"] / 2
print(f"win rate of DPO with the SFT term, against the SFT model: {win_rate_dpo}; the ceiling is {ceiling:.2f}")
show(judged["main"])

# %%
shares["after DPO"] = rates(judged["main"])
plotting.show(figures.verdicts(shares))
at_one = {
    title: experiment.judge_policy(one, tokenizer, requests, judge_answer, seed=seed, temperature=1.0)
    for title, one in (("SFT", sft), ("DPO with the SFT term", policies["main"]))
}
for title, found in at_one.items():
    print(f"at temperature 1, as in lesson 05: {title} satisfies {rates(found)['good']}")

# %% [markdown]
# **Predict 4.** The pairs spoke of nothing but lines about films. How much will the model lose of its other skills,
# such as turning a sentence into the passive, in percentage points of exact answers?

# %%
predict("06.4", within=5, unit="percentage points lost", low=-100, high=100)

# %%
instructions = catalog.dataset("instructions", track, seed=seed)["test"]
asked = {
    "facts": [row for row in instructions if row["known"] == "told"][:question_count],
    "skills": [row for row in instructions if row["known"] == "skill"][:question_count],
}


def answered_exactly(model, rows):
    """1.0 for each question answered to the letter by the likeliest words, else 0.0: (rows,)."""
    answers = answer(model, tokenizer, [row["prompt"] for row in rows])
    return exact_match(answers, [row["completion"] for row in rows])


kept = {what: [answered_exactly(one, rows) for one in (sft, policies["main"])] for what, rows in asked.items()}
change = {what: paired_bootstrap(now, before, seed=seed) for what, (before, now) in kept.items()}
change["well-formed lines"] = paired_bootstrap(judged["main"].form, sft_judged.form, seed=seed)
for what, (before, now) in kept.items():
    shares_kept = " -> ".join(f"{wilson(int(right.sum()), len(right))}" for right in (before, now))
    print(f"{what}, answered exactly, SFT -> DPO: {shares_kept} of {len(now)}")
for what, gap in change.items():
    print(f"change in {what}: {gap:+.3f}")
reveal("06.4", -100 * change["skills"].value)

# %% [markdown]
# ## 8. What does the work: beta, the SFT term, or the rejected answers?
#
# Six runs, all on the same quarter of the pairs: one pass, 50 steps of 16 pairs, the same rate. Four have no SFT term
# and differ in beta. One adds the term to beta 1. The last has *only* the term: SFT on the chosen answers, which never
# sees a rejected one. What DPO has more than this control is what the comparisons are worth.
#
# For the distance you need the [KL divergence](../docs/glossary.md#kl-divergence) from the reference: lesson 05's
# estimate, summed over the vocabulary at each position, along answers that the policy draws at temperature 1.
#
# **Predict 5.** Which of the six satisfies most requests?

# %%
titles = {value: f"beta {value:g}, no SFT term" for value in dpo.BETAS}
titles |= {"with sft": f"beta {beta:g} and the SFT term", "sft alone": "SFT on the chosen answers"}
predict("06.5", choices=list(titles.values()))

# %%
from helpers.lessons.lesson_05.experiment import grade

train_with("with sft", beta, sft_weight, few_count)
train_with("sft alone", 1e-6, 1.0, few_count)  # so small a beta leaves only the chosen answers' own loss
for value in dpo.BETAS[1:]:  # section 6 trained the first
    train_with(value, value, 0.0, few_count)
kl, few = {}, requests[:100]
for name, policy in policies.items():
    if name not in judged:
        judged[name] = experiment.judge_policy(policy, tokenizer, requests, judge_answer, seed=seed + 1)
    drawn = grade(policy, sft, tokenizer, few, lambda prompts, answers: torch.zeros(len(answers)), seed, judge_answer)
    kl[name] = drawn.kl.mean().item()

# %%
points = {f"beta {value:g}": (kl[value], measured_win_rate(judged[value])) for value in dpo.BETAS}
beside = {titles[name]: (kl[name], measured_win_rate(judged[name])) for name in ("with sft", "sft alone")}
plotting.show(figures.frontier(points, beside))
rows = {}
for name, title in titles.items():
    found = rates(judged[name])
    rows[title] = [f"{kl[name]:.2f}", f"{measured_win_rate(judged[name])}"]
    rows[title] += [f"{found[way].value:.2f}" for way in WAYS]
best = max(titles, key=lambda name: judged[name].good.mean().item())
reveal("06.5", titles[best])
columns = ["KL (nats)", f"win rate [95 %], ceiling {ceiling:.2f}", "satisfied", "tone", "film", "form"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *Beta.* A small beta makes distance cheap: the policy goes far, and loses *form*. A third of the pairs do defend
#   form, with shuffled words as the rejected answer. But such a pair asks only that the shuffled words fall further
#   than the right order does.
# - *The control.* Compare the last two rows. If SFT on the chosen answers does as well as DPO with the term, then the
#   rejected answers brought nothing here. Every chosen answer in these pairs is flawless, so it can be imitated.
# - *One rate for all.* A low beta might do better at a lower rate; the next table has one.
#
# </details>

# %% [markdown]
# ### Whose answers? Pairs that the model wrote itself
#
# In the pairs of section 2 a rule wrote both answers. In the DPO paper's sentiment task the SFT model wrote them:
# then the rejected answer is one of *its own* mistakes. So another command drew four answers to each training request
# from the SFT model, let the judge label them, and paired a right one with a wrong one. These are *on-policy* pairs.
#
# The table shows the same number of pairs (320) and of steps (60, in three passes) for both kinds. This is *not* from
# this run. Its measure, the win rate against the SFT model, was chosen beforehand.

# %%
from helpers.reference import has_reference, load_reference

if has_reference("dpo_own_pairs"):
    own = load_reference("dpo_own_pairs")
    print("Reference:", own.label)
    rows = {}
    for name, title in own.settings["runs"].items():
        parts = [f"{own.interval(f'{way}_rate_{name}').value:.2f}" for way in WAYS]
        rows[title] = [f"{own.interval(f'win_rate_{name}'):.2f}", *parts, f"{own.interval(f'skills_{name}').value:.2f}"]
    columns = ["win rate [95 %]", "satisfied", "tone", "film", "form", "skills"]
    print(pd.DataFrame.from_dict(rows, orient="index", columns=columns).to_string())
else:
    print("not measured yet: python -m benchmarks.own_pairs")

# %% [markdown]
# ## 9. Beside lesson 05
#
# Now the long way, from the same start: a reward model, then RL against it. One run is one draw of pairs, of their
# order, and of answers, so both lessons' commands trained everything several times. These tables are *not* from this
# run.
#
# **Predict 6.** Which raises the share of requests satisfied most: DPO as published, SFT on the chosen answers, or the
# best of [PPO](../docs/glossary.md#proximal-policy-optimization),
# [GRPO](../docs/glossary.md#group-relative-policy-optimization) and RLOO?

# %%
predict("06.6", choices=["DPO as published", "SFT on the chosen answers", "reinforcement learning"])

# %%
reference, rl = load_reference("dpo"), load_reference("rlhf")
print("Reference:", reference.label)
print("Reference:", rl.label)
offline = {"chosen_only": "SFT on the chosen answers", "dpo": "DPO with the SFT term, beta 1"}
offline |= {"dpo_without_sft": "DPO as published, beta 0.1", "rlhf": "PPO, 3,200 pairs"}
online = {"sweep_2": "PPO, 4,000 pairs", "grpo": "GRPO, 4,000 pairs", "rloo": "RLOO, 4,000 pairs"}
rows, gained = {}, {}
for source, names, metric, drawn in (
    (reference, offline, "good_rate", "0.6"), (rl, online, "true_reward", "1.0"),
):  # fmt: skip
    for name, title in names.items():
        gap = source.gap(f"{metric}_{name}", f"{metric}_sft")
        seeds = (f"{value:.2f}" for value in source.metrics[f"{metric}_{name}"])
        rows[title] = [drawn, f"{source.interval(f'{metric}_sft').value:.2f}", f"{gap:+.2f}", ", ".join(seeds)]
        gained[title] = gap.value
labels = {"DPO as published, beta 0.1": "DPO as published", "SFT on the chosen answers": "SFT on the chosen answers"}
reveal("06.6", labels.get(max(gained, key=gained.get), "reinforcement learning"))
pd.DataFrame.from_dict(
    rows, orient="index", columns=["temperature", "its start", "gain [95 %]", "satisfied, each seed"]
)

# %% [markdown]
# All methods of lesson 06 made 200 steps of 16 pairs at 2e-4. PPO trained a reward model first (two passes over its
# pairs), then made 30 updates of 32 answers at 5e-4. What the methods cost, and what else they changed:

# %%


def cell(metric, form="{:.2f}", scale=1.0):
    """A metric's mean over the seeds as text; nothing where it was not measured."""
    return form.format(reference.interval(metric).value / scale) if metric in reference.metrics else ""


in_memory = {"dpo": "policy (the reference ran before)", "chosen_only": "policy", "dpo_without_sft": "the same as DPO"}
in_memory |= {"rlhf": "policy with value head, reference, reward model"}
rows = {}
for name, title in ({"sft": "SFT model"} | offline).items():
    row = [in_memory.get(name, ""), cell(f"seconds_{name}", "{:.0f}")]
    row += [cell(f"peak_memory_bytes_{name}", "{:.0f}", scale=1e6), cell(f"form_rate_{name}")]
    rows[title] = row + [cell(f"exact_answer_rate_{what}_{name}", "{:.3f}") for what in asked]
columns = ["models in memory", "seconds", "memory added (MB)", "form", "facts", "skills"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *The order.* SFT on the chosen answers and DPO with the SFT term gain most, and their intervals overlap. The pairs
#   hold flawless answers, which can be imitated; RL has only what the policy writes itself.
# - *DPO as published loses* at these settings: its share of right form falls to 13 % (second table).
# - *PPO scatters most.* In the row with 3,200 pairs one of three seeds is far above the other two; GRPO and RLOO
#   scatter less. So a comparison of DPO with one run of PPO says nothing.
# - *What is unequal:* the temperature of the answers (so compare gains, not shares), the number of pairs, the rates,
#   and how much each recipe was tuned.
# - *[Forgetting](../docs/glossary.md#catastrophic-forgetting).* The PPO runs lost most of the skills. Nothing in PPO's
#   reward pays for skills, but nothing in DPO's loss does either. We did not test the cause. The usual remedy is to mix
#   SFT data into the training (InstructGPT's "PPO-ptx").
#
# </details>

# %% [markdown]
# ### Other people's figures
#
# | task, judge | DPO | PPO |
# |---|---|---|
# | TL;DR summaries against people's own, judged by GPT-4 (Rafailov et al. 2023) | about 61 % | about 57 % |
#
# These figures are theirs: a model of six billion parameters, a judge that can err, and another opponent. Their judge
# always names a winner, so its ceiling is 100 %; ours counts ties as half.

# %% [markdown]
# ## 10. Find the bug
#
# A colleague's DPO runs without a warning. The weights move, but the loss says 0.6931 at every step. Look for the
# reason, then fix the loop.


# %%
def train_against_reference(policy, batches, loss_of, optimizer):
    reference = policy
    losses = []
    for batch in batches:
        loss = loss_of(policy, reference, batch)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


def loss_of(policy, reference, batch):
    with torch.no_grad():
        theirs = sequence_log_probs(reference, batch).chunk(2)
    return dpo_loss(*sequence_log_probs(policy, batch).chunk(2), *theirs, beta)[0].mean()


suspect = copy.deepcopy(sft)
optimizer = torch.optim.AdamW(suspect.parameters(), lr=learning_rate)
losses = train_against_reference(suspect, islice(batches, 6), loss_of, optimizer)
moved = max((a - b).abs().max().item() for a, b in zip(suspect.parameters(), sft.parameters(), strict=True))
print([round(loss, 4) for loss in losses], f"largest change of a weight: {moved:.4f}")

# %% [markdown]
# ### Exercise 06.3: fix the loop
#
# Write it so that the loss measures what the policy has learned.


# %% tags=["exercise"]
def fixed(policy, batches, loss_of, optimizer):
    return ...


check("06.3", fixed)
# hint("06.3")


# %% tags=["solution"]
def fixed(policy, batches, loss_of, optimizer):
    reference = copy.deepcopy(policy)
    losses = []
    for batch in batches:
        loss = loss_of(policy, reference, batch)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


check("06.3", fixed)

# %% [markdown]
# Even so the gradient pointed the right way at every step, at full strength. Nothing told the policy that it had gone
# far enough: the weight $\beta \, \sigma(-m)$ never falls when $m$ stays 0. So look at the margin of every run. It
# starts at 0, and must not stay there.
#
# ## 11. Recap

# %%
from IPython.display import Markdown, display

gain_dpo, gain_chosen = (reference.interval(f"win_rate_{name}") for name in ("dpo", "chosen_only"))
display(
    Markdown(f"""
1. **The loss** is ours and the library's: {len(losses_by_hand)} steps differ by {difference_dpo_loss:.0e} at most, IPO,
   robust DPO and SimPO by {difference_relatives:.0e} (*section 5*). It looks at a difference only: without the SFT term
   and with a low beta the chosen answers changed by {last[low]["chosen"]:+.1f} nats (*section 6, this run*).
2. **DPO as published** ({reference.settings["pairs"]:,} pairs, beta 0.1) wins
   {reference.interval("win_rate_dpo_without_sft"):.2f} against its start over {len(reference.seeds)} seeds: it loses
   (*section 9*).
3. **With the SFT term** it wins {gain_dpo:.2f}, close to the ceiling of {ceiling:.2f}. SFT on the chosen answers alone
   wins {gain_chosen:.2f}: here the term does the work, not the comparisons (*section 9*).
4. **Forgetting**: this run's facts changed by {change["facts"].value:+.3f}, its skills by
   {change["skills"].value:+.3f} (*section 7*).
""")
)

# %%
from helpers.record import record

along = {}  # along the judged answers, at temperature 0.6: the reference's older measure of distance
for name in ("main", low, "sft alone"):
    along[name] = experiment.kl_per_answer(policies[name], sft, tokenizer, requests, judged[name].answers).mean().item()
values = {
    "loss_first_step": loss_first_step, "difference_dpo_loss": difference_dpo_loss,
    "difference_dpo_gradient": difference_dpo_gradient,
    "win_rate_dpo": win_rate_dpo.value, "kl_dpo": along["main"],
    "win_rate_dpo_without_sft": measured_win_rate(judged[low]).value, "kl_dpo_without_sft": along[low],
    "win_rate_chosen_only": measured_win_rate(judged["sft alone"]).value, "kl_chosen_only": along["sft alone"],
    "betas": list(dpo.BETAS), "kl_dpo_by_beta": [kl[value] for value in dpo.BETAS],
    "kl_at_1_dpo": kl["main"], "kl_at_1_chosen_only": kl["sft alone"],
    "win_rate_dpo_by_beta": [measured_win_rate(judged[value]).value for value in dpo.BETAS],
    "seconds_dpo": seconds_reference + main_watch.seconds, "peak_memory_bytes_dpo": main_memory.added,
    "difference_relatives": difference_relatives, "win_rate_ceiling": ceiling,
    "good_rate_sft_at_1": rates(at_one["SFT"])["good"].value,
    "good_rate_dpo_at_1": rates(at_one["DPO with the SFT term"])["good"].value,
}  # fmt: skip
for what, sides in kept.items():
    values |= {f"exact_answer_rate_{what}_{name}": one.mean() for name, one in zip(("sft", "dpo"), sides, strict=True)}
for name, sides in changes.items():
    ending = "dpo_without_sft" if name == low else "dpo"
    values |= {f"log_prob_change_{side}_{ending}": curve for side, curve in sides.items()}
for name, found in (("pretrained", before_judged), ("sft", sft_judged), ("dpo", judged["main"])):
    values |= {f"{way}_rate_{name}": getattr(found, way).mean() for way in WAYS}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data, "pairs": pairs}
parameters |= {"beta": beta, "sft_weight": sft_weight, "learning_rate": learning_rate}
saved = record("06_direct_preference_optimization", parameters, **values)
scratch_folder.cleanup()
print(f"saved: {saved.name}")
solved("06")

# %% [markdown]
# ## Next
#
# - DPO as published: `workbook run 06 -p sft_weight 0.0 -p beta 0.1`. What is won, and what is lost?
# - Fewer pairs: `workbook run 06 -p pairs 200`. How many does the win need?
# - Lesson 07 asks which parameters should be trainable at all.
# - Where to read on: KTO learns from single answers with a thumb up or down; online DPO draws new pairs while it
#   trains; Lambert's *RLHF Book* has the whole field.
#
# ## References
#
# | work | year |
# |---|---|
# | Rafailov et al., *Direct Preference Optimization: Your Language Model is Secretly a Reward Model* | 2023 |
# | Pang et al., *Iterative Reasoning Preference Optimization* | 2024 |
# | Azar et al., *A General Theoretical Paradigm to Understand Learning from Human Preferences* (IPO) | 2024 |
# | Chowdhury et al., *Provably Robust DPO: Aligning Language Models with Noisy Feedback* | 2024 |
# | Meng et al., *SimPO: Simple Preference Optimization with a Reference-Free Reward* | 2024 |
# | Lambert, *Reinforcement Learning from Human Feedback* (the RLHF Book) | 2025 |
