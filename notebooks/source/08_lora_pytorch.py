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
# Fine-tuning adds a change to every weight of a model. [LoRA](../docs/glossary.md#lora) (Hu et al. 2021) bets that this
# change is simple: that two thin matrices can hold it. We look at a real change first, then build LoRA by hand, and
# adapt a model with it.
#
# *About 45 minutes to read (an estimate), two and a half to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - take a weight's change apart with the singular value decomposition, and say how many directions it needs;
# - write a LoRA layer: frozen weight, A, B, scale, dropout, merge and unmerge;
# - put it into any model, save it in `peft`'s format, and show that `peft` computes the same;
# - compare LoRA with full fine-tuning and with the head alone, also in what they forget.

# %%
import copy
import math
import tempfile
from pathlib import Path
from textwrap import shorten

import pandas as pd
import torch
from torch import nn

from helpers import catalog, plotting
from helpers.batches import TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.checks import check, hint, solved  # noqa: F401 - hint("08.1") helps when you are stuck
from helpers.evaluation import Outcome
from helpers.intervals import mean_t, paired_bootstrap, wilson
from helpers.lessons.lesson_08 import experiment, figures
from helpers.predictions import predict, reveal
from helpers.runtime import UserError, check_number, seed_everything, start
from helpers.training import trainable_parameters

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": more ranks, all labels
seed = 0  # draws the training rows and every random start
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 2000  # film reviews with a label to adapt to
rank = 8  # of LoRA's matrices: more can hold more, and costs more
alpha = 16.0  # the branch is scaled by alpha / rank
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
epochs = {name: run.by_budget(quick=1, standard=passes) for name, passes in experiment.EPOCHS.items()}
rates = {name: rate * rate_scale for name, rate in experiment.RATES.items()}

# %% [markdown]
# ## 1. A model that already knows a task
#
# Two tasks: *topics*, short news in four classes (the course's AG News), and *reviews*, is a film review positive (its
# IMDB)? A small class holds one task. Its `iterators` give batches to train on and batches to test on.

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
    print(f"   the first: {tuple(batch['input_ids'].shape)}, as in: {shorten(task.parts['train'][0]['text'], 70)}")

# %% [markdown]
# First every parameter learns the topics. The loop, the optimizer and the schedule are lesson 02's, in
# `helpers.lessons.lesson_08.experiment`. On a GPU, or a CPU with AVX512_BF16 instructions, matrix products run in
# bfloat16, which takes about half of the time. On other CPUs, and wherever we compare to the bit, they run in float32.

# %%
learner = experiment.Learner(collate, epochs=run.by_budget(quick=1, standard=experiment.FIRST_EPOCHS), seed=seed)
seed_everything(seed)
knows_topics = catalog.classifier(track, model, len(topics.classes)).to(run.device)
learner.fit(knows_topics, topics.rows["train"], experiment.FIRST_RATE, progress="topics")
topics_before = learner.accuracy(knows_topics, topics.rows["test"])
print(f"topics, test rows: {topics_before:.1%} right")

# %% [markdown]
# Now this model is to judge reviews. The body stays, the head is new: two classes in place of four. We keep the topics
# head, so that we can ask later what is left of the topics.

# %%
topics_head = experiment.new_head(knows_topics, len(reviews.classes), seed)
start_point = knows_topics  # every method below starts from a copy of it


def look_at(candidate, path):
    """Note how many reviews and how many topics a model gets right now (validation rows)."""
    new = learner.accuracy(candidate, look_reviews)
    path.append((new, learner.accuracy(candidate, look_topics, topics_head)))


few = min(look_count, len(reviews.rows["validation"]), len(topics.rows["validation"]))
look_reviews = reviews.rows["validation"].select(range(few))
look_topics = topics.rows["validation"].select(range(few))

# %% [markdown]
# ## 2. What does full fine-tuning change?
#
# We train everything on the reviews, as in lesson 02, and stop six times on the way to look at both tasks.

# %%
outcomes, paths = {}, {}


def adapt(candidate, name, title):
    """Train what may move in `candidate`, watch both tasks, and predict the test reviews."""
    paths[name] = []
    learner.epochs = epochs[name]
    options = {"look": lambda: look_at(candidate, paths[name]), "times": 6, "progress": title}
    history = learner.fit(candidate, reviews.rows["train"], rates[name], **options)
    return measure(candidate, name, title, history)


