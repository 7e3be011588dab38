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
# # How much of a model must you train?
#
# To teach a pretrained model a task, we may change every number in it, or only the few in its last layer. The second
# is said to be much faster, and worse. How much? We climb a ladder and measure each rung.
#
# *About 40 minutes to read (an estimate), two to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - fine-tune with a loop of your own, freeze any part of the model, and say what each choice costs;
# - do the same with `Trainer`, and show that it is the same;
# - read an accuracy with its interval, beside baselines that it has to beat;
# - notice a learning-rate schedule that does nothing.

# %%
import math
import tempfile
from textwrap import fill

import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader

from helpers import catalog, plotting
from helpers.checks import check, hint, solved  # noqa: F401 - hint("02.1") helps when you are stuck
from helpers.cost import Stopwatch
from helpers.evaluation import Outcome, predict
from helpers.intervals import paired_bootstrap, wilson
from helpers.lessons.lesson_02 import experiment, figures
from helpers.runtime import check_number, seed_everything, start
from helpers.training import trainable_parameters, warmup_linear
from helpers.truncation import tell_truncated

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": trains twice as long
seed = 0  # draws the training reviews and every random start
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 2000  # training reviews with a label; fewer make pretraining worth more
epochs = 3  # passes over the training reviews on the rungs that run the whole model
rate_scale = 1.0  # every rung's learning rate times this: 3.0 is bolder, 0.3 more careful

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("labels", labels, 2, 1_000_000, integer=True)
check_number("epochs", epochs, 1, 100, integer=True)
check_number("rate_scale", rate_scale, 1e-3, 1e3)
train_count = run.by_budget(quick=min(labels, 64), standard=labels)
test_count = run.by_budget(quick=100, standard=100_000)
epoch_count = run.by_budget(quick=1, standard=epochs, full=2 * epochs)

# %% [markdown]
# ## 1. The task, and what a model has to beat
#
# `load_dataset` takes a name on the Hub or a folder, and returns a dictionary of *splits*. `catalog.dataset` calls it
# for us with the right name: on the pocket track `load_dataset("data/microworld", "reviews")`, on the hub track
# `load_dataset("stanfordnlp/imdb")`. The columns are the same.

# %% tags=["nbval-check-output"]
reviews = catalog.dataset("reviews", track, data, seed)
for split, rows in reviews.items():
    print(f"{split:12}{len(rows):6,} rows   columns: {', '.join(rows.column_names[:2])}")

# %% [markdown]
# `train` is for learning, `validation` for choosing (a learning rate, say) and for looking at mistakes, `test` only for
# measuring. Here are a few reviews with their labels. The films are invented, and so is every word about them.

# %%
names = getattr(reviews["train"].features["label"], "names", None) or ["negative", "positive"]


def read(row):
    print(fill(f"[{names[row['label']]}] {row['text']}", width=100), end="\n\n")


for row in reviews["train"].select(range(min(5, len(reviews["train"])))):
    read(row)

# %%
from helpers.batches import FeatureBatches, TokenizedReviews, length_batches, pad, sample_rows
from helpers.evaluation import bag_of_words, majority

train_reviews = sample_rows(reviews["train"], train_count, seed)
test_reviews = reviews["test"].select(range(min(test_count, len(reviews["test"]))))
num_labels = max(reviews["train"]["label"]) + 1
usual = majority(train_reviews["label"])
print(f"{len(train_reviews):,} reviews to learn from, {len(test_reviews):,} to be tested on")
print(f'the most frequent label among the first: "{names[usual]}"')
if "clean_label" in test_reviews.column_names:  # what the writer meant, before a few labels were spoilt
    meant = wilson(sum(row["clean_label"] == row["label"] for row in test_reviews), len(test_reviews))
    print(f"a reader who is never wrong would agree with {meant.value:.1%} of the test labels")

