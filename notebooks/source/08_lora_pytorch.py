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
# # What is a low-rank update?
#
# Fine-tuning adds a change to every weight of a model. [LoRA](../docs/glossary.md#lora) (Hu et al. 2021) writes that
# change as a product of two thin matrices. You take a real change apart first. Then you write LoRA and train a model
# with your own class. Last you see how LoRA's [rank](../docs/glossary.md#rank), learning rate and scale depend on each
# other.
#
# *About 80 minutes to read (an estimate), ten to run (an estimate for two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - take a weight's change apart with the SVD, and say which rank holds most of it;
# - write a LoRA layer with merge and unmerge, put it into any model, and show that `peft` computes the same;
# - train with it, and save an adapter that `peft` loads;
# - start from a sensible rank, alpha and learning rate, and say which of them depend on each other;
# - start a LoRA from the weight's largest directions (PiSSA), and extract one from a fine-tuned model.

# %%
import copy
import json
import math
import tempfile
from pathlib import Path
from textwrap import shorten

import pandas as pd
import torch
from IPython.display import Markdown, display
from torch import nn

from helpers import catalog, lora, plotting
from helpers.batches import TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.checks import check, go_on_with, hint, solved  # noqa: F401 - hint("08.1") helps when you are stuck
from helpers.cost import Stopwatch
from helpers.evaluation import Outcome, predict_rows, share
from helpers.intervals import paired_bootstrap
from helpers.lessons.lesson_08 import experiment, figures
from helpers.predictions import predict, reveal
from helpers.reference import lesson_reference, load_reference, real_reference, recorded
from helpers.runtime import check_number, seed_everything, start
from helpers.training import HEAD_EPOCHS, half_precision, to_device, trainable_parameters

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "real": published ones; "hub": with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": more ranks, all labels
seed = 0  # draws the training rows and every random start
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 2000  # film reviews with a label to adapt to
rank = 8  # of LoRA's matrices: more can hold more, and costs more
alpha = 16.0  # LoRA's product is scaled by alpha / rank
rate_scale = 1.0  # every method's learning rate times this

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("labels", labels, 32, 8000, integer=True)
check_number("alpha", alpha, 1e-3, 1e4)
check_number("rate_scale", rate_scale, 1e-3, 1e3)
review_count = run.by_budget(quick=32, standard=labels, full=8000)
topic_count = run.by_budget(quick=32, standard=experiment.FIRST_LABELS)
look_count = run.by_budget(quick=32, standard=200, full=1000)  # validation rows to look at on the way
test_count = run.by_budget(quick=64, standard=1000, full=2000)

# %% [markdown]
# ## 1. A model that already knows a task
#
# Two tasks: *topics*, short news in four classes (the course's AG News); and *reviews*: is a film review positive?
# (The course's IMDB.) A small class holds one task. Its `iterators` return batches to train on and batches to test on.

# %%
tokenizer = catalog.tokenizer("encoder", track, model)
collate = pad(tokenizer)  # rows -> input_ids, attention_mask (batch, seq) and labels (batch,)


class LabelledTexts:
    """One task: its classes, its rows, and iterators over them."""

    def __init__(self, role, train_count, test_count):
        found = catalog.dataset(role, track, data if role == "reviews" else "", seed)
        parts = {"train": sample_rows(found["train"], train_count, seed)}
        for split, count in (("validation", 2 * look_count), ("test", test_count)):
            parts[split] = found[split].select(range(min(count, len(found[split]))))
        self.classes, self.parts = found["train"].features["label"].names, parts
        rows = {split: tokenize(part, tokenizer) for split, part in parts.items()}
        self.rows = {split: TokenizedReviews.from_dataset(part) for split, part in rows.items()}

    def iterators(self, batch_size):
        train_iter = length_batches(self.rows["train"], collate, batch_size, seed=seed)  # new order each time
        test_iter = length_batches(self.rows["test"], collate, batch_size, shuffle=False)
        return train_iter, test_iter


# %%
topics = LabelledTexts("topics", topic_count, test_count)
reviews = LabelledTexts("reviews", review_count, test_count)
for name, task in (("topics", topics), ("reviews", reviews)):
    train_iter, test_iter = task.iterators(batch_size=16)
    batch = next(iter(train_iter))
    print(f"{name}: {len(train_iter)} batches to train on, {len(test_iter)} to test on, {', '.join(task.classes)}")
    print(f"   a batch of token ids: {tuple(batch['input_ids'].shape)}")
    print(f"   a row: {shorten(task.parts['train'][0]['text'], 70)}")

# %% [markdown]
# The training loop is lesson 02's, and `training_step` is its exercise: loss, backward pass, clipping, update. `look`
# measures something on the way; its time does not count. On a CPU with AVX512_BF16 instructions, or a GPU, matrix
# products run in bfloat16, elsewhere in float32.

# %%
from transformers import get_linear_schedule_with_warmup

from helpers.lessons.lesson_02.experiment import finite, training_step


def fit(classifier, rows, learning_rate, epochs, look=None, times=6, collate=collate):
    """Train what is trainable, batches of 16; returns the seconds."""
    seed_everything(seed)
    batches = length_batches(rows, collate, 16, seed=seed)
    steps = epochs * len(batches)
    trainable = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=0.01)
    scheduler = get_linear_schedule_with_warmup(optimizer, math.ceil(0.1 * steps), steps)
    stops, losses, watch = {round(index * steps / times) for index in range(times)}, [], Stopwatch()
    with half_precision(torch.device(run.device)):
        for _ in range(epochs):
            for batch in batches:
                if look and len(losses) in stops:
                    look()
                with watch:
                    batch = to_device(batch, classifier)
                    losses.append(training_step(classifier.train(), batch, optimizer, scheduler))
        if look:
            look()
    finite(losses)
    return watch.total


# %% [markdown]
# `Outcome` keeps the predictions on test rows with what the training cost. `accuracy_of` can put another task's head on
# the model while it measures.


# %%
def answers(classifier, rows, collate=collate):
    logits, true = predict_rows(classifier, rows, collate, bfloat16=True)
    return logits.argmax(dim=-1), true


def accuracy_of(classifier, rows, head=None):
    own, classifier.head = classifier.head, head or classifier.head
    guesses, true = answers(classifier, rows)
    classifier.head = own
    return share((guesses == true).double())


def outcome_of(title, classifier, seconds):
    found = Outcome(title, *answers(classifier, reviews.rows["test"]), trainable_parameters(classifier), seconds)
    print(f"{title}: {found.accuracy:.3f} on test reviews, {found.parameters:,} parameters trained, {seconds:.0f} s")
    return found


# %% [markdown]
# First every parameter learns the topics.

# %%
seed_everything(seed)
knows_topics = catalog.classifier(track, model, len(topics.classes)).to(run.device)
epochs_topics = run.by_budget(quick=1, standard=experiment.FIRST_EPOCHS)
rates, epochs = experiment.recipes_for(knows_topics.config, run.budget, rate_scale)
print(f"topics: learning rate {rates['topics']:g}, {epochs_topics} epochs")
fit(knows_topics, topics.rows["train"], rates["topics"], epochs_topics)
topics_before = accuracy_of(knows_topics, topics.rows["test"]).value
print(f"topics, test rows: {topics_before:.1%} right")

# %% [markdown]
# Now this model is to judge reviews. The body stays, and it gets a new head with two classes in place of four. We keep
# the old head, so that we can ask later how much of the topics is left.

# %%
topics_head = experiment.new_head(knows_topics, len(reviews.classes), seed)
start_point = knows_topics  # every method below starts from a copy of it
few = min(look_count, len(reviews.rows["validation"]), len(topics.rows["validation"]))
look_reviews = reviews.rows["validation"].select(range(few))
look_topics = topics.rows["validation"].select(range(few))
outcomes, paths = {}, {}


def adapt(candidate, name):
    """Train what is trainable in `candidate`, watch both tasks, and predict the test reviews."""
    path = paths[name] = []  # (accuracy on reviews, accuracy on topics), along the training

    def look():
        new = accuracy_of(candidate, look_reviews).value
        path.append((new, accuracy_of(candidate, look_topics, topics_head).value))

    seconds = fit(candidate, reviews.rows["train"], rates[name], epochs[name], look)
    outcomes[name] = outcome_of(experiment.TITLES[name], candidate, seconds)
    return candidate


# %% [markdown]
# ## 2. What does full fine-tuning change?
#
# We train everything on the reviews, as in lesson 02. Section 5 says how the rates and the epochs were chosen.

# %%
display(pd.DataFrame({"learning rate": rates, "epochs": epochs}))
tuned = adapt(copy.deepcopy(start_point).requires_grad_(True), "full")