def measure(candidate, name, title, history):
    outcomes[name] = learner.outcome(title, candidate, reviews.rows["test"], history)
    said = f"{outcomes[name].accuracy:.3f} on test reviews, {outcomes[name].parameters:,} parameters trained"
    print(f"{title}: {said}")
    return candidate


tuned = copy.deepcopy(start_point).requires_grad_(True)
tuned = adapt(tuned, "full", experiment.TITLES["full"])

# %% [markdown]
# The **change** of a weight is after minus before. It has the shape of the weight: 128 x 128 in attention. The
# singular value decomposition writes it as a sum of directions, the largest first; keeping the first $r$ gives the
# closest matrix of *[rank](../docs/glossary.md#rank)* $r$ (Eckart and Young 1936). How close? We count the share of its
# *energy*, the sum of the squared entries.


# %%
def truncate(change, rank):
    """The closest matrix of this rank: the `rank` largest singular values and their directions."""
    left, sizes, right = torch.linalg.svd(change, full_matrices=False)
    return left[:, :rank] * sizes[:rank] @ right[:rank]  # (out, rank) @ (rank, in)


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
    "attention": [p for p in changes if "attention" in p],
    "feed-forward": [p for p in changes if "attention" not in p],
}
energies = {
    kind: torch.stack([share_of_energy(changes[path]) for path in paths_]).mean(dim=0)
    for kind, paths_ in kinds.items() if paths_
}  # fmt: skip
one = changes[next(iter(changes))]
draws = torch.Generator().manual_seed(seed)
energies["random numbers"] = share_of_energy(torch.randn(one.shape, generator=draws))
energies = {name: shares.tolist() for name, shares in energies.items()}
plotting.show(figures.energies(energies, marked=min(rank, len(one))))
reveal("08.1", next(iter(energies.values()))[min(8, len(one)) - 1])

# %% [markdown]
# How many directions would a matrix need to hold 90 % of its change?

