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
# # Does my machine work, and how do I use this workbook?
#
# This is a course on [fine-tuning](../docs/glossary.md#fine-tuning) language models in which nothing has to be
# believed: every claim is built by hand, set beside the library's version, and measured here, on this machine.
#
# *About 15 minutes to read (an estimate), ten seconds to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - see what your machine has and lacks, and mend what is missing;
# - run a lesson your way: track, budget, seed, your own data;
# - use predictions, exercises, hints and widgets;
# - read the brackets behind a score.

# %% [markdown]
# [![Open in Colab](../docs/open-in-colab.svg)](https://colab.research.google.com/github/OWNER/fine-tuning-workbook/blob/main/notebooks/00_start_here.ipynb)
#
# The next cell is for Colab, where it fetches the workbook and its libraries (minutes, once). Anywhere else it does
# nothing.

# %%
import pathlib
import subprocess
import sys

if "google.colab" in sys.modules:
    address = "https://github.com/OWNER/fine-tuning-workbook"
    assert "OWNER" not in address, "Put the account that publishes your copy into the line above."
    if not pathlib.Path("workbook").exists():
        subprocess.run(["git", "clone", "--depth", "1", address, "workbook"], check=True)
    subprocess.run([sys.executable, "workbook/tools/colab.py"], check=True)

# %% [markdown]
# Click into the next cell and press Shift+Enter: it runs, and the next one is chosen. Every lesson has one such cell
# with its [parameters](../docs/glossary.md#parameter) at the top. Change a value, then run the cells below it again.

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": trains longer
seed = 0  # the start of every random draw: the same seed gives the same numbers
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews

# %%
from helpers import catalog, plotting, progress
from helpers.checks import check, hint, overview, solved
from helpers.intervals import wilson
from helpers.language_model import top_words
from helpers.lessons.lesson_00 import figures
from helpers.runtime import BUDGETS, UserError, choose, seed_everything, start
from workbook import doctor

run = start(track=track, budget=budget, seed=seed)

# %% [markdown]
# ## 1. Does my machine work?

# %%
looked_at = doctor.checks()
for one in looked_at:
    print(f"{'ok' if one.fine else 'no' if one.needed else 'so-so':>5}  {one.name}: {one.found}")
    if not one.fine:
        print(f"       {one.advice}")
ready = all(one.fine for one in looked_at if one.needed)
print("\nEverything that the lessons need is here." if ready else "\nMend what is marked no, then run this cell again.")

# %% [markdown]
# The same list comes from `workbook doctor` in a terminal, once `source .venv/bin/activate` (on Windows
# `.venv\Scripts\activate`) has been typed there, in the project's folder. Nothing here needs a GPU or an account.
#
# Now a model, from the disk into memory, asked to fill a blank:

# %%
encoder = catalog.masked_language_model(track, model)
tokenizer = catalog.tokenizer("encoder", track, model)
sentence = "The film was ___ from the first scene to the last."
guesses = top_words(encoder, tokenizer, sentence)
plotting.show(figures.top_words_figure(guesses, sentence))

# %% [markdown]
# If you see five bars, everything works. The model has read of a small invented world, its films and its news, and of
# nothing else: ask it about cinema, not about physics.

# %% [markdown]
# ## 2. The course
#
# | lesson | question |
# |---|---|
# | 00 Start here | Does my machine work, and how do I use this workbook? |
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
# Each lesson stands on its own: none needs another's run.

# %% [markdown]
# **Where you are.** Each lesson that you run to its end, and each exercise that you solve, is noted here.

# %%
print(progress.where())
overview()

# %% [markdown]
# ## 3. Two tracks, three budgets
#
# | `track` | models and data | needs |
# |---|---|---|
# | `"pocket"` | three small transformers and an invented world of films, all in this folder | two cores |
# | `"hub"` | published models and data sets from the Hugging Face Hub | a network once, better a GPU |
#
# | `budget` | for |
# |---|---|
# | `"quick"` | seeing that a lesson runs; its numbers mean nothing |
# | `"standard"` | real results, a few minutes a lesson at most: the README's table has them |
# | `"full"` | longer training |

# %% [markdown]
# Why an invented world? Because its truth is known. Who directed a film, which words mislead, which
# [labels](../docs/glossary.md#label) are wrong on purpose: all of it can be looked up, so all of it can be measured.
#
# A value that does not exist is answered in words:

# %% tags=["nbval-check-output"]
try:
    choose("budget", "standart", BUDGETS)
except UserError as problem:
    print(problem)