# %% [markdown]
# An accuracy means nothing alone. Two baselines come first:
#
# - **majority class**: always the label seen most often;
# - **[bag of words](../docs/glossary.md#bag-of-words)**: words and word pairs, weighted by how rare they are (tf-idf),
#   then logistic regression. It has read nothing but our training reviews.
#
# **Predict 1.** What share of the test reviews will the second get right?


# %%
def scored(title, predictions, **cost):
    guessed, true = torch.as_tensor(predictions), torch.tensor(test_reviews["label"])
    return Outcome(title, guessed, true, **cost)


outcomes = {"majority": scored("majority class", [usual] * len(test_reviews))}
with Stopwatch() as watch:
    words = bag_of_words(train_reviews["text"], train_reviews["label"])
guesses = words.predict(test_reviews["text"])
cost = {"parameters": words[-1].coef_.size, "seconds": watch.seconds}
outcomes["bag_of_words"] = scored("bag of words", guesses, **cost)
for outcome in outcomes.values():
    print(f"{outcome.title:16}{outcome.accuracy:.3f}")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# The square brackets hold the [95 % interval](../docs/glossary.md#confidence-interval): with so many test reviews,
# accuracies within one pair of brackets could come from the same true one. The bag of words is well above the majority
# class, so single words carry much of the answer. They do not carry all of it. The next cell shows validation reviews
# that it gets wrong, and words that speak against their label.
#
# </details>

# %%
looked_at = reviews["validation"].select(range(min(200, len(reviews["validation"]))))
guesses = words.predict(looked_at["text"])
missed = [row for row, guess in zip(looked_at, guesses, strict=True) if guess != row["label"]]
for row in missed[:3]:
    read(row)
    print(f"   against its label: {', '.join(row.get('misleading', [])) or 'nothing marked'}\n")

# %% [markdown]
# ## 2. From text to batches
#
# A model reads numbers. The **tokenizer function** takes the text out of the examples and applies the tokenizer;
# `map` calls it on the whole dataset, a thousand rows at a time, and adds what it returns as new columns.

# %%
tokenizer = catalog.tokenizer("encoder", track, model)
max_length = min(256, tokenizer.model_max_length)  # tokens; a model has places for so many and no more


def tokenizer_function(examples):
    return {"input_ids": tokenizer(examples["text"], truncation=True, max_length=max_length)["input_ids"]}


tokenized = {"train": train_reviews, "test": test_reviews}
tokenized = {split: rows.map(tokenizer_function, batched=True) for split, rows in tokenized.items()}
for rows in tokenized.values():
    tell_truncated(rows, tokenizer, max_length)  # says how many texts lost their end, if any did
first = tokenized["train"][0]
print(first["text"][:60], "...")
print(first["input_ids"][:12], "...")

# %% [markdown]
# Reviews differ in length, tensors are rectangles: the rest is filled with [padding](../docs/glossary.md#padding),
# which costs time and teaches nothing. So we put reviews of similar length into one batch. The batches still come in
# random order.

# %%
train_rows = TokenizedReviews.from_dataset(tokenized["train"])
test_rows = TokenizedReviews.from_dataset(tokenized["test"])
collate = pad(tokenizer)  # rows -> input_ids, attention_mask (batch, seq) and labels (batch,)
mixed = DataLoader(train_rows, batch_size=32, collate_fn=collate, shuffle=True)
alike = length_batches(train_rows, collate, batch_size=32, seed=seed)
for title, batches in (("rows in any order", mixed), ("similar lengths", alike)):
    real = torch.cat([batch["attention_mask"].flatten() for batch in batches]).double().mean()
    print(f"{title:20}{1 - real:6.1%} of all tokens are padding")

# %% [markdown]
# ## 3. The model, and what may move
#
# The *body* gives one vector per token. Their mean over the real tokens is one vector per review, and the *head*, a
# linear layer, turns it into one score per class. That is all there is to a classifier.


