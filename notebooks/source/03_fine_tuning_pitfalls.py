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
# # How does fine-tuning go wrong, and how would you see it?
#
# Fine-tuning rarely fails with an error message. It fails with a number that looks fine. Here we make it go wrong in
# four ways on purpose, find the measurement that gives each one away, and mend it.
#
# *About 50 minutes to read (an estimate), two and a half to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - say how many labels pretraining saves, with intervals;
# - tell underfitting from overfitting by two curves, and stop in time, by hand and with `Trainer`;
# - measure what a model has forgotten, and compare four ways to keep it;
# - find the leaks that make a test score too good: shared films, copied rows, choosing on the test rows.

# %%
import copy
import tempfile

import numpy as np
import pandas as pd
import torch
from torch import nn

from helpers import catalog, plotting
from helpers.batches import FeatureBatches, TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.checks import check, hint, solved  # noqa: F401 - hint("03.1") helps when you are stuck
from helpers.evaluation import correct_and_loss
from helpers.intervals import mean_t, paired_bootstrap, wilson
from helpers.language_model import IGNORED
from helpers.lessons.lesson_03 import experiment, figures
from helpers.models import HeadClassifier, MeanPoolClassifier, cache_features, freeze_all_but, without_dropout
from helpers.predictions import predict, reveal
from helpers.runtime import check_number, seed_everything, start
from helpers.training import BATCH_SIZE, to_device, train, train_on_text

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": more labels, more epochs
seed = 0  # draws the training reviews and every random start
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 200  # reviews with a label in section 2: the fewer, the sooner it overfits
epochs = 10  # passes over them, more than is good
learning_rate = 1e-3  # of training every parameter; section 3 compares it with a lower one

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("labels", labels, 32, 8000, integer=True)
check_number("epochs", epochs, 2, 200, integer=True)
check_number("learning_rate", learning_rate, 1e-7, 1.0)
sizes = run.by_budget(quick=(8, 12, 16, 24, 32), standard=experiment.SIZES, full=(*experiment.SIZES, 800, 1600))
test_count = run.by_budget(quick=64, standard=500, full=2000)
labels = run.by_budget(quick=32, standard=labels)
epochs = run.by_budget(quick=2, standard=epochs)

# %% [markdown]
# ## 1. How many labels do you need?
#
# Labels cost money, so this is often the first question. The task is lesson 02's: is a film review positive? We train
# every parameter on 25 reviews, on 50, and so on; once from the pretrained weights, once from a random start.

# %%
reviews, corpus = catalog.dataset("reviews", track, data, seed), catalog.dataset("corpus", track, seed=seed)
tokenizer = catalog.tokenizer("encoder", track, model)
collate = pad(tokenizer)
num_labels = max(reviews["train"]["label"]) + 1
pool = sample_rows(reviews["train"], max(*sizes, labels), seed)
labels, test_count = min(labels, len(pool)), min(test_count, len(reviews["test"]))  # your own file may have fewer
sizes = [size for size in sizes if size <= len(pool)] or [len(pool)]
drawn = {"train": pool}
for split, count in (("validation", min(300, test_count)), ("test", test_count)):
    drawn[split] = reviews[split].select(range(min(count, len(reviews[split]))))
rows = {split: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for split, part in drawn.items()}
print({split: len(part) for split, part in rows.items()})

# %% [markdown]
# A fixed number of passes would mean hardly any training on 25 reviews. So every size gets 75 steps of 16 reviews (or
# three passes, where those are more): what differs is the labels, not the training. The random start is tried at every
# other size, to save your time.
#
# **Predict 1.** What accuracy does the pretrained model reach with 400 labels? (Think of the random start too.)

# %%
predict("03.1", within=0.05, unit="accuracy", low=0, high=1)


# %%
def accuracies(sizes, pretrained):
    """Labels -> accuracy on the test rows, each size a model of its own; the smaller sets are part of the larger."""
    found = {}
    for size in sizes:
        seed_everything(seed)
        classifier = catalog.classifier(track, model, num_labels, pretrained=pretrained).to(run.device)
        some = rows["train"].select(range(size))
        passes = 1 if budget == "quick" else experiment.epochs_for(size)
        train_on_text(classifier, some, collate, learning_rate, epochs=passes, seed=seed)
        right, _ = correct_and_loss(classifier, rows["test"], collate)
        found[size] = wilson(int(right.sum()), len(right))
        print(f"{size:5} labels: {found[size]:.3f}")
    return found


by_labels = {"pretrained": accuracies(sizes, pretrained=True)}
print("and from a random start:")
by_labels["random start"] = accuracies(sizes[::-2][::-1], pretrained=False)
with_400 = by_labels["pretrained"].get(400)
reveal("03.1", with_400 and with_400.value, reference="accuracy_full_400_labels")

# %% [markdown]
# The points below are this run's, with Wilson's intervals. The lines with their bands are the **reference**: *not* from
# this run, but from a command in this repository that drew other reviews for every seed and went on to more labels.

# %%
from helpers.reference import load_reference

reference = load_reference("pitfalls")
more_sizes = reference.settings["sizes"]
bands = {
    name: {size: reference.interval(f"accuracy_{short}_{size}_labels") for size in more_sizes}
    for name, short in (("pretrained", "full"), ("random start", "scratch"))
}
floor = float(np.bincount(reviews["test"]["label"]).max() / len(reviews["test"]))
print("Reference:", reference.label)

