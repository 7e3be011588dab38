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
# # Was it all true?
#
# A course ends with a list of what you now know, and a list is only words. Here every sentence that can be measured
# gets a number and a rule: how large does the number have to be before we believe the sentence?
#
# *About 35 minutes to read (an estimate), ten seconds to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - turn a sentence into a rule that a measurement can fail;
# - read from an interval one of three answers: yes, no, and *these seeds cannot tell*;
# - say of every claim of this course whether it held here, and if not, when it would;
# - compare methods without comparing settings.

# %%
import math

import pandas as pd
from IPython.display import Markdown, display

from helpers import plotting, predictions
from helpers.checks import check, hint, solved  # noqa: F401 - hint("12.1") helps when you are stuck
from helpers.intervals import mean_t
from helpers.lessons.lesson_12 import figures as own_figures
from helpers.runtime import start
from workbook.claims import figures, leaderboard, own_runs, page
from workbook.claims.ledger import load_ledger
from workbook.claims.results import load_results
from workbook.claims.verdict import WORDS, verdict

# %% tags=["parameters"]
track = "pocket"  # the reference was measured on this track; "hub" changes nothing here
budget = "standard"  # nothing is trained, so all budgets take the same few seconds
seed = 0  # nothing is drawn either; kept so that this lesson runs like all others
claim = "last-layer-worse"  # the claim that section 1 takes apart; section 3 lists them all
runs = ""  # a folder with runs of your own; "" takes where `workbook run` and this lab keep them

# %%
run = start(track=track, budget=budget, seed=seed)
ledger = load_ledger()
reference = load_results()
mine = own_runs.load_own_runs(own_runs.folder_of_runs(runs))
verdicts = {one.id: verdict(one, reference) for one in ledger.claims}
page.evidence(list(verdicts.values()), claim)  # a misspelt claim is named here, in words
asserting = sum(one.asserts for one in ledger.sentences)
print(f"{len(ledger.sentences)} sentences, of which {asserting} assert something, give {len(ledger.claims)} claims")

# %% [markdown]
# A sentence with three assertions gives three claims; a title gives none. The list is
# `data/reference/claims.yaml`. A test compares it with the course's text, where that is at hand; another proves that
# some lesson records every number that a claim needs.
#
# ## 1. From a sentence to a rule
#
# "Training the last layer only makes it worse." Worse in what? Than what? By how much? How often? A rule has an answer
# to each. This is the whole entry of one claim:

# %%
print(page.evidence(list(verdicts.values()), claim))

# %% [markdown]
# Every line is a **trial**: a setting, and what has to be true in it. `accuracy_full - accuracy_head_only > 0` is read
# seed by seed. Then comes one interval over the seeds, and it has to lie *wholly* on the claimed side.
#
# The thresholds follow from the words, not from the results. Better means a difference beyond 0. The same accuracy
# means within one point. Few means less than a tenth. Much faster means twice.

# %% [markdown]
# ### By hand
#
# Where do the numbers come from? From the **reference**: each lesson's recipe, run by a command of this repository
# with several seeds.

# %%
pairs = reference.runs("02", ["accuracy_full", "accuracy_head_only"])
pd.DataFrame(pairs, columns=["all parameters", "head only"]).rename_axis("seed")

# %% [markdown]
# **Predict 1.** Five seeds, five differences. Will the [95 % interval](../docs/glossary.md#confidence-interval) of
# their mean be wider or narrower than a point of accuracy?

# %%
from scipy.special import stdtrit

differences = [full - head for full, head in pairs]
count = len(differences)
mean = sum(differences) / count
spread = math.sqrt(sum((one - mean) ** 2 for one in differences) / (count - 1))
factor = float(stdtrit(count - 1, 0.975))  # Student's t: 97.5 % lie below it; 2.78 with five seeds
half = factor * spread / math.sqrt(count)
print(f"the mean difference is {mean:.3f}, the interval from {mean - half:.3f} to {mean + half:.3f}")
by_hand = "yes" if mean - half > 0 else "no" if mean + half <= 0 else "open"
print("is the difference above 0?", by_hand)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# The two sides share their seed: the same reviews, in the same order. So we take the difference first. What makes a
# seed hard for both is gone, and what remains is the effect. Two widths to compare the interval with: a point of
# accuracy is 0.01, and the difference itself is many times as large as the interval is wide, which is why it is so far
# from 0.
#
# </details>

# %% [markdown]
# ### With the helpers
#
# `verdict` does the same for all claims. Same numbers?

