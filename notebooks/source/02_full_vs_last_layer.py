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
# To teach a pretrained model a task, you can update all of its parameters. Or you freeze most of them and update only
# the last layers. In this lesson you write both, measure what each costs and how well it does, and find out why.
#
# *About 60 minutes to read (an estimate), three to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - freeze any part of a model and write the training step that updates the rest;
# - choose a learning rate on validation rows;
# - measure the forward pass, the backward pass and caching apart;
# - find out in which layer of a model the answer is linearly separable;
# - say whether one model is better than another, with paired intervals and several seeds;
# - run the same training with `Trainer`, save the model, and use it in a `pipeline`.

# %%
import math
from textwrap import fill

import pandas as pd
import torch
from torch import nn

from helpers import catalog, plotting
from helpers.checks import check, go_on_with, hint, solved  # noqa: F401 - hint("02.1") helps when you are stuck
from helpers.cost import Stopwatch
from helpers.evaluation import Outcome, predict_rows
from helpers.intervals import Interval, paired_bootstrap, wilson
from helpers.lessons.lesson_02 import experiment, figures
from helpers.runtime import check_number, seed_everything, start

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "real": published ones; "hub": with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": trains twice as long
seed = 0  # draws the training reviews and every random start
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 2000  # training reviews with a label; fewer make pretraining worth more
epochs = 0  # passes over the training reviews when blocks are trained; 0 takes each setting's recipe
settings = "all"  # or some of head_only, last_block, full, scratch with commas between; "none" trains none of them
rate_scale = 1.0  # every setting's learning rate times this: 3.0 is bolder, 0.3 more careful
max_length = 256  # tokens of a text that are read; longer texts are cut, and the lesson says how many

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("labels", labels, 2, 1_000_000, integer=True)
check_number("epochs", epochs, 0, 100, integer=True)
check_number("rate_scale", rate_scale, 1e-3, 1e3)
check_number("max_length", max_length, 8, 100_000, integer=True)
chosen = experiment.chosen_settings(settings)
train_count = run.by_budget(quick=min(labels, 64), standard=labels)
test_count = run.by_budget(quick=100, standard=100_000)

# %% [markdown]
# ## 1. The task, and what a model has to beat
#
# The course's conclusion says that training a model completely gives 90 % accuracy, and that training only its final
# layer is much faster and less accurate. Section 11 comes back to that sentence with three sets of numbers.
#
# One caution first. An accuracy belongs to a *task*: to its texts, and to how many of its labels are wrong. No method
# has an accuracy of its own.
#
# Our task: is a film review positive or negative? The films are invented, and a generator wrote the reviews.

# %% tags=["nbval-check-output"]
reviews = catalog.dataset("reviews", track, data, seed)  # calls load_dataset("data/microworld", "reviews")
for split, rows in reviews.items():
    print(f"{split:12}{len(rows):6,} rows   columns: {', '.join(rows.column_names[:2])}")

# %%
names = getattr(reviews["train"].features["label"], "names", None) or ["negative", "positive"]


def read(row):
    print(fill(f"[{names[row['label']]}] {row['text']}", width=100), end="\n\n")


for row in reviews["train"].select(range(3)):
    read(row)

# %% [markdown]
# You learn from `train`, you make choices on `validation` (a learning rate, say), and you measure on `test`. The test
# rows decide nothing.
#
# This data set has some wrong labels on purpose: `label` was flipped in about 2 % of the rows, and `clean_label` keeps
# the truth.

# %%
from helpers.batches import sample_rows

train_reviews = sample_rows(reviews["train"], train_count, seed)
validation_reviews = reviews["validation"].select(range(min(test_count, len(reviews["validation"]))))
test_reviews = reviews["test"].select(range(min(test_count, len(reviews["test"]))))
num_labels = max(reviews["train"]["label"]) + 1
usual = max(range(num_labels), key=list(train_reviews["label"]).count)
print(f"{len(train_reviews):,} reviews to learn from, {len(test_reviews):,} to be tested on")
print(f'the most frequent label among the first: "{names[usual]}"')
if "clean_label" in test_reviews.column_names:
    agree = sum(row["clean_label"] == row["label"] for row in test_reviews)
    print(f"a reader who is never wrong agrees with {agree / len(test_reviews):.1%} of the test labels")

# %% [markdown]
# Two [baselines](../docs/glossary.md#baseline) come first:
#
# - **majority class**: always the label that is most frequent in the training rows;
# - **[bag of words](../docs/glossary.md#bag-of-words)**: counts words and word pairs, weighted by how rare they are
#   (tf-idf), with a logistic regression on top. It has read nothing but our training reviews.
#
# A baseline deserves the same care as the model. So its penalty `C` is chosen on validation rows too.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

rare = 2 if len(train_reviews) >= 100 else 1  # a word that occurs once says nothing about the next text