# %% [markdown]
# The **change** of a weight is after minus before. It has the shape of the weight, 128 x 128 in attention. The singular
# value decomposition (SVD) writes it as a sum of terms of rank 1:
#
# $$\Delta W = \sum_i \sigma_i\, u_i v_i^\top, \qquad \sigma_1 \ge \sigma_2 \ge \dots \ge 0$$
#
# Here a **direction** is one term: it reads the input along the unit vector $v_i$ and writes along the unit vector
# $u_i$. Its *singular value* $\sigma_i$ says how strongly. The first $r$ directions give the closest matrix of
# *[rank](../docs/glossary.md#rank)* $r$ (Eckart and Young 1936).


# %%
def truncate(change, rank):
    """The closest matrix of this rank: the `rank` largest singular values and their directions."""
    left, sizes, right = torch.linalg.svd(change, full_matrices=False)
    return left[:, :rank] * sizes[:rank] @ right[:rank]  # (out, rank) @ (rank, in)


# %% [markdown]
# ### Rank as spanning vectors
#
# The course puts it so: the rank of a matrix is the smallest number of vectors that span everything the matrix can
# return. Here a 3 x 3 matrix, cut to rank 1, 2 and 3, multiplies the same 400 inputs. Its outputs fill a line, a plane
# or the space. The arrows are the vectors that span them: the columns of `left * sizes`.

# %%
torch.manual_seed(2)
square, inputs = torch.randn(3, 3), nn.functional.normalize(torch.randn(3, 400), dim=0)
left, sizes, _ = torch.linalg.svd(square)
drawn = {f"rank {r}": (truncate(square, r) @ inputs, (left * sizes)[:, :r]) for r in (1, 2, 3)}
plotting.show(figures.spanned(drawn))
print("ranks:", [int(torch.linalg.matrix_rank(points)) for points, _ in drawn.values()])

# %% [markdown]
# ### How many directions does a real change need?
#
# How close is the closest matrix of rank $r$? We count the share of the change's *energy*: the sum of its squared
# entries, which is also the sum of its squared singular values.


# %%
def share_of_energy(change):
    """Of the squared entries of a matrix, the share that its closest matrix of rank 1, 2, ... holds."""
    squares = torch.linalg.svdvals(change) ** 2
    return squares.cumsum(0) / squares.sum()


# %% [markdown]
# **Predict 1.** In the figure, a matrix of random numbers of the same shape stands beside the changes. Which share of
# an attention weight's change will eight of 128 directions hold? (And of the random matrix?)

# %%
predict("08.1", within=0.1, unit="of the energy", low=0, high=1)

# %%
from helpers.lessons.lesson_08.experiment import linear_changes, linear_weights, rank_for, with_changes

before = linear_weights(start_point.body)
changes = linear_changes(before, tuned.body)
kinds = {
    "attention": [path for path in changes if "attention" in path],
    "feed-forward": [path for path in changes if "attention" not in path],
}
energies = {
    kind: torch.stack([share_of_energy(changes[path]) for path in paths_]).mean(dim=0)
    for kind, paths_ in kinds.items() if paths_
}  # fmt: skip
one = changes[next(iter(changes))]
energies["random numbers"] = share_of_energy(torch.randn(one.shape, generator=torch.Generator().manual_seed(seed)))
energies = {name: shares.tolist() for name, shares in energies.items()}
plotting.show(figures.energies(energies, marked=min(rank, len(one))))
reveal("08.1", next(iter(energies.values()))[min(8, len(one)) - 1])

# %% [markdown]
# Which rank holds 90 % of the energy of a weight's change? Biderman et al. (2024) asked this of a model with 7 billion
# parameters. They found that [full fine-tuning](../docs/glossary.md#full-fine-tuning)'s change needs 10 to
# 100 times the rank that LoRA usually gets.
#
# Before them Aghajanyan et al. (2020) asked how few free numbers a fine-tuning needs, its *intrinsic dimension*. With
# 200, a RoBERTa reached 90 % of the full result on one task (MRPC).

