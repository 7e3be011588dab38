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
# # How little code can it take?
#
# Lesson 08 built [LoRA](../docs/glossary.md#lora) by hand. The library `peft` brings it in a few lines, together with
# its relatives. We use it, check that it is the same thing, keep several [adapters](../docs/glossary.md#adapter) on one
# model, and ask which of the many settings matter.
#
# *About 45 minutes to read (an estimate), two and a half to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - adapt a model with `LoraConfig`, `get_peft_model` and `Trainer`, and show that it is lesson 08's LoRA;
# - save an adapter in kilobytes, load it, switch between two on one base, and merge one;
# - choose which matrices to adapt, and say what rsLoRA, DoRA and LoRA+ change;
# - notice what `peft` does not tell you: a misspelt name, another base, a head that is left out of the file.

# %%
import copy
import math
import shutil
import tempfile
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from helpers import catalog, lora, lora_files, plotting
from helpers.batches import TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.checks import check, hint, solved  # noqa: F401 - hint("09.1") helps when you are stuck
from helpers.cost import Stopwatch
from helpers.evaluation import Outcome, predict_rows
from helpers.intervals import mean_t, paired_bootstrap
from helpers.lessons.lesson_02.experiment import STRATEGIES, Task, fit_and_evaluate
from helpers.lessons.lesson_08.experiment import Learner, logits_of, prepare
from helpers.lessons.lesson_08.figures import sizes_by_rank
from helpers.lessons.lesson_09 import experiment, figures
from helpers.linear_layers import linear_names
from helpers.models import blocks, without_dropout
from helpers.qlora import drop_two_notices
from helpers.runtime import UserError, check_number, seed_everything, start
from helpers.training import has_bfloat16, to_device, train, trainable_parameters, warmup_linear

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": all labels
seed = 0  # draws the training rows and every random start
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 1000  # film reviews with a label
rank = 8  # of the adapters' matrices
alpha = 16  # the branch is scaled by alpha / rank
rate_scale = 1.0  # every learning rate times this

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("labels", labels, 32, 8000, integer=True)
check_number("rank", rank, 1, 64, integer=True)
check_number("alpha", alpha, 1e-3, 1e4)
check_number("rate_scale", rate_scale, 1e-3, 1e3)
train_count = run.by_budget(quick=32, standard=labels, full=8000)
test_count = run.by_budget(quick=64, standard=2000)
epochs = run.by_budget(quick=1, standard=experiment.EPOCHS)
rates = {name: variant.learning_rate * rate_scale for name, variant in experiment.VARIANTS.items()}

# %% [markdown]
# Two tasks: is a film *review* positive, and is a *news* item about the world or about sports (two of the four topics
# of lesson 08)? Both have two classes, which will matter in section 2.

# %%
tokenizer = catalog.tokenizer("encoder", track, model)
collate = pad(tokenizer)  # rows -> input_ids, attention_mask (batch, seq) and labels (batch,)


def rows_of(role, count, classes=2):
    """The task's names of classes, its training texts, and its rows as token ids."""
    found = catalog.dataset(role, track, data if role == "reviews" else "", seed)
    parts = {}
    for split in ("train", "test"):
        of_task = [i for i, label in enumerate(found[split]["label"]) if label < classes]
        parts[split] = found[split].select(of_task)
    parts = {"train": sample_rows(parts["train"], count, seed), "test": parts["test"]}
    parts["test"] = parts["test"].select(range(min(test_count, len(parts["test"]))))
    rows = {split: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for split, part in parts.items()}
    return found["train"].features["label"].names[:classes], parts, rows


review_names, review_texts, reviews = rows_of("reviews", train_count)
news_names, _, news = rows_of("topics", run.by_budget(quick=32, standard=400))
for rows, names in ((reviews, review_names), (news, news_names)):
    print(f"{len(rows['train']):,} texts to learn from, {len(rows['test']):,} to be tested on: {' or '.join(names)}?")

# %% [markdown]
# ## 1. Three calls
#
# `LoraConfig` says which layers and how wide; `get_peft_model` puts the layers in and freezes the rest; `Trainer`
# trains. `modules_to_save` names what is trained *in full* and saved with the adapter: our head is new, so a low-rank
# change of its random numbers would not do.

# %%
drop_two_notices()  # two messages of peft's that nobody at the keyboard can act on; lesson 11 says which

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, Trainer, TrainingArguments

folder = tempfile.TemporaryDirectory()
adapters = Path(folder.name)
seed_everything(seed)
base = catalog.classifier(track, model, len(review_names)).to(run.device)
targets = linear_names(blocks(base.body))
print("linear layers in a block:", ", ".join(targets))