# %%
needed = sorted(rank_for(change) for change in changes.values())
middle = needed[len(needed) // 2]
print(f"rank that holds 90 % of a change: from {needed[0]} to {needed[-1]}, in the middle {middle}")

# %% [markdown]
# **Predict 2.** Energy is not accuracy. We cut every weight's change down to rank $r$ (embeddings, biases,
# normalisations and head stay as trained) and test on validation reviews. We try the ranks 1, 2, 4, 8 and 16. Which is
# the first that comes within one point of the whole change?

# %%
predict("08.2", choices=["1", "2", "4", "8", "16", "none of them"])


# %%
def accuracy_of(candidate, rows):
    guesses, true = learner.answers(candidate, rows)
    return wilson(int((guesses == true).sum()), len(true))


cut = {}
for kept in run.by_budget(quick=(0, 1), standard=(0, 1, 2, 4, 8, 16)):
    shorter = {path: truncate(change, kept) for path, change in changes.items()}
    candidate = copy.deepcopy(tuned)
    with_changes(candidate.body, before, shorter)
    cut[kept] = accuracy_of(candidate, reviews.rows["validation"])
whole = accuracy_of(tuned, reviews.rows["validation"])
lines = {"the whole change": whole.value, "no change of the matrices": cut[0].value}
drawn = {"change cut to this rank": {kept: score for kept, score in cut.items() if kept}}
plotting.show(figures.accuracy_by_rank(drawn, lines))
close = [str(kept) for kept, score in cut.items() if kept and score.value >= whole.value - 0.01]
reveal("08.2", next(iter(close), "none of them"))

# %% [markdown]
# <details><summary>What it means</summary>
#
# A few directions hold most of the energy, far more than they would of random numbers; the rest is spread thinly over
# many, since training moves every weight a little, and much of that is of no use to the answer. Accuracy asks only for
# what is. This is the bet behind LoRA. Mind the dashed and dotted lines:
# embeddings, biases, normalisations and head stayed as trained, and one of the lines says how far they get alone.
#
# </details>

# %% [markdown]
# ### Exercise 08.1: a change as two thin matrices
#
# Write the truncation as a product of two matrices, `B` (out, rank) and `A` (rank, in). How many numbers is that?


# %% tags=["exercise"]
def factors(change, rank):
    return ..., ...


check("08.1", factors)
# hint("08.1")


# %% tags=["solution"]
def factors(change, rank):
    left, sizes, right = torch.linalg.svd(change, full_matrices=False)
    return left[:, :rank] * sizes[:rank], right[:rank]


check("08.1", factors)

# %% [markdown]
# ## 3. A layer with a low-rank branch
#
# The truncation needs the finished [full fine-tuning](../docs/glossary.md#full-fine-tuning). LoRA turns the order
# round: freeze $W$, and *train* the two thin matrices from the start.
#
# $$h = W x + \frac{\alpha}{r}\, B A x, \qquad A: r \times \text{in}, \quad B: \text{out} \times r$$
#
# $B$ starts at zero, so the product is zero and the first output is the old one. $A$ starts random: were both zero,
# neither would ever get a gradient.


# %%
class LoRALinear(nn.Module):
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

    def forward(self, x):
        if self.original is not None:
            return self.base(x)
        thin = nn.functional.linear(self.dropout(x), self.lora_A)  # (..., in) -> (..., rank)
        return self.base(x) + nn.functional.linear(thin, self.lora_B) * self.scaling  # (..., out)

    def change(self):
        return self.lora_B @ self.lora_A * self.scaling


# %% [markdown]
# [Dropout](../docs/glossary.md#dropout), where it is used, thins out the branch's input only. Does the layer start as
# the layer it replaces, and what may move in it?

# %% tags=["nbval-check-output"]
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
# ### Exercise 08.2: when is a branch no saving?
#
# A higher rank holds more. What is the largest rank at which A and B together still hold fewer numbers than the matrix?


# %% tags=["exercise"]
def last_saving_rank(inputs, outputs):
    return ...


check("08.2", last_saving_rank)
# hint("08.2")


# %% tags=["solution"]
def last_saving_rank(inputs, outputs):
    return (inputs * outputs - 1) // (inputs + outputs)


check("08.2", last_saving_rank)

# %% [markdown]
# **[Merging](../docs/glossary.md#merging)** adds the branch to the weight. After that the layer costs what the plain
# layer costs: an adapted model need not be slower. We keep the old weight, so that unmerging gives it back *to the
# bit*. Subtracting the branch again, as `peft` does, saves that memory and leaves a rounding error.


# %%
def lora_layers(model):
    return {path: module for path, module in model.named_modules() if isinstance(module, LoRALinear)}


@torch.no_grad()
def merge(model):
    for layer in lora_layers(model).values():
        if layer.original is None:
            layer.original = layer.base.weight.clone()
            layer.base.weight += layer.change()
    return model


@torch.no_grad()
def unmerge(model):
    for layer in lora_layers(model).values():
        if layer.original is not None:
            layer.base.weight.copy_(layer.original)
            layer.original = None
    return model


# %% tags=["nbval-check-output"]
nn.init.normal_(layer.lora_B)  # as if it had been trained
apart = layer(x)
assert (merge(layer)(x) - apart).abs().max() < 1e-5 * apart.abs().max()
assert not torch.equal(layer.base.weight, plain.weight)
assert torch.equal(unmerge(layer).base.weight, plain.weight) and torch.equal(layer(x), apart)
print("merged: the same outputs up to rounding; unmerged: the same weight, to the bit")

# %% [markdown]
# ## 4. Into the whole model, and `peft` agrees
#
# To adapt a model we freeze it, and put a LoRA layer in place of every linear layer whose path ends in a given name.
# This is `peft`'s rule too.


# %%
def add_lora(model, targets, rank, alpha):
    model.requires_grad_(False)
    ends = tuple(f".{target}" for target in targets)
    found = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    for path, module in found.items():
        if path.endswith(ends):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, LoRALinear(module, rank, alpha))
    return model


targets = experiment.block_targets(start_point)
by_hand = add_lora(copy.deepcopy(start_point), targets, rank, alpha)
print(f"targets: {', '.join(targets)}")
print(f"{len(lora_layers(by_hand))} layers replaced, {trainable_parameters(by_hand):,} parameters may move")

# %% [markdown]
# `helpers.lora` holds the same layer for the lessons that follow, and an `inject` that refuses what cannot work: a name
# that fits nothing, a rank of zero. Both say it in one sentence, before anything is changed.

# %% tags=["nbval-check-output"]
from helpers import lora

for wrong in ({"targets": ("qeury",), "rank": 8}, {"targets": tuple(targets), "rank": 0}):
    try:
        lora.inject(copy.deepcopy(start_point), wrong["targets"], rank=wrong["rank"], alpha=alpha)
    except UserError as error:
        print(error)