# %%
needed = sorted(rank_for(change) for change in changes.values())
middle = needed[len(needed) // 2]
print(f"rank that holds 90 % of a change: from {needed[0]} to {needed[-1]}, in the middle {middle}")
print(f"that is {middle / rank:.1f} times the rank {rank} that LoRA gets below")
print(f"(a matrix of {len(one)} rows allows {len(one) / rank:.0f} times at most)")

# %% [markdown]
# **Predict 2.** Energy is not accuracy. We cut every weight's change down to rank $r$ (embeddings, biases,
# normalisations and head stay as trained) and measure on validation reviews. Of the ranks 1, 2, 4, 8
# and 16, which is the smallest that loses at most one point against the whole change? (One point is four of the 400
# reviews.)

# %%
predict("08.2", choices=["1", "2", "4", "8", "16", "none of them"])

# %%
cut = {}
for kept in run.by_budget(quick=(0, 1), standard=(0, 1, 2, 4, 8, 16)):
    shorter = {path: truncate(change, kept) for path, change in changes.items()}
    candidate = copy.deepcopy(tuned)
    with_changes(candidate.body, before, shorter)  # the weights as they were, plus the shortened changes
    cut[kept] = accuracy_of(candidate, reviews.rows["validation"])
whole = accuracy_of(tuned, reviews.rows["validation"])
lines = {"the whole change": whole.value, "no change of the matrices": cut[0].value}
drawn = {"change cut to this rank": {kept: score for kept, score in cut.items() if kept}}
plotting.show(figures.accuracy_by_rank(drawn, lines))


def smallest_close(scores, full):
    """The smallest rank that loses at most one point against the whole change."""
    return next((str(kept) for kept, score in scores.items() if kept and full - score <= 0.01 + 1e-9), "none of them")


per_seed = [recorded("08", f"accuracy_truncated_rank_{kept}") for kept in experiment.RANKS]
in_seeds = [
    smallest_close(dict(zip(experiment.RANKS, each, strict=True)), full)
    for full, *each in zip(recorded("08", "accuracy_truncated_whole"), *per_seed, strict=False)
]
reveal("08.2", smallest_close({kept: score.value for kept, score in cut.items()}, whole.value), reference=in_seeds)

# %% [markdown]
# <details><summary>What it means</summary>
#
# - A few directions hold far more of a change's energy than of a random matrix's. The rest of the energy is spread
#   thinly over many directions.
# - Accuracy asks for less than energy: a rank that misses much of the energy can have nearly all of the accuracy. LoRA
#   relies on that.
# - The smallest rank changes from seed to seed: with 400 reviews, one review more or less decides it.
# - The line at the bottom is what embeddings, biases, normalisations and head reach alone: they stayed as trained.
#
# </details>

# %% [markdown]
# ## 3. A layer with a low-rank path
#
# The truncation needs the finished [full fine-tuning](../docs/glossary.md#full-fine-tuning). LoRA turns the order
# round: freeze $W$, and *train* the two thin matrices from the start.
#
# $$h = W x + \frac{\alpha}{r}\, B A x, \qquad A: r \times \text{in}, \quad B: \text{out} \times r$$
#
# That trains $r\,(\text{in} + \text{out})$ numbers in place of $\text{in} \cdot \text{out}$.
#
# $B$ starts at zero, so the product is zero and the first output is that of the frozen layer. $A$ starts at random.
# [Dropout](../docs/glossary.md#dropout), where it is used, acts on what the path reads and nothing else. Here are the
# parts of the layer:


# %%
class LoRAParts(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        check_number("rank", rank, 1, min(base.in_features, base.out_features), integer=True)
        self.base = base.requires_grad_(False)
        self.scaling = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # what nn.Linear starts with
        self.original = None  # the weight as it was before a merge


# %% [markdown]
# ### Exercise 08.1: the layer
#
# Write the four methods. The rest of the lesson trains with your class.
#
# - `forward(x)`: the equation above. `x` is (..., in). Never build the matrix $BA$: two thin products cost less.
# - `change()`: what the path adds to the weight, (out, in).
# - `merge()`: **[merging](../docs/glossary.md#merging)** adds the change to `self.base.weight`. Keep the old weight in
#   `self.original`. Merging twice adds once, and a merged layer's `forward` is the plain layer's.
# - `unmerge()`: puts the old weight back, to the bit.


# %% tags=["exercise"]
class LoRALinear(LoRAParts):
    def forward(self, x):
        return ...

    def change(self):
        return ...

    @torch.no_grad()
    def merge(self):
        return ...

    @torch.no_grad()
    def unmerge(self):
        return ...


check("08.1", LoRALinear)
# hint("08.1")


# %% tags=["solution"]
class LoRALinear(LoRAParts):
    def forward(self, x):
        if self.original is not None:
            return self.base(x)
        thin = nn.functional.linear(self.dropout(x), self.lora_A)  # (..., in) -> (..., rank)
        return self.base(x) + nn.functional.linear(thin, self.lora_B) * self.scaling  # (..., out)

    def change(self):
        return self.lora_B @ self.lora_A * self.scaling

    @torch.no_grad()
    def merge(self):
        if self.original is None:
            self.original = self.base.weight.clone()
            self.base.weight += self.change()

    @torch.no_grad()
    def unmerge(self):
        if self.original is not None:
            self.base.weight.copy_(self.original)
            self.original = None


check("08.1", LoRALinear)

# %% [markdown]
# `go_on_with` takes your class if it passes, and the one of `helpers.lora` if not. Does the layer start as the layer
# that it replaces, and what is trainable in it?

# %% tags=["nbval-check-output"]
LoRALinear = go_on_with("08.1", LoRALinear, lora.LoRALinear)
torch.manual_seed(seed)
plain = nn.Linear(128, 512)
layer = LoRALinear(copy.deepcopy(plain), rank=4, alpha=8)
x = torch.randn(2, 10, 128)  # (batch, seq, in)
assert torch.equal(layer(x), plain(x))
print("the same outputs at the start, to the bit")
for name, value in layer.named_parameters():
    print(f"{name:12}{tuple(value.shape)!s:12}{'trained' if value.requires_grad else 'frozen'}")
print(f"{trainable_parameters(layer):,} of {trainable_parameters(plain):,} parameters")

# %% [markdown]
# Merged, the layer is a plain layer again: the same shapes and the same number of products. Why is its output only
# *nearly* the same? $(W + BA)x$ adds the weights first and multiplies once; $Wx + BAx$ multiplies first. Each rounds in
# another place. We keep the old weight; `peft` subtracts the change again, which saves the copy and leaves a rounding
# error. In bfloat16, with its 8 significant bits, what is below 0.2 % of a weight is lost in the merge.

# %% tags=["nbval-check-output"]
nn.init.normal_(layer.lora_B)  # as if it had been trained
apart = layer(x)
layer.merge()
assert (layer(x) - apart).abs().max() < 1e-5 * apart.abs().max()
layer.unmerge()
assert torch.equal(layer.base.weight, plain.weight) and torch.equal(layer(x), apart)
print("merged: the same outputs up to rounding; unmerged: the same weight, to the bit")

# %% [markdown]
# ### What is alpha for?
#
# The product is multiplied by a scale. Three conventions are common:
#
# | convention | scale at rank 1, 8, 64 | where you meet it |
# |---|---|---|
# | one alpha at every rank, here 16 | 16, 2, 0.25 | Hu et al. 2021; `lora_alpha=16` or `32` |
# | alpha = 2 rank | 2, 2, 2 | many published recipes |
# | alpha / $\sqrt{\text{rank}}$ (rsLoRA), alpha 16 | 16, 5.7, 2 | `use_rslora=True` (lesson 09) |
#
# With Adam, Hu et al. say, a larger alpha does nearly what a larger rate does. So they set alpha once, to the first
# rank that they try. This lesson uses that first convention, with alpha 16. At rank 8 the first two both give 2;
# rsLoRA gives 5.7. (`peft`'s own defaults, `r=8` and `lora_alpha=8`, give 1: half of this lesson's.) Section 6 tries
# the three on a toy.

# %% [markdown]
# ## 4. Into the whole model
#
# ### Exercise 08.2: inject
#
# Freeze the model. Then replace each linear layer whose path *ends* in one of the names in `targets` by a `LoRALinear`
# around it. This is `peft`'s rule for a *list*: `"query"` fits `body.encoder.layer.0.attention.self.query`,
# and does not fit `body.subquery`. (A string is a regular expression there; `"all-linear"` takes every linear layer,
# but spares a `transformers` model's output, and its classifier with `task_type="SEQ_CLS"`.) Return their paths.
#
# `model.named_modules()` lists paths and modules. Collect them before changing the model.


# %% tags=["exercise"]
def inject(model, targets, rank, alpha):
    return ...


check("08.2", inject)
# hint("08.2")


# %% tags=["solution"]
def inject(model, targets, rank, alpha):
    model.requires_grad_(False)
    linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    found = {path: module for path, module in linears.items() if path.rpartition(".")[2] in targets}
    for path, module in found.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, LoRALinear(module, rank, alpha))
    return list(found)


check("08.2", inject)

# %%
from functools import partial

inject = go_on_with("08.2", inject, partial(lora.inject, layer=LoRALinear))


def lora_layers(model):
    return {path: module for path, module in model.named_modules() if isinstance(module, LoRALinear)}


def with_lora(classifier, rank=rank, alpha=alpha):
    """The classifier with your LoRA layers on every linear layer of its blocks, and a head that learns in full."""
    paths_ = inject(classifier, experiment.block_targets(classifier), rank=rank, alpha=alpha)
    classifier.head.requires_grad_(True)
    return classifier.to(run.device), paths_


targets = experiment.block_targets(start_point)
ours, injected = with_lora(copy.deepcopy(start_point))
print(f"targets: {', '.join(targets)}")
print(
    f"{len(injected)} layers replaced, {trainable_parameters(ours):,} trainable parameters, those of the head included"
)

# %% [markdown]
# Now the library: the same base, the same targets, and your A and B copied into its layers. Its arithmetic has the
# order of yours. So on the CPU in float32 the logits should be equal **to the bit**.

# %%
from peft import LoraConfig, PeftModel, get_peft_model

for layer in lora_layers(ours).values():
    nn.init.normal_(layer.lora_B, std=0.05)  # with B at zero, any two LoRAs agree
config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, modules_to_save=["head"])
theirs = get_peft_model(copy.deepcopy(start_point), config)
with torch.no_grad():
    for path, layer in lora_layers(ours).items():
        twin = theirs.base_model.model.get_submodule(path)
        twin.lora_A["default"].weight.copy_(layer.lora_A)
        twin.lora_B["default"].weight.copy_(layer.lora_B)

# %% tags=["nbval-check-output"]
some = next(iter(reviews.iterators(16)[0]))
logits = experiment.logits_of(ours, some)
difference_lora_peft = (logits - experiment.logits_of(theirs, some)).abs().max().item()
print("difference to peft's logits is zero:", difference_lora_peft == 0.0)
assert difference_lora_peft <= 1e-6  # another processor may add in another order
for layer in lora_layers(ours).values():
    layer.merge()
difference_merge = (experiment.logits_of(ours, some) - logits).abs().max().item()
largest = max(1.0, logits.abs().max().item())
print("merged, the logits differ by less than 0.00001:", difference_merge < 1e-5 * largest)
assert difference_merge < 1e-5 * largest
for layer in lora_layers(ours).values():
    layer.unmerge()
assert torch.equal(experiment.logits_of(ours, some), logits)

# %% [markdown]
# ### Save it, and let `peft` load it
#
# An [adapter](../docs/glossary.md#adapter) is small, so it travels alone. `peft`'s format is two files: the tensors in
# safetensors under `peft`'s names, and the settings as JSON. We write the least that `peft` needs. Rank and alpha come
# from the layers: with a wrong `lora_alpha`, `peft` would load the adapter at another scale and say nothing.

# %%
from safetensors.torch import save_file

folder = tempfile.TemporaryDirectory()


def save_adapter(classifier, path):
    """Write A, B and the head under `peft`'s names; returns the bytes."""
    path.mkdir()
    tensors = {f"base_model.model.head.{name}": value for name, value in classifier.head.state_dict().items()}
    for place, layer in lora_layers(classifier).items():
        for name in ("lora_A", "lora_B"):
            tensors[f"base_model.model.{place}.{name}.weight"] = getattr(layer, name).detach()
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path / "adapter_model.safetensors")
    r = layer.lora_A.shape[0]  # of the last layer; all have the same rank and scale
    settings = {"peft_type": "LORA", "r": r, "lora_alpha": layer.scaling * r}
    settings["target_modules"] = list(lora_layers(classifier))
    (path / "adapter_config.json").write_text(json.dumps(settings | {"modules_to_save": ["head"]}))
    return sum(file.stat().st_size for file in path.iterdir())


# %% tags=["nbval-check-output"]
kept_at = Path(folder.name) / "untrained"
save_adapter(ours, kept_at)
loaded = PeftModel.from_pretrained(copy.deepcopy(start_point), kept_at)
assert torch.equal(experiment.logits_of(loaded, some), logits)
print("files:", ", ".join(sorted(path.name for path in kept_at.iterdir())))
print("loaded by peft: the same logits, to the bit")
theirs.save_pretrained(Path(folder.name) / "theirs")  # the usual way: one line, and more settings in the JSON
print("save_pretrained:", ", ".join(sorted(path.name for path in (Path(folder.name) / "theirs").iterdir())))

# %% [markdown]
# An adapter is a change *to a base*. On another base it computes something, but not what it was trained for. Our files
# leave out `base_model_name_or_path`. `peft` writes it where it knows it, and does not check at loading that the
# weights are the same. Lesson 09 shows what happens then, and `peft`'s `task_type`. Below you use
# `print_trainable_parameters` and `merge_and_unload`.

# %% [markdown]
# ## 5. The adaptation
#
# Three ways from topics to reviews: the head alone (on cached features, lesson 02's shortcut), your LoRA on every
# linear layer of the blocks plus the head, and everything (done above).