# %%
def with_the_library(base, rows, name, rate):
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, modules_to_save=["head"])
    adapted = get_peft_model(base, config, adapter_name=name)
    arguments = TrainingArguments(
        output_dir=folder.name,
        learning_rate=rate,
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        train_sampling_strategy="group_by_length",
        warmup_steps=0.1,
        bf16=has_bfloat16(torch.device(run.device)),
        use_cpu=run.device == "cpu",
        seed=seed,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(model=adapted, args=arguments, train_dataset=rows, data_collator=collate)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    adapted.save_pretrained(folder.name)
    adapted = trainer.accelerator.unwrap_model(adapted, keep_fp32_wrapper=False)  # full precision again
    return adapted, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# %% [markdown]
# **Predict 1.** How many kilobytes will the saved adapter have? The whole model has about five megabytes. Count before
# you run: exercise 09.1 does it exactly.


# %%
def outcome_of(title, adapted, rows, seconds):
    """What it says about the test rows, and what it cost."""
    scores, true = predict_rows(adapted, rows["test"], collate, bfloat16=True)
    return Outcome(title, scores.argmax(dim=-1), true, trainable_parameters(adapted), seconds)


seed_everything(seed)
with Stopwatch() as watch:
    adapted, losses = with_the_library(copy.deepcopy(base), reviews["train"], "reviews", rates["lora"])
outcomes = {"lora": outcome_of(experiment.VARIANTS["lora"].title, adapted, reviews, watch.seconds)}
print(f"reviews: {outcomes['lora'].accuracy:.3f} on test rows, {outcomes['lora'].parameters:,} parameters trained")

# %%
saved = {path.name: path.stat().st_size for path in sorted((adapters / "reviews").iterdir())}
weights = sum(value.numel() * value.element_size() for value in base.state_dict().values())
adapter_size = saved["adapter_model.safetensors"]
for name in ("adapter_config.json", "adapter_model.safetensors"):
    print(f"{name:28}{saved[name] / 1e3:8,.0f} kB")
print(f"{'the whole model':28}{weights / 1e3:8,.0f} kB, {weights / adapter_size:.0f} times as much")

# %% [markdown]
# ### Exercise 09.1: the size of an adapter
#
# How many bytes do all A and B take, for layers of the given shapes (outputs, inputs)? The file has a little more: the
# head, and the tensors' names.


# %% tags=["exercise"]
def adapter_bytes(shapes, rank):
    return ...


check("09.1", adapter_bytes)
# hint("09.1")


# %% tags=["solution"]
def adapter_bytes(shapes, rank):
    return sum(4 * rank * (outputs + inputs) for outputs, inputs in shapes)


check("09.1", adapter_bytes)

# %% [markdown]
# ### Is it lesson 08's LoRA?
#
# The same first steps twice: lesson 08's layers in a loop of our own, and `peft` with `Trainer`. Both get the same A,
# the same rows in the same order, and full precision. Equal losses at every step mean equal weights at every step.

# %%
few = reviews["train"].select(range(min(16 * run.by_budget(quick=2, standard=10), len(reviews["train"]))))
settings = {"learning_rate": rates["lora"], "epochs": 1, "seed": seed, "bfloat16": False, "sampling": "sequential"}
ours, theirs = (without_dropout(copy.deepcopy(base)) for _ in range(2))  # two runs would drop different numbers
lora.inject(ours, targets, rank=rank, alpha=alpha, modules_to_save=("head",))
config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, modules_to_save=["head"])
theirs = get_peft_model(theirs, config)
for path, layer in lora.lora_layers(ours).items():
    theirs.base_model.model.get_submodule(path).lora_A["default"].weight.data.copy_(layer.lora_A)

trainer = experiment.trainer_for(theirs, few, collate, folder=folder.name, **settings)
trainer.train()
losses_library = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

# %% tags=["nbval-check-output"]
batches = torch.utils.data.DataLoader(few, batch_size=16, collate_fn=collate)
optimizer = experiment.optimizer_for(ours, settings["learning_rate"])
schedule = warmup_linear(optimizer, len(batches))
losses_by_hand = []
for batch in batches:
    loss = ours.train()(**to_device(batch, ours)).loss
    loss.backward()
    nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    losses_by_hand.append(loss.item())
difference_losses = max(abs(a - b) for a, b in zip(losses_by_hand, losses_library, strict=True))
print("largest difference of the losses below 0.00001:", difference_losses < 1e-5)
assert difference_losses < 1e-5

# %% [markdown]
# ### Beside lesson 08
#
# So the library buys brevity, not another method. How much, and is the result the same? Lesson 08's layers and its
# loop learn the same reviews, as often and as fast; only the order of the batches and the random A differ.
#
# We count lines that do something: no comments, no blank lines, no descriptions.