# %% tags=["nbval-check-output"]
first = verdicts["last-layer-worse"].trials[0].measurements[0]
print("the same interval:", abs(first.interval.low - (mean - half)) < 1e-4)
print("the same answer:", first.answer == by_hand)
difference_verdict = abs(first.interval.low - (mean - half))
assert difference_verdict < 1e-4 and first.answer == by_hand

# %% [markdown]
# ## 2. Three answers, not two
#
# **Predict 2.** A claim says: a pretrained model with 200 labels beats a random start with 400. In words it sounds
# certain. Say before you look: will the seeds agree?

# %%
halves = reference.runs("03", ["accuracy_full_200_labels", "accuracy_scratch_400_labels"])
gains = [few - many for few, many in halves]
print("differences:", ", ".join(f"{one:+.3f}" for one in gains))
print(f"mean and 95 % interval: {mean_t(gains):+.3f}")
print("above 0?", verdicts["saves-labels"].trials[0].answer)

# %% [markdown]
# <details><summary>What the last line means</summary>
#
# *Yes* only where the whole interval is above 0. Where it reaches below, the answer is *open*: these seeds cannot tell.
# That is not "no". It is not "yes" either, however good the mean looks, and even if every single difference is
# positive, as it can be with three seeds. From a few runs the spread itself is hardly known, and Student's factor pays
# for that: see the next table.
#
# </details>

# %%
seeds = [2, 3, 4, 5, 10, 30]
factors = [float(stdtrit(count - 1, 0.975)) for count in seeds]
half_widths = [factor / math.sqrt(count) for factor, count in zip(factors, seeds, strict=True)]
pd.DataFrame(
    {"Student's factor": factors, "half the interval, in spreads": half_widths}, index=pd.Index(seeds, name="seeds")
).round(2)

# %% [markdown]
# From two seeds to five the interval shrinks sevenfold; from five to thirty only threefold more. That is why five is a
# good habit, and why a single run shows nothing about the method. The brackets that a lesson puts behind the score of
# one run speak of its test rows; over seeds it has no interval at all.
#
# ### Exercise 12.1: three answers
#
# `low` and `high` are the ends of an interval. Return `"yes"`, `"no"` or `"open"` for the claim that the figure is
# above the threshold.


# %% tags=["exercise"]
def answer_of(low, high, threshold):
    return ...


check("12.1", answer_of)
# hint("12.1")


# %% tags=["solution"]
def answer_of(low, high, threshold):
    return "yes" if low > threshold else "no" if high < threshold else "open"


check("12.1", answer_of)

# %% [markdown]
# ### Exercise 12.2: pairs
#
# Two methods, the same seeds. Return the interval of their difference (`mean_t` makes one of a list), so that what
# makes a seed hard for both cancels out.


# %% tags=["exercise"]
def paired(a, b):
    """a, b: one accuracy per seed, in the same order. Returns an interval."""
    return ...


check("12.2", paired)
# hint("12.2")


# %% tags=["solution"]
def paired(a, b):
    """a, b: one accuracy per seed, in the same order. Returns an interval."""
    return mean_t([one - other for one, other in zip(a, b, strict=True)])


check("12.2", paired)

# %% [markdown]
# ## 3. The ledger
#
# - **✓ holds**: every trial passed. **◐ holds with a condition**: some did, or the sentence says more than they show.
# - **✗ not at this scale**: none passed: they failed, or these seeds cannot tell.
# - **– not measured yet**: no figures so far. **· not measurable**: a definition, a name, about people; *closest to it*
#   decides nothing.
#
# After a figure: ✓, ✗ or ? (the seeds cannot tell) and what it needed. *Theirs*: other people's figures. 02 § 5:
# lesson 02, section 5.

# %%
display(Markdown(page.sources(reference, "reference")))
print(mine.words)

# %% [markdown]
# The reference is `data/reference/results.parquet`: one sweep over all lessons with five seeds. Some lessons show a
# table of their own, made by separate trainings, so a method's figure here can differ a little from the one in its
# lesson. A claim that needs a figure that the reference lacks says *not measured yet*.
#
# **Predict 3.** Of all claims, how many hold without a condition? Write a number down, then read on.

# %%
own_verdicts = {one.id: verdict(one, mine.results) for one in ledger.claims}


def show(*groups):
    for group in groups:
        part = [found for found in verdicts.values() if found.claim.group == group]
        display(Markdown(f"**{group}**\n\n" + page.table(part, own_verdicts)))


show("The tools", "How much of it to train")

# %% [markdown]
# The best known sentence of the course is the one about 90 %. It is a fact about a task and its labels, not about a
# method: the same recipe passes the mark with many labels and misses it with few.
#
# Next come the benefits. Read the last ones twice: is it really fine-tuning that helps against
# [forgetting](../docs/glossary.md#catastrophic-forgetting), or is it something that you do *besides*?