# %% [markdown]
# Rows, batches, optimizer, schedule and weight decay are the same. Rate and [epochs](../docs/glossary.md#epoch) of LoRA
# and of full fine-tuning come from one grid on validation rows (`python -m benchmarks.lora --tune`): 5e-4, 1e-3 and
# 2e-3, three and six epochs, two seeds. For each method we took the smallest number of epochs whose mean validation
# accuracy is within one standard error of that method's best, and the best rate for it. LoRA got six epochs, full
# fine-tuning three.
#
# (The head alone has its own grid, 1e-2, 3e-2 and 1e-1.)

# %% [markdown]
# Both best rates lie at an edge of that grid: full fine-tuning took its lowest rate, LoRA the highest (at 4e-3 it fell
# to chance). Rates between 2e-3 and 4e-3, or below 5e-4, are not in it, so either method may do better than here. On
# the grid six epochs in place of three gave LoRA 0.9 points more, full fine-tuning 0.4 (within its standard error).
# Section 6 has full fine-tuning with six epochs as well.

# %% [markdown]
# **Predict 3.** LoRA trains about one parameter in twenty. How many points of accuracy will that cost?

# %%
predict("08.3", within=1, unit="points")

# %%
from helpers.training import train_on_features

frozen = copy.deepcopy(start_point).requires_grad_(False)
frozen.head.requires_grad_(True)
seed_everything(seed)
history = train_on_features(
    frozen, reviews.rows["train"], collate, rates["head_only"], epochs=epochs["head_only"], seed=seed,
    bfloat16_features=True,
)  # fmt: skip
outcomes["head_only"] = outcome_of(experiment.TITLES["head_only"], frozen, history.seconds)
paths["head_only"] = [paths["full"][0]]  # the body is frozen, so the topics stay what they were
paths["head_only"].append((accuracy_of(frozen, look_reviews).value, paths["full"][0][1]))

# %%
seed_everything(seed)
low_rank = adapt(with_lora(copy.deepcopy(start_point))[0], "lora")

# %% [markdown]
# What it costs and what it gives, beside lesson 02's baselines. The last but one column is what has to be kept of each:
# the head's numbers, the adapter's files, or the whole model.

# %%
from helpers.evaluation import bag_of_words, majority

texts, true = reviews.parts["train"], torch.tensor(reviews.parts["test"]["label"])
usual = torch.full_like(true, majority(texts["label"]))
words = bag_of_words(texts["text"], texts["label"]).predict(reviews.parts["test"]["text"])
floor = {
    "majority": Outcome("majority class", usual, true),
    "bag_of_words": Outcome("bag of words", torch.as_tensor(words), true),
}
adapter_bytes = save_adapter(low_rank, Path(folder.name) / "reviews")
full_bytes = sum(value.numel() * value.element_size() for value in tuned.state_dict().values())
rows = {outcome.title: [f"{outcome.accuracy:.3f}", "", "", "", "", ""] for outcome in floor.values()}
for name in ("head_only", "lora", "full"):
    outcome = outcomes[name]
    saved = {"head_only": 4 * outcome.parameters, "lora": adapter_bytes, "full": full_bytes}[name]
    share_of_all = outcome.parameters / outcomes["full"].parameters
    cost = [f"{outcome.parameters:,}", f"{share_of_all:.1%}", f"{saved / 1e3:,.0f}", f"{outcome.seconds:.0f}"]
    rows[outcome.title] = [f"{outcome.accuracy:.3f}", f"{rates[name]:g}", *cost]
