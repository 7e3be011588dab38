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
# Lesson 05 learnt a reward from pairs of answers, and then chased it with reinforcement learning. *[Direct preference
# optimization](../docs/glossary.md#direct-preference-optimization)* (DPO) uses the same pairs, and needs neither the
# [reward model](../docs/glossary.md#reward-model) nor the chase: one loss, the ordinary loop.
#
# *About 45 minutes to read (an estimate), two to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - derive the DPO loss from the goal of RLHF, and write it in three lines;
# - show that yours is the one of `DPOTrainer`, and that its gradient is the one on paper;
# - measure a win rate with an exact judge, and say what was lost on the way;
# - choose beta by looking at win rate against distance;
# - set DPO and RLHF side by side: models in memory, seconds, win rate.

# %%
import copy
import math
import tempfile
from itertools import islice

import pandas as pd
import torch
from torch import nn

from helpers import catalog, dpo, plotting
from helpers.checks import check, hint, solved  # noqa: F401 - hint("06.1") helps when you are stuck
from helpers.cost import Stopwatch
from helpers.intervals import paired_bootstrap, wilson
from helpers.lessons.lesson_06 import experiment, figures
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
beta = 1.0  # how dear it is to leave the reference: high is careful, low is bold
sft_weight = 1.0  # weight of the chosen answers' own loss; 0.0 is DPO as first published
learning_rate = 2e-4  # below lesson 04's: the model can already write

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("pairs", pairs, 32, 4000, integer=True)
check_number("beta", beta, 1e-3, 10.0)
check_number("sft_weight", sft_weight, 0.0, 10.0)
check_number("learning_rate", learning_rate, 1e-7, 1e-1)
pair_count = run.by_budget(quick=32, standard=pairs, full=min(2 * pairs, 4000))
few_count = max(32, pair_count // 4)  # of the runs that are compared with each other in sections 6 and 8
wish_count = run.by_budget(quick=16, standard=300, full=800)
question_count = run.by_budget(quick=8, standard=180, full=800)  # of facts, and of skills

# %% [markdown]
# ## 1. A model that follows instructions, carelessly
#
# We start where lesson 04 ended: `data/models/pocket-decoder-instruct`, made by its recipe (`make models` makes it
# anew). It is the **[SFT](../docs/glossary.md#supervised-fine-tuning) model**. Among its demonstrations were lines of
# praise and of blame, written by careless people: one in three had the wrong tone, one in ten was about another film.

# %%
sft = catalog.causal_language_model(track, model, role="instruct").to(run.device).eval()
tokenizer = catalog.tokenizer("instruct", track, model)
preferences = catalog.dataset("preferences", track, data, seed, tokenizer=tokenizer)
wishes = about_films(preferences["test"])["prompt"][:wish_count]  # the judge understands no others
sft_judged = experiment.judge_policy(sft, tokenizer, wishes, judge_answer, seed=seed)
for prompt, line in list(zip(wishes, sft_judged.answers, strict=True))[:6]:
    print(f"{prompt}\n   {line}")

# %% [markdown]
# The answers are *drawn*, token by token, at temperature 0.6 for every model: at 1.0 slips of the pen would drown the
# habits that we want to see. `microworld.judge` knows the grammar that every line comes from, and so decides
# exactly:
#
# | the answer is right in its | when |
# |---|---|
# | form | the grammar can make this text |
# | film | it names the wished film, and says nothing false about it |
# | tone | it praises where praise was wished, blames where blame was |
#
# A line is **good** when it is all three.

# %% [markdown]
# **Predict 1.** What share of the SFT model's lines is good? And of the model before SFT, which has read a lot and
# never saw an instruction?

# %%
pretrained = catalog.causal_language_model(track).to(run.device).eval()
before_judged = experiment.judge_policy(pretrained, tokenizer, wishes, judge_answer, seed=seed)
WAYS = ("good", "tone", "film", "form")


def rates(judged):
    return {way: wilson(int(getattr(judged, way).sum()), len(judged.answers)) for way in WAYS}


shares = {"pretrained": rates(before_judged), "after SFT": rates(sft_judged)}
for title, found in shares.items():
    print(f"{title:12}", ", ".join(f"{way} {share:.2f}" for way, share in found.items()))

# %% [markdown]
# ## 2. The pairs
#
# Somebody was shown two answers to each wish and said which is better. That is all DPO needs. Here we also know the
# reason, so that you can read them; training never sees it.

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
# ## 3. Why no reward model is needed
#
# [RLHF](../docs/glossary.md#rlhf) wants answers $y$ of high reward $r$, without moving far from the SFT model, now
# called the **reference**:
#
# $$\max_\pi \; \mathbb{E}_{y \sim \pi}[r(x, y)] - \beta \, \text{KL}(\pi \,\|\, \pi_\text{ref})$$
#
# For a prompt with a handful of possible answers the best [policy](../docs/glossary.md#policy) can be written down:
# take the reference, and multiply each probability by $\exp(r / \beta)$. We check that on a toy: does a search find
# anything better?


# %%
def optimal_policy(reference, rewards, beta):
    """The probabilities that maximise mean reward minus beta times KL. All: (answers,)."""
    return (reference.log() + rewards / beta).softmax(dim=-1)


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
# Now turn the formula round. If the best policy is the reference times $\exp(r / \beta)$, then the reward can be read
# off the policy, up to a constant that is the same for every answer:
#
# $$r(x, y) = \beta \log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)} + \text{constant}(x)$$
#
# A pair needs only the *difference* of two rewards. There the constant is gone:

# %% tags=["nbval-check-output"]
implicit = 0.3 * (written.log() - toy_reference.log())
print("true rewards minus the first:    ", [round(r, 3) for r in (toy_rewards - toy_rewards[0]).tolist()])
print("implicit rewards minus the first:", [round(r, 3) for r in (implicit - implicit[0]).tolist()])
assert ((implicit - implicit[0]) - (toy_rewards - toy_rewards[0])).abs().max() < 1e-9

# %% [markdown]
# So every language model *is* a reward model, as the title of the paper says (Rafailov et al. 2023). Put its implicit
# reward into the loss of lesson 05, Bradley and Terry's, and train that. Move beta to see what it asks of a policy:

# %%
from ipywidgets import HTML, SelectionSlider, VBox


def toy_at(beta):
    """The toy's best policy for one beta."""
    best = optimal_policy(toy_reference, toy_rewards, beta).tolist()
    names = [f"answer {i + 1}\nreward {reward:.1f}" for i, reward in enumerate(toy_rewards.tolist())]
    title = f"beta = {beta:g}"
    figure = figures.policies({"reference": toy_reference.tolist(), "best policy": best}, names, title)
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
#
# ### Exercise 06.1: what beta asks for
#
# The chosen answer is preferred with probability $\sigma(\beta \cdot \text{gap})$, where the gap is the chosen answer's
# log-ratio $\log \pi - \log \pi_\text{ref}$ minus the rejected one's. Which gap gives a certain probability?


# %% tags=["exercise"]
def needed_gap(probability, beta):
    return ...


check("06.1", needed_gap)
# hint("06.1")


# %% tags=["solution"]
def needed_gap(probability, beta):
    return math.log(probability / (1 - probability)) / beta


check("06.1", needed_gap)

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


# %%
def dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta):
    """The loss of each pair and the implicit rewards of its two answers, each (batch,)."""
    chosen_rewards = beta * (policy_chosen - reference_chosen)
    rejected_rewards = beta * (policy_rejected - reference_rejected)
    losses = -nn.functional.logsigmoid(chosen_rewards - rejected_rewards)
    return losses, chosen_rewards, rejected_rewards


