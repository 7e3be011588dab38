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
# *About 80 minutes to read (an estimate), three to run (an estimate for two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - derive the DPO loss from the goal of RLHF, step by step, and write it with its gradient;
# - write its relatives IPO, robust DPO and SimPO, and show that yours are those of TRL;
# - measure a win rate with its ceiling, and say what was lost on the way;
# - ask of every gain whether the rejected answers brought it;
# - compare DPO with lesson 05's methods;
# - run DPO with LoRA on a published model and real sentences.

# %%
import copy
import math
import tempfile
from collections import Counter

import pandas as pd
import torch
from torch import nn

from helpers import catalog, dpo, plotting
from helpers.checks import check, go_on_with, hint, solved  # noqa: F401 - hint("06.1") helps when you are stuck
from helpers.cost import PeakMemory, Stopwatch
from helpers.intervals import mean_t, paired_bootstrap, wilson
from helpers.lessons.lesson_06 import experiment, figures
from helpers.predictions import predict, reveal
from helpers.reference import lesson_reference, load_reference, real_reference, recorded
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
# Every model's answers are sampled at temperature 0.6. Lesson 05 sampled at 1, where a single unlucky token spoils more
# answers. Section 7 judges the same model at both.

# %%
sft = catalog.causal_language_model(track, model, role="instruct").to(run.device).eval()
tokenizer = catalog.tokenizer("instruct", track, model)
preferences = catalog.dataset("preferences", track, data, seed, tokenizer=tokenizer)
requests = about_films(preferences["test"])["prompt"][:request_count]  # the judge understands no others
sft_judged = experiment.judge_policy(sft, tokenizer, requests, judge_answer, seed=seed)


def show(judged, count=8):
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
# | film | it names the requested film, and says nothing false about its people; in broken text only the title counts |
# | tone | it praises where praise was asked for, blames where blame was |
#
# A **request is satisfied** when all three hold. The judge has a limit: a fluent answer in yet another form
# counts as wrong in form. Lesson 05 says how often.
#
# **Predict 1.** What share of requests does the SFT model satisfy? And the model before SFT, which has read a lot
# and never saw an instruction?

# %%
predict("06.1", within=0.1, low=0, high=1)

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
print(f"tone after SFT, mean of the reference's seeds: {mean_t(recorded('06', 'tone_rate_sft'))}")
reveal("06.1", sft_judged.rates()["good"], reference="good_rate_sft")

# %% [markdown]
# There are two tones, so a model that ignores the request, and writes a judgement at all, hits the right one about half
# of the time. SFT taught form and film. Does the interval of its tone contain one half? Then its tone is no better than
# a random guess, and clean demonstrations alone might repair it. So DPO gets a control in section 8: SFT on the chosen
# answers.

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
print("reasons of the training pairs:", dict(Counter(preferences["train"]["reason"])))

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
# **Step 3: the best [policy](../docs/glossary.md#policy).** $Z(x)$ does not depend on $\pi$. A KL is never negative,
# and 0 only between equal distributions. So the best policy is $\pi^*$. Nobody can compute it for a language model,
# because $Z(x)$ sums over all texts.
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
# **Step 4: solve for the reward.** Take the logarithm of $\pi^*$:
#
# $$r(x, y) = \beta \log \frac{\pi^*(y \mid x)}{\pi_\text{ref}(y \mid x)} + \beta \log Z(x)$$
#
# The first part, beta times a *log-ratio*, is the **implicit reward** of a policy. The second part cannot be computed,
# but it is the same for every answer to this prompt. On the toy:

# %% tags=["nbval-check-output"]
implicit = 0.3 * (written.log() - toy_reference.log())
constant = 0.3 * (toy_reference * (toy_rewards / 0.3).exp()).sum().log()
print("beta log Z:                      ", round(constant.item(), 3))
print("implicit rewards plus beta log Z:", [round(r, 3) for r in (implicit + constant).tolist()])
print("true rewards:                    ", [round(r, 3) for r in toy_rewards.tolist()])
assert (implicit + constant - toy_rewards).abs().max() < 1e-9

# %% [markdown]
# **Step 5: put it into Bradley and Terry's loss.** Their model (lesson 05) needs only the *difference* of the rewards
# of the chosen answer $y_w$ and the rejected answer $y_l$. There $\beta \log Z(x)$ cancels. Now fit a policy
# $\pi_\theta$ so that its implicit rewards explain the pairs. The loss of a pair is (Rafailov et al. 2023, equation 7)
#
# $$\mathcal{L}_\text{DPO} = -\log \sigma\Big(\beta \log \frac{\pi_\theta(y_w \mid x)}
# {\pi_\text{ref}(y_w \mid x)} - \beta \log \frac{\pi_\theta(y_l \mid x)}{\pi_\text{ref}(y_l \mid x)}\Big)$$

# %% [markdown]
# So every language model is a reward model, as the DPO paper's title says ("... Secretly a Reward Model"), up to a
# constant per prompt. The optimum of this loss is $\pi^*$ only if
#
# - preferences follow Bradley and Terry's model, and the policy class contains $\pi^*$;
# - $\pi_\text{ref}$ gives every answer some probability;
# - the pairs cover what the policy will write; pairs by somebody else (*off-policy*) need not.
#
# Move beta to see what the goal asks of a policy (without a running kernel, the figure shows 0.3):

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
slider = SelectionSlider(options=[0.03, 0.1, 0.3, 1.0, 3.0], value=0.1, description="beta", continuous_update=False)
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(toy_at(slider.value))


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])

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
# Every log-ratio is 0, so both rewards are 0, their margin is 0, and a fair coin costs $-\log \frac12 = \ln 2$. The DPO
# loss alone has to start there, up to rounding (bfloat16 rounds coarsely). If it does not, look for another reference,
# [dropout](../docs/glossary.md#dropout) that is on in one of the models, or a prompt that was tokenized in two ways. (A
# reference that TRL loaded from disk is another one if you had changed the weights in memory, see section 5.)
# With an SFT term (section 6) the logged loss starts at ln 2 plus that term.
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
# <details><summary>What the derivatives say</summary>
#
# The two are equal and opposite, with the weight $\beta \, \sigma(-m)$: large while the pair is ranked wrongly, near 0
# once the margin is wide. By itself the first derivative raises the chosen answer. But both answers share the model's
# weights, and often most of their words. So a step that lowers the rejected answer can lower the chosen one too:
# *[likelihood displacement](../docs/glossary.md#likelihood-displacement)* (Razin et al. 2024). Section 6 measures it.
#
# </details>
#
# The same through the whole model. By the chain rule, the gradient of a parameter is a sum over all answers: the
# gradient of the answer's log-probability, times the weight that `loss_gradients` gives it.

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
    policy.eval()  # no dropout: it would make policy and reference differ at random
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
# A few steps by hand, then the same steps with TRL's `DPOTrainer`: same start, same pairs in the same order. Float32
# rounds these log-probabilities by about 1e-5. The loss multiplies that by beta, so with beta 0.1 the two should agree
# to 1e-6.

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
# `DPOTrainer` takes the pairs as conversations and tokenizes them itself. It keeps both models in memory, unless
# `precompute_ref_log_probs=True` tells it to do as we do. With `ref_model=None` it loads the reference *again*, from
# the path in `model.config`. So save weights that you changed in memory first, or pass
# `ref_model=copy.deepcopy(model)`. With a `peft_config` it loads none: the model with its
# [adapter](../docs/glossary.md#adapter) off is the reference.
#
# Its defaults in TRL 1.16: `loss_type=["sigmoid"]`, rate 1e-6, beta 0.1, three [epochs](../docs/glossary.md#epoch),
# batches of 8, `max_length=1024`, dropout off, bf16, gradient [checkpointing](../docs/glossary.md#checkpointing).

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
watched = ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")
pd.DataFrame([{name: entry[name] for name in watched} for entry in trainer.state.log_history if "loss" in entry])

