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
# Lesson 08 built LoRA by hand. The library `peft` brings it in a few lines, together with its relatives. We use it,
# check that it is the same thing, keep several adapters on one model, and ask which of the many settings matter.
#
# *40 minutes to read, two to run; two processor cores, no network.*

# %% [markdown]
# **You will be able to**
#
# - adapt a model with `LoraConfig`, `get_peft_model` and `Trainer`, and show that it is lesson 08's LoRA;
# - save an adapter in kilobytes, load it, switch between two on one base, and merge one;
# - choose which matrices to adapt, and say what rsLoRA, DoRA and LoRA+ change;
# - notice a trained head that is left out of the file.

# %%
import copy
import math
import tempfile
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from helpers import catalog, lora, lora_files, lora_variants, plots
from helpers.batches import TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.checks import check, hint  # noqa: F401 - hint("09.1") helps when you are stuck
from helpers.intervals import paired_bootstrap, wilson
from helpers.models import blocks
from helpers.plots import ladder as ladders
from helpers.plots import lora as figures
from helpers.pretraining.loop import has_bfloat16
from helpers.runtime import check_number, seed_everything, start
from helpers.training import Stopwatch, to_device, trainable_parameters, warmup_linear

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": all variants, all labels
seed = 0  # draws the training rows and every random start
model = ""  # a folder with an encoder of your own (BERT's family works best); "" takes the track's
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
epochs = run.by_budget(quick=1, standard=lora_variants.EPOCHS)
rate = 2e-3 * rate_scale  # of the two adapters of sections 1 and 2: lesson 08's for LoRA

# %%
tokenizer = catalog.tokenizer("encoder", track, model)
collate = pad(tokenizer)  # rows -> input_ids, attention_mask (batch, seq) and labels (batch,)


def rows_of(role, count):
    found = catalog.dataset(role, track)
    parts = {"train": sample_rows(found["train"], count, seed)}
    parts["test"] = found["test"].select(range(min(test_count, len(found["test"]))))
    names = found["train"].features["label"].names
    rows = {split: tokenize(part, tokenizer) for split, part in parts.items()}
    return names, {split: TokenizedReviews.from_dataset(part) for split, part in rows.items()}


review_names, reviews = rows_of("reviews", train_count)
topic_names, topics = rows_of("topics", run.by_budget(quick=32, standard=400))
classes = max(len(review_names), len(topic_names))  # two tasks will share one base
print(f"{len(reviews['train']):,} reviews and {len(topics['train']):,} news items to learn from")

# %% [markdown]
# ## 1. Three calls
#
# `LoraConfig` says which layers and how wide; `get_peft_model` puts the layers in and freezes the rest; `Trainer`
# trains. `modules_to_save` names what is trained *in full* and saved with the adapter: our head is new, so a low-rank
# change of its random numbers would not do.

# %%
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, Trainer, TrainingArguments

folder = tempfile.TemporaryDirectory()
seed_everything(seed)
base = catalog.classifier(track, model, classes).to(run.device)
targets = lora.linear_names(blocks(base.body))
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
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(model=adapted, args=arguments, train_dataset=rows, data_collator=collate)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    adapted.save_pretrained(folder.name)
    return trainer.accelerator.unwrap_model(adapted, keep_fp32_wrapper=False)  # full precision again


# %% [markdown]
# **Predict 1.** How many kilobytes will the saved adapter have? The whole model has about five megabytes. Count before
# you run: exercise 09.1 does it exactly.


# %%
def share_right(adapted, rows):
    scores, true = lora_variants.answers(adapted, rows, collate)
    return (scores.argmax(dim=-1) == true).double()


with Stopwatch() as watch:
    adapted = with_the_library(copy.deepcopy(base), reviews["train"], "reviews", rate)
right = {"library": share_right(adapted, reviews["test"])}
seconds = {"library": watch.seconds}
accuracy_library = wilson(int(right["library"].sum()), len(right["library"]))
print(f"reviews: {accuracy_library:.3f} on test rows, {trainable_parameters(adapted):,} parameters trained")