# %%
show("What fine-tuning brings")

# %% [markdown]
# "Addresses [overfitting](../docs/glossary.md#overfitting), forgetting and [leakage](../docs/glossary.md#data-leakage)"
# is the weakest sentence of the list. Fine-tuning *causes* forgetting, it overfits like any training, and a leak
# flatters it like any other model. What addresses them are habits: stop in time, [replay](../docs/glossary.md#replay),
# leave the body alone, split with care.

# %%
show("Four ways to fine-tune", "The libraries")

# %% [markdown]
# **Predict 4.** Which methods go more than half of the way from the head alone to all parameters? Lesson 07 had six
# that train under a tenth of the model.

# %%
show("Few parameters", "Prompts and ranks")

# %% [markdown]
# <details><summary>Which of them</summary>
#
# What changes something inside every block does: biases, [adapters](../docs/glossary.md#adapter), IA3,
# [LoRA](../docs/glossary.md#lora). What is only put before the text does not, in a model of a million parameters.
# Others report that this changes with billions; we cannot show it, so the verdict here stays *not at this scale*.
#
# </details>

# %%
show("LoRA", "QLoRA")

# %%
show("Fewer bits")

# %% [markdown]
# ## 4. What did not hold
#
# A list of successes would be an advertisement. These claims were not shown here. Where these seeds cannot tell, the
# line says so; the others failed, if there are any.

# %%
for found in verdicts.values():
    if found.word == "not at this scale":
        display(Markdown(f"- **{found.claim.short}.** {found.text}"))

# %% [markdown]
# "Cannot tell" and "no" are different failures. The first is mended with more seeds or more test rows, the second with
# another model, another task, or another sentence.
#
# Take any claim apart by its name, the `id` in `claims.yaml`:

# %%
print(page.evidence(list(verdicts.values()), "peft-additive"))

# %% [markdown]
# ## 5. The leaderboard
#
# The classifiers of the course. But lesson 02 had 2,000 labels, lesson 07 had 500, and lesson 08 started from a model
# that knew another task. A row of one table says **nothing** against a row of another, so each setting has its own
# table, best accuracy first.
#
# Memory and time are the middle of all runs, with their range. Where a range is wide, the machine had other work
# meanwhile.

# %%
display(Markdown(leaderboard.page(reference, mine.results)))

# %% [markdown]
# *Forgotten* is what training cost on the old task: in lesson 07 the rise of the language model's loss with the change
# in place, in lesson 08 the points of accuracy lost on the topics. In both 0 is nothing lost, and more is worse.
# *Trained numbers* count the head too.
#
# **Predict 5.** Which method gives most accuracy for its numbers?

# %%
shares = leaderboard.shares(reference)
own_shares = leaderboard.shares(mine.results, reference)
if shares:
    plotting.show(figures.share_for_numbers(shares, own_shares))

# %% [markdown]
# <details><summary>How to read it</summary>
#
# 0 % is the head alone and 100 % is all parameters, each of the same setting, so the panels have one scale and still
# are not mixed. To the left stand methods that train a thousandth of the model. Those inside the blocks reach most of
# the way: how *many* numbers move matters less than *where* they sit.
#
# </details>

# %% [markdown]
# ### Exercise 12.3: find the bug
#
# A colleague makes one ranking out of all rows, "to see the best method at a glance". It runs, it is sorted, and it is
# wrong. Return a dictionary instead: setting -> its methods, best first.

# %%
rows = [
    {"setting": number, "method": row.title, "accuracy": row.accuracy.value}
    for number, part in leaderboard.rows(reference).items()
    for row in part
    if row.accuracy
]
best_first = sorted(rows, key=lambda row: -row["accuracy"])  # the colleague's
for row in best_first[:6]:
    print(f"{row['accuracy']:.3f}  {row['method']}  (lesson {row['setting']})")


# %% tags=["exercise"]
def ranked(rows):
    """rows: dictionaries with "setting", "method" and "accuracy"."""
    return ...


check("12.3", ranked)
# hint("12.3")


# %% tags=["solution"]
def ranked(rows):
    """rows: dictionaries with "setting", "method" and "accuracy"."""
    found = {}
    for row in sorted(rows, key=lambda row: -row["accuracy"]):
        found.setdefault(row["setting"], []).append(row["method"])
    return found


check("12.3", ranked)

# %% [markdown]
# In the colleague's list the last block of one lesson may stand before all parameters of another. It had four times
# the labels. The habit that finds it: before you sort, ask what the rows have in common.
#
# ## 6. Your own runs
#
# Each lesson that you ran left a `metrics.json`. One run is one draw, so it should fall inside the range in which the
# reference expects *one more run* (95 of 100 times). That range is wider than the interval of the mean.