# %%
plotting.show(figures.labels_curve(by_labels, bands, floor))
most = max(more_sizes)
target = bands["random start"][most].value
enough = [size for size in more_sizes if bands["pretrained"][size].value >= target]
print(f"random start with {most:,} labels, reference: {bands['random start'][most]:.3f}")
print(f"pretrained reaches that mean with {min(enough):,} labels" if enough else "pretrained never reaches it")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Pretraining does not only raise the curve, it moves it to the left: the same accuracy for a fraction of the labels.
# With few labels the random start stays near the dotted line, since it has to learn from them what words are before it
# can learn what a good film is. The pretrained curve starts there too, climbs, and flattens; each step to the right
# doubles the labels, so the *next* hundred are worth less and less. A band is widest where one draw of reviews takes
# off and another does not yet (and a band of three seeds is a rough one).
#
# </details>
#
# ### Exercise 03.1: how many are enough?
#
# Given a curve, {labels: accuracy}, and a target: the smallest number of labels that reaches it, or `None`. (The sizes
# may come in any order.)


# %% tags=["exercise"]
def labels_for(curve, target):
    return ...


check("03.1", labels_for)
# hint("03.1")


# %% tags=["solution"]
def labels_for(curve, target):
    enough = [size for size, accuracy in curve.items() if accuracy >= target]
    return min(enough) if enough else None


check("03.1", labels_for)

# %% [markdown]
# ## 2. Too little, and too much
#
# *[Underfitting](../docs/glossary.md#underfitting)*: the model has not learned even the training rows.
# *[Overfitting](../docs/glossary.md#overfitting)*: it learns them by heart, and what it learns is not true of other
# rows. One loss cannot tell you which you have. Two can: on training and on validation rows, after each pass.
#
# *[Early stopping](../docs/glossary.md#early-stopping)*: stop when the validation loss has not improved for `patience`
# passes; keep the best weights.


# %%
def watch_epochs(classifier, batches, measured, optimizer, epochs, patience):
    """Train, measure after each pass, stop early. Returns split -> losses, and the weights of the best pass."""
    curve, best = {split: [] for split in measured}, None
    for _ in range(epochs):
        train(classifier, batches, optimizer, progress="one pass")
        for split, part in measured.items():
            curve[split].append(correct_and_loss(classifier, part, collate)[1])
        losses = curve["validation"]
        best_epoch = losses.index(min(losses)) + 1
        if best_epoch == len(losses):
            best = copy.deepcopy(classifier.state_dict())
        if len(losses) - best_epoch >= patience:
            break
    return curve, best


# %% [markdown]
# Three models see the same few reviews:
#
# - the **head alone** may move (on cached features, as in lesson 02): too little freedom;
# - **everything** may move, but the learning rate is a hundred times too low: too little training;
# - **everything**, at the usual rate, for more passes than is good. (Patience is infinite: we want to see it.)
#
# **Predict 2.** Draw the two curves of each in your head. After which pass is the validation loss of the third model
# lowest?

# %%
predict("03.2", within=1, unit="passes", low=1)

# %%
few = {"train": rows["train"].select(range(labels)), "validation": rows["validation"]}
curves, last, accuracy_at = {}, {}, {}


def watched(name, rate, passes):
    """Everything may move; keep the curve, the last weights and the best."""
    seed_everything(seed)
    classifier = catalog.classifier(track, model, num_labels).to(run.device)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=rate)
    batches = length_batches(few["train"], collate, BATCH_SIZE, seed=seed)
    curves[name], best = watch_epochs(classifier, batches, few, optimizer, passes, patience=10**6)
    last[name] = classifier
    return best


watched("rate far too low", learning_rate / 100, min(4, epochs))
best_weights = watched("everything", learning_rate, epochs)

# %%
classifier = freeze_all_but(catalog.classifier(track, model, num_labels).to(run.device), 0)
features = {}
for split, part in rows.items():
    part = part.select(range(min(labels, len(part)))) if split == "train" else part
    features[split] = cache_features(classifier, length_batches(part, collate, 64, shuffle=False))
head = HeadClassifier(classifier.head)
optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
curves["head alone"] = {"train": [], "validation": []}
for _ in range(epochs):
    train(head, FeatureBatches(*features["train"], batch_size=16, seed=seed), optimizer, progress="the head")
    for split, losses in curves["head alone"].items():
        with torch.inference_mode():
            losses.append(head(*features[split]).loss.item())

names = ["head alone", "rate far too low", "everything"]
curves = {name: curves[name] for name in names}
best_epoch = {name: np.argmin(parts["validation"]).item() + 1 for name, parts in curves.items()}
plotting.show(figures.losses(curves, guess=float(np.log(num_labels)), best=best_epoch))
reveal("03.2", best_epoch["everything"])

# %% [markdown]
# <details><summary>What to look at</summary>
#
# On the left and in the middle even the *training* loss stays far from zero: the model has not learned the rows it was
# shown. That is underfitting; the validation loss hardly leaves the dotted line (a guess at random). On the right the
# training loss goes to zero while the validation loss turns and climbs above that line: from there on, the model learns
# the rows and no longer the task. That is overfitting. The head does a little of both: it is too simple for the task,
# yet so few rows can be fitted somewhat even with a head. The ring marks each
# lowest point.
#
# </details>
#
# **Mending.** Underfitting: more freedom, a higher rate, more passes. Overfitting: the weights of the best pass, or
# more labels. Here is what stopping costs and saves:

# %%
final, loss_at = last["everything"], {}
for name, weights in (("last pass", final.state_dict()), ("best pass", best_weights)):
    kept = copy.deepcopy(final)
    kept.load_state_dict(weights)
    for split in ("train", "test"):
        part = few["train"] if split == "train" else rows["test"]
        right, loss_at[split, name] = correct_and_loss(kept, part, collate)
        accuracy_at[split, name] = wilson(int(right.sum()), len(right))
    print(f"{name}: training {accuracy_at['train', name]:.3f}, test {accuracy_at['test', name]:.3f}, ", end="")
    print(f"test loss {loss_at['test', name]:.2f}")
if budget != "quick":
    assert loss_at["test", "best pass"] < loss_at["test", "last pass"]

# %% [markdown]
# <details><summary>Why the accuracy hardly moves, and the loss does</summary>
#
# An overfitted classifier does not turn right answers into wrong ones at first. It becomes *sure*, of the wrong ones
# too, and the loss punishes being sure and wrong. Whoever uses its probabilities (to decide what a person should
# look at, say) is hurt long before the accuracy shows it. So stop by the loss.
#
# </details>

# %% [markdown]
# ### The same with `Trainer`
#
# `EarlyStoppingCallback` does what our loop does. We give both the same start, the same rows in the same order, a
# constant rate and no [dropout](../docs/glossary.md#dropout). Do they stop at the same pass?

# %%
passes, patience = run.by_budget(quick=2, standard=8), 2
handful = {split: rows[split].select(range(min(48, labels, len(rows[split])))) for split in ("train", "validation")}


def same_start():
    seed_everything(seed)
    return without_dropout(catalog.classifier(track, model, num_labels).to(run.device))


by_hand = same_start()
in_order = torch.utils.data.DataLoader(handful["train"], batch_size=16, collate_fn=collate)
optimizer = torch.optim.AdamW(by_hand.parameters(), lr=learning_rate, weight_decay=0.0)
small_curve, small_best = watch_epochs(by_hand, in_order, handful, optimizer, passes, patience)

# %% [markdown]
# `load_best_model_at_end` needs a checkpoint after every pass, so it writes to a folder. `metric_for_best_model` says
# what to watch; for a loss, less is better.

# %%
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments

folder = tempfile.TemporaryDirectory()
arguments = TrainingArguments(
    output_dir=folder.name, seed=seed, use_cpu=run.device == "cpu", num_train_epochs=passes,
    per_device_train_batch_size=16, per_device_eval_batch_size=64, learning_rate=learning_rate, weight_decay=0.0,
    lr_scheduler_type="constant", optim="adamw_torch", train_sampling_strategy="sequential",
    eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="loss",
    greater_is_better=False, report_to="none", logging_strategy="no", disable_tqdm=True,
)  # fmt: skip
trainer = Trainer(
    model=same_start(),
    args=arguments,
    train_dataset=handful["train"],
    eval_dataset=handful["validation"],
    data_collator=collate,
    callbacks=[EarlyStoppingCallback(early_stopping_patience=patience)],
)
trainer.remove_callback(PrinterCallback)
trainer.train()
theirs = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]

# %% tags=["nbval-check-output"]
ours = small_curve["validation"]
difference_early_stopping = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
print("stopped after the same pass:", len(ours) == len(theirs))
print("largest difference of the validation losses below 0.0001:", difference_early_stopping < 1e-4)
kept = trainer.model.state_dict()
same_weights = all(torch.allclose(kept[name], small_best[name], atol=1e-3) for name in kept)
print("the best weights are the same to 0.001:", same_weights)
assert difference_early_stopping < 1e-4 and same_weights

# %% [markdown]
# ### Exercise 03.2: when to stop
#
# Given the validation losses of all passes and a patience: after which pass does training stop, and which pass is
# kept? Count from 1. With `[0.6, 0.5, 0.55, 0.52, 0.4]` and patience 2 it stops after pass 4 and keeps pass 2. (It
# never learns of the 0.4. If nothing stops it, it stops after the last pass. As good as the best is not better.)


# %% tags=["exercise"]
def stop_and_keep(losses, patience):
    return ..., ...


check("03.2", stop_and_keep)
# hint("03.2")


# %% tags=["solution"]
def stop_and_keep(losses, patience):
    best = 0
    for at, loss in enumerate(losses):
        if loss < losses[best]:
            best = at
        if at - best >= patience:
            return at + 1, best + 1
    return len(losses), best + 1


check("03.2", stop_and_keep)

# %% [markdown]
# ## 3. What the model forgets
#
# Before fine-tuning, the encoder could fill blanks in five kinds of text. Nothing in the task asks it to keep that.
# To see what is left, we need its old task: the masked-word loss of lesson 01, on held-out texts, domain by domain.
# Words are hidden once, so that every model answers the same questions.