# %%
from helpers.code_size import code_lines

seed_everything(seed)
by_hand = prepare(copy.deepcopy(base), "lora", rank=rank, alpha=alpha)
learner = Learner(collate, epochs=epochs, seed=seed)
history = learner.fit(by_hand, reviews["train"], rates["lora"], progress="by hand")
hand = outcome_of("by hand", by_hand, reviews, history.seconds)
hand_bytes = lora_files.save_adapter(by_hand, adapters / "by_hand", modules_to_save=("head",))
lines = {
    "layer, putting in, merging": code_lines(lora),
    "files": code_lines(lora_files),
    "training": code_lines(train) + code_lines(Learner.fit) + code_lines(warmup_linear),
}
lines_by_hand, lines_library = sum(lines.values()), code_lines(with_the_library)
print("by hand:", ", ".join(f"{what} {count}" for what, count in lines.items()))

# %%
both = {"lesson 08, by hand": (hand, hand_bytes, lines_by_hand)}
both["this lesson, with peft and Trainer"] = (outcomes["lora"], sum(saved.values()), lines_library)
rows = {
    title: [count, f"{found.accuracy:.3f}", f"{found.parameters:,}", f"{size / 1e3:,.0f}", f"{found.seconds:.0f}"]
    for title, (found, size, count) in both.items()
}
gap_by_hand = paired_bootstrap(outcomes["lora"].correct, hand.correct, seed=seed)
print(f"library against by hand: {gap_by_hand:+.3f}")
columns = ["lines", "accuracy [95 %]", "trained parameters", "folder (kB)", "training seconds"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What it means</summary>
#
# As many numbers are trained, and the accuracies differ by no more than another order of batches and another random A
# can explain. Our modules also hold the checks that section 2 will miss in `peft`, so not every line that is saved was
# a line too many. And a `Trainer` brings what our loop has not: logs, checkpoints, several GPUs.
#
# </details>

# %% [markdown]
# ## 2. One base, several adapters
#
# The base stands still, so it can carry more than one adapter at a time. We load the saved adapter onto a fresh base,
# and add a second: the same base learns news.

# %%
served = PeftModel.from_pretrained(copy.deepcopy(base), adapters / "reviews", adapter_name="reviews")
batch = next(iter(length_batches(reviews["test"], collate, 16, shuffle=False)))
assert torch.equal(logits_of(served, batch), logits_of(adapted, batch))
print("reloaded: the same logits, to the bit")

# %%
with Stopwatch() as watch:
    second, _ = with_the_library(copy.deepcopy(base), news["train"], "news", 2 * rates["lora"])  # fewer steps: bolder
on_news = outcome_of("news", second, news, watch.seconds)
print(f"news: {on_news.accuracy:.3f} on test rows")
served.load_adapter(adapters / "news", adapter_name="news")
print("adapters on one base:", ", ".join(served.peft_config))

# %% [markdown]
# Switching changes no weight of the base. Each adapter brings its own head along, for it is in `modules_to_save`.

# %% tags=["nbval-check-output"]
served.set_adapter("news")
assert torch.equal(logits_of(served, batch), logits_of(second, batch))
served.set_adapter("reviews")
assert torch.equal(logits_of(served, batch), logits_of(adapted, batch))
with served.disable_adapter():
    assert torch.equal(logits_of(served, batch), logits_of(base, batch))
print("news, reviews, neither: each to the bit what it is alone")

# %% [markdown]
# One model, two jobs. Here are four texts under both adapters; only one of the two answers makes sense for each.

# %%
label_names = {"reviews": review_names, "news": news_names}
looked_at = {}  # text -> its true class
for task, role in (("reviews", "reviews"), ("news", "topics")):
    some = catalog.dataset(role, track, data if role == "reviews" else "", seed)["validation"]
    some = some.select(range(min(50, len(some))))
    for label, name in enumerate(label_names[task]):  # the first of each class
        looked_at[some[list(some["label"]).index(label)]["text"]] = name


def answer(text, task):
    served.set_adapter(task)
    read = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
    shares = logits_of(served, {name: read[name] for name in ("input_ids", "attention_mask")})[0].softmax(dim=-1)
    return f"{label_names[task][int(shares.argmax())]} ({shares.max():.0%})"


rows = {text[:60] + " ...": [name, *(answer(text, task) for task in label_names)] for text, name in looked_at.items()}
pd.DataFrame.from_dict(rows, orient="index", columns=["true class", *(f"{task} adapter" for task in label_names)])

# %% [markdown]
# Note how sure an adapter can be of a text that is none of its business. Type a text of your own, and switch.

# %%
from ipywidgets import HTML, Textarea, ToggleButtons, VBox

field = Textarea(value=next(iter(looked_at)), rows=3, layout={"width": "600px"}, continuous_update=False)
switch = ToggleButtons(options=list(label_names), description="adapter")
page = HTML()


def redraw(_change=None):
    page.value = f"<b>{answer(field.value, switch.value)}</b>" if field.value.strip() else ""


for widget in (field, switch):
    widget.observe(redraw, names="value")
redraw()
VBox([field, switch, page])

# %% [markdown]
# The table above is what the switch gives for four texts, for readers without a running kernel.
#
# Where one task is enough, **[merging](../docs/glossary.md#merging)** takes the branches away: the layers are plain
# again, and as fast as before.

# %%
served.set_adapter("reviews")
logits = logits_of(served, batch)
merged = copy.deepcopy(served).merge_and_unload()
difference_merge = (logits_of(merged, batch) - logits).abs().max().item()
assert difference_merge < 1e-4
costs = {"with branches": [], "merged": []}
for _ in range(run.by_budget(quick=1, standard=15)):  # in turns, so that other work on the machine meets both
    for title, candidate in (("with branches", served), ("merged", merged)):
        with Stopwatch() as watch:
            logits_of(candidate, batch)
        costs[title].append(watch.seconds)
slower = min(costs["with branches"]) / min(costs["merged"])
print(f"largest difference of the logits {difference_merge:.0e}")
print(f"prediction with branches takes {slower:.1f} times as long as merged (the fastest try of each)")

# %% [markdown]
# ### Out of the notebook
#
# The merged weights are plain, but the class around them is not: no sequence classifier in `transformers` puts one
# linear head on the mean over a BERT's tokens. Its *token* classifiers put that head on every token. A linear function
# of a mean is the mean of the function's values, so the average of a token classifier's outputs has to be our logits.

# %%
from helpers.models import mean_pool

read = {name: value for name, value in to_device(batch, merged).items() if name != "labels"}
with torch.inference_mode():
    hidden = merged.body(**read).last_hidden_state  # (batch, seq, hidden)
    per_token = merged.head(hidden)  # (batch, seq, classes): what a token classifier gives
    averaged = mean_pool(per_token, read["attention_mask"])  # (batch, classes)
difference_averaged = (averaged.cpu() - logits.cpu()).abs().max().item()
assert difference_averaged < 1e-4
print(f"averaged outputs of the tokens against our logits: {difference_averaged:.0e}")

# %% [markdown]
# So these weights can leave under names that `transformers` knows. `keep_model` writes them, the tokenizer and the
# class names into the run's folder, if you ask for it. Then one command makes a folder for anywhere else:
#
# ```bash
# workbook run 09 --keep-model
# workbook export latest --to my-model
# ```
#
# In an environment without this course, `pipeline("text-classification", model="my-model", trust_remote_code=True)`
# loads it. The forty lines of code to trust are the mean over the tokens; [docs/export.md](../docs/export.md) shows the
# way without them.

# %%
from helpers.kept_model import keep_model

kept = keep_model(
    "09_lora_hugging_face",
    merged,
    tokenizer,
    label_names=review_names,
    examples=review_texts["test"]["text"],  # the folder has to say the same about the first twenty
    figures={f"accuracy on {len(reviews['test']):,} test reviews": outcomes["lora"].accuracy},
)
print("The model is kept." if kept else "This run keeps no model.")

# %% [markdown]
# ### A head for both?
#
# A head in `modules_to_save` is copied once per adapter, so all adapters of a base have heads of one shape. Here both
# tasks have two classes. Had news kept its four topics, one might give the base four outputs: reviews use the first
# two, and the other two never occur. No harm in that, surely?
#
# **Predict 2.** Same adapter, same reviews, same recipe; four outputs in place of two. What will the loss do?

# %%
seed_everything(seed)
roomy = catalog.classifier(track, model, 2 * len(review_names)).to(run.device)
with Stopwatch() as watch:
    roomy, losses_roomy = with_the_library(roomy, reviews["train"], "roomy", rates["lora"])
four_outputs = outcome_of("four outputs", roomy, reviews, watch.seconds)
curves = {"two outputs": losses, "four outputs": losses_roomy}
knows = {"ln 2: knows which two classes occur, and no more": math.log(2)}
plotting.show(figures.losses(curves, knows))
print(f"test reviews: two outputs {outcomes['lora'].accuracy:.3f}, four outputs {four_outputs.accuracy:.3f}")

# %% [markdown]
# The four-output loss starts at ln 4 = 1.39 and falls at once: it looks like learning. What is learned is only which
# classes there are. How do the texts look to the head? We measure how far apart they lie: the spread of what the head
# reads, over a batch of test reviews.


# %%
def spread_of(classifier):
    """Standard deviation over the rows of what the head reads, the mean over its numbers."""
    inputs = {name: value for name, value in to_device(batch, classifier).items() if name != "labels"}
    with torch.inference_mode():
        return classifier.eval().features(**inputs).std(dim=0).mean().item()


spreads = {
    title: spread_of(classifier)
    for title, classifier in (
        ("before training", base),
        ("two outputs", adapted.base_model.model),
        ("four outputs", roomy.base_model.model),
    )
}
print("spread:", ", ".join(f"{title} {spread:.3f}" for title, spread in spreads.items()))

# %% [markdown]
# <details><summary>What happened</summary>
#
# For every text alike, the first steps say: less of outputs three and four. The quickest way is to push *all* texts in
# one direction, and the branches in every layer join in. Look at the spread: at the pocket model's learning rates the
# texts end up in one point. From there no gradient tells them apart, and the loss stays at ln 2.
#
# So give a head as many outputs as there are classes; or start the biases of the unused ones at -10, so that there is
# nothing to push (in our trials that learned as well as two outputs). And do not trust a loss because it falls: compare
# it with what guessing costs.
#
# </details>

# %% [markdown]
# ### What `peft` does not tell you
#
# `peft` checks less than lesson 08's modules. Each of these configurations has a mistake, and it takes them all without
# a word. Our functions below say a sentence each, before anything is changed.

# %% tags=["nbval-check-output"]
from helpers.lessons.lesson_09.experiment import check_config, check_folder, stamp

right = {"r": rank, "target_modules": targets, "modules_to_save": ["head"]}
mistakes = (
    {"target_modules": [targets[0], "vlaue"]},  # the other layers stay frozen
    {"modules_to_save": ["haed"]},  # the head stays random
    {"r": 1000},  # a "thin" product larger than the matrix
)
for mistake in mistakes:
    config = LoraConfig(**right | mistake)
    get_peft_model(copy.deepcopy(base), config)  # no complaint
    try:
        check_config(base, config)
    except UserError as error:
        print(error)

# %% [markdown]
# The same with files. An adapter is a change *to a base*: here it is loaded onto one of the same shape with other
# weights. And a **pickle** can run any code when it is opened; `peft` still takes the old `adapter_model.bin` (torch
# opens it in a safe mode). `stamp` notes in the file's header which base the adapter grew on, and `check_folder` looks
# before you load.

# %%
stamp(adapters / "reviews", base)
seed_everything(seed)
stranger = catalog.classifier(track, model, len(review_names), pretrained=False).to(run.device)
some = {"test": reviews["test"].select(range(min(500, len(reviews["test"]))))}
misled = PeftModel.from_pretrained(copy.deepcopy(stranger), adapters / "reviews")  # no complaint
wrong_base = outcome_of("another base", misled, some, 0.0)
print(f"accuracy on its own base {outcomes['lora'].accuracy.value:.3f}, on another {wrong_base.accuracy.value:.3f}")

pickled = shutil.copytree(adapters / "reviews", adapters / "pickled")
torch.save(lora_files.read_weights(pickled)[0], pickled / "adapter_model.bin")
(pickled / "adapter_model.safetensors").unlink()
loaded = PeftModel.from_pretrained(copy.deepcopy(base), pickled)  # no complaint

# %% tags=["nbval-check-output"]
check_folder(adapters / "reviews", base)  # the right one passes
for candidate, onto in ((adapters / "reviews", stranger), (pickled, base)):
    try:
        check_folder(candidate, onto)
    except UserError as error:
        print(error)

# %% [markdown]
# ## 3. Which matrices, and which relative?
#
# | variant | what it changes |
# |---|---|
# | attention only | fewer matrices: the LoRA paper adapted attention's alone |
# | rsLoRA (Kalajdzievski 2023) | the scale is $\alpha / \sqrt r$ in place of $\alpha / r$ |
# | DoRA (Liu et al. 2024) | the length of each row of the weight is trained apart from its direction |
# | LoRA+ (Hayou et al. 2024) | B learns faster than A |
#
# Before we measure, each relative by hand: they are short.

# %% tags=["nbval-check-output"]
torch.manual_seed(seed)
plain = nn.Sequential(nn.Linear(64, 48))
x = torch.randn(5, 64)


def peft_layer(**options):
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["0"], **options)
    layer = get_peft_model(copy.deepcopy(plain), config).base_model.model[0]
    nn.init.normal_(layer.lora_B["default"].weight)  # as if it had been trained
    return layer