# %% tags=["nbval-check-output"]
difference_dpo_loss = max(abs(a - b) for a, b in zip(losses_by_hand, losses_trainer, strict=True))
print(f"{len(losses_by_hand)} losses by hand, {len(losses_trainer)} from DPOTrainer")
print("largest difference below 0.000001:", difference_dpo_loss < 1e-6)
assert difference_dpo_loss < 1e-6

# %% [markdown]
# The first loss is ln 2 in both; the later ones depend on every step before them. The table is what one watches at
# work: `rewards/accuracies`, the share of pairs with a positive margin; `rewards/margins`, their mean margin;
# `logps/chosen`, the log-probability of the chosen answers, which shows displacement. In row 0 all margins are exactly
# 0, and a tie does not count. Each row is one batch, so part of its change is other pairs.
#
# At work one adds held-out pairs, often an adapter, and saves:

# %%
from peft import LoraConfig

at_work = DPOConfig(
    output_dir=scratch_folder.name, seed=seed, use_cpu=run.device == "cpu", bf16=False,
    loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.1], num_train_epochs=1, learning_rate=1e-3,
    per_device_train_batch_size=8, eval_strategy="epoch", save_strategy="no", report_to="none", disable_tqdm=True,
)  # fmt: skip
held_out = [as_conversation(row) for row in preferences["validation"].select(range(16))]
lora_trainer = DPOTrainer(
    model=copy.deepcopy(sft),  # no ref_model: the adapter is switched off for the reference
    args=at_work,
    train_dataset=Dataset.from_list([as_conversation(row) for row in same_rows]),
    eval_dataset=Dataset.from_list(held_out),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
lora_trainer.remove_callback(PrinterCallback)
lora_trainer.train()
lora_trainer.save_model(f"{scratch_folder.name}/adapter")
judged_by_trl = next(entry for entry in lora_trainer.state.log_history if "eval_loss" in entry)
print(
    {name: round(judged_by_trl[name], 3) for name in ("eval_loss", "eval_rewards/accuracies", "eval_rewards/margins")}
)

# %% [markdown]
# ### The relatives
#
# Write $h$ for the difference of the two log-ratios, and $\ell(h) = -\log \sigma(\beta h)$ for DPO's loss. $\ell$ has
# no minimum: on a pair that is always ranked the same way, it falls as long as $h$ grows. Two relatives set a finite
# gap; two answer other problems.

# %% [markdown]
# - **IPO** (Azar et al. 2024) asks for a *finite* gap: $\big(h - \frac{1}{2\beta}\big)^2$. TRL first divides the
#   log-ratios by the answers' lengths, which the paper's formula does not. (TRL's source says that the authors
#   confirmed this form for their results.) So beta 0.1 asks for 5 nats *per token*.
# - **Label smoothing** (Mitchell 2023), $(1 - \epsilon) \, \ell(h) + \epsilon \, \ell(-h)$, has its minimum where the
#   margin $m$ is $\beta h$ with $\sigma(m) = 1 - \epsilon$. In TRL 1.16 `loss_type="sigmoid"` ignores
#   `label_smoothing`.

# %% [markdown]
# - **Robust DPO** (Chowdhury et al. 2024) corrects the loss for a share $\epsilon$ of *flipped labels*:
#   $\frac{(1 - \epsilon) \, \ell(h) - \epsilon \, \ell(-h)}{1 - 2 \epsilon}$.
# - **SimPO** (Meng et al. 2024) needs *no reference* and counts *per token*, with a margin $\gamma$:
#   $-\log \sigma\big(\beta \frac{\log \pi(y_w)}{|y_w|} - \beta \frac{\log \pi(y_l)}{|y_l|} - \gamma\big)$.
#
# These two set no finite gap. The pull of robust DPO on $h$ never falls below $\frac{\epsilon \beta}{1 - 2 \epsilon}$:
# it pushes on at any margin. We train none of the relatives here.

# %% [markdown]
# ### Exercise 06.3: three relatives
#
# Write the losses of IPO (divided by lengths, as in TRL), robust DPO and SimPO. `policy` and `reference` are
# log-probabilities of whole answers, `lengths` their tokens; all are (2, batch), the chosen answers first. `epsilon` is
# the share of flipped labels. Return three tensors (batch,).


# %% tags=["exercise"]
def relative_losses(policy, reference, lengths, beta, epsilon, gamma):
    return ...


check("06.3", relative_losses)
# hint("06.3")


# %% tags=["solution"]
def relative_losses(policy, reference, lengths, beta, epsilon, gamma):
    log_sigmoid, ratios = nn.functional.logsigmoid, policy - reference
    ratio_per_token, log_prob_per_token = ratios / lengths, policy / lengths
    ipo = (ratio_per_token[0] - ratio_per_token[1] - 1 / (2 * beta)) ** 2
    margin = beta * (ratios[0] - ratios[1])
    robust = -((1 - epsilon) * log_sigmoid(margin) - epsilon * log_sigmoid(-margin)) / (1 - 2 * epsilon)
    simpo = -log_sigmoid(beta * (log_prob_per_token[0] - log_prob_per_token[1]) - gamma)
    return ipo, robust, simpo


check("06.3", relative_losses)

# %% [markdown]
# At work you choose a loss by its name: `DPOConfig(loss_type="ipo")` or `"robust"` with `label_smoothing=0.1`, and
# `CPOConfig(loss_type="simpo", simpo_gamma=0.5, cpo_alpha=0.0)` with `CPOTrainer` (in `trl.experimental.cpo`).
#
# The next cell is *not* a workflow. It calls TRL's private methods with the trained policy and one batch, only to
# compare numbers. The last one is section 6's: `loss_type=["sigmoid", "sft"]`.

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
    for kinds in (["ipo"], ["robust"], ["sigmoid", "sft"]):
        trainer.loss_types, trainer.loss_weights = kinds, [1.0] * len(kinds)
        from_trl[kinds[-1]] = trainer._compute_loss(trained_policy, theirs, return_outputs=False).item()
lengths = (batches[0]["labels"] != IGNORED).sum(dim=1)
settings = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "label_smoothing": 0.0, "alpha": 0.0}
trl_simpo = SimpleNamespace(**settings, accelerator=SimpleNamespace(device=run.device))
from_trl["simpo"] = CPOTrainer.cpo_loss(trl_simpo, *(ours[0] / lengths).chunk(2))[0].mean().item()