# %% [markdown]
# `helpers.dpo` holds the same two. **Predict 2.** Policy and reference both start as the SFT model. Which loss
# does the first batch have, before anything was learnt? It does not depend on the batch.

# %% tags=["nbval-check-output"]
batch = {name: tensor.to(run.device) for name, tensor in batch.items()}
policy = copy.deepcopy(sft)
with torch.no_grad():
    reference_log_probs = sequence_log_probs(sft, batch)
log_probs = sequence_log_probs(policy, batch)
losses, chosen_rewards, rejected_rewards = dpo_loss(*log_probs.chunk(2), *reference_log_probs.chunk(2), beta)
loss_first_step = losses.mean().item()
margin_first_step = (chosen_rewards - rejected_rewards).abs().max().item()
print(f"loss {loss_first_step:.4f}, ln 2 = {math.log(2):.4f}, margin {margin_first_step:.1f}")
assert abs(loss_first_step - math.log(2)) < 1e-6 and margin_first_step == 0

# %% [markdown]
# <details><summary>Why</summary>
#
# Every log-ratio is 0, so both rewards are 0, their margin is 0, and a fair coin costs $-\log \frac12 = \ln 2$. A DPO
# run that starts anywhere else has a fault: another reference, [dropout](../docs/glossary.md#dropout) that is on in one
# of the models, or a prompt that was cut into tokens in two ways.
#
# </details>
#
# ### The gradient, on paper and by autograd
#
# With $m$ the margin of the rewards, the derivative of $-\log \sigma(m)$ is $-\sigma(-m)$. So for the two
# log-probabilities of a pair
#
# $$\frac{\partial \ell}{\partial \log \pi(\text{chosen})} = -\beta \, \sigma(-m), \qquad
# \frac{\partial \ell}{\partial \log \pi(\text{rejected})} = +\beta \, \sigma(-m)$$
#
# Equal and opposite, and weighted by how wrong the pair still is.