layer = peft_layer(use_rslora=True)
A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
by_hand = plain(x) + x @ A.T @ B.T * 8 / math.sqrt(4)  # (rows, in) -> (rows, rank) -> (rows, out)
assert torch.allclose(by_hand, layer(x), atol=1e-4)
print("rsLoRA by hand is peft's")

# %% tags=["nbval-check-output"]
layer = peft_layer(use_dora=True)
A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
length = plain[0].weight.norm(dim=1)  # (out,): trained, and at the start the rows' own length
direction = plain[0].weight + B @ A * 8 / 4  # (out, in)
weight = length.unsqueeze(1) * direction / direction.norm(dim=1, keepdim=True)
assert torch.allclose(x @ weight.T + plain[0].bias, layer(x), atol=1e-4)
print("DoRA by hand is peft's")

# %% [markdown]
# LoRA+ changes no formula. It gives the optimizer two groups of parameters, and B's group learns faster: B starts at
# zero, and has a long way to go.

# %% tags=["nbval-check-output"]
from peft.optimizers import create_loraplus_optimizer

candidate = experiment.with_peft(copy.deepcopy(base), experiment.VARIANTS["lora"])
theirs = create_loraplus_optimizer(candidate, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=4.0)
ours = experiment.optimizer_for(candidate, 1e-3, ratio=4.0)