def bag_of_words(C):
    counts = TfidfVectorizer(ngram_range=(1, 2), min_df=rare, sublinear_tf=True, **experiment.units(train_reviews))
    words = make_pipeline(counts, LogisticRegression(C=C, max_iter=1000))
    return words.fit(train_reviews["text"], train_reviews["label"])


on_validation = {C: bag_of_words(C).score(validation_reviews["text"], validation_reviews["label"]) for C in (1, 10, 100)}
best_C = max(on_validation, key=on_validation.get)
print({C: round(score, 3) for C, score in on_validation.items()})

# %% [markdown]
# **Predict 1.** What share of the test reviews will the bag of words get right?


# %%
def scored(title, predictions, **cost):
    return Outcome(title, torch.as_tensor(predictions), torch.tensor(test_reviews["label"]), **cost)


outcomes = {"majority": scored("majority class", [usual] * len(test_reviews))}
with Stopwatch() as watch:
    words = bag_of_words(best_C)
cost = {"parameters": words[-1].coef_.size, "seconds": watch.seconds}
outcomes["bag_of_words"] = scored("bag of words", words.predict(test_reviews["text"]), **cost)
for outcome in outcomes.values():
    print(f"{outcome.title:16}{outcome.accuracy:.3f}")

# %% [markdown]
# <details><summary>How to read it</summary>
#
# The square brackets hold the [95 % interval](../docs/glossary.md#confidence-interval) of an accuracy on so many test
# rows (Wilson's). Single words and pairs carry much of the answer, but not all of it. The next cell shows validation
# reviews that the bag of words gets wrong although their labels are right, and the words that speak against the label.
#
# </details>

# %%
guesses = words.predict(validation_reviews["text"])
missed = [row for row, guess in zip(validation_reviews, guesses, strict=True) if guess != row["label"]]
missed = [row for row in missed if row.get("clean_label", row["label"]) == row["label"]]
for row in missed[:3]:
    read(row)
    print(f"   against its label: {', '.join(row.get('misleading', [])) or 'nothing marked'}\n")

# %% [markdown]
# ## 2. From text to batches
#
# The **tokenizer function** takes the texts of some rows and returns their token ids. `map` calls it on the whole data
# set, a thousand rows at a time, and adds what it returns as new columns. A model has a fixed number of positions, so
# long texts are cut; the last line of the cell says how many were.

# %%
from helpers.truncation import count_truncated

tokenizer = catalog.tokenizer("encoder", track, model)
longest = min(max_length, tokenizer.model_max_length)


def tokenizer_function(rows):
    return {"input_ids": tokenizer(rows["text"], truncation=True, max_length=longest)["input_ids"]}


parts = {"train": train_reviews, "validation": validation_reviews, "test": test_reviews}
tokenized = {split: rows.map(tokenizer_function, batched=True) for split, rows in parts.items()}
cut = count_truncated(train_reviews["text"], tokenized["train"]["input_ids"], tokenizer, longest)
print(tokenized["train"][0]["text"][:60], "...")
print(tokenized["train"][0]["input_ids"][:12], "...")
print(f"{cut:,} of {len(train_reviews):,} training texts are longer than {longest} tokens and lose their end")

# %% [markdown]
# A batch is a rectangle, and reviews differ in length. The collator fills the rest of each row with
# [padding](../docs/glossary.md#padding) tokens, and marks them in the `attention_mask`. `DataCollatorWithPadding` is the
# library's. Padding costs time and teaches nothing, so we put reviews of similar length into one batch. The order of the
# batches is still random.

# %%
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding

from helpers.batches import FeatureBatches, TokenizedReviews, length_batches

train_rows, validation_rows, test_rows = (TokenizedReviews.from_dataset(rows) for rows in tokenized.values())
collate = DataCollatorWithPadding(tokenizer)
mixed = DataLoader(train_rows, batch_size=16, collate_fn=collate, shuffle=True)
alike = length_batches(train_rows, collate, batch_size=16, seed=seed)
for title, batches in (("rows in any order", mixed), ("similar lengths", alike)):
    real_tokens = torch.cat([batch["attention_mask"].flatten() for batch in batches]).double().mean()
    print(f"{title:20}{1 - real_tokens:6.1%} of all tokens are padding")

# %% [markdown]
# ## 3. The model
#
# The *body* is the pretrained [transformer](../docs/glossary.md#transformer). It returns one hidden state per token. We
# take their mean over the real tokens, and the *head*, one new linear layer, turns that vector into a score per class.
# When labels are given, the model also returns the loss, as every classifier of the library does.

# %%
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanPoolClassifier(nn.Module):
    def __init__(self, body, num_labels):
        super().__init__()
        self.body, self.head = body, nn.Linear(body.config.hidden_size, num_labels)

    def features(self, input_ids, attention_mask):
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1)  # (batch, seq, 1)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)  # (batch, seq, hidden) -> (batch, hidden)

    def forward(self, input_ids=None, attention_mask=None, labels=None, features=None):
        if features is None:
            features = self.features(input_ids, attention_mask)
        logits = self.head(features)  # (batch, classes)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