# %%
relative_losses = go_on_with("06.3", relative_losses, experiment.relative_losses)
sides = [values.view(2, -1) for values in (*ours, lengths)]  # chosen answers first
ipo, robust, _ = relative_losses(*sides, beta=0.1, epsilon=0.1, gamma=0.5)
simpo = relative_losses(*sides, beta=2.0, epsilon=0.1, gamma=0.5)[2]  # SimPO's betas are larger
by_hand = {"ipo": ipo, "robust": robust, "simpo": simpo}
difference_relatives = 0.0
for kind, losses in by_hand.items():  # "sft" comes below
    apart = abs(losses.mean().item() - from_trl[kind])
    difference_relatives = max(difference_relatives, apart / max(1.0, abs(from_trl[kind])))
    print(f"{kind:7} ours {losses.mean().item():.6f}, TRL {from_trl[kind]:.6f}")
with_term = dpo_loss(*ours[0].chunk(2), *ours[1].chunk(2), 0.1)[0].mean()
with_term -= ours[0].chunk(2)[0].sum() / lengths.chunk(2)[0].sum()
difference_sft_term = abs(with_term.item() - from_trl["sft"])
print(f"DPO + SFT term: ours {with_term.item():.6f}, TRL {from_trl['sft']:.6f}")
assert difference_relatives < 1e-5 and difference_sft_term < 1e-5
scratch_folder.cleanup()

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