# %%
saved = {path.name: path.stat().st_size for path in sorted((Path(folder.name) / "reviews").iterdir())}
weights = sum(value.numel() * value.element_size() for value in base.state_dict().values())
adapter_size = saved["adapter_model.safetensors"]
for name in ("adapter_config.json", "adapter_model.safetensors"):
    print(f"{name:28}{saved[name] / 1e3:8,.0f} kB")
print(f"{'the whole model':28}{weights / 1e3:8,.0f} kB")

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
settings = {"learning_rate": rate, "epochs": 1, "seed": seed, "bfloat16": False, "sampling": "sequential"}
ours = copy.deepcopy(base)
lora.inject(ours, targets, rank=rank, alpha=alpha, trained=("head",))
config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, modules_to_save=["head"])
theirs = get_peft_model(copy.deepcopy(base), config)
for path, layer in lora.lora_layers(ours).items():
    theirs.base_model.model.get_submodule(path).lora_A["default"].weight.data.copy_(layer.lora_A)

trainer = lora_variants.trainer_for(theirs, few, collate, folder=folder.name, **settings)
trainer.train()
losses_library = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

# %% tags=["nbval-check-output"]
batches = torch.utils.data.DataLoader(few, batch_size=16, collate_fn=collate)
optimizer = lora_variants.optimizer_for(ours, settings["learning_rate"])
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
# So the library buys brevity, not another method. How much? We count lines that do something (no comments, no blank
# lines, no descriptions): what lesson 08 needed for layer, injection, merging and files, against the function above.


# %%
from helpers.code_size import code_lines

by_hand = sum(code_lines(module) for module in (lora, lora_files))
lines = {"lesson 08's modules": by_hand, "with_the_library": code_lines(with_the_library)}
for name, count in lines.items():
    print(f"{name:24}{count:4} lines")

# %% [markdown]
# ## 2. One base, several adapters
#
# The base stands still, so it can carry more than one adapter at a time. We load the saved adapter onto a fresh base,
# and add a second: the same base learns news topics.

# %%
served = PeftModel.from_pretrained(copy.deepcopy(base), Path(folder.name) / "reviews", adapter_name="reviews")
batch = next(iter(length_batches(reviews["test"], collate, 16, shuffle=False)))


def logits_of(served, batch):
    with torch.inference_mode():
        return served.eval()(**to_device(batch, served)).logits


assert torch.equal(logits_of(served, batch), logits_of(adapted, batch))
print("reloaded: the same logits, to the bit")

# %%
second = with_the_library(copy.deepcopy(base), topics["train"], "topics", 2 * rate)
right_topics = share_right(second, topics["test"])
print(f"topics: {wilson(int(right_topics.sum()), len(right_topics)):.3f} on test rows")
served.load_adapter(Path(folder.name) / "topics", adapter_name="topics")
print("adapters on one base:", ", ".join(served.peft_config))

# %% [markdown]
# Switching changes no weight of the base. Each adapter brings its own head along, for it is in `modules_to_save`.

# %% tags=["nbval-check-output"]
served.set_adapter("topics")
assert torch.equal(logits_of(served, batch), logits_of(second, batch))
served.set_adapter("reviews")
assert torch.equal(logits_of(served, batch), logits_of(adapted, batch))
with served.disable_adapter():
    assert torch.equal(logits_of(served, batch), logits_of(base, batch))
print("topics, reviews, neither: each to the bit what it is alone")

# %% [markdown]
# One model, two jobs. Here are four texts under both adapters; only one of the two answers makes sense for each.

# %%
looked_at = [*catalog.dataset("reviews", track)["validation"].select(range(2))["text"]]
looked_at += catalog.dataset("topics", track)["validation"].select(range(2))["text"]
label_names = {"reviews": review_names, "topics": topic_names}


def answer(text, task):
    served.set_adapter(task)
    read = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
    read = {name: read[name] for name in ("input_ids", "attention_mask")}
    shares = logits_of(served, read)[0, : len(label_names[task])].softmax(dim=-1)
    best = int(shares.argmax())
    return f"{label_names[task][best]} ({shares[best]:.0%})"