# %%
class MeanPoolClassifier(nn.Module):
    def __init__(self, body, num_labels):
        super().__init__()
        self.body, self.head = body, nn.Linear(body.config.hidden_size, num_labels)

    def forward(self, input_ids, attention_mask):
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1)  # (batch, seq, 1)
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)  # (batch, seq, hidden) -> (batch, hidden)
        return self.head(pooled)  # (batch, classes)


# %% [markdown]
# `helpers.models` holds the same class, which also returns the loss when it is given labels, as every classifier of
# the library does. Same body, same head, same scores:

# %% tags=["nbval-check-output"]
from helpers.models import HeadClassifier, blocks, cache_features, without_dropout

theirs = catalog.classifier(track, model, num_labels).to(run.device).eval()
ours = MeanPoolClassifier(theirs.body, num_labels)
ours.head = theirs.head
batch = {name: value.to(run.device) for name, value in next(iter(alike)).items()}
with torch.inference_mode():
    difference = ours(batch["input_ids"], batch["attention_mask"]) - theirs(**batch).logits
print("largest difference below 0.00001:", difference.abs().max().item() < 1e-5)
assert difference.abs().max() < 1e-5

# %% [markdown]
# **Freezing** is one attribute: a parameter with `requires_grad = False` gets no
# [gradient](../docs/glossary.md#gradient), and the [optimizer](../docs/glossary.md#optimizer) leaves it alone. Our
# rungs differ in how many of the last blocks may move; the head always may.


# %% tags=["nbval-check-output"]
def freeze_all_but(model, trainable_blocks):
    model.requires_grad_(trainable_blocks is None)  # None: every parameter may move
    model.head.requires_grad_(True)
    if trainable_blocks:
        for block in blocks(model.body)[-trainable_blocks:]:
            block.requires_grad_(True)
    return model


total = theirs.body.num_parameters() + sum(p.numel() for p in theirs.head.parameters())
for title, count in (("head only", 0), ("last block + head", 1), ("everything", None)):
    free = trainable_parameters(freeze_all_but(theirs, count))
    print(f"{title:20}{free:12,} of {total:,} parameters, {free / total:7.2%}")

# %% [markdown]
# ### Exercise 02.1: count a block
#
# Where does the second line come from? Count one [transformer](../docs/glossary.md#transformer) block by hand: query,
# key, value and output layers of `hidden` x `hidden`; a layer from `hidden` to `inner` and one back; two normalisations
# with a scale and a shift per feature. Every linear layer has a bias.


# %% tags=["exercise"]
def block_parameters(hidden, inner):
    return ...


check("02.1", block_parameters)
# hint("02.1")


# %% tags=["solution"]
def block_parameters(hidden, inner):
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = hidden * inner + inner + inner * hidden + hidden
    return attention + feed_forward + 2 * 2 * hidden


check("02.1", block_parameters)

# %% [markdown]
# ## 4. The loop
#
# Training is six lines, the same for any rung: forward, backward, clip, step, move the learning rate, clear. The
# optimizer is given only what may move. The learning rate climbs for a tenth of the steps and then falls to zero in
# a straight line.


# %%
def train_by_hand(model, batches, optimizer, scheduler):
    model.train()
    losses = []
    for batch in batches:
        loss = model(**{name: value.to(run.device) for name, value in batch.items()}).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)  # against one odd batch
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %% [markdown]
# On the lowest rung there is a shortcut. A frozen body gives the same vectors at every pass, so we run it **once**,
# keep the pooled vectors, and train the head on them. This, and not the small number of parameters as such, is what
# makes "last layer only" fast.

# %%
torch.manual_seed(seed)
classifier = freeze_all_but(catalog.classifier(track, model, num_labels).to(run.device), 0)
in_order = length_batches(train_rows, collate, batch_size=32, shuffle=False)
features, feature_labels = cache_features(classifier, in_order)
print("features:", tuple(features.shape), " labels:", tuple(feature_labels.shape))