def train_on_pairs(policy, pairs, reference, beta, sft_weight, rate=learning_rate):
    """One pass over encoded pairs, 16 a batch; reference: (pairs, 2). Returns one dict of means for each step."""
    policy.eval()  # no dropout, as above
    batches = preference_batches(pairs, tokenizer.pad_token_id, 16, seed=seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
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
# two, so this shows what *can* happen. Section 8 takes them apart.)

# %%
predict("06.3", choices=["with the SFT term", "without", "both", "neither"])

# %%
with Stopwatch() as watch:
    train_reference = reference_log_probs(sft, train_pairs, tokenizer.pad_token_id)
seconds_reference = watch.seconds
policies, logs = {}, {}


def train_with(name, beta, sft_weight, rows, rate=learning_rate):
    """DPO from the SFT model on the first `rows` pairs; keeps the policy and its log under a name."""
    seed_everything(seed)
    policies[name] = copy.deepcopy(sft)
    logs[name] = train_on_pairs(policies[name], train_pairs[:rows], train_reference[:rows], beta, sft_weight, rate)


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
draw_likelihoods(low, low, f"beta {low:g}, no SFT term")
rose = [last[name]["chosen"] > 0 for name in ("main", low)]
reveal(
    "06.3", {(1, 0): "with the SFT term", (0, 1): "without", (1, 1): "both", (0, 0): "neither"}[tuple(map(int, rose))]
)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Look at the green lines. Both losses fall and both margins grow. A falling *chosen* line is likelihood displacement:
# probabilities add up to one, so what chosen and rejected answers lose goes to answers that no pair holds, good or bad.
# So never judge a DPO run by loss or margin: judge what it writes, as you do next.
#
# </details>
#
# ### The policy as a reward model, on pairs that it never saw
#
# Step 5 said that the implicit rewards are a reward model. So score the validation pairs with them, as lesson 05 did
# with its reward model: what share has a positive margin? And which pairs pull the chosen answers down? Each pair has
# one reason why its rejected answer is wrong.

# %%
held_rows = sample_rows(about_films(preferences["validation"]), run.by_budget(quick=16, standard=400), seed)
held_pairs = preference_rows(tokenizer, held_rows)
held_start = reference_log_probs(sft, held_pairs, tokenizer.pad_token_id)
held, reasons = {}, dict.fromkeys(held_rows["reason"])
for name, title in (("main", f"beta {beta:g}, SFT weight {sft_weight:g}"), (low, f"beta {low:g}, no SFT term")):
    moved = reference_log_probs(policies[name], held_pairs, tokenizer.pad_token_id) - held_start  # (pairs, 2)
    held[name] = {"positive": (moved[:, 0] > moved[:, 1]).double().mean().item()}
    held[name] |= {
        f"chosen, {side}": moved[[one == side for one in held_rows["reason"]], 0].mean().item() for side in reasons
    }
    held[name] |= {"chosen": moved[:, 0].mean().item(), "rejected": moved[:, 1].mean().item()}
    print(f"{title}: " + ", ".join(f"{what} {value:+.2f}" for what, value in held[name].items()))
held_values = {}
for ending, name in (("dpo", "main"), ("dpo_without_sft", low)):
    held_values |= {
        f"pair_accuracy_{ending}": held[name]["positive"],
        **{f"held_change_{side}_{ending}": held[name][side] for side in ("chosen", "rejected")},
    }
    held_values |= {f"end_change_{side}_{ending}": last[name][side] for side in ("chosen", "rejected")}
by_kind = [held[low][f"chosen, {side}"] for side in reasons]
print(f"without the term, chosen answers change by {min(by_kind):+.1f} to {max(by_kind):+.1f} nats, by reason")
reward_model_seeds = recorded("05", "reward_accuracy_held_out")
print("lesson 05's reward model on held-out pairs, its seeds:", [round(value, 2) for value in reward_model_seeds])

# %% [markdown]
# "positive" is the share of positive margins; the rest are mean changes in nats. Which pairs pull the chosen answers
# down? If the last range is narrow, no reason stands out: they fall alike in all three kinds. Ranking given answers and
# writing good ones are two things, so the judge comes next.

# %% [markdown]
# ## 7. Is it better? The win rate
#
# Both models answer the same requests about films of no pair. A model wins when only its answer satisfies the request.
# When both do, or neither, it is a tie, and **a tie counts half**.
#
# This [win rate](../docs/glossary.md#win-rate) is one half plus half of the change in requests satisfied. So it has a
# **ceiling**, $1 - \frac12 \cdot$ the start's share. It holds for these requests. A [confidence
# interval](../docs/glossary.md#confidence-interval) speaks of other requests too, so its upper end can exceed the
# ceiling.


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
print(f"the reference's {len(recorded('06', 'win_rate_dpo'))} seeds: {mean_t(recorded('06', 'win_rate_dpo'))}")
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
# Such a win over the start does not show what the *comparisons* did. Every chosen answer is also a flawless
# demonstration, so plain SFT on them might win as often. Section 8 measures that control, over seeds. Draw no
# conclusion before.
#
# **Length.** DPO's loss sums over tokens, and people and reward models like long answers. So a policy often learns to
# write more (Park et al. 2024; TRL's `ld_alpha` and `loss_type="sigmoid_norm"` answer that). So compare lengths after
# every preference training:

# %%
pair_words = {side: [len(one.split()) for one in preferences["train"][side]] for side in ("chosen", "rejected")}
lengths_said = pair_words | {
    f"written by {title}": [len(one.split()) for one in found.answers]
    for title, found in (("SFT", sft_judged), ("DPO with the SFT term", judged["main"]))
}
print("words per answer:", {what: round(sum(words) / len(words), 1) for what, words in lengths_said.items()})

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
# ## 8. What does the work: beta, the SFT term, the rate, or the rejected answers?
#
# Eight runs, all on the same quarter of the pairs: one pass of 16 pairs a step.
#
# | runs | beta | SFT term | rate |
# |---|---|---|---|
# | four | 0.1, 0.3, 1, 3 | no | `learning_rate` |
# | one | `beta` (1 unless you changed it) | yes | `learning_rate` |
# | one | 0.1 | yes | `learning_rate` |
# | one | 0.1 | no | an eighth of it |
# | the control | | only the term: SFT on the chosen answers | `learning_rate` |
#
# The control never sees a rejected answer: DPO minus the control measures what these add. The rate was not tuned for
# each method, so a difference may come from the rate.
#
# **Predict 5.** Which of the eight satisfies most requests?

# %%
titles = {value: f"beta {value:g}, no SFT term" for value in dpo.BETAS}
titles |= {"slow": f"beta {low:g}, no SFT term, rate / 8", "low with sft": f"beta {low:g} and the SFT term"}
titles |= {"with sft": f"beta {beta:g} and the SFT term", "sft alone": "SFT on the chosen answers"}
predict("06.5", choices=list(dict.fromkeys(titles.values())))

# %% [markdown]
# The term's share of the gradient changes with beta. At the start DPO pulls a chosen answer's log-probability up with
# weight $\beta / 2$, the term with 1 / length. For ten tokens that is 0.05 against 0.1 at beta 0.1, so that run is
# mostly SFT. At beta 1 it is 0.5 against 0.1. TRL's `loss_weights` sets the balance.
#
# Distance is the [KL divergence](../docs/glossary.md#kl-divergence) from the reference, lesson 05's sum over the
# vocabulary, along answers drawn at temperature 1.


# %%
def sft_on_chosen(name, rows):
    """The control: the same batches, rate and steps, and only the SFT term; the rejected answers are left out."""
    seed_everything(seed)
    policies[name] = copy.deepcopy(sft)
    pairs_here = preference_batches(train_pairs[:rows], tokenizer.pad_token_id, 16, seed=seed)
    optimizer = torch.optim.AdamW(policies[name].parameters(), lr=learning_rate, weight_decay=0.0)
    scheduler = warmup_linear(optimizer, steps=len(pairs_here))
    for batch in tqdm(pairs_here, desc="SFT on the chosen answers", leave=False):
        chosen = {part: value[: len(batch["rows"])] for part, value in batch.items() if part != "rows"}
        chosen = to_device(chosen, sft)
        tokens = (chosen["labels"] != IGNORED).sum()
        (-sequence_log_probs(policies[name], chosen).sum() / tokens).backward()
        nn.utils.clip_grad_norm_(policies[name].parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


# %%
from helpers.lessons.lesson_05.experiment import grade

train_with("with sft", beta, sft_weight, few_count)
train_with("low with sft", low, sft_weight, few_count)
train_with("slow", low, 0.0, few_count, rate=learning_rate / 8)
sft_on_chosen("sft alone", few_count)
for value in dpo.BETAS[1:]:  # section 6 trained the first
    train_with(value, value, 0.0, few_count)
kl, few, moved = {}, requests[:100], {}
for name, policy in policies.items():
    if name not in judged:
        judged[name] = experiment.judge_policy(policy, tokenizer, requests, judge_answer, seed=seed + 1)
    drawn = grade(policy, sft, tokenizer, few, lambda prompts, answers: torch.zeros(len(answers)), seed, judge_answer)
    kl[name] = drawn.kl.mean().item()
    now = reference_log_probs(policy, held_pairs, tokenizer.pad_token_id)
    moved[name] = (now - held_start).mean(dim=0).tolist()  # held-out pairs: chosen, rejected answers, in nats

# %%
along = {}  # along the judged answers, at temperature 0.6: the reference's older measure of distance
for name in ("main", low, "sft alone"):
    along[name] = experiment.kl_per_answer(policies[name], sft, tokenizer, requests, judged[name].answers).mean().item()
points = {f"beta {value:g}": (kl[value], measured_win_rate(judged[value])) for value in dpo.BETAS}
beside = {titles[name]: (kl[name], measured_win_rate(judged[name])) for name in ("with sft", "sft alone")}
plotting.show(figures.frontier(points, beside))

# %% [markdown]
# The table of this run. Its last two columns are changes of log-probability on held-out pairs. Does SFT alone raise
# *rejected* answers too?

# %%
rows = {}
for name, title in titles.items():
    found = rates(judged[name])
    rows[title] = [f"{kl[name]:.2f}", f"{measured_win_rate(judged[name])}"]
    rows[title] += [f"{found[way].value:.2f}" for way in WAYS]
    rows[title] += [f"{change:+.1f}" for change in moved[name]]
best = max(titles, key=lambda name: judged[name].good.mean().item())
reveal("06.5", titles[best])
second = max((name for name in titles if name != best), key=lambda name: judged[name].good.mean().item())
apart = paired_bootstrap(judged[best].good, judged[second].good, seed=seed)
print(f"satisfied, the best minus the next ({titles[second]}): {apart:+.3f}")
print(f"\nthe answers of beta {low:g} without the term:")
show(judged[low], count=3)
columns = ["KL (nats)", f"win rate [95 %], ceiling {ceiling:.2f}", "satisfied", "tone", "film", "form"]
pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "held-out chosen (nats)", "rejected (nats)"])