# %% [markdown]
# Now the library. Same base, same targets, and our A and B copied into its layers. Its arithmetic has the order of
# ours, so on the CPU in float32 the logits should be equal **to the bit**: not close, equal.

# %%
from peft import LoraConfig, PeftModel, get_peft_model

ours = copy.deepcopy(start_point)
lora.inject(ours, targets, rank=rank, alpha=alpha, modules_to_save=("head",))
for layer in lora.lora_layers(ours).values():
    nn.init.normal_(layer.lora_B, std=0.05)  # with B at zero, any two branches agree
config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, modules_to_save=["head"])
theirs = get_peft_model(copy.deepcopy(start_point), config)
with torch.no_grad():
    for path, layer in lora.lora_layers(ours).items():
        twin = theirs.base_model.model.get_submodule(path)
        twin.lora_A["default"].weight.copy_(layer.lora_A)
        twin.lora_B["default"].weight.copy_(layer.lora_B)

# %% tags=["nbval-check-output"]
some = next(iter(reviews.iterators(16)[0]))
logits = experiment.logits_of(ours, some)
difference_lora_peft = (logits - experiment.logits_of(theirs, some)).abs().max().item()
print("difference to peft's logits is zero:", difference_lora_peft == 0.0)
assert difference_lora_peft <= 1e-6  # another processor may add in another order
difference_merge = (experiment.logits_of(lora.merge(ours), some) - logits).abs().max().item()
largest = max(1.0, logits.abs().max().item())
print("merged, the logits differ by less than 0.00001:", difference_merge < 1e-5 * largest)
assert difference_merge < 1e-5 * largest
lora.unmerge(ours)
assert torch.equal(experiment.logits_of(ours, some), logits)

# %% [markdown]
# Why is merged only *nearly* the same? $(W + BA)x$ adds the weights first and multiplies once; $Wx + BAx$ multiplies
# first. Each rounds in another place.
#
# An [adapter](../docs/glossary.md#adapter) is small, so it travels alone: `save_adapter` writes the two files that
# `peft` would write, with `peft`'s names inside. `PeftModel.from_pretrained` has to load them as its own.

# %% tags=["nbval-check-output"]
from helpers.lora_files import load_adapter, save_adapter

folder = tempfile.TemporaryDirectory()
kept = Path(folder.name) / "untrained"
save_adapter(ours, kept, modules_to_save=("head",))
loaded = PeftModel.from_pretrained(copy.deepcopy(start_point), kept)
assert torch.equal(experiment.logits_of(loaded, some), logits)
print("files:", ", ".join(sorted(path.name for path in kept.iterdir())))
print("loaded by peft: the same logits, to the bit")

# %% [markdown]
# The adapter is a change *to a base*. On another base it would compute something, but nothing useful. Our file carries
# a fingerprint of the frozen weights; `peft`'s do not.

# %% tags=["nbval-check-output"]
other = catalog.classifier(track, model, len(reviews.classes))  # the pretrained model: it never saw the topics
try:
    load_adapter(other, kept)
except UserError as error:
    print(error)

# %% [markdown]
# ## 5. The adaptation
#
# Three ways from topics to reviews: the head alone (on cached features, lesson 02's shortcut), LoRA on every linear
# layer of the blocks plus the head, and everything (done above). Same rows, optimizer and schedule. Learning rate and
# [epochs](../docs/glossary.md#epoch) come from one grid for both, on validation rows of two seeds (`python -m
# benchmarks.lora --tune`). LoRA needed a higher rate and twice the passes.
#
# **Predict 3.** LoRA trains about one parameter in twenty. How many points of accuracy will that cost?

# %%
predict("08.3", within=1, unit="points")

# %%
frozen = experiment.prepare(copy.deepcopy(start_point), "head_only")
learner.epochs = epochs["head_only"]
history = learner.fit_head(frozen, reviews.rows["train"], rates["head_only"])
frozen = measure(frozen, "head_only", experiment.TITLES["head_only"], history)
paths["head_only"] = [paths["full"][0]]  # the body stands still, and so do the topics
look_at(frozen, paths["head_only"])

# %%
low_rank = experiment.prepare(copy.deepcopy(start_point), "lora", rank=rank, alpha=alpha)
low_rank = adapt(low_rank, "lora", experiment.TITLES["lora"])

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