rows = {text[:60] + " ...": [answer(text, task) for task in label_names] for text in looked_at}
pd.DataFrame.from_dict(rows, orient="index", columns=list(label_names))

# %% [markdown]
# Type a text of your own, and switch.

# %%
from ipywidgets import HTML, Textarea, ToggleButtons, VBox

field = Textarea(value=looked_at[0], rows=3, layout={"width": "600px"}, continuous_update=False)
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
# Where one task is enough, **merging** takes the branches away: the layers are plain again, and as fast as before.

# %%
served.set_adapter("reviews")
logits = logits_of(served, batch)
merged = copy.deepcopy(served).merge_and_unload()
difference_merge = (logits_of(merged, batch) - logits).abs().max().item()
assert difference_merge < 1e-4
costs = {}
for title, candidate in (("with branches", served), ("merged", merged)):
    with Stopwatch() as watch:
        for _ in range(run.by_budget(quick=1, standard=10)):
            logits_of(candidate, batch)
    costs[title] = watch.seconds
print(f"largest difference of the logits {difference_merge:.0e}")
print(f"prediction with branches takes {costs['with branches'] / costs['merged']:.1f} times as long as merged")

# %% [markdown]
# ## 3. Which matrices, and which relative?
#
# | variant | what it changes |
# |---|---|
# | attention only | fewer matrices: the LoRA paper adapted just these |
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

candidate = lora_variants.with_peft(copy.deepcopy(base), lora_variants.VARIANTS["lora"])
theirs = create_loraplus_optimizer(candidate, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=4.0)
ours = lora_variants.optimizer_for(candidate, 1e-3, ratio=4.0)


def rates_of(optimizer):
    return {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}


assert rates_of(ours) == rates_of(theirs)
print("LoRA+ by hand gives every parameter the rate that peft gives it")

# %% [markdown]
# ### Exercise 09.2: is rsLoRA new?
#
# At one rank, rsLoRA is LoRA with another alpha. Which? So its use shows only when the *rank* changes.


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
# Now the measurement. All variants get the same reviews, epochs, batch size and schedule. LoRA, attention only and DoRA
# share one learning rate; rsLoRA and LoRA+, whose steps are longer, have half of it.
# `python -m benchmarks.lora_variants --tune` searches them one by one.
#
# **Predict 2.** Which differ by more than their intervals? Which is slowest?

# %%
outcomes = {}
names = run.by_budget(
    quick=("lora", "dora"),
    standard=tuple(lora_variants.VARIANTS),
)
for name in names:
    variant, candidate = lora_variants.VARIANTS[name], catalog.classifier(track, model, len(review_names))
    options = {"epochs": epochs, "seed": seed, "rank": rank, "alpha": alpha}
    options["learning_rate"] = variant.learning_rate * rate_scale
    candidate = candidate.to(run.device)
    _, outcomes[name] = lora_variants.fine_tune(variant, candidate, reviews, collate, **options)
    print(f"{outcomes[name].title:28}{outcomes[name].accuracy:.3f}")

# %%
rows = {}
for outcome in outcomes.values():
    against = ""
    if outcome is not outcomes["lora"]:
        gap = paired_bootstrap(outcome.correct, outcomes["lora"].correct, seed=seed)
        against = f"{gap:+.3f}"
    cost = [f"{outcome.parameters:,}", f"{outcome.seconds:.0f}"]
    rows[outcome.title] = [f"{outcome.accuracy:.3f}", against, *cost]