# %% [markdown]
# ### The same runs over several seeds
#
# One run is one draw of pairs, of their order and of answers. `benchmarks.dpo` ran the four betas with three seeds, and
# this lesson ran with five. What follows is from those runs. Where it says "this run", no seeds were measured. All
# seeds start from the same SFT model, so the intervals do not cover another start.

# %%
reference, five = load_reference("dpo"), lesson_reference("06")
print("Reference:", reference.label)
rows = {}
for value in dpo.BETAS:
    ending = f"dpo_beta_{value:g}".replace(".", "_")
    columns = {"win rate": "win_rate", "satisfied": "good_rate", "form": "form_rate", "KL (nats)": "kl"}
    seeds = {title: reference.metrics[f"{metric}_{ending}"] for title, metric in columns.items()}
    rows[titles[value]] = {title: ", ".join(f"{one:.2f}" for one in values) for title, values in seeds.items()}
print(pd.DataFrame.from_dict(rows, orient="index").to_string())
farthest, broken = (experiment.how_often(reference, metric, dpo.BETAS, most) for metric, most in experiment.EXTREMES)
print(
    f"beta {low:g}: farthest from the reference in {farthest} of {len(reference.seeds)} seeds, worst form in {broken}"
)

# %%
print("Reference:", five.label)
of_five = {"dpo_without_sft": low, "dpo_slow": "slow", "dpo_low_with_sft": "low with sft"}
of_five |= {"dpo_beta_quarter": 1.0, "dpo_with_sft_quarter": "with sft", "chosen_only": "sft alone"}
quarter_values = {}
for ending, name in of_five.items():
    quarter_values |= {f"win_rate_{ending}": measured_win_rate(judged[name]).value, f"kl_at_1_{ending}": kl[name]}
    quarter_values |= {f"{way}_rate_{ending}": getattr(judged[name], way).mean().item() for way in WAYS}
    quarter_values |= dict(
        zip((f"held_change_{side}_{ending}" for side in ("chosen", "rejected")), moved[name], strict=True)
    )
    seeds = recorded("06", f"win_rate_{ending}")
    if len(seeds) > 1:
        print(f"{titles[name]}, win rate: {mean_t(seeds)}; each seed:", ", ".join(f"{one:.2f}" for one in seeds))
asked_of = {
    f"the rate: an eighth of it, minus the lesson's, at beta {low:g} without the term": ("dpo_slow", "dpo_without_sft"),
    f"the term at beta {low:g}: with it, minus without": ("dpo_low_with_sft", "dpo_without_sft"),
    "the term at beta 1: with it, minus without": ("dpo_with_sft_quarter", "dpo_beta_quarter"),
    "the rejected answers: beta 1 and the term, minus the control": ("dpo_with_sft_quarter", "chosen_only"),
    f"beta {low:g} without the term, minus the control": ("dpo_without_sft", "chosen_only"),
}
answers_found = {
    question: experiment.gap_said("win_rate_{}", *two, here=quarter_values) for question, two in asked_of.items()
}
pd.DataFrame.from_dict(answers_found, orient="index", columns=["difference in win rate [95 %]"])

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *Beta.* The line under the first table counts how often the lowest beta went farthest and lost most form. Compare
#   its seeds: where they differ much, trust no single one.
# - *The rate.* The first row changes nothing but the rate. If it gains, beta 0.1 alone does not cause the failure.
# - *The term.* The next two rows. Remember its share: at beta 0.1 the run with it is mostly SFT.
# - *The control.* A DPO run has to beat SFT on the chosen answers to show that comparisons help. Every chosen answer in
#   these pairs is flawless, so imitation is a strong method here.
#
# </details>
#
# ### All pairs: the term, or the comparisons?
#
# A quarter of the pairs is a short training. So two more runs use all pairs, in the same order and at the same rate as
# section 6's main run. The main run has both parts, the second leaves out the SFT term, and the third leaves out the
# rejected answers: SFT on the chosen ones.
#
# They answer at temperature 0.6 and at 1, since lesson 05's methods were judged at 1.

# %%
train_with("all, no term", beta, 0.0, pair_count)
sft_on_chosen("all, sft alone", pair_count)
whole = {"dpo": "main", "dpo_no_term_all": "all, no term", "chosen_only_all": "all, sft alone"}
whole_titles = {"dpo": f"beta {beta:g} and the SFT term", "dpo_no_term_all": f"beta {beta:g}, no SFT term"}
whole_titles |= {"chosen_only_all": "SFT on the chosen answers"}
at_one_good = {"dpo": at_one["DPO with the SFT term"].good}
kept_of = {("dpo", what): kept[what][1] for what in asked}
for ending in list(whole)[1:]:
    policy, name = policies[whole[ending]], whole[ending]
    judged[name] = experiment.judge_policy(policy, tokenizer, requests, judge_answer, seed=seed + 1)
    drawn = experiment.judge_policy(policy, tokenizer, requests, judge_answer, seed=seed, temperature=1.0)
    at_one_good[ending] = drawn.good
    kept_of |= {(ending, what): answered_exactly(policy, questions) for what, questions in asked.items()}

# %%
whole_values = {}
for ending, name in whole.items():
    whole_values |= {f"{way}_rate_{ending}": getattr(judged[name], way).mean().item() for way in WAYS}
    whole_values[f"win_rate_{ending}"] = measured_win_rate(judged[name]).value
    whole_values[f"good_rate_{ending}_at_1"] = at_one_good[ending].mean().item()
    whole_values |= {f"exact_answer_rate_{what}_{ending}": kept_of[ending, what].mean().item() for what in asked}