# %%
adapter_bytes = save_adapter(low_rank, Path(folder.name) / "reviews", modules_to_save=("head",))
full_bytes = sum(value.numel() * value.element_size() for value in tuned.state_dict().values())
rows = {outcome.title: [f"{outcome.accuracy:.3f}", "", "", "", ""] for outcome in floor.values()}
for name in ("head_only", "lora", "full"):
    outcome = outcomes[name]
    saved = {"head_only": 4 * outcome.parameters, "lora": adapter_bytes, "full": full_bytes}[name]
    share = outcome.parameters / outcomes["full"].parameters
    cost = [f"{outcome.parameters:,}", f"{share:.1%}", f"{saved / 1e3:,.0f}", f"{outcome.seconds:.0f}"]
    rows[outcome.title] = [f"{outcome.accuracy:.3f}", *cost]
columns = ["accuracy [95 %]", "trained parameters", "of all", "to keep (kB)", "training seconds"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# The same test reviews were judged by all three, so the differences can be paired, as in lesson 02.

# %%
from helpers.reference import recorded

gaps = {}
for other_name in ("full", "head_only"):
    gaps[other_name] = paired_bootstrap(outcomes["lora"].correct, outcomes[other_name].correct, seed=seed)
    print(f"LoRA against {outcomes[other_name].title}: {gaps[other_name]:+.3f}")
pairs = zip(recorded("08", "accuracy_full"), recorded("08", "accuracy_lora"), strict=True)
reveal("08.3", -100 * gaps["full"].value, reference=[100 * (high - low) for high, low in pairs])

# %% [markdown]
# <details><summary>What it means</summary>
#
# - *Against all parameters* is the price of the low rank, of frozen word vectors (section 6 tells the two apart), and
#   of time: B starts at zero and needs more passes before it says much.
# - Is the rank to blame? Compare with section 2, where full fine-tuning's change was cut to the same rank.
# - *Against the head alone* is what the branches are worth. Head-only is the control that LoRA has to beat: it is
#   cheaper still.
# - *Seconds* are not where LoRA saves, at this size: it had twice the passes, and a pass costs as much. The gradient
#   still travels back through every layer; only the weights' own gradients are spared. What shrinks is what has to be
#   kept: gradients and optimizer states (lesson 11 counts them), and the file.
#
# </details>

# %% [markdown]
# ### What is left of the topics?
#
# Each method now judges reviews. We put the old head back and ask for topics. The methods reach different accuracies,
# and whoever learns more may forget more; so the figure shows the whole way, not only its end.

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
off = copy.deepcopy(low_rank)
lora.eject(off)  # the branches out, and the old model is back
assert learner.accuracy(off, look_topics, topics_head) == paths["lora"][0][1]

# %% [markdown]
# <details><summary>What it means</summary>
#
# LoRA is said to learn less and to forget less (Biderman et al. 2024). Judge by the lines printed above, then run it
# with another seed before you believe it: in our trials it went either way. The learning rate matters as much. LoRA
# needs a higher one than full fine-tuning to come as far, and steps that change the answers to one task change them for
# the other, through whichever matrices they go.
#
# What LoRA does give is another kind of memory: the base was never touched. Take the branches out, and the old model is
# back, every topic of it. Full fine-tuning has nothing to take out.
#
# </details>

# %% [markdown]
# ## 6. How much rank?
#
# **Predict 4.** The cut-off changes of section 2 were made after training; here the rank binds from the first step.
# Will rank 1 do?

# %%
by_rank = {rank: outcomes["lora"].accuracy}
sweep = run.by_budget(quick=(1,), standard=(), full=(1, 2, 4, 8, 16, 32))
learner.epochs = epochs["lora"]
for tried in sweep:
    if tried not in by_rank:
        candidate = experiment.prepare(copy.deepcopy(start_point), "lora", rank=tried, alpha=alpha)
        history = learner.fit(candidate, reviews.rows["train"], rates["lora"], progress=f"rank {tried}")
        by_rank[tried] = learner.outcome(f"rank {tried}", candidate, reviews.rows["test"], history).accuracy
        print(f"rank {tried}: {by_rank[tried]:.3f}, {trainable_parameters(candidate):,} parameters trained")

# %% [markdown]
# Every rank costs a training, and one run is one draw. The **reference** is *not* from this run: a command in this
# repository did the same for several seeds. Its intervals are Student's, over seeds (lesson 12 computes one by hand).
# This run is drawn beside it; with `budget = "full"` it trains every rank itself.

# %%
from helpers.reference import load_reference

reference = load_reference("lora")
there = {tried: reference.interval(f"accuracy_lora_rank_{tried}") for tried in experiment.TRAINED_RANKS}
there |= {experiment.RANK: reference.interval("accuracy_lora")}
drawn = {"reference: LoRA trained at this rank": there, "this run": by_rank}
lines = {f"reference: {experiment.TITLES[name]}": reference.interval(f"accuracy_{name}").value
         for name in ("full", "head_only")}  # fmt: skip
plotting.show(figures.accuracy_by_rank(drawn, lines))
print("Reference:", reference.label)

# %% [markdown]
# The same command also trained everything but the embeddings (the word vectors), and everything with as many epochs as
# LoRA had. What does LoRA miss: rank, words, or time?

# %%
titles = experiment.TITLES | {"full_longer": "all parameters, LoRA's epochs"}


def each_seed(metric):
    return ", ".join(f"{value:.2f}" for value in reference.metrics[metric])


rows = {}
for name in ("head_only", "lora", "blocks", "full", "full_longer"):
    count, score = reference.metrics[f"trainable_parameters_{name}"][0], reference.interval(f"accuracy_{name}")
    here = f"{outcomes[name].accuracy.value:.3f}" if name in outcomes else ""
    rows[titles[name]] = [f"{count:,}", f"{score:.3f}", here, each_seed(f"accuracy_topics_{name}")]
for name in ("full", "lora"):
    print(f"{titles[name]:16}topics when both were first equal: {each_seed(f'accuracy_topics_{name}_matched')}")
pairs = zip(reference.metrics["accuracy_lora"], reference.metrics["accuracy_full"], strict=True)
reference_gap = mean_t([low - high for low, high in pairs])
print(f"reviews, LoRA against all parameters: {reference_gap:+.3f}")
columns = ["trained parameters", "reviews: reference [95 %]", "this run", "topics afterwards: each seed"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What it means</summary>
#
# - *Rank*: one direction per matrix does most of what eight do. The rank is not where LoRA's points are lost.
# - *Words*: LoRA's branches sit in the blocks; the word vectors stay as they were. So compare LoRA with the row that
#   trains all but the embeddings. What that row lacks, no rank gives back.
# - *Time*: everything, trained as long as LoRA, gains little or nothing. LoRA had to be given the longer time.
# - *Topics* differ more between seeds than between methods: one run says nothing about who forgets less.
# - The gap differs from seed to seed, and this run's is one of them. Three seeds leave a wide interval: read its ends,
#   not only its middle.
#
# </details>

# %% [markdown]
# ### Other people's figures
#
# | model, task | all parameters | LoRA | less |
# |---|---|---|---|
# | DistilBERT, IMDB (Raschka, *LoRA from scratch*) | 92.6 % | 92.39 % | last two layers 86.22 % |
# | RoBERTa-base, GLUE mean (microsoft/LoRA) | 86.40, 125 M trained | 87.24, 0.8 M trained | |
# | GPT-2, SMS spam (rasbt/LLMs-from-scratch, ch06) | 96.67 % | 96.67 % | last layer 72.0 % |
#
# Theirs, not ours: other models, other data. The LoRA paper's own headline is GPT-3: 10,000 times fewer trained
# parameters, a third of the memory.

# %% [markdown]
# ## 7. Look at a change
#
# One attention weight's change by full fine-tuning, what a truncation keeps, and what is left over. Move the slider.
# At which rank does the rest stop looking like a pattern?

# %%
shown_path = kinds["attention"][-1] if kinds["attention"] else next(iter(changes))
shown = changes[shown_path]


def maps(rank):
    return figures.change_maps(shown.numpy(), truncate(shown, rank).numpy(), rank)


print(shown_path)
plotting.show(maps(4))

# %%
from ipywidgets import HTML, SelectionSlider, VBox

options = [1, 2, 4, 8, 16, 32, 64]
slider = SelectionSlider(options=options, value=8, description="rank", continuous_update=False)
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(maps(slider.value))


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])