# %%
needed = {
    (result.trial.lesson, metric)
    for found in verdicts.values()
    for result in found.trials
    for measurement in result.measurements
    for metric in measurement.rule.metrics
    if not metric.startswith(("seconds", "peak_memory"))  # another machine has others
}
compared = []
for lesson, metric in sorted(needed):
    there = reference.values(lesson, metric)
    if len(set(there)) > 1:  # counts are the same in every run
        for value in mine.results.values(lesson, metric):
            where = "inside" if value in own_runs.expected(there) else "outside"
            compared.append([lesson, metric, f"{value:.3f}", f"{own_runs.expected(there):.3f}", where])

# %%
columns = ["lesson", "metric", "your run", "one more run is expected at", "your run lies"]
if compared:
    display(pd.DataFrame(compared, columns=columns).set_index("lesson"))
else:
    print(mine.words)
    print("Make some: `workbook run 02 --seed 1`, then run this lesson again.")

# %% [markdown]
# One in twenty may lie outside. Where many do, something is different on your machine, and that is worth knowing.
# Seconds and memory are left out, since they depend on the machine.
#
# The columns *your own runs* of section 3 and the hollow circles of section 5 appear by themselves once there are runs.
# They decide nothing: the verdicts rest on the reference.

# %% [markdown]
# ## 7. One page to show somebody
#
# **Predict 3** again: what was your number?

# %%
everything = list(verdicts.values())
plotting.show(figures.tiles(everything, "Was it all true?"))
counts = {word: sum(found.word == word for found in everything) for word in WORDS}

# %% [markdown]
# <details><summary>What we would tell a friend</summary>
#
# Most of it is true, and the interesting part is the blue: true *if*. If there are labels enough. If the part you add
# sits inside the blocks. If you also do what keeps the old knowledge. The red is small: what a model of a million
# parameters cannot show, what these seeds cannot tell, and one sentence that we would not write. `SFTTrainer` saves its
# writer's time, not the machine's.
#
# </details>

# %% [markdown]
# ## 8. How sure were you?
#
# The lessons kept your predictions and how sure you were of each. The figure sets your confidence against the share
# that was right. Points on the dashed line belong to somebody who is right as often as they say. Below the line you
# were too sure, above it not sure enough.

# %%
scored = predictions.calibration()
print(own_figures.in_words(scored))
if scored:
    plotting.show(own_figures.calibration(scored))

# %% [markdown]
# Few predictions make wide intervals, so a single point says little. Look again at the predictions that you were sure
# of and missed: people correct such errors better than those they were unsure of (Butterfield and Metcalfe 2001).
#
# ## 9. Recap: what this run showed

# %%
tried = [found for found in everything if found.word in WORDS[:3]]
display(
    Markdown(f"""
1. **{counts["holds"]} of {len(tried)} measured claims hold**, {counts["holds with a condition"]} with a condition,
   {counts["not at this scale"]} not at this scale; {counts["not measured yet"]} wait for figures and
   {counts["not measurable"]} cannot be measured (*section 7, the figure*).
2. **A verdict is an interval on one side of a threshold**: by hand and by the helpers the same, to
   {difference_verdict:.0e} (*section 1, the assertion*).
3. **A ranking needs one setting**: {len(shares)} of the {len(leaderboard.BOARDS)} settings have both ends of the scale
   so far, and none is ranked against another (*section 5, the tables*).
""")
)

# %%
from helpers.record import record

values = {f"claims_{word.replace(' ', '_')}": count for word, count in counts.items()}
values |= {"claims_all": len(everything), "difference_verdict": difference_verdict}
parameters = {"track": track, "budget": budget, "seed": seed, "claim": claim, "runs": runs}
saved = record("12_course_conclusion", parameters, claims=list(verdicts), **values)
print(f"saved: {saved.name}")
solved("12")

# %% [markdown]
# ## Next
#
# - Set a run beside the ledger: `workbook run 07 --seed 5`, then this lesson again.
# - Other values, such as `workbook run 07 -p labels 2000`, are read in the run's own tables: not set beside it.
# - Five seeds leave it open? Add some in `sweeps/reference.yaml`, then `make reference`.
# - Write a claim of your own into `data/reference/claims.yaml`, with its rule, *before* you measure it.
# - The hub track has the course's own models and data: `workbook run 02 -p track hub`.
#
# ## References
#
# | work | year |
# |---|---|
# | Butterfield and Metcalfe, *Errors committed with high confidence are hypercorrected* | 2001 |