shown = {"win rate": "win_rate_{}", "satisfied": "good_rate_{}", "satisfied at temperature 1": "good_rate_{}_at_1"}
shown |= {"form": "form_rate_{}", "facts": "exact_answer_rate_facts_{}", "skills": "exact_answer_rate_skills_{}"}
table = {
    title: {what: f"{whole_values[metric.format(ending)]:.3f}" for what, metric in shown.items()}
    for ending, title in whole_titles.items()
}
print("This run:")
pd.DataFrame.from_dict(table, orient="index")


# %%
def difference(metric, one, other):
    """one minus other, over the lesson's five seeds, benchmarks.dpo's three, or in this run; with its source."""
    return experiment.gap_said(metric, one, other, here=whole_values, fallback=reference)


contrasts = {
    "what the rejected answers add to SFT": ("dpo", "chosen_only_all"),
    "what the term adds to DPO": ("dpo", "dpo_no_term_all"),
}
contrasts |= {"DPO without the term against SFT": ("dpo_no_term_all", "chosen_only_all")}
differences = {
    title: {what: difference(metric, *pair) for what, metric in shown.items()} for title, pair in contrasts.items()
}
pd.DataFrame.from_dict(differences, orient="index").T

# %% [markdown]
# The table gives paired differences, mean and [95 % interval](../docs/glossary.md#confidence-interval) over seeds. Read
# it by row: an interval that contains 0 leaves the question open. Of six, one may
# exclude 0 by luck. No pair asks for a skill. So where one method keeps more skills, the other
# [forgot](../docs/glossary.md#catastrophic-forgetting) them.
#
# **What this does not show.** A rule wrote both answers of every pair. The DPO paper's sentiment task lets the SFT
# model write them (*on-policy* pairs), so the rejected answer is its own mistake. We did not measure that.

# %% [markdown]
# ## 9. Beside lesson 05
#
# Now the long way, from the same start: a reward model, then RL against it. The figures are from both lessons' seeds,
# at temperature 1 and, since training can sharpen a model, at 0.6. A figure from this run alone says so, and decides
# nothing.
#
# **Predict 6.** Which raises the share of requests satisfied most: DPO with beta 1 and the SFT term, SFT on the chosen
# answers, or the best of [PPO](../docs/glossary.md#proximal-policy-optimization),
# [GRPO](../docs/glossary.md#group-relative-policy-optimization) and RLOO?

# %%
ways = ["DPO with the SFT term", "SFT on the chosen answers", "reinforcement learning"]
predict("06.6", choices=[*ways, "no clear difference between the best two"])

# %%
rl = lesson_reference("05")
print("Reference of the RL rows:", rl.label)
whole_values["good_rate_sft_at_1"] = rates(at_one["SFT"])["good"].value
at_temperature_1, gained = experiment.beside_rl(whole_titles, whole_values, rl)
cooler = whole_values | {"good_rate_sft": sft_judged.rates()["good"]}
_, gained_cool = experiment.beside_rl(whole_titles, cooler, rl, ends=("", "_cool"))
rows = {
    title: [*map(experiment.gain_said, (gained[title], gained_cool[title])), ", ".join(f"{one:.2f}" for one in values)]
    for title, values in at_temperature_1.items()
}
groups = {"DPO with the SFT term": whole_titles["dpo"], "SFT on the chosen answers": whole_titles["chosen_only_all"]}
groups["reinforcement learning"] = max(("PPO", "GRPO", "RLOO"), key=lambda name: sum(gained[name]))
best, second = sorted(groups, key=lambda way: -sum(gained[groups[way]]) / len(gained[groups[way]]))[:2]
gains = [gained[groups[way]] for way in (best, second)]
if min(map(len, gains)) < 2:
    print(f"open: {best} and {second} lead, and not both were run with several seeds")
    winner = None
else:
    apart = mean_t([one - other for one, other in zip(*gains, strict=True)])
    print(f"{best} minus {second}: {apart:+.2f}")
    winner = best if apart.low > 0 else "no clear difference between the best two"