# %% tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(seed)
four = torch.randn(4, 6, generator=generator, dtype=torch.double) * 5 - 20  # log-probabilities of six pairs
four.requires_grad_()
losses, chosen_rewards, rejected_rewards = dpo_loss(*four, beta=0.1)
losses.sum().backward()
weight = 0.1 * torch.sigmoid(-(chosen_rewards - rejected_rewards)).detach()
by_hand = torch.stack([-weight, weight, weight, -weight])  # the reference's own: opposite signs, never used
difference_dpo_gradient = (four.grad - by_hand).abs().max().item()
print("our gradient is autograd's to 1e-6:", difference_dpo_gradient < 1e-6)
assert difference_dpo_gradient < 1e-6

# %% [markdown]
# The same through the whole model: by the chain rule, the loss's gradient is that of the log-probabilities, each
# times its weight. We let autograd take both roads to the first layer's weights.

# %% tags=["nbval-check-output"]
with torch.no_grad():  # a policy that has moved a little, so that the weights differ from pair to pair
    for parameter in policy.parameters():
        parameter.add_(0.002 * torch.randn(parameter.shape, generator=generator).to(parameter))
log_probs = sequence_log_probs(policy, batch)
losses, chosen_rewards, rejected_rewards = dpo_loss(*log_probs.chunk(2), *reference_log_probs.chunk(2), beta)
parameters = list(policy.parameters())
by_autograd = torch.autograd.grad(losses.mean(), parameters, retain_graph=True)
weight = beta * torch.sigmoid(rejected_rewards - chosen_rewards).detach() / len(losses)
by_hand = torch.autograd.grad((torch.cat([-weight, weight]) * log_probs).sum(), parameters)
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

# %% [markdown]
# ## 6. Train, and look at the likelihoods
#
# The loss sees only a *difference*, so it is content when both answers become improbable, as long as the rejected one
# does so faster. A common cure is an **anchor**: add the chosen answers' ordinary loss per token, as in lesson 04
# (Pang et al. 2024; `loss_type=["sigmoid", "sft"]` in TRL). `helpers.dpo` is our loop with that one term more.

# %% [markdown]
# **Predict 3.** We train with the anchor; then, on a quarter of the pairs, with a low beta and no anchor. (So this
# shows what can happen, not which of these differences did it.) In which of the two runs will the chosen answers end
# up more probable than they were?

# %%
with Stopwatch() as watch:
    train_reference = reference_log_probs(sft, train_pairs, tokenizer.pad_token_id)
seconds_reference = watch.seconds
policies, trained = {}, {}


def train_with(name, beta, sft_weight, rows):
    """DPO from the SFT model on the first `rows` pairs; keeps the policy and its log under a name."""
    seed_everything(seed)
    policies[name] = copy.deepcopy(sft)
    settings = {"beta": beta, "sft_weight": sft_weight, "learning_rate": learning_rate, "seed": seed}
    data = train_pairs[:rows], train_reference[:rows], tokenizer.pad_token_id
    trained[name] = dpo.train_dpo(policies[name], *data, **settings)


train_with("main", beta, sft_weight, pair_count)
main_run = trained["main"]
print(f"{len(main_run.log)} steps in {main_run.seconds:.1f} s, the reference's numbers in {seconds_reference:.1f} s")
low = dpo.BETAS[0]
train_with(low, low, 0.0, few_count)  # no anchor, a low beta: a quarter of the pairs is enough to see it

# %%
changes, last = {}, {}