# %% [markdown]
# `new_classifier` loads the body and puts a new head on it. `catalog.body` is `AutoModel.from_pretrained` with the
# folder of this track's encoder. With `pretrained=False` it builds the same architecture with random weights.

# %% tags=["nbval-check-output"]
from helpers.models import blocks


def new_classifier(pretrained=True):
    seed_everything(seed)
    return MeanPoolClassifier(catalog.body("encoder", track, model, pretrained), num_labels).to(run.device)


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


whole = new_classifier()
stack = blocks(whole.body)  # the list of transformer blocks, the first one at the bottom
print(f"{count(whole.parameters()):,} parameters, {count(whole.head.parameters()):,} of them in the head")
print(f"{len(stack)} blocks of {count(stack[0].parameters()):,} parameters")

# %% [markdown]
# **Freezing** is an attribute of a parameter: with `requires_grad = False` it gets no
# [gradient](../docs/glossary.md#gradient), and no [optimizer](../docs/glossary.md#optimizer) changes it.
#
# ### Exercise 02.1: freeze
#
# Write a function that leaves the head and the last `trainable_blocks` blocks trainable and freezes everything else. For
# `None` every parameter is trainable, for 0 only the head. Return the model. `blocks(model.body)` is the list of blocks,
# the first one at the bottom.


# %% tags=["exercise"]
def freeze(model, trainable_blocks):
    return ...


check("02.1", freeze)
# hint("02.1")


# %% tags=["solution"]
def freeze(model, trainable_blocks):
    model.requires_grad_(trainable_blocks is None)
    model.head.requires_grad_(True)
    if trainable_blocks:
        for block in blocks(model.body)[-trainable_blocks:]:
            block.requires_grad_(True)
    return model


check("02.1", freeze)

# %%
from helpers import models

freeze = go_on_with("02.1", freeze, models.freeze_all_but)
TRAINABLE_BLOCKS = {"head_only": 0, "last_block": 1, "full": None, "scratch": None}
for name in ("head_only", "last_block", "full"):
    free = count(p for p in freeze(whole, TRAINABLE_BLOCKS[name]).parameters() if p.requires_grad)
    print(f"{name:12}{free:12,} trainable parameters, {free / count(whole.parameters()):7.2%}")

# %% [markdown]
# ## 4. Training
#
# A training step computes the loss of one batch and its gradient, clips the gradient to a norm of 1.0 (one odd batch
# must not throw the weights off), updates the weights, moves the learning rate along its schedule, and clears the
# gradient.
#
# ### Exercise 02.2: the training step
#
# Write it. `model(**batch).loss` is the loss, and `nn.utils.clip_grad_norm_` clips. Return the loss as a number.


# %% tags=["exercise"]
def training_step(model, batch, optimizer, scheduler):
    return ...


check("02.2", training_step)
# hint("02.2")


# %% tags=["solution"]
def training_step(model, batch, optimizer, scheduler):
    loss = model(**batch).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    return loss.item()


check("02.2", training_step)

# %% [markdown]
# Around the step goes the loop. AdamW gets only the trainable parameters. The learning rate rises during the first tenth
# of the steps ([warm-up](../docs/glossary.md#warm-up)) and then falls to zero in a straight line.

# %%
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

training_step = go_on_with("02.2", training_step, experiment.training_step)


def fit(classifier, batches, learning_rate, epochs, warmup=0.1):
    trainable = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=0.01)
    steps = epochs * len(batches)
    scheduler = get_linear_schedule_with_warmup(optimizer, math.ceil(warmup * steps), steps)
    classifier.train()  # dropout on, where the model has any
    losses = []
    for epoch in range(epochs):
        for batch in tqdm(batches, desc=f"epoch {epoch + 1}", leave=False):
            batch = {name: value.to(run.device) for name, value in batch.items()}
            losses.append(training_step(classifier, batch, optimizer, scheduler))
    return experiment.finite(losses)


# %% [markdown]
# ### Which learning rate?
#
# A comparison is fair when each side has a learning rate that suits it. Here is a small search for training everything:
# each rate trains on a quarter of the training reviews, and the validation reviews judge it. We look at losses as well as
# accuracies, because they are less noisy.
#
# **Predict 2.** The best of these three rates is 0.001. Will a rate four times as high be worse, or a rate four times as
# low?

# %%
some_rows = train_rows.select(range(len(train_rows) // 4))
some_validation = validation_rows.select(range(min(500, len(validation_rows))))


def try_rate(learning_rate, epochs=2):
    classifier = freeze(new_classifier(), None)
    fit(classifier, length_batches(some_rows, collate, 16, seed=seed), learning_rate, epochs)
    logits, labels = predict_rows(classifier, some_validation, collate)
    loss = nn.functional.cross_entropy(logits, labels).item()
    return {"accuracy": (logits.argmax(dim=-1) == labels).double().mean().item(), "loss": loss}