def rates_of(optimizer):
    return {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}


assert rates_of(ours) == rates_of(theirs)
print("LoRA+ by hand gives every parameter the rate that peft gives it")

# %% [markdown]
# ### Exercise 09.2: is rsLoRA new?
#
# At one [rank](../docs/glossary.md#rank), rsLoRA is LoRA with another alpha. Which? So its use shows only when the
# *rank* changes.


# %% tags=["exercise"]
def same_scale(alpha, rank):
    return ...


check("09.2", same_scale)
# hint("09.2")


# %% tags=["solution"]
def same_scale(alpha, rank):
    return alpha * math.sqrt(rank)


check("09.2", same_scale)

# %% [markdown]
# Now the measurement. All variants get the same reviews, epochs, batches and schedule; only the learning rate differs:
# each has the best of one grid on validation reviews, over two seeds (`python -m benchmarks.lora_variants --tune`).
# LoRA+'s is that of A; B learns four times as fast. Section 1's run is the first row.
#
# **Predict 3.** Which differ by more than their intervals? Which is slowest?

# %%
for name in experiment.VARIANTS:
    if name not in outcomes:
        seed_everything(seed)  # the same random head for all, and the one of the reference
        variant, candidate = experiment.VARIANTS[name], catalog.classifier(track, model, len(review_names))
        options = {"epochs": epochs, "seed": seed, "learning_rate": rates[name], "rank": rank, "alpha": alpha}
        _, outcomes[name] = experiment.fine_tune(variant, candidate.to(run.device), reviews, collate, **options)
    print(f"{outcomes[name].title:28}{outcomes[name].accuracy:.3f}")