# %% [markdown]
# The same parameters work in a terminal: `workbook run 02 --budget quick --seed 3 -p labels 500`. And your own
# material works as well: a CSV, JSON Lines or Parquet file with the columns `text` and `label` as `data`, a folder
# with a model as `model`. What the lessons read now:

# %%
reviews = catalog.dataset("reviews", track, data, seed)
for row in reviews["train"].select(range(2)):
    print(f"{reviews['train'].features['label'].names[row['label']]:9}{row['text'][:90]} ...")
print(f"{len(reviews['train']):,} texts to learn from, {len(reviews['test']):,} to be tested on")

# %% [markdown]
# ## 4. Predict, run, explain
#
# Before a result you are asked what it will be. Commit to an answer, in writing if you can: a guess that fails
# teaches more than a number that is only read.
#
# **Predict 1.** We draw three random numbers, set the [seed](../docs/glossary.md#seed) again, and draw three more. Are
# they the same three?

# %% tags=["nbval-check-output"]
import torch

seed_everything(seed)
first = torch.rand(3)
seed_everything(seed)
second = torch.rand(3)
print("the same numbers:", torch.equal(first, second))
assert torch.equal(first, second)

# %% [markdown]
# <details><summary>The explanation is folded away like this one</summary>
#
# A computer's random numbers are computed from a start value, the seed. The same seed gives the same draws, so a
# whole training run can be repeated. Another seed gives another run of the same experiment: what holds for one seed
# only may be luck.
#
# </details>

# %% [markdown]
# ## 5. Exercises
#
# A cell to fill holds `...`. `check` says whether your answer is right, or names the first thing that is wrong; it
# never breaks anything. `hint("00.1")` gives a nudge, asked again a bigger one, in the end the answer. Nothing later
# depends on an exercise. `solved("00")` says which are solved; every lesson ends with it.

# %% [markdown]
# **Exercise 00.1.** The *[accuracy](../docs/glossary.md#accuracy)* is the share of predictions that equal their label.
# Replace the `...` and run the cell.


# %% tags=["exercise"]
def accuracy(predictions, labels):
    """predictions, labels: two lists of equal length. Returns a number from 0 to 1."""
    return ...


check("00.1", accuracy)


# %% tags=["solution"]
def accuracy(predictions, labels):
    """predictions, labels: two lists of equal length. Returns a number from 0 to 1."""
    return sum(guess == truth for guess, truth in zip(predictions, labels, strict=True)) / len(labels)


check("00.1", accuracy)

# %%
hint("00.1", 1)
solved("00")

# %% [markdown]
# Some exercises say **find the bug**: code that runs, with a fault that really happens. `check` knows the mended
# version.
#
# ## 6. A number with its brackets
#
# **Predict 2.** A model is right on 90 of 100 test reviews, another on 88. Is the first one better?

# %%
better, other = wilson(90, 100), wilson(88, 100)
print(f"90 of 100: {better}")
print(f"88 of 100: {other}")
assert better.low < other.high

# %% [markdown]
# <details><summary>Read the brackets</summary>
#
# They hold the [95 % interval](../docs/glossary.md#confidence-interval): the true accuracies that would make such a
# count unsurprising. Each of the two intervals holds the other's value, so these hundred reviews cannot tell the models
# apart. Ten times as many rows make the brackets about three times as narrow. Accuracies that are to be compared come
# with their brackets.
#
# </details>

# %%
plotting.show(figures.interval_against_rows(0.9, marked=300))

# %% [markdown]
# The same figure with something to move. Where a lesson has a widget, the plain figure stands beside it, for paper
# and for pages without Python.

# %%
figures.certainty(0.9)

# %%
from helpers.record import record

half_width = (wilson(270, 300).high - wilson(270, 300).low) / 2
saved = record(
    "00_start_here",
    {"track": track, "budget": budget, "seed": seed, "model": model, "data": data},
    checks_fine=sum(one.fine for one in looked_at),
    checks_all=len(looked_at),
    half_width_300_rows=half_width,
)
print(f"saved: {saved.name}")

# %% [markdown]
# Each lesson ends with such a record: what was measured, with which parameters and versions. Lesson 12 collects them.
#
# ## Recap
#
# 1. The machine is looked at in words, and a model ran without a network (*section 1*).
# 2. The same seed repeats a run (*section 4, Predict 1*).
# 3. A score without its interval cannot be compared (*section 6, Predict 2*).

# %% [markdown]
# ## Next
#
# [Lesson 01](01_pretrained_transformers.ipynb) opens a pretrained model, runs one of its blocks by hand, and asks
# what it knows.