# %% [markdown]
# The figure above the slider is its position at rank 4, for readers without a running kernel.
#
# ## 8. Find the bug
#
# A colleague wrote the layer once more. At rank 1 it is ours, to the bit. At a higher rank, with nothing else changed,
# the learning rate that was right is suddenly too high. Nothing raises. The figure shows how far ten steps of AdamW
# move the weight.


# %%
class TheirLoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        self.scaling = alpha


def distance_after(layer_class, rank, steps=10):
    """Train one branch for a few steps on a random target; return the size of the change."""
    torch.manual_seed(seed)
    layer = layer_class(nn.Linear(128, 128), rank, alpha)
    optimizer = torch.optim.AdamW([layer.lora_A, layer.lora_B], lr=1e-3)
    x, target = torch.randn(64, 128), torch.randn(64, 128)
    for _ in range(steps):
        nn.functional.mse_loss(layer(x), target).backward()
        optimizer.step()
        optimizer.zero_grad()
    return layer.change().norm().item()


# %%
tried_ranks = (1, 2, 4, 8, 16, 32)
moved = {
    name: {tried: distance_after(kind, tried) for tried in tried_ranks}
    for name, kind in (("ours", LoRALinear), ("theirs", TheirLoRALinear))
}
what = "size of the change after ten steps"
plotting.show(figures.sizes_by_rank(moved, what))