batch = {name: value.to(run.device) for name, value in next(iter(in_order)).items()}
with torch.inference_mode():
    whole, cached = classifier(**batch).logits, classifier.head(features[: len(batch["labels"])])
assert (whole - cached).abs().max() < 1e-5  # the head cannot tell the difference

# %% [markdown]
# Now the head, with our loop. The wrapper `HeadClassifier` takes features in place of token ids, so that the loop
# does not have to know.

# %%
head = HeadClassifier(classifier.head)
one_pass = FeatureBatches(features, feature_labels, batch_size=64, seed=seed)
head_batches = [batch for _ in range(run.by_budget(quick=5, standard=20)) for batch in one_pass]
head_rate = experiment.STRATEGIES["head_only"].learning_rate * rate_scale
optimizer = torch.optim.AdamW(head.parameters(), lr=head_rate)
scheduler = warmup_linear(optimizer, steps=len(head_batches))
losses = train_by_hand(head, head_batches, optimizer, scheduler)
tenth = -(-len(losses) // 10)
print(f"loss of a guess at random {math.log(num_labels):.3f}")
print(f"first tenth of the steps  {sum(losses[:tenth]) / tenth:.3f}")
print(f"last tenth of the steps   {sum(losses[-tenth:]) / tenth:.3f}")

# %% [markdown]
# The **evaluation function** turns predictions into a score. `evaluate.load` takes a metric's name on the Hub or, as
# here, a folder with a metric of our own: accuracy with Wilson's interval. We ask for it on *training* reviews, to see
# it work. That is not a result: the head has seen them.

# %%
import evaluate

from helpers import metrics

metric = evaluate.load(metrics.path("accuracy_with_interval"))
with torch.inference_mode():
    predictions = head(features).logits.argmax(dim=-1)
found = metric.compute(predictions=predictions.tolist(), references=feature_labels.tolist())
print({name: round(value, 3) for name, value in found.items()})

# %% [markdown]
# ## 5. The climb
#
# Four ways to train: the same reviews, optimizer and schedule, and for each the learning rate that did best on
# validation reviews. The head alone gets more passes in larger batches, since a pass over cached features costs next to
# nothing. `experiment.fit_and_evaluate` freezes, trains with the loop above (plus a progress bar), and predicts the
# test reviews.

# %%
task = experiment.Task(
    new_model=lambda pretrained: catalog.classifier(track, model, num_labels, pretrained=pretrained),
    train_rows=train_rows,
    test_rows=test_rows,
    collate=collate,
    device=run.device,
)


def fit_and_evaluate(name):
    strategy = experiment.STRATEGIES[name]
    options = {"epochs": epoch_count, "seed": seed, "rate_scale": rate_scale}
    found = experiment.fit_and_evaluate(strategy, task, **options)
    print(f"{found.title}: {found.accuracy:.3f}, {found.parameters:,} trained, {found.seconds:.1f} s")
    outcomes[name] = found


# %% [markdown]
# **Predict 2.** Put these in order of accuracy before you run them: bag of words; a model with a *random start*,
# trained fully; pretrained, head only; pretrained, last block + head; pretrained, all. Which of them will fall below
# the bag of words?

# %%
fit_and_evaluate("head_only")

# %%
fit_and_evaluate("last_block")

# %% [markdown]
# Then every parameter, twice: from the pretrained weights, and from a random start. The second has the same
# architecture, and its own best rate. What it lacks is what pretraining taught.

# %%
fit_and_evaluate("full")

# %%
fit_and_evaluate("scratch")

# %% [markdown]
# The whole ladder of **this run**, on this machine:


# %%
def table(outcomes):
    rows = {}
    for outcome in sorted(outcomes.values(), key=lambda outcome: outcome.accuracy.value):
        memory = f"{outcome.peak_bytes / 1e6:,.0f}" if outcome.peak_bytes else ""
        cost = [f"{outcome.parameters:,}", f"{outcome.seconds:.1f}", memory]
        rows[outcome.title] = [f"{outcome.accuracy:.3f}", *cost]
    columns = ["accuracy [95 %]", "trained parameters", "training seconds", "peak memory (MB)"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


table(outcomes)

# %%
methods = ["bag_of_words", "scratch", "head_only", "last_block", "full"]
scores = {outcomes[name].title: outcomes[name].accuracy for name in methods}
notes = {o.title: f"{o.parameters:,} trained\n{o.seconds:.1f} s" for o in outcomes.values()}
scores = dict(sorted(scores.items(), key=lambda item: item[1].value))
plotting.show(plotting.dot_plot(scores, notes, floor=outcomes["majority"].accuracy.value))

# %% [markdown]
# Two intervals that overlap may still hide a real difference, since both models answered the *same* reviews. The
# paired bootstrap draws reviews again, with both answers together, and so takes out what makes a review hard for
# everyone.


# %%
def verdict(gap):
    words = "a clear loss" if gap.high < 0 else "no clear difference"
    return f"{gap:+.3f}, {'a clear gain' if gap.low > 0 else words}"


gaps = {}
for other in ("last_block", "head_only", "bag_of_words", "scratch"):
    gaps[other] = paired_bootstrap(outcomes["full"].correct, outcomes[other].correct, seed=seed)
    print(f"all trained, against {outcomes[other].title}: {verdict(gaps[other])}")
faster = outcomes["full"].seconds / outcomes["head_only"].seconds
print(f"training all parameters took {faster:.1f} times as long as training the head")

# %% [markdown]
# <details><summary>What it means</summary>
#
# - *All against head only* is the course's claim: the price of freezing the body, and the time it saves.
# - *All against random start* is what pretraining is worth; each start has its own best learning rate.
# - The *head alone* can only read off what pretraining happened to put on a line. Language modelling never asked
#   "did the writer like it?", so part of the answer is there, but folded up.
# - One more *block* can unfold some of it.
# - *Memory* is what the process grew by, and differs from run to run. The head's is that of its one pass of the frozen
#   body, in larger batches than the others take.
#
# </details>

# %% [markdown]
# ### The same ladder over several seeds
#
# One run is one draw of reviews and of random starts. The **reference table** below is *not* from this run: a command
# in this repository climbed the ladder once per seed, and kept what it found. Its intervals are Student's, over seeds.

# %%
from helpers.reference import load_reference

reference = load_reference("ladder")
rows = {}
for name in methods:
    there, seconds = (reference.interval(f"{what}_{name}") for what in ("accuracy", "seconds"))
    here = outcomes[name].accuracy.value
    rows[outcomes[name].title] = [f"{there:.3f}", f"{seconds.value:.1f}", f"{here:.3f}"]
print("Reference:", reference.label)
columns = ["reference accuracy [95 %]", "reference seconds", "this run's accuracy"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# ### Other people's figures
#
# | task, model | all | last layer only | more |
# |---|---|---|---|
# | IMDB, DistilBERT (rasbt/LLM-finetuning-scripts, A100) | 92.6 % in 7.0 min | 78.7 % in 2.8 min | |
# | IMDB, DistilBERT (Raschka, *LoRA from scratch*) | | | last two layers 86.22 % |
# | IMDB, logistic regression (rasbt/LLMs-from-scratch, ch06/03) | | | bag of words 88.85 % |
# | SMS spam, GPT-2 (rasbt/LLMs-from-scratch, ch06/02) | 96.67 % | 72.0 % | last block 95.0 % |
#
# Theirs, not ours: other data, other models. What can be compared is the order of the rungs.

# %% [markdown]
# ## 6. Where is the difference?
#
# One accuracy hides where a model fails. Our reviews say which turns of phrase they hold: *negated* ("not a thing was
# grating"), *contrast* ("beautiful; all told, bad"), *hearsay* (somebody else's opinion), *disagree* (such an opinion
# rejected), *waved_aside* (granted, but it does not count), *elsewhere* (another film), *mixed* (one opinion goes the
# other way). *Plain* is what is said outright; nearly every review has some.
#
# **Predict 3.** On which kinds will the fine-tuned model gain most over the bag of words, and on which least?

# %%
from helpers.lessons.lesson_02.experiment import rows_by_kind

kinds = rows_by_kind(test_reviews, least=min(50, len(test_reviews) // 20))


def by_kind(outcome):
    return {kind: wilson(int(outcome.correct[rows].sum()), len(rows)) for kind, rows in kinds.items()}


before, after = by_kind(outcomes["bag_of_words"]), by_kind(outcomes["full"])
gains = {kind: after[kind].value - before[kind].value for kind in kinds}
best_first = sorted(gains, key=gains.get, reverse=True)
print("gain:", ", ".join(f"{kind} {gains[kind]:+.1%}" for kind in best_first))

# %%
series = {"bag of words": before, outcomes["full"].title: after}
series = {method: {kind: scores[kind] for kind in best_first} for method, scores in series.items()}
counts = {kind: len(rows) for kind, rows in kinds.items()}
plotting.show(plotting.by_slice(series, counts))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# A bag of words counts *charming* as praise wherever it stands: in "far from charming", in what an aunt said, in a
# remark about another film. A model that reads order gains most where order turns the meaning round: negations,
# counterfactuals, opinions rejected. *Mixed* stays hard for both. A review may hold several kinds at once, and most
# gaps between kinds are small beside their intervals.
#
# </details>

# %% [markdown]
# ## 7. How sure is an accuracy?
#
# The interval shrinks with the square root of the number of test reviews: four times as many for half the width. Move
# the slider to see the same answers judged on fewer reviews. When can you no longer tell the rungs apart?


# %%
def ladder_on(rows):
    """The ladder of this run, as if the test set had ended after `rows` reviews."""
    measured = {}
    for name in sorted(methods, key=lambda name: outcomes[name].accuracy.value):
        measured[outcomes[name].title] = wilson(int(outcomes[name].correct[:rows].sum()), rows)
    return plotting.dot_plot(measured, title=f"the first {rows:,} test reviews", low=0.3)


plotting.show(ladder_on(min(100, len(test_reviews))))

# %%
from ipywidgets import HTML, SelectionSlider, VBox

sizes = [rows for rows in (25, 50, 100, 200, 500, 1000) if rows < len(test_reviews)]
sizes.append(len(test_reviews))
slider = SelectionSlider(options=sizes, value=sizes[-1], description="reviews", continuous_update=False)
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(ladder_on(slider.value))


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])

# %% [markdown]
# The figure above the slider is its position at 100, for readers without a running kernel.
#
# ### Exercise 02.2: how many test rows?
#
# How many does an interval of `accuracy` ± `half_width` need? For many rows it is about
# $1.96 \sqrt{p (1 - p) / n}$ to each side, $p$ being the accuracy and $n$ the rows.


# %% tags=["exercise"]
def rows_needed(accuracy, half_width):
    return ...


check("02.2", rows_needed)
# hint("02.2")


# %% tags=["solution"]
def rows_needed(accuracy, half_width):
    return math.ceil(1.96**2 * accuracy * (1 - accuracy) / half_width**2)


check("02.2", rows_needed)

# %% [markdown]
# ## 8. The same with `Trainer`
#
# `Trainer` holds the loop, the batches, the optimizer, the schedule, the clipping and the logging. Is it the same
# training? We give both the same first steps: the same start, the same rows in the same order, and no
# [dropout](../docs/glossary.md#dropout), which would draw other random numbers.
#
# One thing that `Trainer` does without being asked is easy to miss: [weight decay](../docs/glossary.md#weight-decay)
# pulls on matrices alone. Biases and normalisations are left as they are. An optimizer says so with two groups.

# %%
steps, batch_size, rate = run.by_budget(quick=3, standard=20), 16, experiment.STRATEGIES["full"].learning_rate
first_rows = train_rows.select(range(min(steps * batch_size, len(train_rows))))
steps_taken = math.ceil(len(first_rows) / batch_size)


def same_start():
    seed_everything(seed)
    return without_dropout(catalog.classifier(track, model, num_labels).to(run.device))


def trained_by_hand(groups):
    by_hand = same_start()
    batches = DataLoader(first_rows, batch_size=batch_size, collate_fn=collate)  # in order
    optimizer = torch.optim.AdamW(groups(by_hand), lr=rate)
    return by_hand, train_by_hand(by_hand, batches, optimizer, warmup_linear(optimizer, len(batches)))


# %%
def decay_groups(model, weight_decay=0.01):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]  # biases, scales and shifts of normalisations
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


by_hand, losses_by_hand = trained_by_hand(decay_groups)
_, losses_one_group = trained_by_hand(lambda model: [{"params": model.parameters(), "weight_decay": 0.01}])

# %% [markdown]
# `TrainingArguments` has over a hundred settings. These make it do what our loop does: plain AdamW (its default is a
# fused one, which rounds differently), and no shuffling, saving or reporting. Note what we did *not* have to say:
# clipping at 1.0, the linear fall of the rate and the two groups are its defaults.

# %%
from transformers import PrinterCallback, Trainer, TrainingArguments

scratch_folder = tempfile.TemporaryDirectory()
arguments = TrainingArguments(
    output_dir=scratch_folder.name, seed=seed, use_cpu=run.device == "cpu",
    num_train_epochs=1, per_device_train_batch_size=batch_size,
    learning_rate=rate, weight_decay=0.01, warmup_steps=math.ceil(0.1 * steps_taken),
    optim="adamw_torch", train_sampling_strategy="sequential",
    save_strategy="no", report_to="none",
    logging_steps=1, disable_tqdm=True,
)  # fmt: skip

# %% [markdown]
# `Trainer` wants the evaluation function as `compute_metrics`: scores and labels in, a dictionary of figures out.
#
# **Predict 4.** Twenty steps with one group for all, decay on biases too: how far from `Trainer`'s losses?


# %%
def compute_metrics(evaluated):
    guesses = evaluated.predictions.argmax(axis=-1)
    return metric.compute(predictions=guesses.tolist(), references=evaluated.label_ids.tolist())


trainer = Trainer(
    model=same_start(),
    args=arguments,
    train_dataset=first_rows,
    data_collator=collate,
    compute_metrics=compute_metrics,
)
trainer.remove_callback(PrinterCallback)
trainer.train()
losses_trainer = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# %% tags=["nbval-check-output"]
def largest_difference(losses):
    return max(abs(a - b) for a, b in zip(losses, losses_trainer, strict=True))


difference_loop_trainer = largest_difference(losses_by_hand)
print(f"{len(losses_by_hand)} losses by hand, {len(losses_trainer)} from Trainer")
bound = 1e-6 if run.device == "cpu" else 1e-3  # a GPU sums in another order every time
print(f"largest difference below {bound:.6f}:", difference_loop_trainer < bound)
assert difference_loop_trainer < bound

# %%
print(f"two groups, as in Trainer: {difference_loop_trainer:.1g}")
print(f"one group for everything:  {largest_difference(losses_one_group):.1g}")

# %% [markdown]
# <details><summary>What it means</summary>
#
# With the same groups the losses are the same to the last digit. With one group they part as soon as a weight has
# moved, by about the sixth digit: too little to see in any curve, easily taken for rounding, and still not the same
# training. When two ways ought to be equal, "nearly" is a finding: look for its cause before you widen the bound.
#
# </details>
#
# The losses are equal, so the weights took the same path. The evaluation agrees as well: the library's on
# `Trainer`'s model, ours on the model trained by hand. (After so few steps the score itself is of no interest.)

# %%
some_rows = test_rows.select(range(min(100, len(test_rows))))
theirs = trainer.evaluate(some_rows)["eval_accuracy"]
logits, true_labels = predict(by_hand, length_batches(some_rows, collate, shuffle=False))
ours = (logits.argmax(dim=-1) == true_labels).double().mean().item()
print(f"Trainer {theirs:.2f}, by hand {ours:.2f}")
assert abs(theirs - ours) <= 1.01 / len(some_rows)  # rounding may turn one tie

# %% [markdown]
# What you gain is everything around the loop: [checkpoints](../docs/glossary.md#checkpoint), resuming, several devices,
# mixed precision, logging. What you lose is sight of the six lines, and with them of faults like the next one.
#
# ## 9. Find the bug
#
# Here the learning rate is to fall in a straight line from its start to zero. The code runs, the loss falls, no
# warning appears. Yet something that is described never happens. Run it, look at the figure, then mend the loop.


# %%
def train_with_schedule(model, batches, optimizer, scheduler):
    rates = []
    for batch in batches:
        rates.append(optimizer.param_groups[0]["lr"])
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return rates


planned = [0.01 * (1 - step / len(head_batches)) for step in range(len(head_batches))]
optimizer = torch.optim.AdamW(head.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(head_batches))
rates = train_with_schedule(head, head_batches, optimizer, scheduler)

# %%
figure = figures.learning_rates({"used by the loop": rates, "described by the scheduler": planned})
said = f"Described: a fall from {planned[0]} to almost 0. The loop's last learning rate: {rates[-1]:.4f}."
plotting.show(figure, alt=said)

# %% [markdown]
# ### Exercise 02.3: mend the loop
#
# Write it so that the two lines of the figure are one.


# %% tags=["exercise"]
def mended(model, batches, optimizer, scheduler):
    return ...


check("02.3", mended)
# hint("02.3")


# %% tags=["solution"]
def mended(model, batches, optimizer, scheduler):
    rates = []
    for batch in batches:
        rates.append(optimizer.param_groups[0]["lr"])
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return rates


check("02.3", mended)

# %% [markdown]
# A fault like this costs accuracy and never shows itself. The habit that finds it: log the learning rate beside the
# loss, and look at it once.
#
# ## 10. Recap: what this run showed

# %%
from IPython.display import Markdown, display

display(
    Markdown(f"""
1. **Training everything** gives {outcomes["full"].accuracy:.3f}. Against the bag of words that is
   {verdict(gaps["bag_of_words"])}; against a random start {verdict(gaps["scratch"])} (*section 5, the figure*).
2. **The head alone** trains {faster:.1f} times faster, since the body runs once (*section 4, the features*). Training
   everything against it: {verdict(gaps["head_only"])} (*section 5, the paired gaps*).
3. **The loop and `Trainer`** are the same: their losses differ by {difference_loop_trainer:.1g} at most (*section 8,
   the assertion*).
""")
)

# %%
from helpers.record import record

values = {"difference_loop_trainer": difference_loop_trainer}
for name, outcome in outcomes.items():
    values |= outcome.metrics(name)
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data}
parameters |= {"labels": labels, "epochs": epochs, "rate_scale": rate_scale}
saved = record("02_full_vs_last_layer", parameters, **values)
scratch_folder.cleanup()
print(f"saved: {saved.name}")
solved("02")

# %% [markdown]
# ## Next
#
# - Again with fewer labels: `workbook run 02 -p labels 200`. Which rung loses most?
# - With your own texts: `workbook run 02 -p data my_reviews.csv` (columns `text` and `label`).
# - Lesson 03 asks how fine-tuning goes wrong, and how you would notice.
#
# ## References
#
# | work | year |
# |---|---|
# | Raschka, *Build a Large Language Model (From Scratch)*; the code: rasbt/LLMs-from-scratch | 2024 |
# | Raschka, *rasbt/LLM-finetuning-scripts* | repository |
# | Raschka, *LoRA from scratch* | studio |