columns = ["accuracy [95 %]", "rate", "trained parameters", "of all", "to keep (kB)", "training seconds"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# ### At work: load, count, merge, serve
#
# `peft` loads the adapter that you trained. `print_trainable_parameters` is how one checks what would learn, and
# `merge_and_unload` returns the plain model, with your changes in its weights. (`peft` counts the adapter and the old
# head among all parameters, so its share is smaller than the table's.) Does merging keep the predictions, and what does
# the LoRA path cost when the model only predicts?

# %%
served = PeftModel.from_pretrained(copy.deepcopy(start_point), Path(folder.name) / "reviews", is_trainable=True)
served.print_trainable_parameters()
assert torch.allclose(experiment.logits_of(served, some), experiment.logits_of(low_rank, some), atol=1e-5)
merged = served.merge_and_unload()
guesses, _ = answers(merged, reviews.rows["test"])
print(f"{(guesses != outcomes['lora'].predictions).sum()} of {len(guesses)} test predictions differ after the merge")
times = {"with its path": low_rank, "merged": merged, "the model without LoRA": start_point}
for title, candidate in times.items():
    each = []
    for _ in range(3):
        with Stopwatch() as watch:
            answers(candidate, look_reviews)
        each.append(watch.total)
    print(f"{title}: {len(look_reviews) / min(each):,.0f} reviews a second (best of three)")

# %% [markdown]
# All three judged the same test reviews, so their differences can be paired, as in lesson 02. The second interval is
# the reference's: five runs of this lesson, with other training rows and other random starts.


# %%
def verdict(gap):
    """A gap with its interval, and what the interval says."""
    if math.isnan(gap.low):
        return f"{gap:+.3f}: one run, no interval"
    return f"{gap:+.3f}: " + ("the interval contains 0" if 0 in gap else "the interval leaves out 0")


five = lesson_reference("08")
gaps = {}
for other_name in ("full", "head_only"):
    gaps[other_name] = paired_bootstrap(outcomes["lora"].correct, outcomes[other_name].correct, seed=seed)
    over_seeds = five.gap("accuracy_lora", f"accuracy_{other_name}")
    print(f"LoRA minus {outcomes[other_name].title}: {gaps[other_name]:+.3f}; five seeds {verdict(over_seeds)}")
for name in ("full", "lora"):
    an_epoch = five.interval(f"seconds_{name}").value / experiment.EPOCHS[name]
    print(f"{outcomes[name].title}: {an_epoch:.1f} seconds an epoch, mean of five seeds")
pairs = zip(recorded("08", "accuracy_full"), recorded("08", "accuracy_lora"), strict=True)
reveal("08.3", -100 * gaps["full"].value, reference=[100 * (high - low) for high, low in pairs])

# %% [markdown]
# <details><summary>What it means</summary>
#
# - *Against all parameters*, the gap contains the low rank, the frozen word vectors, and the other rate and epochs.
#   Section 6 looks at some of these alone.
# - *Against the head alone* is what the low-rank paths are worth. The head costs less, so LoRA has to beat it.
#
# </details>
#
# <details><summary>... and the cost</summary>
#
# - *Seconds* are not what LoRA saves at this size: it had twice the epochs, and an epoch's seconds are printed above.
#   The gradient still passes through every layer. LoRA skips the weight gradients of the frozen matrices, and adds two
#   thin products per layer. What shrinks is what has to be kept: gradients and optimizer states (lesson 11 counts
#   them), and the file.
#
# </details>

# %% [markdown]
# ### What is left of the topics?
#
# We put the old head back and ask for topics. The methods reach different accuracies, and a method that learns more may
# forget more. So the figure shows the whole way, not only its end.

# %%
drawn = {outcomes[name].title: paths[name] for name in ("full", "lora", "head_only")}
plotting.show(figures.forgetting_paths(drawn, chance=1 / len(topics.classes)))

# %%
# The best accuracy that both reached, and what each still knew when it first got there.
matched = min(max(new for new, _ in paths[name]) for name in ("full", "lora"))
kept_topics = {name: experiment.at_matched_accuracy(paths[name], matched) for name in ("full", "lora")}
after = {name: paths[name][-1][1] for name in paths}
for name in ("full", "lora"):
    then = f"topics {kept_topics[name]:.1%} when reviews first were at {matched:.1%}"
    print(f"{outcomes[name].title:16}{then}; at the end {after[name]:.1%}")
less_forgotten = five.gap("accuracy_topics_lora", "accuracy_topics_full")
print("LoRA minus all parameters, topics, five seeds:")
print(f"   at the end {verdict(less_forgotten)}")
print(f"   at equal reviews {verdict(five.gap('accuracy_topics_lora_matched', 'accuracy_topics_full_matched'))}")
for name in ("full", "lora"):
    print(
        f"   {outcomes[name].title}, seed by seed:",
        *(f"{one:.2f}" for one in recorded("08", f"accuracy_topics_{name}")),
    )
off = copy.deepcopy(low_rank)
for layer in lora_layers(off).values():
    layer.scaling = 0.0  # the path adds nothing, and the old model is back
assert accuracy_of(off, look_topics, topics_head).value == paths["lora"][0][1]

# %% [markdown]
# <details><summary>What it means</summary>
#
# "LoRA learns less and forgets less" is the title of Biderman et al. (2024), who trained on code and mathematics. On
# these tasks, read the two intervals above: one that contains 0 shows no difference, and a wide one does not show that
# there is none. Some seeds forget much more than others, with either method.
#
# LoRA does give another kind of memory: the base was never changed. Switch the paths off, and the old model is back,
# with all its topics. Full fine-tuning has nothing to switch off.
#
# </details>

# %% [markdown]
# ### The same change, another shape?
#
# Shuttleworth et al. (2024) compare the weights themselves. After LoRA they find **intruder dimensions**: large
# singular directions of the new weight that resemble none of the old weight. Full fine-tuning, they report, makes few
# or none. We count them among the ten largest directions of each matrix. "Resembles" means a cosine of at least 0.5.


# %%
def intruders(old, new, looked_at=10, similar=0.5):
    """How many of the largest left singular directions of `new` have no similar one in `old`."""
    old_directions, new_directions = (torch.linalg.svd(weight, full_matrices=False)[0] for weight in (old, new))
    return int(((old_directions.T @ new_directions[:, :looked_at]).abs().amax(dim=0) < similar).sum())


spoken = {"full": tuned, "lora": copy.deepcopy(low_rank)}
for layer in lora_layers(spoken["lora"]).values():
    layer.merge()
found = {name: linear_weights(candidate.body) for name, candidate in spoken.items()}
counts, shrunk, grown, moved = dict.fromkeys(found, 0), 0, 0, {name: [] for name in found}
for path, old in before.items():
    new = {name: weights.get(path, weights.get(f"{path}.base")) for name, weights in found.items()}
    for name in new:
        counts[name] += intruders(old, new[name])
        moved[name].append(((new[name] - old).norm() / old.norm()).item())
    thin, whole_change = new["lora"] - old, new["full"] - old
    factor = whole_change.norm().clamp(min=1e-12) / thin.norm().clamp(min=1e-12)
    shrunk, grown = shrunk + intruders(old, old + thin * factor), grown + intruders(old, old + whole_change / factor)
for name, each in moved.items():
    print(
        f"{outcomes[name].title}: in the middle, a change has {sorted(each)[len(each) // 2]:.0%} of the weight's norm"
    )
said = ", ".join(f"{outcomes[name].title} {count}" for name, count in counts.items())
print(f"intruders among {10 * len(before)} directions: {said}")
print(f"LoRA, each change scaled to the norm of full fine-tuning's: {shrunk}")
print(f"all parameters, each change scaled to the norm of LoRA's: {grown}")
for name in ("full", "lora"):
    if seeds_ := recorded("08", f"intruders_{name}"):
        print(f"reference, {outcomes[name].title}, seed by seed:", *(f"{count:.0f}" for count in seeds_))

# %% [markdown]
# <details><summary>What it means</summary>
#
# Two things differ at once: the shape of the change, and its size. The scaled counts hold the size fixed. If LoRA's
# changes lose their intruders at full fine-tuning's size, size is needed. If full fine-tuning's changes get as many at
# LoRA's size, size is enough. If they get fewer, the shape matters too. The paper compared models of the same accuracy.
#
# The paper goes on: the intruders cause [forgetting](../docs/glossary.md#catastrophic-forgetting). Scaling the
# intruders down after the training recovered part of the lost accuracy. LoRAs of high rank with rsLoRA's scale were
# nearer to full fine-tuning.
#
# </details>
#
# ## 6. How much rank, and which learning rate?
#
# **Predict 4.** In section 2 the changes were cut after training; here the rank binds from the first step. Over three
# seeds, by how many points does rank 16 differ from rank 1, in the mean? (Positive: rank 16 is better.)

# %%
predict("08.4", within=0.7, unit="points")

# %% [markdown]
# Every rank costs a training, and one run is one draw. The **reference** is *not* from this run: a command in this
# repository did the same for several seeds. This run is drawn beside it; with `budget = "full"` it trains every rank
# itself. All ranks have alpha 16 and the rate that was tuned at rank 8.

# %%
reference = load_reference("lora")
by_rank = {rank: outcomes["lora"].accuracy}
for tried in run.by_budget(quick=(1,), standard=(), full=(1, 2, 4, 8, 16, 32)):
    if tried not in by_rank:
        seed_everything(seed)
        candidate = with_lora(copy.deepcopy(start_point), rank=tried)[0]
        seconds = fit(candidate, reviews.rows["train"], rates["lora"], epochs["lora"])
        by_rank[tried] = outcome_of(f"rank {tried}", candidate, seconds).accuracy
there = {tried: reference.interval(f"accuracy_lora_rank_{tried}") for tried in experiment.TRAINED_RANKS}
there |= {experiment.RANK: reference.interval("accuracy_lora")}
drawn = {"reference: LoRA trained at this rank": there, "this run": by_rank}
lines = {f"reference: {experiment.TITLES[name]}": reference.interval(f"accuracy_{name}").value
         for name in ("full", "head_only")}  # fmt: skip
plotting.show(figures.accuracy_by_rank(drawn, lines))
print("Reference:", reference.label)
high, low = (reference.metrics[f"accuracy_lora_rank_{tried}"] for tried in (16, 1))
by_rank_gap = reference.gap("accuracy_lora_rank_16", "accuracy_lora_rank_1")
print(f"rank 16 minus rank 1, {len(high)} seeds {verdict(by_rank_gap)}")
print("(In the next line `this run` is the reference's run: its mean is what you predicted.)")
reveal(
    "08.4", 100 * (sum(high) - sum(low)) / len(high), reference=[100 * (a - b) for a, b in zip(high, low, strict=True)]
)

# %% [markdown]
# What does LoRA miss: rank, words, or time? The same command trained everything but the embeddings (the word vectors),
# and everything for as many epochs as LoRA. "All but the embeddings" has full fine-tuning's rate and epochs, not tuned
# for it. The gaps are taken seed by seed.

# %%
recipes = {"blocks": "full", "full_longer": "full", "lora_rank_1": "lora", "lora_rank_16": "lora"}  # whose rate
titles = experiment.TITLES | {"full_longer": "all parameters, LoRA's epochs", "lora_rank_16": "LoRA, rank 16"}
rows = {}
for name in ("head_only", "lora_rank_1", "lora", "lora_rank_16", "blocks", "full", "full_longer"):
    count, reviews_at = reference.metrics[f"trainable_parameters_{name}"][0], reference.interval(f"accuracy_{name}")
    gap = "" if name == "lora" else f"{reference.gap('accuracy_lora', f'accuracy_{name}'):+.3f}"
    each = ", ".join(f"{value:.2f}" for value in reference.metrics[f"accuracy_topics_{name}"])
    like = recipes.get(name, name)
    passes = reference.settings["epochs"]["lora" if name == "full_longer" else like]
    passes = HEAD_EPOCHS if name == "head_only" else passes  # cached features: its own number
    at_rate = f"{reference.settings['learning_rates'][like]:g}"
    rows[titles.get(name, "LoRA, rank 1")] = [f"{count:,}", at_rate, passes, f"{reviews_at:.3f}", gap, each]
columns = ["trained parameters", "rate", "epochs", "reviews [95 %]", "LoRA minus this [95 %]", "topics, each seed"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %%
questions = {
    "rank: LoRA of rank 16 minus rank 1": ("lora_rank_16", "lora_rank_1"),
    "rank: LoRA of rank 16 minus rank 8": ("lora_rank_16", "lora"),
    "words: all parameters minus all but the embeddings": ("full", "blocks"),
    "low rank: LoRA minus all but the embeddings": ("lora", "blocks"),
    "time: all parameters, LoRA's epochs minus its own": ("full_longer", "full"),
}
for question, (more, less) in questions.items():
    print(f"{question}: {verdict(reference.gap(f'accuracy_{more}', f'accuracy_{less}'))}")

# %% [markdown]
# <details><summary>What it means</summary>
#
# - An interval that leaves out 0 shows a difference. One that contains 0 leaves the question open. Three seeds give
#   wide intervals: LoRA minus all parameters contains 0 here, with section 5's five seeds it need not.
# - *Words*: LoRA's layers sit in the blocks, and the word vectors stay as they were. The third line says what training
#   them adds.
# - *Low rank*: the fourth line compares with the same blocks in full. LoRA had four times their rate and twice their
#   epochs, so it is no comparison of the rank alone.
#
# </details>
#
# <details><summary>... and time</summary>
#
# - *Time*: the last line has full fine-tuning. LoRA with three epochs is in the tuning alone (section 5): there six
#   epochs gave it more than they gave full fine-tuning, on two seeds.
# - *Topics* differ much between seeds.
#
# </details>

# %% [markdown]
# ### A problem whose answer is known (live, on a toy)
#
# A layer has to learn a change with the singular values of a real one (an attention weight's; norm set to 0.7)
# and random directions. The inputs are random, and the targets hold as much noise as signal. Nine draws of
# this problem train at once.
#
# Here the loss above the noise is exactly the share of the change's energy that is still **missing**. The SVD gives the
# least that any matrix of a rank can miss.

# %%
by_energy = sorted(kinds["attention"] or changes, key=lambda path: share_of_energy(changes[path])[:4][-1].item())
shown_path = by_energy[len(by_energy) // 2]  # in the middle: half of them hold less at rank 4
shown = changes[shown_path].cpu()
spectrum = torch.linalg.svdvals(shown)[:128]
spectrum = 0.7 * spectrum / spectrum.norm()  # one size, so that the same rates suit every model and budget
draws, size = run.by_budget(quick=3, standard=9), len(spectrum)
torch.manual_seed(seed)
left, right = (torch.linalg.qr(torch.randn(draws, size, size))[0] for _ in range(2))
wanted = (left * spectrum) @ right.mT  # (draw, out, in): the changes to learn
noise = spectrum.norm() / size**0.5  # as large as the signal, per output


def train_toy(rank, scale, rate, steps, rows=32, decay=True):
    """Train every draw (rank 0: the full matrix). Returns the share still missing and the change's size, each draw."""
    torch.manual_seed(seed)
    A = nn.init.uniform_(torch.empty(draws, rank, size), -(size**-0.5), size**-0.5)  # the start of LoRAParts
    parts = [torch.zeros(draws, size, rank), A] if rank else [torch.zeros(draws, size, size)]
    optimizer = torch.optim.AdamW([part.requires_grad_() for part in parts], lr=rate, weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - decay * step / steps)
        x = torch.randn(draws, size, rows)  # (draw, in, row)
        target = wanted @ x + noise * torch.randn(draws, size, rows)
        change = scale * parts[0] @ parts[1] if rank else parts[0]  # (draw, out, in)
        (change @ x - target).square().mean(dim=(1, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    change = (scale * parts[0] @ parts[1] if rank else parts[0]).detach()
    return ((change - wanted) ** 2).sum(dim=(1, 2)) / (wanted**2).sum(dim=(1, 2)), change.norm(dim=(1, 2))


# %% [markdown]
# ### How far do the first steps go?
#
# Ten small steps of AdamW at one rate, with each convention for alpha. Look at two things: how *large* the change gets,
# and how much the *loss drops* (as a share of the loss above the noise).

# %%
conventions = {
    "alpha 16": lambda rank: 16 / rank,
    "alpha = 2 rank": lambda rank: 2.0,
    "alpha / sqrt(rank), alpha 16": lambda rank: 16 / math.sqrt(rank),
}
tried_ranks = [r for r in (1, 4, 16, 64) if r <= size]


def first_steps(rate):
    """Loss drop and size of the change after ten steps: convention -> rank -> mean over the draws."""
    found = {name: {r: train_toy(r, scale(r), rate, 10, rows=256, decay=False) for r in tried_ranks}
             for name, scale in conventions.items()}  # fmt: skip
    drops = {name: {r: 1 - missing.mean().item() for r, (missing, _) in each.items()} for name, each in found.items()}
    return drops, {name: {r: norm.mean().item() for r, (_, norm) in each.items()} for name, each in found.items()}


drops, sizes = first_steps(1e-4)
plotting.show(figures.first_steps(drops, sizes))
for rate in (1e-4, 1e-3):
    each = first_steps(rate)[0]["alpha 16"]
    print(f"alpha 16, rate {rate:g}: loss drop", ", ".join(f"{drop:.3f} at rank {r}" for r, drop in each.items()))

# %% [markdown]
# <details><summary>What it means</summary>
#
# - With one alpha the loss drop depends least on the rank, although the *size* of the change shrinks as the rank grows.
#   So the size says little about how much was learned.
# - With the other two conventions, more rank makes the first steps go further.
# - The second printed line has ten times the rate. Now the rank matters with one alpha as well: the argument below
#   holds for small steps.
#
# </details>
#
# <details><summary>Why does the loss drop change least with one alpha?</summary>
#
# AdamW's first step moves every number of $B$ by the learning rate. $BA$ is a sum of $r$ products. While the steps are
# small, each lowers the loss by about the same amount. Their sum grows with $r$ and the scale $\frac{\alpha}{r}$
# shrinks. The products also have random parts, which partly cancel in the sum. So the norm of the change grows more
# slowly than $r$, and shrinks after the scaling.
#
# </details>

# %% [markdown]
# ### You tuned the rate at rank 8. Does it fit another rank?
#
# Now whole trainings: 100 steps with linear decay, for several ranks and rates. The **regret** of a rate is what you
# lose by keeping it: the share missing with rank 8's best rate, minus the share missing with the rank's own best rate.
# Three draws choose the rates. The other six judge them, each against itself, so luck in the choice does not count.
#
# **Predict 5.** With which convention is the regret at rank 64 the largest?

# %%
predict("08.5", choices=list(conventions))

# %%
from functools import cache

from helpers.intervals import mean_t

steps, choosing, anchor = run.by_budget(quick=3, standard=100), draws // 3, experiment.RANK
lora_rates = run.by_budget(quick=(8e-3, 1.6e-2), standard=(2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2))
full_rates = run.by_budget(quick=(5e-4, 1e-3), standard=(2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3))


@cache
def missing_at(rank, scale, rate):
    """The share of the change that is still missing after training, each draw."""
    return train_toy(rank, scale, rate, steps)[0]


def best_rate(rank, scale, rates):
    return min(rates, key=lambda rate: missing_at(rank, scale, rate)[:choosing].mean().item())


# %% [markdown]
# Conventions that give a rank the same scale share its training: at rank 8, for example, the first two.

# %%
best, regrets, rows = {}, {}, {}
for convention, scale in conventions.items():
    for r in [r for r in (anchor, 1, 64) if r <= size]:
        own = best[convention, r] = best_rate(r, scale(r), lora_rates)
        at_own = missing_at(r, scale(r), own)[choosing:]
        lost = missing_at(r, scale(r), best[convention, anchor])[choosing:] - at_own
        regret = regrets[convention, r] = mean_t(lost.tolist())
        least = f"{1 - share_of_energy(wanted[0])[r - 1]:.3f}"
        same = "" if r == anchor else "0: the same rate"
        said = same if own == best[convention, anchor] else f"{regret:+.3f}"
        rows[f"{convention}, rank {r}"] = [f"{scale(r):.3g}", f"{own:g}", f"{at_own.mean():.3f}", least, said]
full_rate = best_rate(0, 1.0, full_rates)
rows["the full matrix"] = ["", f"{full_rate:g}", f"{missing_at(0, 1.0, full_rate)[choosing:].mean():.3f}", "0.000", ""]
print(
    "rates tried:", *(f"{rate:g}" for rate in lora_rates), "(full matrix:", *(f"{rate:g}" for rate in full_rates), ")"
)
largest = max(r for _, r in regrets)
reveal("08.5", max(conventions, key=lambda convention: regrets[convention, largest].value))
columns = ["scale", "best rate", "missing at it", "least possible (SVD)", "regret of rank 8's rate [95 %]"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %%
edges = {min(lora_rates), max(lora_rates)} & set(best.values()) | {min(full_rates), max(full_rates)} & {full_rate}
spans = {}
for convention in conventions:
    own = [rate for (name, _), rate in best.items() if name == convention]
    spans[convention] = max(own) / min(own)
    each = "; ".join(f"rank {r} {rows[f'{convention}, rank {r}'][-1]}" for r in (1, largest) if r != anchor)
    print(f"{convention}: best rates differ by a factor of {spans[convention]:g}. Regret: {each}")
ratio = best["alpha 16", anchor] / full_rate
print(f"LoRA's best rate at rank {anchor} is {ratio:g} times the full matrix's")
print("best rates at an edge of the grid:", ", ".join(f"{rate:g}" for rate in edges) or "none")

# %% [markdown]
# <details><summary>What it means</summary>
#
# - A regret near 0 says that rank 8's rate is good enough. It does not say that the best rates are equal: they may
#   differ where the loss is flat.
# - Why the conventions differ: one alpha has a scale of 16 at rank 1 and 0.25 at rank 64. With alpha = 2 rank the scale
#   stays at 2, so at a high rank more products add up.
# - A regret of 0 says that the grid, in steps of two, had one best rate. Look at what is missing as well: a rate that
#   carries over need not give a good result. A wide interval says that the draws disagree.
# - "Least possible" is the limit of the rank. What is missing beyond it is due to noise and to the few steps.
#
# The toy has one layer and one real spectrum. How the best rate of the reviews depends on the rank is not measured.
#
# </details>
#
# ### LoRA without regret
#
# Schulman et al. (Thinking Machines, 2025) asked when LoRA trains as well as full fine-tuning. Their models have
# billions of parameters. What they report, and what is seen here:

# %%
times = experiment.RATES["lora"] / experiment.RATES["full"]
equal_epochs = reference.gap("accuracy_lora", "accuracy_full_longer")
one_alpha = [regrets["alpha 16", r] for r in (1, largest)]
beyond = ", ".join(f"{rows[f'alpha 16, rank {r}'][2]} missing at rank {r}" for r in (1, anchor, largest))
seen = {
    "at a fixed alpha, the best rate hardly depends on the rank": "toy: best rates within a factor of "
    f"{spans['alpha 16']:g}; regret of rank 8's rate {one_alpha[0]:+.3f} at rank 1, {one_alpha[1]:+.3f} at {largest}",
    "LoRA's best rate is about ten times full fine-tuning's": f"toy: {ratio:g} times at rank {anchor}. "
    f"Reviews: {times:g} times, but both lie at a grid's edge (section 5)",
    "on small data LoRA learns as well as full fine-tuning": "reviews, word vectors frozen, LoRA minus all parameters: "
    f"five seeds {verdict(five.gap('accuracy_lora', 'accuracy_full'))}; with LoRA's epochs for both, "
    f"{len(reference.seeds)} seeds {verdict(equal_epochs)}",
    "LoRA falls behind when the data exceed its capacity": f"toy: {beyond}, {rows['the full matrix'][2]} with the "
    "full matrix. On text not measured",
    "adapt all layers; attention alone is worse, at equal parameters too": "lesson 09, with matched parameters",
    "LoRA suffers more from large batches": "not measured in this course",
    "in reinforcement learning even rank 1 is enough": "not measured in this course",
}
table = ["| they report | seen here |", "|---|---|", *(f"| {theirs_} | {here} |" for theirs_, here in seen.items())]
display(Markdown("\n".join(table)))

# %% [markdown]
# **A recipe to start from** (the works above; Dettmers et al. 2023):
#
# - LoRA on all linear layers, rank 8 to 16.
# - One alpha (16 or 32) for every rank, as in Hu et al. and Schulman et al. Many recipes have alpha = 2 rank instead.
#   Name the convention beside every rate.
# - About ten times the rate of full fine-tuning. Sweep the rate first, and again at the rank that you keep.
# - More rank only if the training loss stays above full fine-tuning's.

# %% [markdown]
# ## 7. A LoRA from the SVD
#
# ### Start from the weight's own directions
#
# LoRA starts with $BA = 0$. **PiSSA** (Meng et al. 2024) starts with the $r$ *largest* directions of the weight itself,
# and freezes the rest:
#
# $$W = \underbrace{W - s B A}_{\text{frozen}} + \underbrace{s B A}_{\text{trained}}, \qquad s = \frac{\alpha}{r}$$
#
# The outputs are unchanged.
#
# ### Exercise 08.3: PiSSA
#
# Given a weight (out, in), the rank and the scale $s$, return the frozen rest, `A` and `B`. Both take
# the square root of the singular values: $\|A\| = \|B\|$. The check compares with `init_lora_weights="pissa"`.


# %% tags=["exercise"]
def pissa(weight, rank, scale):
    return ..., ..., ...


check("08.3", pissa)
# hint("08.3")


# %% tags=["solution"]
def pissa(weight, rank, scale):
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    root = (sizes[:rank] / scale).sqrt()
    A, B = root.unsqueeze(1) * right[:rank], left[:, :rank] * root
    return weight - scale * B @ A, A, B


check("08.3", pissa)

# %% tags=["nbval-check-output"]
pissa = go_on_with("08.3", pissa, experiment.pissa)
started, _ = with_lora(copy.deepcopy(start_point))
with torch.no_grad():
    for layer in lora_layers(started).values():
        rest, A, B = pissa(layer.base.weight.double(), rank, layer.scaling)
        for place, value in ((layer.base.weight, rest), (layer.lora_A, A), (layer.lora_B, B)):
            place.copy_(value)
apart = (experiment.logits_of(started, some) - experiment.logits_of(start_point, some)).abs().max().item()
print("before the first step, the logits differ by less than 0.0001:", apart < 1e-4)
assert apart < 1e-4

# %% [markdown]
# A PiSSA adapter needs *its* frozen rest, not the published weight. So merge it, or save it as a plain LoRA of twice
# the rank (`peft` converts it: `path_initial_model_for_weight_conversion`). Other starts in `peft`: OLoRA (from a QR
# decomposition), EVA (from the activations of your data), LoftQ (from the error of a quantized base). Lesson 09 trains
# PiSSA beside LoRA.

# %% [markdown]
# ### Extract one from a fine-tuned model
#
# Somebody has fine-tuned all parameters, and you would like to ship less than the model. Cut each change with the SVD,
# and put the two factors into LoRA layers. No training is needed. The embeddings, biases, normalisations and the head
# are those of the tuned model, and have to be shipped as well: a LoRA of the matrices alone would lose them.

# %%
extracted = copy.deepcopy(tuned)
with torch.no_grad():
    with_changes(extracted.body, before, {path: torch.zeros_like(change) for path, change in changes.items()})
    with_lora(extracted)
    for path, layer in lora_layers(extracted.body).items():
        left, sizes_, right = torch.linalg.svd(changes[path], full_matrices=False)
        layer.lora_B.copy_(left[:, :rank] * sizes_[:rank] / layer.scaling)
        layer.lora_A.copy_(right[:rank])
score = accuracy_of(extracted, reviews.rows["validation"])
print(f"extracted LoRA of rank {rank}: {score.value:.3f}; the tuned model {whole.value:.3f} (validation reviews)")
thin = sum(layer.lora_A.numel() + layer.lora_B.numel() for layer in lora_layers(extracted.body).values())
full_matrices = sum(change.numel() for change in changes.values())
others = sum(parameter.numel() for parameter in tuned.parameters()) - full_matrices
print(f"to ship, in float32: {4e-3 * thin:,.0f} kB of factors in place of {4e-3 * full_matrices:,.0f} kB of matrices,")
print(f"and {4e-3 * others:,.0f} kB of embeddings, biases, normalisations and head")

# %% [markdown]
# ## 8. Look at a change
#
# One attention weight's change by full fine-tuning, what a truncation keeps, and what is left over. Move the slider. At
# which rank does the rest stop looking like a pattern?


# %%
def maps(rank):  # of the matrix whose singular values the toy of section 6 has
    return figures.change_maps(shown.numpy(), truncate(shown, rank).numpy(), rank)


print(shown_path)
plotting.show(maps(4))

from ipywidgets import HTML, SelectionSlider, VBox

slider = SelectionSlider(options=[1, 2, 4, 8, 16, 32, 64], value=8, description="rank", continuous_update=False)
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(maps(slider.value))


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])

# %% [markdown]
# The figure above the slider is its position at rank 4, for readers without a running kernel.
#
# ## 9. Find the bug
#
# A colleague wrote the layer once more. It starts as the layer that it replaces, the loss falls, no warning appears.
# Compare the losses and the sizes of the changes that the next cells print.


# %%
class TheirLoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        nn.init.zeros_(self.lora_A)


torch.manual_seed(seed)
toy = nn.Sequential(LoRALinear(nn.Linear(8, 8), 2, 4), nn.Linear(8, 2))
torch.manual_seed(seed)  # the same start for both
their_model = nn.Sequential(TheirLoRALinear(nn.Linear(8, 8), 2, 4), nn.Linear(8, 2))
features, classes = torch.randn(64, 8), torch.randint(2, (64,))
for title, candidate in (("ours", toy), ("theirs", their_model)):
    optimizer = torch.optim.AdamW([p for p in candidate.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(20):
        losses.append(nn.functional.cross_entropy(candidate(features), classes))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"{title:8}loss {losses[0].item():.3f} -> {losses[-1].item():.3f}, change {candidate[0].change().norm():.3f}")

# %% [markdown]
# ### Exercise 08.4: which parameters stand still?
#
# Write a check for any model. `losses` is a function that takes the model and returns its loss. Take `steps` steps of
# AdamW at rate 1e-2 with `weight_decay=0`, and return the names of the trainable parameters that are bit for bit what
# they were before. (One step is not enough: even a right LoRA moves only `B` in its first step. Why?)


# %% tags=["exercise"]
def standing_still(model, losses, steps=3):
    return ...


check("08.4", standing_still)
# hint("08.4")


# %% tags=["solution"]
def standing_still(model, losses, steps=3):
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    old = {name: value.detach().clone() for name, value in trainable.items()}
    optimizer = torch.optim.AdamW(trainable.values(), lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        losses(model).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [name for name, value in trainable.items() if torch.equal(value, old[name])]


check("08.4", standing_still)

# %% [markdown]
# <details><summary>What is wrong</summary>
#
# The gradient of $B$ contains $A$, and the gradient of $A$ contains $B$. If both are zero, both gradients are zero, at
# every step. The head learns, so the loss falls. That is why one of the two matrices starts at random. It is also why
# `A` does not move in the very first step: `B` is zero until then.
#
# (Why `weight_decay=0` in the check? Decay multiplies a parameter, so zero stays zero, and this bug shows either way.
# But it would move a *nonzero* parameter whose gradient is zero, and hide that it learns nothing.)
#
# </details>

# %% [markdown]
# ## 10. On real text
#
# The same functions on all-MiniLM-L6-v2, a published encoder with six blocks, and sentences of film reviews that people
# wrote and rated (Hutto and Gilbert 2014). `workbook real` fetches both once. The rates are the recipes for published
# models, which say where they come from; both methods get the same number of epochs. The reference has several seeds,
# each with its own training sentences.

# %%
from helpers import real
from helpers.lessons.lesson_08.experiment import REAL_EPOCHS, REAL_LABELS, REAL_TEST_ROWS
from helpers.recipes import recipe

real_values = {}
if track != "pocket" or real.trouble(["encoder", "texts"]):
    print("Not trained in this run: `workbook real` fetches the files. The lines below are the reference.")
else:
    sentences, real_tokenizer = catalog.dataset("reviews", "real"), catalog.tokenizer("encoder", "real")
    real_collate, real_epochs = pad(real_tokenizer), run.by_budget(quick=1, standard=REAL_EPOCHS)
    real_train = sample_rows(sentences["train"], run.by_budget(quick=32, standard=REAL_LABELS), seed)
    real_test = sentences["test"].select(range(run.by_budget(quick=32, standard=REAL_TEST_ROWS)))
    real_rows = [TokenizedReviews.from_dataset(tokenize(part, real_tokenizer)) for part in (real_train, real_test)]
    for name in ("full", "lora"):
        seed_everything(seed)
        candidate, rate = catalog.classifier("real"), recipe(name, "published").learning_rate
        start_weights = linear_weights(candidate.body)
        if name == "lora":
            candidate, _ = with_lora(candidate)
        seconds = fit(candidate, real_rows[0], rate, real_epochs, collate=real_collate)
        guesses, true = answers(candidate, real_rows[1], real_collate)
        real_values[f"accuracy_{name}"] = share((guesses == true).double()).value
        print(f"{experiment.TITLES[name]}: {real_values[f'accuracy_{name}']:.3f}, rate {rate:g}, {seconds:.0f} s, "
              f"{trainable_parameters(candidate):,} trained")  # fmt: skip
        if name == "full":
            spectrum = sorted(rank_for(change) for change in linear_changes(start_weights, candidate.body).values())
            real_values["rank_for_90_percent_median"] = spectrum[len(spectrum) // 2]
            print(f"   rank that holds 90 % of a change: from {spectrum[0]} to {spectrum[-1]} of 384, "
                  f"in the middle {spectrum[len(spectrum) // 2]}")  # fmt: skip

# %%
print(f"{REAL_LABELS} training and {REAL_TEST_ROWS} test sentences, {REAL_EPOCHS} epochs for both")
for name in ("full", "lora"):
    print(f"   {experiment.TITLES[name]}: {recipe(name, 'published')}")
measured, real_gap = real_reference("08"), None
if measured:
    print("Reference:", measured.label)
    for name in ("full", "lora"):
        print(f"{experiment.TITLES[name]}: accuracy {measured.interval(f'accuracy_{name}'):.3f}")
    real_gap = measured.gap("accuracy_lora", "accuracy_full")
    print(f"LoRA minus all parameters, {len(measured.seeds)} seeds: {verdict(real_gap)}")
if measured and (middle_rank := measured.metrics.get("rank_for_90_percent_median")):
    print(f"rank that holds 90 % of a change, in the middle: {min(middle_rank):.0f} to {max(middle_rank):.0f} of 384")

# %% [markdown]
# ### Other people's figures
#
# | model, task | all parameters | LoRA | less |
# |---|---|---|---|
# | DistilBERT, IMDB (Raschka, *LoRA from scratch*) | 92.6 % | 92.39 % | last two layers 86.22 % |
# | RoBERTa-base, GLUE mean (microsoft/LoRA) | 86.40, 125 M trained (RoBERTa's paper) | 87.24, 0.8 M trained | |
# | GPT-2, SMS spam (rasbt/LLMs-from-scratch, ch06) | 96.67 % | 96.67 % | last layer 72.0 % |
#
# Theirs, not ours: other models, other data. The LoRA paper's own headline is GPT-3: 10,000 times fewer
# trained parameters, a third of the memory.
#
# ## 11. Recap

# %%
share_of_all = outcomes["lora"].parameters / outcomes["full"].parameters
five_gap = five.gap("accuracy_lora", "accuracy_full")
said_regrets = ", ".join(f"{regrets[convention, largest]:+.3f} with {convention}" for convention in conventions)
on_real = f"{len(measured.seeds)} seeds {verdict(real_gap)}" if real_gap else "only in a run that has the files"
if real_values and not real_gap:
    on_real = f"{real_values['accuracy_lora'] - real_values['accuracy_full']:+.3f}, this run"
display(
    Markdown(f"""
1. **Full fine-tuning's change can be cut**: over five seeds, at rank 16 it has
   {five.interval("accuracy_truncated_rank_16").value:.3f} on validation reviews, whole
   {five.interval("accuracy_truncated_whole").value:.3f}, without the matrices' changes
   {five.interval("accuracy_truncated_rank_0").value:.3f}. For 90 % of the energy half of the matrices need rank
   {middle} or more (*section 2, this run*).
2. **Your LoRA is `peft`'s**: logits differ by {difference_lora_peft:.0e}, merged by {difference_merge:.0e}, and `peft`
   loads your file (*section 4, the assertions*).
3. **Your LoRA** trains {share_of_all:.1%} of the parameters. LoRA minus full fine-tuning, five seeds (six epochs
   against three, both rates at a grid's edge): {verdict(five_gap)}. With six epochs for both, {len(reference.seeds)}
   seeds: {verdict(equal_epochs)} (*sections 5 and 6*). On real text, with equal epochs: {on_real} (*section 10*).
4. **Forgetting**: topics, LoRA minus full fine-tuning, five seeds: {verdict(less_forgotten)} (*section 5*).
5. **Rank, alpha and rate belong together**: on the toy, keeping rank 8's rate at rank {largest} costs
   {said_regrets} of the change ({draws - choosing} draws, *section 6*).
""")
)

# %%
from helpers.record import record

values = {"difference_lora_peft": difference_lora_peft, "difference_merge": difference_merge}
values |= {f"accuracy_{name}": outcome.accuracy.value for name, outcome in floor.items()}
for name, outcome in outcomes.items():
    values |= outcome.metrics(name)
    values |= {f"accuracy_topics_{name}": after[name], f"path_{name}": paths[name]}
values |= {"accuracy_topics_before": topics_before, "checkpoint_bytes_lora": adapter_bytes}
values |= {"checkpoint_bytes_full": full_bytes, "accuracy_matched": matched}
values |= {f"accuracy_topics_{name}_matched": kept for name, kept in kept_topics.items()}
values |= {f"accuracy_truncated_rank_{kept}": score.value for kept, score in cut.items()}
values |= {"accuracy_truncated_whole": whole.value, "rank_for_90_percent": needed}
values |= {"accuracy_extracted": score.value, **{f"intruders_{name}": count for name, count in counts.items()}}
values |= {f"accuracy_lora_rank_{tried}": found.value for tried, found in by_rank.items()}
values |= {"intruders_full_at_lora_size": grown, "intruders_lora_at_full_size": shrunk, "toy_rate_ratio": ratio}
for convention, short in zip(conventions, ("alpha_16", "alpha_2r", "rslora"), strict=True):
    values[f"toy_regret_{short}"] = regrets[convention, largest].value
values |= {f"real_{metric}": value for metric, value in real_values.items()}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data, "labels": labels}
parameters |= {"rank": rank, "alpha": alpha, "rate_scale": rate_scale}
saved = record("08_lora_pytorch", parameters, **values)
folder.cleanup()
print(f"saved: {saved.name}")
solved("08")

# %% [markdown]
# ## Next
#
# - More or less room: `workbook run 08 -p rank 2`, or `-p rank 16` (alpha stays at 16). Does the accuracy follow?
# - Slower: `workbook run 08 -p rate_scale 0.5`. Compare the accuracy, then the topics. (At twice its rate LoRA fell to
#   chance.)
# - With few labels: `workbook run 08 -p labels 200`. Is LoRA nearer to full fine-tuning, or further away?
# - Lesson 09 does all of this with the library, in a few lines, and tries LoRA's relatives.
#
# ## References
#
# | work | year |
# |---|---|
# | Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*; the code: microsoft/LoRA | 2021 |
# | Aghajanyan et al., *Intrinsic Dimensionality Explains the Effectiveness of Language Model Fine-Tuning* | 2020 |
# | Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs* | 2023 |
# | Eckart and Young, *The Approximation of One Matrix by Another of Lower Rank* | 1936 |
# | Biderman et al., *LoRA Learns Less and Forgets Less* | 2024 |
# | Hutto and Gilbert, *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text* | 2014 |
# | Kalajdzievski, *A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA* | 2023 |
# | Meng et al., *PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models* | 2024 |
# | Schulman et al., *LoRA Without Regret*, Thinking Machines Lab | 2025 |
# | Shuttleworth et al., *LoRA vs Full Fine-tuning: An Illusion of Equivalence* | 2024 |
# | Raschka, *LoRA from scratch* | studio |
# | Raschka, *Build a Large Language Model (From Scratch)*; the code: rasbt/LLMs-from-scratch | 2024 |