# %% [markdown]
# ### Exercise 08.3: mend it
#
# Write the layer's output as a function, for a rank of any size.


# %% tags=["exercise"]
def mended(x, base, lora_A, lora_B, alpha):
    return ...


check("08.3", mended)
# hint("08.3")


# %% tags=["solution"]
def mended(x, base, lora_A, lora_B, alpha):
    thin = nn.functional.linear(x, lora_A)
    return base(x) + nn.functional.linear(thin, lora_B) * alpha / len(lora_A)


check("08.3", mended)

# %% [markdown]
# Whoever tunes the learning rate at a small rank and then turns the rank up is bitten by it: the steps grow with the
# rank. And why does *our* line fall? The branch sums `rank` terms of mixed signs, so it grows only with the square
# root, while the scale shrinks with the rank itself. Lesson 09 meets the answer to that, rsLoRA.
#
# ## 9. Recap: what this run showed

# %%
from IPython.display import Markdown, display

share = outcomes["lora"].parameters / outcomes["full"].parameters
display(
    Markdown(f"""
1. **Full fine-tuning's change is of low rank, for what matters**: cut to rank {max(cut)}, the model has
   {cut[max(cut)].value:.3f} on validation reviews, whole {whole.value:.3f}, without it {cut[0].value:.3f}. For 90 %
   of the energy half of the matrices need rank {middle} or more (*section 2*).
2. **LoRA by hand is `peft`'s**: logits differ by {difference_lora_peft:.0e}, merged by {difference_merge:.0e} (*section
   4, the assertions*).
3. **LoRA** trains {share:.1%} of the parameters and gets {outcomes["lora"].accuracy:.3f}; against everything
   {gaps["full"]:+.3f}, over the reference's seeds {reference_gap:+.3f}; against the head alone
   {gaps["head_only"]:+.3f} (*sections 5 and 6, the tables*).
4. **Forgetting**, when both first had {matched:.1%} of the reviews: topics {kept_topics["lora"]:.1%} with LoRA,
   {kept_topics["full"]:.1%} with all parameters (*section 5, the figure*).
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
values |= {f"accuracy_lora_rank_{tried}": score.value for tried, score in by_rank.items()}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data, "labels": labels}
parameters |= {"rank": rank, "alpha": alpha, "rate_scale": rate_scale}
saved = record("08_lora_pytorch", parameters, **values)
folder.cleanup()
print(f"saved: {saved.name}")
solved("08")

# %% [markdown]
# ## Next
#
# - More or less room: `workbook run 08 -p rank 2`, or `-p alpha 64`. Does the accuracy follow?
# - Faster: `workbook run 08 -p rate_scale 2`. Compare the accuracy, and then the topics.
# - With few labels: `workbook run 08 -p labels 200`. Is LoRA nearer to full fine-tuning, or further away?
# - Lesson 09 does all of this with the library, in a few lines, and tries LoRA's relatives.
#
# ## References
#
# | work | year |
# |---|---|
# | Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*; the code: microsoft/LoRA | 2021 |
# | Eckart and Young, *The Approximation of One Matrix by Another of Lower Rank* | 1936 |
# | Biderman et al., *LoRA Learns Less and Forgets Less* | 2024 |
# | Raschka, *LoRA from scratch* | studio |
# | Raschka, *Build a Large Language Model (From Scratch)*; the code: rasbt/LLMs-from-scratch | 2024 |