# %%
@torch.inference_mode()
def domain_losses(language_model, domains):
    """The mean masked-word loss in nats per hidden token, for each domain's batches."""
    language_model.eval()
    losses = {}
    for domain, batches in domains.items():
        total, count = 0.0, 0
        for batch in batches:
            hidden = int((batch["labels"] != IGNORED).sum())
            total += language_model(**to_device(batch, language_model)).loss.item() * hidden
            count += hidden
        losses[domain] = total / count
    return losses


per_domain = run.by_budget(quick=4, standard=48, full=200)
texts = {domain: [] for domain in sorted(set(corpus["validation"]["domain"]))}
for row in corpus["validation"]:
    texts[row["domain"]].append(row["text"])
domains = {domain: experiment.masked_batches(tokenizer, own[:per_domain], seed) for domain, own in texts.items()}
pretrained = catalog.masked_language_model(track, model).to(run.device)
before = domain_losses(pretrained, domains)
print({domain: round(loss, 2) for domain, loss in before.items()})

# %% [markdown]
# Now the fine-tuning, as in section 1. The classifier is built on the language model's *own* body, so whatever
# training changes there, the language model gets too.
#
# **Predict 3.** We fine-tune on a few hundred film reviews. Which domain suffers least: reviews, or news?

# %%
predict("03.3", choices=["reviews", "news"])

# %%
count = run.by_budget(quick=32, standard=400)
passes = run.by_budget(quick=1, standard=3)
task_rows = rows["train"].select(range(min(count, len(rows["train"]))))
after, right_after, cost = {}, {}, {}


def new_pair():
    """A language model as pretraining left it, and a classifier that shares its body."""
    seed_everything(seed)
    language_model = catalog.masked_language_model(track, model).to(run.device)
    return language_model, MeanPoolClassifier(language_model.base_model, num_labels).to(run.device)


def measure(name, language_model, classifier, history=None):
    after[name] = domain_losses(language_model, domains)
    right_after[name], _ = correct_and_loss(classifier, rows["test"], collate)
    cost[name] = history.seconds if history else 0.0


# %%
tuned, tuned_classifier = new_pair()
settings = {"epochs": passes, "seed": seed}
history = train_on_text(tuned_classifier, task_rows, collate, learning_rate, **settings)
measure("plain", tuned, tuned_classifier, history)
for domain, loss in before.items():
    print(f"{domain:9}{loss:6.2f} before, {after['plain'][domain]:6.2f} after")
print(f"a guess that finds all tokens equally likely: {np.log(len(tokenizer)):.2f}")
two = [domain for domain in ("reviews", "news") if domain in before]
reveal("03.3", min(two, key=lambda domain: after["plain"][domain] - before[domain], default=None))

# %% [markdown]
# <details><summary>What happened</summary>
#
# This is *[catastrophic forgetting](../docs/glossary.md#catastrophic-forgetting)*. The labels pull on the same weights
# that held the language, and nothing pulls back. Reviews are hit as hard as news: the model has just read hundreds of
# them, but was asked one question only, and filling blanks was not it. What is lost is the old *task*, on every kind of
# text.
#
# </details>
#
# Does it matter? Not if you never need the old skills. But the same body may have to serve other tasks, and a body
# that has lost its language is a poor start for the next one.

# %% [markdown]
# ### Four remedies
#
# 1. **A lower learning rate**: move less.
# 2. **Freezing**: only the last block and the head may move.
# 3. **[Replay](../docs/glossary.md#replay)**: at each step also some old text, with its old loss (Robins 1995).
# 4. **Averaging**: after training, go half of the way back, to the mean of old and new weights (Wortsman et al. 2022).
#
# **Predict 4.** Which keeps most of the language? (And which costs most accuracy?)

# %%
predict("03.4", choices=["lower rate", "last block only", "replay", "average"])

# %%
language_model, classifier = new_pair()
history = train_on_text(classifier, task_rows, collate, learning_rate / 4, **settings)
measure("lower rate", language_model, classifier, history)

language_model, classifier = new_pair()
freeze_all_but(classifier, 1)
history = train_on_text(classifier, task_rows, collate, 2 * learning_rate, **settings)
measure("last block only", language_model, classifier, history)

# %% [markdown]
# Replay needs old text: a little of every domain from the pretraining corpus. In practice you rarely have the original
# corpus; text like it will do. The loss is a sum, and its weight says how much the past counts.


# %%
class WithReplay(nn.Module):
    """A classifier whose loss also asks for hidden words of old texts, one batch of them at each step."""

    def __init__(self, classifier, language_model, old, weight=0.1):
        super().__init__()
        self.classifier, self.language_model, self.weight = classifier, language_model, weight
        self.old = list(old)
        self.steps = 0

    def forward(self, **batch):
        """The classifier's output; in training its loss has the old texts' masked-word loss added."""
        output = self.classifier(**batch)
        if self.training:
            old = self.old[self.steps % len(self.old)]
            self.steps += 1
            output.loss = output.loss + self.weight * self.language_model(**to_device(old, self)).loss
        return output