reveal("06.6", winner)
print(f"pairs: {pair_count:,} in the first three rows, {rl.settings['pairs']:,} for RL's reward model")
columns = ["gain at temperature 1 [95 %]", "gain at 0.6 [95 %]", "satisfied at 1, each seed"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# Predict 6 took the best of three RL methods by the same figures, which flatters RL a little.
#
# All runs of this lesson in the table below made 200 steps of 16 pairs at 2e-4. PPO trained a reward model first (two
# passes over its pairs), then made 30 updates of 32 answers at 5e-4. What else the methods changed, over three
# seeds of `benchmarks.dpo` at temperature 0.6 (*not* from this run; an interval over three seeds is wide, and that of a
# share can reach past 1):

# %%
offline = {"sft": "SFT model", "chosen_only": "SFT on the chosen answers", "dpo": "DPO with the SFT term, beta 1"}
offline |= {"dpo_without_sft": "beta 0.1, no SFT term, not tuned", "rlhf": "PPO, 3,200 pairs"}
in_memory = {"dpo": "policy (the reference ran before)", "rlhf": "policy with value head, reference, reward model"}
kinds = {"satisfied": "good_rate_{}", "form": "form_rate_{}"}
kinds |= {what: f"exact_answer_rate_{what}_{{}}" for what in asked}
rows = {
    title: {kind: f"{reference.interval(metric.format(name)):.2f}" for kind, metric in kinds.items()}
    for name, title in offline.items()
}
print("Reference:", reference.label)
skills = {title: reference.interval(kinds["skills"].format(name)).value for name, title in offline.items()}
print(
    f"fewest skills kept: {min(skills, key=skills.get)}; skills, DPO with the term minus SFT on the chosen answers:",
    end=" ",
)
print(f"{reference.gap('exact_answer_rate_skills_dpo', 'exact_answer_rate_skills_chosen_only'):+.3f}")
for name, what in in_memory.items():
    took, peak = (reference.interval(f"{metric}_{name}").value for metric in ("seconds", "peak_memory_bytes"))
    print(f"{offline[name]}: {took:.0f} s, {peak / 1e6:.0f} MB added; in memory: {what}")
print("PPO, 3,200 pairs, satisfied, each seed:", [round(value, 2) for value in reference.metrics["good_rate_rlhf"]])
pd.DataFrame.from_dict(rows, orient="index")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *Temperature.* Gains depend on it, so compare within one column.
# - *Beta 0.1 without the term* ran at a rate that was not tuned for it. The paper trained at 1e-6, and section 8 shows
#   one lower rate.
# - *Skills.* A method that keeps fewer of them has forgotten them, since no pair asks for a skill. We did not test the
#   causes. The usual remedy is to mix SFT data into the training (InstructGPT's "PPO-ptx").
# - *PPO scatters.* Its three seeds are printed above the table. So one run of PPO decides nothing.
# - *What is unequal:* the number of pairs, the requests (lesson 05 judges 200, this one 300), the rates, and how much
#   each recipe was tuned. A possible reason for the order, which we did not test: flawless answers can be imitated,
#   while RL has only what the policy writes, and an imperfect reward model.
#
# </details>
#
# ### Other people's figures
#
# | task, judge | DPO | PPO |
# |---|---|---|
# | TL;DR summaries against people's own, judged by GPT-4 (Rafailov et al. 2023) | about 61 % | about 57 % |
#
# Both sample at temperature 0, PPO's best. A model of six billion parameters, a judge that can err, and another
# opponent: the summaries that people wrote. Their judge always names a winner, so the ceiling is 100 %; ours counts
# ties as half. They also run *this* lesson's control, as "Preferred-FT", and DPO beats it. Xu et al. 2024 tuned PPO
# with more care and found it ahead of DPO.

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
losses = train_against_reference(suspect, batches, loss_of, optimizer)
moved = max((a - b).abs().max().item() for a, b in zip(suspect.parameters(), sft.parameters(), strict=True))
print([round(loss, 4) for loss in losses], f"largest change of a weight: {moved:.4f}")

# %% [markdown]
# ### Exercise 06.4: fix the loop
#
# Write it so that the loss measures what the policy has learned.


# %% tags=["exercise"]
def fixed(policy, batches, loss_of, optimizer):
    return ...


check("06.4", fixed)
# hint("06.4")


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


check("06.4", fixed)

# %% [markdown]
# Every gradient still pointed the right way, with the weight of the first step, $\beta / 2$. Nothing told the policy
# that it had gone far enough: the weight $\beta \, \sigma(-m)$ never falls when $m$ stays 0. So look at the margin of
# every run (`rewards/margins` in TRL). It starts at 0, and must not stay there.

# %% [markdown]
# ## 11. On real text
#
# The published model is SmolLM2-135M-Instruct. The pairs are sentences of film reviews that people rated from -4 to 4
# (Hutto and Gilbert 2014). For one prompt, "Write one sentence of a film review.", a sentence rated 1.5 or more is
# chosen, one rated -1.5 or less rejected. The two share nothing but their number of tokens.
#
# You train [LoRA](../docs/glossary.md#lora) (lesson 09) at lesson 04's rate. The control is SFT on the chosen
# sentences. `workbook real` fetches the files once.

# %% [markdown]
# **Predict 7.** The pairs are 96. In what share of 48 held-out pairs does DPO raise the chosen sentence more than the
# rejected one? Before training every margin is 0.

# %%
predict("06.7", within=0.1, low=0, high=1)

# %%
from helpers import real

live = track == "pocket" and not real.trouble(["decoder", "texts"])
real_found = {}
if live:
    real_policy, real_tokenizer = experiment.lora_policy(seed), catalog.tokenizer("instruct", "real")
    real_pad = real_tokenizer.pad_token_id
    counts = run.by_budget(quick=(16, 8), standard=(experiment.REAL_PAIRS, experiment.REAL_HELD_OUT))
    real_rows = {
        split: experiment.real_pairs(real_tokenizer, split, count, seed)
        for split, count in zip(("train", "test"), counts, strict=True)
    }
    real_train, real_test = (preference_rows(real_tokenizer, rows) for rows in real_rows.values())
    real_start = experiment.real_log_probs(real_policy, real_test, real_pad)  # the adapter is 0: the reference
    real_reference_train = experiment.real_log_probs(real_policy, real_train, real_pad)
    real_found |= {"chosen_likelier_before": (real_start[:, 0] > real_start[:, 1]).double().mean().item()}
    for row in real_rows["train"][:3]:
        print(f"chosen:   {row['chosen']}\nrejected: {row['rejected']}\n")
    adapter_config = real_policy.peft_config["default"]
    print(f"LoRA: rank {adapter_config.r}, alpha {adapter_config.lora_alpha}, on", *adapter_config.target_modules)

# %% [markdown]
# The loop is section 6's without the SFT term, for the adapter's weights alone. At work it is `DPOTrainer` with a
# `peft_config`, as in section 5. The control leaves the rejected half of each batch out.


# %%
def train_adapter(policy, rejected):
    """One pass, 8 pairs a step: DPO with beta 0.1, or SFT on the chosen sentences if `rejected` is False."""
    adapter = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    batches = preference_batches(real_train, real_pad, 8, seed=seed)
    optimizer = torch.optim.AdamW(adapter, lr=1e-3, weight_decay=0.0)
    scheduler = warmup_linear(optimizer, steps=len(batches))
    for batch in tqdm(batches, leave=False):
        rows = batch.pop("rows")
        sides = batch if rejected else {name: value[: len(rows)] for name, value in batch.items()}
        log_probs = experiment.shared_prompt_log_probs(policy, sides)  # the prompt is the same, so it is read once
        if rejected:
            loss = dpo_loss(*log_probs.chunk(2), *real_reference_train[rows].T, 0.1)[0].mean()
        else:
            loss = -log_probs.sum() / (sides["labels"] != IGNORED).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(adapter, max_norm=1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


def write_real(policy, title, count=4):
    """Print sentences that the model writes itself."""
    texts = answer(policy, real_tokenizer, [experiment.REAL_PROMPT] * count, 24, temperature=0.6, seed=seed)
    print(f"{title}:", *texts, sep="\n   ")


# %%
if live:
    write_real(real_policy, "the published model")
    for name, rejected in (("dpo", True), ("sft", False)):
        trained = copy.deepcopy(real_policy)
        seed_everything(seed)
        train_adapter(trained, rejected)
        now = experiment.real_log_probs(trained, real_test, real_pad)
        real_found |= experiment.real_measures(now, real_start, name)
        write_real(trained, {"dpo": "after DPO", "sft": "after SFT on the chosen sentences"}[name])
else:
    print("Not trained in this run: `workbook real` fetches the files.")

# %%
from IPython.display import Markdown, display

measured = real_reference("06")


def real_figure(metric):
    """This run's value and the reference's mean over seeds, as text."""
    there = f"{measured.interval(metric):.2f}" if measured and metric in measured.metrics else ""
    return " | ".join(part for part in (f"{real_found[metric]:.2f}" if metric in real_found else "", there) if part)


table = {}
for metric, title in experiment.REAL_TITLES.items():
    began = real_figure("chosen_likelier_before") if metric.startswith("chosen_likelier") else "0"
    table[title] = [began, real_figure(metric.format("dpo")), real_figure(metric.format("sft"))]
if measured:
    print("Reference:", measured.label, "(beside a run of your own: this run | reference)")
else:
    print("No reference over seeds: figures on real text come from a live run alone,", end=" ")
    print("one draw, below." if live else "and this run had none.")
of_seeds = measured.metrics.get("pair_accuracy_dpo", ()) if measured else ()
reveal("06.7", real_found.get("pair_accuracy_dpo"), reference=of_seeds)
if live:
    right = round(real_found["pair_accuracy_dpo"] * len(real_test))
    print(f"this run, positive margins after DPO: {wilson(right, len(real_test))} of {len(real_test)} pairs")
if live or measured:
    display(pd.DataFrame.from_dict(table, orient="index", columns=["before", "DPO", "SFT on the chosen sentences"]))
if measured:
    display(Markdown(experiment.preferences_beside_real(five, measured)))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *Two shares.* Row 1 compares the sentences' probabilities, row 2 how much each *rose*. Row 1 depends on how common a
#   sentence's words are, so its "before" is the fair start; row 2 is what DPO's loss trains.
# - *The control* has never seen a rejected sentence. Compare its margins with DPO's: what is more in DPO's is what the
#   rejected sentences add.
# - *Displacement.* Look at the sign of the chosen sentences' change under each method.
# - *A small test.* 96 pairs and 48 held-out ones: one run's share has a wide interval, which the cell prints.
#
# </details>
#
# The paragraph on what agrees follows the intervals of both references. Its pocket run has the same loss, beta 0.1
# without the term (section 8). Read directions, not sizes: that run trained all weights for 50 steps, this one an
# adapter for 12. No judge reads these sentences, so a wider margin does not show better reviews.
#
# ## 12. Recap
#
# Figures after the first item are means over seeds or differences within a seed, with 95 % intervals. The last item
# sets DPO beside its control.

# %%
lost = {what: five.gap(f"exact_answer_rate_{what}_dpo", f"exact_answer_rate_{what}_sft") for what in asked}
steps_said = f"{len(losses_by_hand)} steps differ by {difference_dpo_loss:.0e} at most"
recap = [
    f"""**The loss** is ours and the library's: {steps_said}, IPO, robust DPO and SimPO by {difference_relatives:.0e}
    (*section 5*). It looks at a difference only, so it can fall while the chosen answers become less probable
    (*section 6*).""",
    f"""**Beta {low:g} without the SFT term**, on a quarter of the pairs at a rate not tuned for it: a win rate of
    {five.interval("win_rate_dpo_without_sft"):.2f}. SFT on the same chosen answers, at the same rate:
    {five.interval("win_rate_chosen_only"):.2f}. DPO minus this control:
    {five.gap("win_rate_dpo_without_sft", "win_rate_chosen_only"):+.2f} (*section 8*).""",
]
compared = experiment.recap_of_seeds()  # only what several seeds measured
recap += [f"""**{what}**: {said} (*section 8*).""" for what, said in compared.items()]
if measured:
    real_gap = measured.gap("pair_accuracy_dpo", "pair_accuracy_sft")
    recap.append(f"""**On real text**, held-out pairs with a positive margin, DPO minus the control: {real_gap:+.2f}
    (*section 11*).""")
beside_control, headline = experiment.beside_control(shown, reference)
recap.append(
    f"""**DPO with the SFT term, all pairs, against SFT on the chosen answers**: {headline}. Against the SFT model DPO
    changed facts by {lost["facts"]:+.3f} and skills by {lost["skills"]:+.3f} (*sections 7, 8*)."""
)
display(Markdown("\n".join(f"{number}. {' '.join(item.split())}" for number, item in enumerate(recap, 1))))
display(pd.DataFrame.from_dict(beside_control, orient="index"))

# %%
from helpers.record import record

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
values |= quarter_values | whole_values | held_values | {"difference_sft_term": difference_sft_term}
values |= {f"real_{name}": value for name, value in real_found.items()}
saved = record("06_direct_preference_optimization", parameters, **values)
print(f"saved: {saved.name}")
solved("06")

# %% [markdown]
# ## Next
#
# - A lower rate for a low beta: `workbook run 06 -p sft_weight 0.0 -p beta 0.1 -p learning_rate 2e-5`.
# - Fewer pairs: `workbook run 06 -p pairs 200`. How many does the win need?
# - Where to read on: KTO (Ethayarajh et al. 2024) learns from single answers with a thumb up or down; ORPO (Hong et al.
#   2024) adds an odds ratio to SFT; online DPO (Guo et al. 2024) draws new pairs while it trains; Lambert's *RLHF
#   Book*.
#
# ## References
#
# | work | year |
# |---|---|
# | Rafailov et al., *Direct Preference Optimization: Your Language Model is Secretly a Reward Model* | 2023 |
# | Mitchell, *A Note on DPO with Noisy Preferences and Relationship to IPO* (a note) | 2023 |
# | Pang et al., *Iterative Reasoning Preference Optimization* | 2024 |
# | Azar et al., *A General Theoretical Paradigm to Understand Learning from Human Preferences* (IPO) | 2024 |
# | Chowdhury et al., *Provably Robust DPO: Aligning Language Models with Noisy Feedback* | 2024 |
# | Meng et al., *SimPO: Simple Preference Optimization with a Reference-Free Reward* | 2024 |
# | Park et al., *Disentangling Length from Quality in Direct Preference Optimization* | 2024 |
# | Razin et al., *Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization* | 2024 |
# | Xu et al., *Is DPO Superior to PPO for LLM Alignment? A Comprehensive Study* | 2024 |
# | Ethayarajh et al., *KTO: Model Alignment as Prospect Theoretic Optimization* | 2024 |
# | Hong et al., *ORPO: Monolithic Preference Optimization without Reference Model* | 2024 |
# | Guo et al., *Direct Language Model Alignment from Online AI Feedback* | 2024 |
# | Hutto and Gilbert, *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text* | 2014 |
# | Lambert, *Reinforcement Learning from Human Feedback* (the RLHF Book) | 2025 |