# %% [markdown]
# Beside them what every method has to beat: the majority class, lesson 02's [bag of
# words](../docs/glossary.md#bag-of-words), and the head alone on a body that stands still.

# %%
from helpers.evaluation import bag_of_words, majority

true = torch.tensor(reviews["test"].labels)
usual = torch.full_like(true, majority(review_texts["train"]["label"]))
words = bag_of_words(review_texts["train"]["text"], review_texts["train"]["label"])
guesses = torch.as_tensor(words.predict(review_texts["test"]["text"]))
task = Task(lambda _: copy.deepcopy(base), reviews["train"], reviews["test"], collate, run.device)
control = fit_and_evaluate(STRATEGIES["head_only"], task, epochs=epochs, seed=seed, rate_scale=rate_scale)
controls = {
    "majority": Outcome("majority class", usual, true),
    "bag_of_words": Outcome("bag of words", guesses, true),
    "head_only": Outcome("head only", control.predictions, true, control.parameters, control.seconds),
}
scores = {found.title: found.accuracy for found in (*controls.values(), *outcomes.values())}
notes = {o.title: f"{o.parameters:,} trained\n{o.seconds:.0f} s" for o in (controls["head_only"], *outcomes.values())}
plotting.show(plotting.dot_plot(scores, notes))

# %% [markdown]
# All were judged on the same test reviews, so their differences to LoRA can be paired. One run is one draw of reviews
# and of random starts, though. The **reference** is *not* from this run: a command in this repository trained every
# variant once for each of several seeds, and takes the differences seed by seed.

# %%
from helpers.reference import load_reference