def draw_likelihoods(name, beta, title):
    """The loss of one run, and how much likelier each side became than the reference finds it."""
    log = trained[name]
    over = max(1, len(log.log) // 10)
    sides = {side: [r / beta for r in log.curve(f"rewards/{side}")] for side in ("chosen", "rejected")}
    ends = {side: sum(values[-over:]) / over for side, values in sides.items()}
    loss = sum(log.curve("loss")[-over:]) / over
    said = (
        f"{title}: the DPO loss goes from {log.curve('loss')[0]:.2f} to {loss:.2f}. Against the reference, chosen "
        f"answers change by {ends['chosen']:+.1f} nats at the end, rejected ones by {ends['rejected']:+.1f}."
    )
    plotting.show(figures.likelihoods(sides["chosen"], sides["rejected"], log.curve("loss"), over), alt=said)
    print(said)
    changes[name], last[name] = sides, ends


draw_likelihoods("main", beta, f"beta {beta:g}, SFT weight {sft_weight:g}")

# %%
draw_likelihoods(low, low, f"beta {low:g}, no anchor")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Look at the green lines. It is easier to make a text improbable than probable: a rejected answer has hundreds of ways
# down. What both sides lose goes to answers that nobody compared, good or bad. Both runs have a falling loss and a
# growing margin. So never judge a DPO run by these: judge what it writes, as we do next.
#
# </details>
#
# ## 7. Is it better? The win rate
#
# Both models answer the same wishes about films of the test split, which no pair was about. A model wins a wish when
# its line is good and the other one's is not. When both are good, or neither, it is a tie, and **a tie counts half**.
# So a model wins 50 % against itself.


# %%
def measured_win_rate(judged):
    """Win rate against the SFT model with its 95 % interval over wishes."""
    wins = (judged.good > sft_judged.good).double() + 0.5 * (judged.good == sft_judged.good).double()
    return paired_bootstrap(wins, torch.zeros_like(wins), seed=seed)


judged = {"main": experiment.judge_policy(policies["main"], tokenizer, wishes, judge_answer, seed=seed + 1)}
win_rate_dpo = measured_win_rate(judged["main"])
assert abs(win_rate_dpo.value - win_rate(judged["main"].good, sft_judged.good)) < 1e-9  # helpers' definition
print(f"win rate of DPO against SFT: {win_rate_dpo}")
for prompt, old, new in list(zip(wishes, sft_judged.answers, judged["main"].answers, strict=True))[:5]:
    print(f"{prompt}\n   SFT: {old}\n   DPO: {new}")

# %%
shares["after DPO"] = rates(judged["main"])
plotting.show(figures.verdicts(shares))

# %% [markdown]
# **Predict 4.** The pairs spoke of nothing but lines about films. Will the model still know who directed a film, and
# still turn a sentence into the passive?

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

# %% [markdown]
# ### Exercise 06.2: a win rate
#
# Write the [win rate](../docs/glossary.md#win-rate) yourself: `ours` and `theirs` hold one score per wish, a tie counts
# half.


# %% tags=["exercise"]
def share_of_wins(ours, theirs):
    return ...


check("06.2", share_of_wins)
# hint("06.2")


# %% tags=["solution"]
def share_of_wins(ours, theirs):
    return ((ours > theirs).double() + 0.5 * (ours == theirs).double()).mean()


check("06.2", share_of_wins)

# %% [markdown]
# ## 8. What beta does
#
# Without the anchor, beta alone holds the policy near the reference. We train with four betas, each on the same quarter
# of the pairs, and measure how far each policy went: the [KL divergence](../docs/glossary.md#kl-divergence) from the
# reference, in nats per answer, along the answers that the policy drew. Beside them, on the same pairs: the anchor with
# its beta, and the anchor *alone*, which is lesson 04's loss on the chosen answers.
#
# **Predict 5.** Which beta goes furthest? Does going further mean winning more?

# %%
train_with("with anchor", beta, sft_weight, few_count)
train_with("anchor alone", 1e-6, 1.0, few_count)  # so small a beta leaves only the chosen answers' own loss
for value in dpo.BETAS[1:]:  # section 6 trained the first
    train_with(value, value, 0.0, few_count)
kl = {}
for name, policy in policies.items():
    if name not in judged:
        judged[name] = experiment.judge_policy(policy, tokenizer, wishes, judge_answer, seed=seed + 1)
    kl[name] = experiment.kl_per_answer(policy, sft, tokenizer, wishes, judged[name].answers).mean().item()

# %%
points = {f"beta {value:g}": (kl[value], measured_win_rate(judged[value])) for value in dpo.BETAS}
titles = {"with anchor": f"beta {beta:g} and the anchor", "anchor alone": "the anchor alone"}
beside = {title: (kl[name], measured_win_rate(judged[name])) for name, title in titles.items()}
plotting.show(figures.frontier(points, beside))
rows = {}
named = {value: f"beta {value:g}, no anchor" for value in dpo.BETAS} | titles
for name, title in (named | {"main": f"beta {beta:g} and the anchor, all pairs"}).items():
    found = rates(judged[name])
    rows[title] = [f"{kl[name]:.2f}", f"{measured_win_rate(judged[name])}"]
    rows[title] += [f"{found[way].value:.2f}" for way in WAYS]
pd.DataFrame.from_dict(rows, orient="index", columns=["KL (nats)", "win rate [95 %]", *WAYS])

# %% [markdown]
# <details><summary>What it means</summary>
#
# A small beta makes distance cheap: the policy goes far, and pays with *form*, which it knew before and which no pair
# defends; a spoilt line has no tone either. A large beta keeps it near, and it hardly changes. On these few pairs the
# anchor adds nothing that we can see; what helps is all pairs. *The anchor alone* never sees a rejected answer: what
# DPO has more than this row is what the comparisons are worth. Here that is little or nothing, since every chosen
# answer is flawless, and a flawless answer can simply be imitated.
#
# </details>
#
# Comparisons earn their price where the better of two answers is still a poor one: then it must not be imitated, and
# which is better is all one knows. Settings were chosen on the validation films. Answers are drawn at temperature 0.6;
# the KL is taken between the models as they are.

# %% [markdown]
# ## 9. RLHF and DPO, side by side
#
# Now the long way, from the same pairs: a reward model, then [PPO](../docs/glossary.md#proximal-policy-optimization)
# against it, as lesson 05 wrote them. One run is one draw of pairs, of their order, and of answers, so we did both
# several times. The table is *not* from this run: a command in this repository kept what it found. Its intervals are
# Student's, over seeds.
#
# **Predict 6.** Which of the two wins more often, which is faster, and which needs more memory?

# %%
from helpers.reference import load_reference

reference = load_reference("dpo")
print("Reference:", reference.label)
print("Settings:", ", ".join(f"{name} {value}" for name, value in reference.settings.items()))


def reference_cell(metric, form="{:.2f}", scale=1.0):
    """A metric's mean over the seeds as text; nothing where it was not measured."""
    return form.format(reference.interval(metric).value / scale) if metric in reference.metrics else ""


# %%
in_memory = {
    "sft": ("SFT", ""),
    "dpo": ("DPO", "policy (the reference ran before)"),
    "dpo_without_sft": ("DPO, no anchor, beta 0.1", "the same"),
    "chosen_only": ("the anchor alone", "policy"),
    "rlhf": ("RLHF", "policy, value head, reference, reward model"),
}
rows = {}
for name, (title, models) in in_memory.items():
    won = f"{reference.interval(f'win_rate_{name}'):.2f}" if f"win_rate_{name}" in reference.metrics else ""
    row = [models, reference_cell(f"seconds_{name}", "{:.0f}")]
    row += [reference_cell(f"peak_memory_bytes_{name}", "{:.0f}", scale=1e6), won]
    row += [reference_cell(f"{what}_{name}") for what in ("kl", "form_rate")]
    row += [reference_cell(f"exact_answer_rate_{what}_{name}", "{:.3f}") for what in asked]
    rows[title] = row
columns = ["models in memory", "seconds", "memory added (MB)"]
columns += ["win rate [95 %]", "KL (nats)", "well-formed", "facts", "skills"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# Win rate against distance, over the same seeds. Blue as in section 8: a quarter of the pairs, no anchor. The DPO of
# the table had all pairs and the anchor.

# %%
across = {}
for value in dpo.BETAS:
    name = f"dpo_beta_{value:g}".replace(".", "_")
    if f"kl_{name}" in reference.metrics:
        across[f"beta {value:g}"] = (reference.interval(f"kl_{name}").value, reference.interval(f"win_rate_{name}"))
rivals = {
    title: (reference.interval(f"kl_{name}").value, reference.interval(f"win_rate_{name}"))
    for title, name in (("DPO of the table", "dpo"), ("RLHF", "rlhf"))
}
plotting.show(figures.frontier(across, rivals))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *Pieces.* PPO draws answers while it trains, and holds a policy, a value head, the reference and the reward model.
#   DPO never draws an answer: it reads the pairs, and that is all.
# - *What each can see.* DPO learns only about answers that somebody wrote down and compared. PPO tries its own, and the
#   reward model tells it about each; where the reward model is wrong, PPO finds that out first (lesson 05).
# - *What nobody asked for.* Pairs and wishes were about lines alone. What became of facts and skills is in the last
#   two columns: DPO kept nearly all of them. Nothing in PPO's reward pays for them.
# - *Dials.* DPO has beta, the anchor's weight and the learning rate. PPO has also the KL weight, the clip, the value
#   head, the number of updates, and more that we did not touch. With other settings either may come out better: one
#   table is no law.
#
# </details>

# %% [markdown]
# ### Other people's figures
#
# | task, judge | DPO | PPO |
# |---|---|---|
# | TL;DR summaries against people's own, judged by GPT-4 (Rafailov et al. 2023) | about 61 % | about 57 % |
#
# Theirs, not ours: a model of six billion parameters, a judge that can err, and another opponent. What can be compared
# is that the short way was no worse than the long one.

# %% [markdown]
# ## 10. Find the bug
#
# A colleague's DPO runs without a warning. The weights move, but the loss says 0.6931 at every step. Look for the
# reason, then mend the loop.


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
# ### Exercise 06.3: mend the loop
#
# Write it so that the loss measures what the policy has learnt.


# %% tags=["exercise"]
def mended(policy, batches, loss_of, optimizer):
    return ...


check("06.3", mended)
# hint("06.3")


# %% tags=["solution"]
def mended(policy, batches, loss_of, optimizer):
    reference = copy.deepcopy(policy)
    losses = []
    for batch in batches:
        loss = loss_of(policy, reference, batch)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


check("06.3", mended)

# %% [markdown]
# Even so the gradient pointed the right way, at every step, at full strength: nothing ever told the policy that it had
# gone far enough. The weight $\sigma(-m)$ never falls when $m$ stays 0. The habit that finds it: the margin starts at
# 0, and must not stay there.
#
# ## 11. Recap: what this run showed

# %%
from IPython.display import Markdown, display

display(
    Markdown(f"""
1. **The loss** is ours and the library's: {len(losses_by_hand)} steps differ by {difference_dpo_loss:.0e} at most
   (*section 5, the assertion*). It starts at {loss_first_step:.4f}, and looks at a difference only: chosen answers
   changed by {last["main"]["chosen"]:+.1f} nats with the anchor, by {last[low]["chosen"]:+.1f} without it and with
   a low beta (*section 6, the figures*).
2. **DPO's win rate** against the model it started from is {win_rate_dpo}, a tie counting half; known
   facts changed by {change["facts"].value:+.3f}, skills by {change["skills"].value:+.3f}, well-formed lines by
   {change["well-formed lines"].value:+.3f} (*section 7*).
3. **Side by side**, over {len(reference.seeds)} seeds, DPO won {reference.interval("win_rate_dpo").value:.0%} in
   {reference.interval("seconds_dpo").value:.0f} s and RLHF {reference.interval("win_rate_rlhf").value:.0%} in
   {reference.interval("seconds_rlhf").value:.0f} s (*section 9, the reference table*).
""")
)

# %%
from helpers.record import record

values = {
    "loss_first_step": loss_first_step, "difference_dpo_loss": difference_dpo_loss,
    "difference_dpo_gradient": difference_dpo_gradient,
    "win_rate_dpo": win_rate_dpo.value, "kl_dpo": kl["main"],
    "win_rate_dpo_without_sft": measured_win_rate(judged[low]).value, "kl_dpo_without_sft": kl[low],
    "win_rate_chosen_only": measured_win_rate(judged["anchor alone"]).value, "kl_chosen_only": kl["anchor alone"],
    "betas": list(dpo.BETAS), "kl_dpo_by_beta": [kl[value] for value in dpo.BETAS],
    "win_rate_dpo_by_beta": [measured_win_rate(judged[value]).value for value in dpo.BETAS],
    "seconds_dpo": seconds_reference + main_run.seconds, "peak_memory_bytes_dpo": main_run.peak_bytes,
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
# - Bolder: `workbook run 06 -p sft_weight 0.0 -p beta 0.1`. What is won, and what is lost?
# - Fewer pairs: `workbook run 06 -p pairs 200`. How many does the win need?
# - Lesson 07 asks which parameters should move at all.
#
# ## References
#
# | work | year |
# |---|---|
# | Rafailov et al., *Direct Preference Optimization: Your Language Model is Secretly a Reward Model* | 2023 |
# | Pang et al., *Iterative Reasoning Preference Optimization* | 2024 |