# %%
steps = passes * -(-len(task_rows) // BATCH_SIZE)
old_texts = corpus["train"].shuffle(seed=seed).select(range(8 * steps))["text"]
old = experiment.masked_batches(tokenizer, old_texts, seed, batch_size=8)
language_model, classifier = new_pair()
both = WithReplay(classifier, language_model, old)
history = train_on_text(both, task_rows, collate, learning_rate, **settings)
measure("replay", language_model, classifier, history)

# %% [markdown]
# Averaging needs no training beyond the plain one. The head stays as it is; the body goes back half of the way.


# %%
def average_weights(one, other, share=0.5):
    """The weighted mean of two state dictionaries: share of `one`, the rest of `other`."""
    return {
        name: share * value + (1 - share) * other[name] if value.is_floating_point() else value
        for name, value in one.items()
    }


tuned.load_state_dict(average_weights(tuned.state_dict(), pretrained.state_dict()))
measure("average", tuned, tuned_classifier)

# %% [markdown]
# Accuracy, the rise of the loss in each domain, and seconds of training; on the right the reference over several seeds:
# accuracy and the mean rise.

# %%
table = {}
for name, losses in after.items():
    rises = {domain: f"{losses[domain] - before[domain]:+.2f}" for domain in before}
    right = right_after[name]
    table[name] = {"accuracy [95 %]": f"{wilson(int(right.sum()), len(right)):.3f}", **rises}
    table[name]["seconds"] = f"{cost[name]:.1f}" if cost[name] else "0 more"
    for part in ("accuracy", "loss_rise"):
        there = reference.interval(f"{part}_forgetting_{name.replace(' ', '_')}")
        table[name][f"reference: {part.replace('_', ' ')} [95 %]"] = f"{there:.2f}"
pd.DataFrame.from_dict(table, orient="index")

# %%
plotting.show(figures.forgetting(before, after))
rise = {name: np.mean([losses[domain] - before[domain] for domain in before]).item() for name, losses in after.items()}
for name in list(after)[1:]:
    gap = paired_bootstrap(right_after[name], right_after["plain"], seed=seed)
    print(f"{name:16} loss {rise[name]:+.2f} (plain {rise['plain']:+.2f}), accuracy against plain {gap:+.3f}")
if budget != "quick":
    assert all(rise[name] < rise["plain"] for name in after if name != "plain")
remedies = list(after)[1:]
rises = {name: reference.metrics[f"loss_rise_forgetting_{name.replace(' ', '_')}"] for name in remedies}
reveal("03.4", min(remedies, key=rise.get), reference=pd.DataFrame(rises).idxmin(axis=1).tolist())

# %% [markdown]
# <details><summary>What it means</summary>
#
# Every remedy keeps memory. A lower rate (a quarter) and freezing (at twice the rate) move less, so they learn less
# too. Replay pays with time, for other texts at each step, and the two losses compete. Averaging is the surprise: no
# further step is trained, and between the old and the new weights lies a place that is fair at both. Where half of the
# way costs too much accuracy, go back less. Nothing of this shows in the accuracy of the plain model. That is the
# point: *measure what you do not train on.*
#
# </details>

# %% [markdown]
# ## 4. Leakage: when the test knows the training
#
# A test score is a forecast: how good will the model be on reviews that nobody has seen? It is wrong as soon as
# something of the test rows was there in training. Three ways for that to happen, from the subtle to the crude.

# %% [markdown]
# ### The same films on both sides
#
# Some films are liked, some are not. A model that recognises the film can guess the verdict without reading it. On new
# films that helps nobody. As a site with few films might have it, we take those that were received best and worst. And,
# as in many a pipeline, long texts are cut: we keep how a review begins.

# %%
count = run.by_budget(quick=6, standard=experiment.FILMS)
filmed = catalog.with_films(reviews)["train"]  # the film reviews, where yours do not say what they are about
disliked, liked = experiment.lopsided_films(filmed, count)
of_these = set(disliked) | set(liked)
site = filmed.filter(lambda row: row["film"] in of_these)
site = site.map(lambda row: {"text": experiment.opening(row["text"])})
films = np.array(site["film"])
print(f"{len(site):,} reviews of {len(of_these)} films")
for row in site.select(range(3)):
    print(f"   {row['film']}: {row['text']} ...")

# %% [markdown]
# We deal the films out to two sides and train a model on half of each side's reviews. The other halves are for testing,
# and **both** models answer all of them. About its own side's films a model is asked as after a **random split**: it
# has read other reviews of them. About the other side's it is asked as after a **split by film**. All that differs is
# whether the film was seen.


# %% tags=["nbval-check-output"]
def two_halves(films, groups, seed):
    """Deal the films out to two sides, and each side's rows to training and test: two pairs of row numbers."""
    draws = np.random.default_rng(seed)
    sides = (set(), set())
    for group in groups:
        order = draws.permutation(sorted(group)).tolist()
        sides[0].update(order[: len(order) // 2])
        sides[1].update(order[len(order) // 2 :])
    pairs = []
    for side in sides:
        own = draws.permutation([row for row, film in enumerate(films) if film in side])
        pairs.append((own[: len(own) // 2], own[len(own) // 2 :]))
    return pairs


halves = two_halves(films, (disliked, liked), seed)
(learned, tested), (_, elsewhere) = halves
print(f"{len(learned)} rows to learn from, of {len(set(films[learned]))} films")
print(f"of the same side's test films it has seen {len(set(films[learned]) & set(films[tested]))}")
print(f"of the other side's test films it has seen {len(set(films[learned]) & set(films[elsewhere]))}")
assert not set(films[learned]) & set(films[elsewhere])

# %% [markdown]
# With the library it is one line. `GroupShuffleSplit` (for cross-validation: `GroupKFold`) keeps all rows of a group
# on one side; `train_test_split` does not.

# %% tags=["nbval-check-output"]
from sklearn.model_selection import GroupShuffleSplit, train_test_split

everywhere = np.arange(len(films))
by_group = next(GroupShuffleSplit(1, test_size=0.5, random_state=seed).split(everywhere, groups=films))
at_random = train_test_split(everywhere, test_size=0.5, random_state=seed)
for name, (learned, tested) in (("train_test_split", at_random), ("GroupShuffleSplit", by_group)):
    print(f"{name:18}films on both sides: {len(set(films[learned]) & set(films[tested]))}")

# %% [markdown]
# **Predict 5.** How many points does the random split score above the split by film, for the fine-tuned encoder?
# (Think of a [bag of words](../docs/glossary.md#bag-of-words) too, and of one that sees no capitalised word.)

# %%
predict("03.5", within=4, unit="points")

# %%
from helpers.evaluation import bag_of_words

texts, truth = np.array(site["text"]), np.array(site["label"])
without_names = np.array([experiment.hide_names(text) for text in texts])
print(without_names[0])


def crossed(halves, fit_and_answer):
    """Split -> 1.0 where right, over all test rows. fit_and_answer(learned): a function from rows to answers."""
    found = {"random_split": [], "film_split": []}
    for own, (learned, _) in enumerate(halves):
        answer = fit_and_answer(learned)
        for side, (_, tested) in enumerate(halves):
            found["random_split" if side == own else "film_split"].append(answer(tested))
    # A split's rows in one order: side 0, then side 1.
    found["film_split"].reverse()
    return {name: np.concatenate(parts) for name, parts in found.items()}


# %%
def by_words(texts):
    def fit_and_answer(learned):
        words = bag_of_words(texts[learned].tolist(), truth[learned].tolist())
        return lambda tested: words.predict(texts[tested]) == truth[tested]

    return fit_and_answer


draws = run.by_budget(quick=2, standard=5, full=20)
several = [two_halves(films, (disliked, liked), seed + draw) for draw in range(draws)]
scores = {}
for title, kind in (("bag of words", texts), ("bag of words, names hidden", without_names)):
    found = [crossed(one, by_words(kind)) for one in several]
    scores[title] = {name: [one[name].mean().item() for one in found] for name in found[0]}
    by_random, by_film = scores[title].values()
    gap = mean_t(np.subtract(by_random, by_film).tolist())
    print(f"{title:28}{np.mean(by_random):.3f} against {np.mean(by_film):.3f}, difference {gap:+.3f}")

# %% [markdown]
# Now the encoder: two fine-tunings, one for each side.

# %%
site_rows = TokenizedReviews.from_dataset(tokenize(site, tokenizer))
passes = run.by_budget(quick=1, standard=experiment.FILM_EPOCHS)


def by_encoder(learned):
    seed_everything(seed)
    classifier = catalog.classifier(track, model, num_labels).to(run.device)
    some = site_rows.select(learned.tolist())
    train_on_text(classifier, some, collate, learning_rate, epochs=passes, seed=seed)
    return lambda tested: correct_and_loss(classifier, site_rows.select(tested.tolist()), collate)[0].numpy()


right_by_split = crossed(halves, by_encoder)
gap_by_film = paired_bootstrap(right_by_split["random_split"], right_by_split["film_split"], seed=seed)
print(f"encoder, this run: difference {gap_by_film:+.3f}")
there = [reference.metrics[f"accuracy_full_{name}"] for name in ("random_split", "film_split")]
reveal("03.5", 100 * gap_by_film.value, reference=(100 * np.subtract(*there)).tolist())

# %%
measured = {title: {name: mean_t(values) for name, values in found.items()} for title, found in scores.items()}
measured["encoder, this run"] = {name: wilson(int(r.sum()), len(r)) for name, r in right_by_split.items()}
measured["encoder, reference"] = {name: reference.interval(f"accuracy_full_{name}") for name in right_by_split}
titles = {"random_split": "films seen in training (random split)", "film_split": "films unseen (split by film)"}
series = {said: {title: found[name] for title, found in measured.items()} for name, said in titles.items()}
counts = dict.fromkeys(measured, len(right_by_split["film_split"]))
plotting.show(plotting.by_slice(series, counts))

# %% [markdown]
# <details><summary>Why, and how to mend it</summary>
#
# Titles, directors, heroes and towns say which film it is; how the film was received does the rest. Compare the bag of
# words with and without the capitalised words: hide them, and the advantage is gone. It was the names. The encoder
# uses names as well, since the beginning of a review often holds no opinion yet. The mend is the split, not the
# model: **whatever will be new in use has to be new in the test.** Films here; patients, customers or authors
# elsewhere.
#
# </details>
#
# Who gains? Knowing the film should help on reviews that agree with its reputation, and mislead, or at least not help,
# on those that speak *against* it.

# %%
tested = np.concatenate([part for _, part in halves])
agrees = np.isin(films[tested], liked) == (truth[tested] == 1)
for kind, chosen in (("agree with the reputation", agrees), ("speak against it", ~agrees)):
    shares = {name: wilson(int(right[chosen].sum()), int(chosen.sum())) for name, right in right_by_split.items()}
    print(f"{int(chosen.sum()):4} reviews that {kind:26}", end="")
    print(", ".join(f"{name.replace('_', ' ')} {share:.2f}" for name, share in shares.items()))

# %% [markdown]
# ### The same rows on both sides
#
# Data from the web hold copies, and a random split puts them on both sides. Our overfitted model of section 2 knows its
# training rows by heart. We hide copies of them among new test rows: half exact, half with other capitals and spaces.
#
# **Predict 6.** What accuracy will the test show with the copies in it? (And without them?)

# %%
predict("03.6", within=0.05, unit="accuracy", low=0, high=1)

# %%
seen = drawn["train"].select(range(labels))
fresh = drawn["test"].select(range(min(labels, len(drawn["test"]))))


def retyped(number, text):
    """Every other copy comes with other capitals and more spaces."""
    return text if number % 2 else "  ".join(text.capitalize().split(" "))


copies = seen.map(lambda row, number: {"text": retyped(number, row["text"])}, with_indices=True)
right = {}
for name, part in (("copies", copies), ("new rows", fresh)):
    part = TokenizedReviews.from_dataset(tokenize(part, tokenizer))
    right[name], _ = correct_and_loss(last["everything"], part, collate)
right["careless test set"] = torch.cat([right["new rows"], right["copies"]])
with_copies = {name: wilson(int(found.sum()), len(found)) for name, found in right.items()}
print("\n".join(f"{name:18}{share:.3f}" for name, share in with_copies.items()))
reveal("03.6", with_copies["careless test set"].value, reference="accuracy_full_careless_test_set")

# %% [markdown]
# To find copies, compare the texts; but not letter by letter. A *normalised* text has small letters only, and no
# spaces or punctuation.


# %% tags=["nbval-check-output"]
def normalised(text):
    return "".join(letter for letter in text.lower() if letter.isalnum())


learned, careless = seen["text"], [*fresh["text"], *copies["text"]]
exact = sum(text in set(learned) for text in careless)
known = {normalised(text) for text in learned}
leaked = [normalised(text) in known for text in careless]
print(f"{len(careless)} test rows: {exact} exact copies, {sum(leaked)} copies after normalising")
assert sum(leaked[: len(fresh)]) == 0 and all(leaked[len(fresh) :])

# %% [markdown]
# The mend: drop those rows from the test, *before* the first score is looked at.
#
# ### Choosing on the test rows
#
# Nobody trains on the test rows, but many try thirty variants and report the best score. We make forty variants (heads
# on cached features, each fitted to other reviews), let them compete on a few test rows, and ask the winner about rows
# that took no part.

# %%
from sklearn.linear_model import LogisticRegression

candidates = run.by_budget(quick=5, standard=40)
kept, kept_labels = (part.cpu().numpy() for part in features["train"])
judged, judged_labels = (part.cpu().numpy() for part in features["test"])
chance = np.random.default_rng(seed)
right_of = []
for _ in range(candidates):
    some = chance.permutation(len(kept))[: max(16, len(kept) // 2)]
    while len(set(kept_labels[some])) < 2:  # a rare class is not in every draw
        some = chance.permutation(len(kept))[: max(16, len(kept) // 2)]
    variant = LogisticRegression(max_iter=200).fit(kept[some], kept_labels[some])
    right_of.append(variant.predict(judged) == judged_labels)
right_of = np.array(right_of)  # (variants, test rows)
print(f"{candidates} variants; their accuracies on all test rows: {right_of.mean(axis=1).mean():.3f} on average")


def winners(right_of, rows, draws=300):
    """The winner's accuracy on the rows that chose it, and on all others; once for each draw of rows."""
    chance, chosen, fresh = np.random.default_rng(0), [], []
    for _ in range(draws):
        order = chance.permutation(right_of.shape[1])
        scores = right_of[:, order[:rows]].mean(axis=1)
        winner = scores.argmax()
        chosen.append(scores[winner].item())
        fresh.append(right_of[winner, order[rows:]].mean().item())
    return chosen, fresh


# %% [markdown]
# **Predict 7.** How many points above its true accuracy does the winner score, chosen on 50 rows? (And on 200?)

# %%
predict("03.7", within=3, unit="points")


# %%
def luck_with(rows):
    return figures.luck(*winners(right_of, rows), rows, candidates)


few_rows = min(50, max(1, test_count // 2))
figure = luck_with(few_rows)
plotting.show(figure)
print(figure.alt)
reveal("03.7", 100 * np.subtract(*map(np.mean, winners(right_of, few_rows))))

# %%
from ipywidgets import HTML, SelectionSlider, VBox

options = [rows for rows in (10, 20, 50, 100, 200, 400) if rows < test_count] or [few_rows]
slider = SelectionSlider(options=options, value=few_rows if few_rows in options else options[0], description="rows")
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(luck_with(slider.value))


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])

# %% [markdown]
# (The figure above the slider is one of its positions, for readers without a running kernel.)
#
# <details><summary>What to look at</summary>
#
# Every score is ability plus luck. Forty variants of nearly the same ability: the winner is picked for its luck, and
# luck stays behind. On new rows it is not far from an average variant. The gap shrinks with more rows to choose on and
# grows with the number of variants. Choose on *validation* rows, then measure the one winner on test rows, once: the
# blue line is what that gives.
#
# </details>

# %% [markdown]
# ## 5. Find the bug
#
# A colleague compares two fine-tunings and reports to four decimals. The code runs. Two things are wrong with it, one
# in the line that measures and one in the line that concludes.

# %%
two = {"last pass": last["everything"], "best pass": copy.deepcopy(last["everything"])}
two["best pass"].load_state_dict(best_weights)
answered = {
    name: {part: correct_and_loss(one, few["train"] if part == "train" else rows["test"], collate)[0][:300]
           for part in ("train", "test")}
    for name, one in two.items()
}  # fmt: skip


def report(first, second):
    """first, second: split -> 1.0 where the model was right. Says which of the two is better."""
    scores = [right["train"].mean().item() for right in (first, second)]
    print(f"first {scores[0]:.4f}, second {scores[1]:.4f}")
    return "first" if scores[0] > scores[1] else "second"


print("better:", report(answered["last pass"], answered["best pass"]))

# %% [markdown]
# ### Exercise 03.3: mend the report
#
# Write `mended(first, second)`. It returns `"first"` or `"second"` only where the data show a difference, else
# `"neither"`. `paired_bootstrap(a, b)` gives the mean of a - b with `.low` and `.high`.


# %% tags=["exercise"]
def mended(first, second):
    return ...


check("03.3", mended)
# hint("03.3")


# %% tags=["solution"]
def mended(first, second):
    gap = paired_bootstrap(first["test"], second["test"])
    if gap.low > 0:
        return "first"
    return "second" if gap.high < 0 else "neither"


check("03.3", mended)

# %% [markdown]
# Three hundred test rows at an accuracy of 0.85 leave about four points to each side. The third decimal of such a
# score is noise, and the second nearly so.
#
# ## 6. Recap: what this run showed

# %%
from IPython.display import Markdown, display

smallest, largest = min(sizes), max(sizes)
gap_words = mean_t(np.subtract(*(scores["bag of words"][name] for name in right_by_split)).tolist())
stopped = loss_at["test", "last pass"] - loss_at["test", "best pass"]
lucky = np.subtract(*(np.mean(part) for part in winners(right_of, few_rows)))
display(
    Markdown(f"""
1. **Pretraining saves labels**: with {largest}, {by_labels["pretrained"][largest]:.3f} against
   {by_labels["random start"][largest]:.3f} from a random start (*section 1, the figure*).
2. **Two curves tell under- from overfitting**, and stopping in time took {stopped:.2f} nats off the test loss (*section
   2, the rings*).
3. **Fine-tuning forgets**: {rise["plain"]:+.2f} nats on the old task; averaging the weights leaves
   {rise["average"]:+.2f} (*section 3, the table*).
4. **Leaks flatter**: shared films {gap_words:+.3f} for the bag of words, {gap_by_film:+.3f} for the encoder; a
   test set half of copies {with_copies["careless test set"].value - with_copies["new rows"].value:+.3f}; choosing on
   {few_rows} test rows {lucky:+.3f} (*section 4*).
""")
)

# %%
from helpers.record import record

values = {f"accuracy_{start}_{size}_labels": found.value
          for start, name in (("full", "pretrained"), ("scratch", "random start"))
          for size, found in by_labels[name].items()}  # fmt: skip
values |= {f"loss_before_{domain}": loss for domain, loss in before.items()}
for name, losses in after.items():
    ending = "" if name == "plain" else "_" + name.replace(" ", "_")
    values |= {f"loss_after_{domain}{ending}": loss for domain, loss in losses.items()}
    values[f"accuracy_forgetting_{name.replace(' ', '_')}"] = right_after[name].mean().item()
    values[f"loss_rise_forgetting_{name.replace(' ', '_')}"] = rise[name]
for name in right_by_split:
    values[f"accuracy_full_{name}"] = right_by_split[name].mean().item()
    values[f"accuracy_bag_of_words_{name}"] = scores["bag of words"][name]
    values[f"accuracy_bag_of_words_no_names_{name}"] = scores["bag of words, names hidden"][name]
for name, parts in curves.items():
    values |= {f"losses_{name.replace(' ', '_')}_{split}": losses for split, losses in parts.items()}
values |= {f"accuracy_full_{name.replace(' ', '_')}": share.value for name, share in with_copies.items()}
values |= {"loss_test_last_pass": loss_at["test", "last pass"], "loss_test_best_pass": loss_at["test", "best pass"]}
values |= {"optimism_chosen_on_test": float(lucky), "difference_early_stopping": difference_early_stopping}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data}
parameters |= {"labels": labels, "epochs": epochs, "learning_rate": learning_rate}
saved = record("03_fine_tuning_pitfalls", parameters, **values)
folder.cleanup()
print(f"saved: {saved.name}")
solved("03")

# %% [markdown]
# ## Next
#
# - Overfit harder: `workbook run 03 -p labels 64 -p epochs 30`. Which of the two curves changes shape?
# - Forget more: `workbook run 03 -p learning_rate 3e-3`. Does averaging still help?
# - Lesson 04 leaves labels behind and teaches a text predictor to follow instructions.
#
# ## References
#
# | work | year |
# |---|---|
# | Robins, *Catastrophic Forgetting, Rehearsal and Pseudorehearsal* | 1995 |
# | Wortsman et al., *Robust fine-tuning of zero-shot models* | 2022 |