reference = load_reference("lora_variants")
of_lora = reference.metrics["accuracy_lora"]
relatives = [name for name in outcomes if name != "lora"]
gaps = {name: paired_bootstrap(outcomes[name].correct, outcomes["lora"].correct, seed=seed) for name in relatives}
there = {
    name: mean_t([one - other for one, other in zip(reference.metrics[f"accuracy_{name}"], of_lora, strict=True)])
    for name in relatives
}
whose = {"this run, luck of the test rows": gaps, f"reference, luck of {len(reference.seeds)} seeds": there}
series = {said: {outcomes[name].title: found[name] for name in relatives} for said, found in whose.items()}
plotting.show(figures.differences(series, "LoRA"))
print("Reference:", reference.label)

# %%
rows = {}
for name, found in {"head_only": controls["head_only"], **outcomes}.items():
    against = [f"{gaps[name]:+.3f}", f"{there[name]:+.3f}"] if name in relatives else ["", ""]
    seconds = f"{found.seconds:.0f}"
    over_seeds = f"{reference.interval(f'accuracy_{name}'):.3f}"
    rate = f"{rates[name]:.0e}" if name in rates else ""
    rows[found.title] = [f"{found.accuracy:.3f}", over_seeds, *against, rate, f"{found.parameters:,}", seconds]
columns = ["this run [95 %]", "reference", "this run, against LoRA", "reference, against LoRA"]
columns += ["learning rate", "trained parameters", "training seconds"]
told_apart = [outcomes[name].title for name in relatives if 0.0 not in there[name]]
print("told apart from LoRA by the reference:", ", ".join(told_apart) or "none")
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What it means</summary>
#
# - The bars answer different questions. This run's: would other *test* reviews have given the same order? The
#   reference's: would other *training* reviews and other random starts?
# - A bar that crosses zero tells nothing apart. It does not say that two methods are equal: with three seeds, even a
#   difference of two points can hide in it. A bar of this run alone that misses zero is no proof either: look at how
#   far the reference's seeds lie apart.
# - *Attention only* trains less than half of the numbers. Its gap is what the feed-forward matrices are worth here.
# - The best *learning rate* is not the same for all. *DoRA* and *attention only* took twice LoRA's; at twice their own,
#   rsLoRA and LoRA+ fell behind in our grid, or learned nothing at all. Compare two names at one rate, and you compare
#   how well the rate suits them.
# - *DoRA* adds one number per row of each matrix, and computes the length of every row anew at each step: look at the
#   seconds.
#
# </details>

# %% [markdown]
# ### What rsLoRA is for
#
# The change after ten steps of AdamW, by rank: with $\alpha / r$ it shrinks as the rank grows, so a learning rate tuned
# at a small rank is too small at a large one. With $\alpha / \sqrt r$ it stays about the same.


# %%
def distance_after(rank, rslora, steps=10):
    """Train one branch for a few steps on a random target; return the size of the change."""
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=8, target_modules=["0"], use_rslora=rslora)
    branch = get_peft_model(nn.Sequential(nn.Linear(128, 128)), config)
    optimizer = torch.optim.AdamW([p for p in branch.parameters() if p.requires_grad], lr=1e-3)
    x, target = torch.randn(64, 128), torch.randn(64, 128)
    for _ in range(steps):
        nn.functional.mse_loss(branch(x), target).backward()
        optimizer.step()
        optimizer.zero_grad()
    return branch.base_model.model[0].get_delta_weight("default").norm().item()


ranks = (1, 2, 4, 8, 16, 32, 64)
moved = {
    title: {tried: distance_after(tried, rslora) for tried in ranks}
    for title, rslora in (("LoRA", False), ("rsLoRA", True))
}
what = "size of the change after ten steps"
plotting.show(sizes_by_rank(moved, what))

# %% [markdown]
# ## 4. Find the bug
#
# A colleague's adapter scored well. They saved it and loaded it the next morning. Some mornings its answers were
# nonsense, on others they were fine. No error, no warning. We rebuild it, with the trained weights from above in place
# of another training, and load it on ten mornings.

# %%
config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
colleagues = get_peft_model(copy.deepcopy(base), config)
colleagues.base_model.model.head.requires_grad_(True)  # the head has to learn as well
trained = dict(adapted.named_parameters())
with torch.no_grad():  # what training would have put there
    for name, value in colleagues.named_parameters():
        if value.requires_grad:
            theirs = name.replace(".default.", ".reviews.")
            value.copy_(trained[theirs.replace(".head.", ".head.modules_to_save.reviews.")])
evening = outcome_of("evening", colleagues, some, 0.0).accuracy.value
colleagues.save_pretrained(adapters / "colleague")

# %%
from safetensors.torch import load_file

a_few = {"test": some["test"].select(range(min(100, len(some["test"]))))}
mornings = []
for morning in range(run.by_budget(quick=2, standard=10)):
    seed_everything(seed + 1 + morning)  # every process starts anew
    fresh = catalog.classifier(track, model, len(review_names)).to(run.device)
    loaded = PeftModel.from_pretrained(fresh, adapters / "colleague")
    mornings.append(outcome_of("morning", loaded, a_few, 0.0).accuracy.value)