columns = ["accuracy [95 %]", "against LoRA [95 %]", "trained parameters", "training seconds"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# The same as a figure, with what each costs:

# %%
scores = {outcome.title: outcome.accuracy for outcome in outcomes.values()}
notes = {o.title: f"{o.parameters:,} trained\n{o.seconds:.0f} s" for o in outcomes.values()}
plots.show(ladders.ladder(scores, notes), alt=ladders.ladder_in_words(scores))

# %% [markdown]
# <details><summary>What it means</summary>
#
# - *Attention only* trains less than half of the numbers. Its difference to LoRA on every layer is what the
#   feed-forward matrices are worth here.
# - *rsLoRA* at one rank is LoRA with a larger alpha (exercise 09.2): what differs here is the length of the steps.
# - *DoRA* adds one number per row of each matrix, and computes the length of every row anew at each step: look at the
#   seconds.
# - *LoRA+* asks for a second rate, and so for a second search.
#
# Where the interval of a difference holds zero, this run cannot tell the two apart. And where it does not, the rate may
# be the reason: compare two names at one rate, and you compare how well the rate suits them.
#
# </details>

# %% [markdown]
# ### What rsLoRA is for
#
# The change after ten steps of AdamW, by rank: with $\alpha / r$ it shrinks as the rank grows, so a learning rate tuned
# at a small rank is too small at a large one. With $\alpha / \sqrt r$ it stays.


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
plots.show(figures.sizes_by_rank(moved, what), alt=figures.sizes_by_rank_in_words(moved, what))

# %% [markdown]
# ## 4. Find the bug
#
# A colleague's adapter scored well. They saved it, loaded it the next morning, and its answers were worthless. No
# error, no warning. We rebuild it, with the trained weights from above in place of another training.

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
evening = share_right(colleagues, reviews["test"]).mean().item()
colleagues.save_pretrained(Path(folder.name) / "colleague")

# %%
from safetensors.torch import load_file

seed_everything(seed + 1)  # the next morning
fresh = catalog.classifier(track, model, classes).to(run.device)
loaded = PeftModel.from_pretrained(fresh, Path(folder.name) / "colleague")
morning = share_right(loaded, reviews["test"]).mean().item()
print(f"in the evening {evening:.3f}, the next morning {morning:.3f}")
kept = load_file(Path(folder.name) / "colleague" / "adapter_model.safetensors")
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
# ## 5. Recap: what this run showed

# %%
from IPython.display import Markdown, display

values = [outcome.accuracy.value for outcome in outcomes.values()]
display(
    Markdown(f"""
1. **A few lines**: {lines["with_the_library"]} in place of {lines["lesson 08's modules"]}, and the same losses to
   {difference_losses:.0e} (*section 1*). The adapter has {adapter_size / 1e3:,.0f} kB, the model
   {weights / 1e3:,.0f} kB.
2. **Two adapters on one base** switch without touching it; merged, the logits differ by {difference_merge:.0e}
   (*section 2, the assertions*).
3. **The relatives** reach {min(values):.3f} to {max(values):.3f} here (*section 3, the table*).
4. **A head left out of the file** costs {evening - morning:.3f} overnight (*section 4*).
""")
)

# %%
from helpers.record import record

values = {
    f"accuracy_{task}_library": found.mean().item()
    for task, found in (("reviews", right["library"]), ("topics", right_topics))
}
for name, outcome in outcomes.items():
    values |= outcome.metrics(name)
values |= {
    "checkpoint_bytes_lora": adapter_size,
    "checkpoint_bytes_full": weights,
    "difference_merge": difference_merge,
}
values |= {"difference_losses_trainer": difference_losses, "seconds_library": seconds["library"]}
values |= {"lines_by_hand": lines["lesson 08's modules"], "lines_library": lines["with_the_library"]}
values |= {"accuracy_head_left_behind": morning, "accuracy_head_before_saving": evening}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "labels": labels}
parameters |= {"rank": rank, "alpha": alpha, "rate_scale": rate_scale}
written = record("09_lora_hugging_face", parameters, **values)
folder.cleanup()
print(f"saved: {written.name}")

# %% [markdown]
# ## Next
#
# - Wider adapters: `workbook run 09 -p rank 32`. Does rsLoRA pull ahead?
# - With your own model: `workbook run 09 -p model my_folder`.
# - Lesson 10 makes the frozen base smaller; lesson 11 puts adapters on it.