print(f"in the evening {evening:.3f}; mornings:", ", ".join(f"{score:.2f}" for score in sorted(mornings)))
kept = load_file(adapters / "colleague" / "adapter_model.safetensors")
print(f"{len(kept)} tensors in the file, the last of them: {max(kept)}")

# %% [markdown]
# ### Exercise 09.3: mend it
#
# Write the `LoraConfig` with which nothing is left behind.

# %% tags=["exercise"]
mended = ...

check("09.3", mended)
# hint("09.3")

# %% tags=["solution"]
mended = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, modules_to_save=["head"])

check("09.3", mended)

# %% [markdown]
# The habit that finds it: load what you saved into a *fresh* process, and measure once more before you go home.
#
# ### Other people's figures
#
# | method, model, task | what they report | source |
# |---|---|---|
# | LoRA, GPT-3, attention weights only | 10,000 times fewer trained parameters, as good or better | Hu et al. 2021 |
# | LoRA, LLaMA, which layers | all linear layers are needed to match full fine-tuning | Dettmers et al. 2023 (QLoRA) |
# | rsLoRA, Llama 2 7B | high ranks go on gaining, where LoRA does not | Kalajdzievski 2023 |
# | DoRA, LLaMA 7B, commonsense tasks | 78.4 against LoRA's 74.7 | Liu et al. 2024 |
# | LoRA+, several models | 1 to 2 % better, up to twice as fast | Hayou et al. 2024 |
#
# Theirs, not ours: far larger models, harder tasks.
#
# ## 5. Recap: what this run showed

# %%
from IPython.display import Markdown, display

values = [outcome.accuracy.value for outcome in outcomes.values()]
told = ", ".join(told_apart) or "none of them"
display(
    Markdown(f"""
1. **A few lines**: {lines_library} in place of {lines_by_hand}, the same losses to {difference_losses:.0e}. Accuracy
   against lesson 08's layers {gap_by_hand:+.3f}. The adapter has {adapter_size / 1e3:,.0f} kB, the model
   {weights / 1e3:,.0f} kB (*section 1*).
2. **Two adapters on one base** switch without touching it; merged, the logits differ by {difference_merge:.0e}. Two
   outputs that never occur took {outcomes["lora"].accuracy.value:.3f} to {four_outputs.accuracy.value:.3f}
   (*section 2, the assertions and the losses*).
3. **The relatives** reach {min(values):.3f} to {max(values):.3f} here; over the reference's seeds
   {told} can be told apart from LoRA (*section 3, the table*).
4. **A head left out of the file**: {evening:.3f} in the evening, {min(mornings):.2f} to {max(mornings):.2f} on
   {len(mornings)} mornings (*section 4*).
""")
)

# %%
from helpers.record import record

values = {}
for name, found in {**controls, **outcomes}.items():
    values |= found.metrics(name)
values |= hand.metrics("by_hand") | four_outputs.metrics("four_outputs") | on_news.metrics("news")
values |= {"checkpoint_bytes_lora": adapter_size, "checkpoint_bytes_full": weights}
values |= {"difference_merge": difference_merge, "difference_losses_trainer": difference_losses}
values |= {"slowdown_with_branches": slower}
values |= {"lines_by_hand": lines_by_hand, "lines_library": lines_library}
values |= {f"spread_{title.replace(' ', '_')}": spread for title, spread in spreads.items()}
values |= {"accuracy_wrong_base": wrong_base.accuracy.value}
values |= {"accuracy_head_left_behind": mornings, "accuracy_head_before_saving": evening}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data, "labels": labels}
parameters |= {"rank": rank, "alpha": alpha, "rate_scale": rate_scale}
written = record("09_lora_hugging_face", parameters, **values)
folder.cleanup()
print(f"saved: {written.name}")
solved("09")

# %% [markdown]
# ## Next
#
# - Wider adapters: `workbook run 09 -p rank 32`. Does rsLoRA pull ahead?
# - Fewer labels: `workbook run 09 -p labels 500`. Is it enough?
# - With your own model: `workbook run 09 -p model my_folder`.
# - Lesson 10 makes the frozen base smaller; lesson 11 puts adapters on it.
#
# ## References
#
# | work | year |
# |---|---|
# | Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models* | 2021 |
# | Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs* | 2023 |
# | Kalajdzievski, *A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA* | 2023 |
# | Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation* | 2024 |
# | Hayou et al., *LoRA+: Efficient Low Rank Adaptation of Large Models* | 2024 |
