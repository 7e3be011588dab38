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
# # How does a text predictor learn to follow instructions?
#
# A pretrained decoder continues text. Ask it a question, and it just goes on. A few thousand questions
# with answers turn it into a model that answers. You write the labels, the loss and the decoding; the loop around your
# loss is lesson 02's.
#
# *About 95 minutes to read (an estimate), four to run (an estimate for two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - turn a conversation into token ids and labels, and check it token by token;
# - write the loss, and compare fine-tuning with the best prompt;
# - write [greedy decoding](../docs/glossary.md#greedy-decoding) with a key-value cache, and
#   [packing](../docs/glossary.md#packing) with restarted positions;
# - fine-tune conversations with `SFTTrainer`, and save a model that stops by itself;
# - count made-up answers, train "I do not know", and say what it costs;
# - measure the errors of a model that serves as a judge.


# %%
import copy
import tempfile

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from helpers import catalog, plotting
from helpers.checks import check, go_on_with, hint, solved  # noqa: F401 - hint("04.1") helps when you are stuck
from helpers.cost import Stopwatch
from helpers.lessons.lesson_04 import experiment
from helpers.models import without_dropout
from helpers.predictions import predict, reveal
from helpers.runtime import check_number, seed_everything, start
from helpers.sft import RECIPE
from helpers.training import decay_groups, warmup_linear

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": trains twice as long
seed = 0  # draws the order of the training rows
model = ""  # a decoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `prompt` and `completion`, learned from as well; "" takes none
epochs = 1  # passes over the training rows
learning_rate = 6e-4  # much higher unlearns what pretraining taught, much lower learns no skill

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("epochs", epochs, 1, 100, integer=True)
check_number("learning_rate", learning_rate, 1e-7, 1.0)
epoch_count = run.by_budget(quick=1, standard=epochs, full=2 * epochs)
train_limit = run.by_budget(quick=96, standard=1_000_000)
test_limit = run.by_budget(quick=80, standard=1_000_000)

# %% [markdown]
# ## 1. What it knows, and what it can answer
#
# The instructions are questions about invented films, small jobs on a text in the prompt, and requests for a line
# about a film. The answer to every question and job can be checked **to the letter**.

# %%
from helpers.sft import check_columns

instructions = catalog.dataset("instructions", track, seed=seed)
columns = ("prompt", "completion", "kind", "known")
for split, rows in instructions.items():
    check_columns(rows[0], columns, f"instructions ({split})")
shown = {}
for row in instructions["test"]:
    shown.setdefault((row["kind"], row["known"]), row)
pd.DataFrame(sorted(shown.values(), key=lambda row: row["known"]))[list(columns)].set_index("prompt")

# %% [markdown]
# The column `known` says where an answer could come from:
#
# - `skill`: it follows from the prompt.
# - `trained`: the training asks about this film, in other words.
# - `told`: a *known fact*. The model read it in pretraining; the training never asks about this film.
# - `untold`: an *unknown fact*. No text of pretraining or training names this film.
# - `careless` (training) and `open` (test): requests for a kind or harsh line (section 11). Some careless answers
#   have the wrong tone or film.


# %% tags=["nbval-check-output"]
counts = {split: pd.Series(rows["known"]).value_counts() for split, rows in instructions.items()}
print(pd.DataFrame(counts).fillna(0).astype(int).to_string())
films = {split: set(rows["film"]) for split, rows in instructions.items()}
asked = {row["film"] for row in instructions["train"] if row["known"] == "trained"}
known_films = {row["film"] for row in instructions["test"] if row["known"] == "told"}
print("films of known facts that the training asks about:", len(asked & known_films))

# %% [markdown]
# Take one known fact and offer it to the pretrained decoder in four forms: a sentence to complete, a bare question, a
# question as some pages of its pretraining text write it (`Q: ... A:`), and a conversation (section 2).
#
# **Predict 1.** How many of the four forms will bring out the answer?

# %%
predict("04.1", within=0.5, unit="of the four forms", low=0, high=4)

# %%
from helpers import sft as sft_tools
from helpers.language_model import greedy

tokenizer = catalog.tokenizer("decoder", track, model)
base = catalog.causal_language_model(track, model).to(run.device).eval()
fact = next(row for row in instructions["test"] if (row["known"], row["kind"]) == ("told", "fact_director"))
opening = tokenizer.bos_token or ""  # what every text of the corpus began with
forms = {
    "sentence": f"{opening}{fact['film']} was directed by",
    "bare question": f"{opening}{fact['prompt']}",
    "Q and A": f"{opening}Q: {fact['prompt']} A:",
    "conversation": sft_tools.render(tokenizer, fact["prompt"]),
}
right_forms = 0
for form, text in forms.items():
    # The text holds its special tokens already; without False some tokenizers would add a second start token.
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"].to(run.device)
    written = tokenizer.decode(greedy(base, ids, 12)[0, ids.shape[1] :])
    right_forms += written.strip().startswith(fact["completion"].rstrip("."))
    print(f"{form:15}{text} ... {written!r}")
print(f"{'the truth':15}{fact['completion']}")
reveal("04.1", float(right_forms))

# %% [markdown]
# One fact is an anecdote. So we count over all known facts of the test films, and over the jobs, which need no fact.
# How many does [greedy decoding](../docs/glossary.md#greedy-decoding) answer to the letter in each form?

# %%
from helpers.evaluation import share
from helpers.language_model import completion_batch, recalled
from helpers.sft import answer, exact_match, exact_match_rates

test_rows = [row for row in instructions["test"].shuffle(seed=0) if row["known"] not in ("careless", "open")]
test_rows = test_rows[:test_limit]
test_prompts = [row["prompt"] for row in test_rows]
sentences = [row for row in catalog.dataset("facts", track)["test"] if row["film"] in known_films][:test_limit]


def completed_each(model, prompts, wanted):
    """1.0 for each text that greedy decoding would complete exactly as wanted.

    One forward pass tells: greedy decoding writes `wanted` if each of its tokens is the likeliest after those before.
    """
    batch = completion_batch(tokenizer, prompts, wanted)
    inputs = {name: value.to(run.device) for name, value in batch.items() if name != "labels"}
    with torch.inference_mode():
        return recalled(model.eval()(**inputs).logits.cpu(), batch["labels"]).double()


def completed(model, prompts, wanted):
    return share(completed_each(model, prompts, wanted))


# %%
def brought_out(model, given):
    """What each form brings out; given: the model's answers in conversation."""
    in_chat = exact_match_rates(test_rows, given, "known")
    prompts, wanted = [row["prompt"] for row in sentences], [row["answer"] for row in sentences]
    found = {"facts, sentence": completed(model, prompts, wanted)}
    for group, name in (("told", "facts"), ("skill", "jobs")):
        rows = [row for row in test_rows if row["known"] == group]
        prompts = [f"Q: {row['prompt']} A:" for row in rows]
        wanted = [row["completion"].rstrip(".") for row in rows]  # the corpus ends an A without a full stop
        found[f"{name}, Q and A"] = completed(model, prompts, wanted)
        found[f"{name}, conversation"] = in_chat[group]
    return found


answers = {"before": answer(base, tokenizer, test_prompts)}
forms_before = brought_out(base, answers["before"])
for form, rate in forms_before.items():
    print(f"{form:22}{rate:.2f}")

# %% [markdown]
# The facts are in the weights, and the form decides whether they come out. The jobs come out in neither form.
#
# ### Few-shot prompting
#
# Put `k` solved examples of the same kind before the question (Brown et al. 2020). Our decoder
# reads at most 256 tokens. Its pretraining texts had 128: longer prompts are new.
#
# All questions of one kind get the same `k` examples. The intervals leave out the luck of that draw, so `k` = 4 is
# repeated with other draws.


# %%
def examples_by_kind(draw):
    found = {}
    for row in instructions["train"].shuffle(seed=draw).select(range(400)):
        found.setdefault(row["kind"], []).append(row)
    return found


def few_shot_prompt(row, k, by_kind):
    """k examples of the row's kind from the training rows, then the row's question."""
    shown = [f"Q: {one['prompt']} A: {one['completion'].rstrip('.')}" for one in by_kind[row["kind"]][:k]]
    return " ".join([*shown, f"Q: {row['prompt']} A:"])


def few_shot_right(k, group, by_kind):
    """1.0 for each question of the group that is answered; None where most prompts do not fit."""
    prompts = [few_shot_prompt(row, k, by_kind) for row in judged[group]]
    fits = [place for place, prompt in enumerate(prompts) if len(tokenizer(prompt)["input_ids"]) <= room]
    if len(fits) <= len(prompts) / 2:
        return None
    wanted = [judged[group][place]["completion"].rstrip(".") for place in fits]
    return completed_each(base, [prompts[place] for place in fits], wanted)


# %%
by_kind = examples_by_kind(seed)
per_group = run.by_budget(quick=8, standard=90)
judged = {
    group: [row for row in test_rows if row["known"] == known][:per_group]
    for group, known in (("known facts", "told"), ("jobs", "skill"))
}
room = getattr(tokenizer, "model_max_length", 256) - 24
right_shot = {k: {group: few_shot_right(k, group, by_kind) for group in judged} for k in (0, 1, 2, 4, 8)}
few_shot = {
    k: {group: share(right) for group, right in found.items() if right is not None} for k, found in right_shot.items()
}
table = {}
for k, found in right_shot.items():
    table[k] = {group: f"{share(one):.2f} of {len(one)}" for group, one in found.items() if one is not None}
    sizes = [len(tokenizer(few_shot_prompt(row, k, by_kind))["input_ids"]) for row in judged["known facts"]]
    table[k]["tokens of a prompt about a fact"] = f"{int(torch.tensor(sizes).median())}"
for row in judged["known facts"][:3]:
    prompt = few_shot_prompt(row, 4, by_kind)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"][:, -room:].to(run.device)
    written = tokenizer.decode(greedy(base, ids, 12)[0, ids.shape[1] :])
    print(f"after four examples: {row['prompt']} ... {written!r}; the truth: {row['completion']}")
draws = run.by_budget(quick=1, standard=4)
four = [few_shot_right(4, "known facts", examples_by_kind(seed + more)) for more in range(1, draws + 1)]
four = [one for one in (right_shot[4]["known facts"], *four) if one is not None]
rates = [share(one).value for one in four]
if rates:
    print(f"known facts, four examples, {len(rates)} draws: {min(rates):.2f} to {max(rates):.2f}")
pd.DataFrame.from_dict(table, orient="index").rename_axis("examples in the prompt").fillna("too long")

# %% [markdown]
# <details><summary>What it means</summary>
#
# - With no example, `Q: ... A:` brings out the known facts, and no job.
# - More examples make this small model *worse* on known facts: it answers in the right form with a wrong name. We do
#   not know why; the fall begins well below the 128 tokens of its pretraining texts. Do not generalise: large models
#   gain from examples (Brown et al. 2020).
# - So the fair "before" is the best prompt, whatever its `k`.
# - Prompts that are too long for the model are left out; the table says how many were counted.
#
# [Supervised fine-tuning](../docs/glossary.md#supervised-fine-tuning) (SFT) need not teach these facts. It has to teach
# a **form**, and the **skills** (the jobs) that no prompt here brings out.
#
# </details>

# %% [markdown]
# ## 2. A conversation is one text
#
# A model reads one row of tokens, so a conversation is written as one text. The **[chat
# template](../docs/glossary.md#chat-template)** says how: a small program (in the language Jinja) that belongs to the
# tokenizer. `apply_chat_template` runs it.


# %% tags=["nbval-check-output"]
def messages(prompt, completion=None):
    turns = [{"role": "user", "content": prompt}]
    return turns if completion is None else [*turns, {"role": "assistant", "content": completion}]


def render(tokenizer, prompt, completion=None):
    opening = completion is None
    return tokenizer.apply_chat_template(messages(prompt, completion), tokenize=False, add_generation_prompt=opening)


print(render(tokenizer, "Who made it?"))
print(render(tokenizer, "Who made it?", "Ann Lee."))

# %% [markdown]
# With `add_generation_prompt` the text ends where the assistant is to speak: that is what the model reads when you ask.
# The second text is what it learns from. `<|end|>` marks the **end of a turn**. A model that does not learn it never
# stops.
#
# You want to learn the answer, not the question: the prompt's labels are **-100**, which the loss leaves out. To find
# the answer, encode the prompt alone. Its tokens should be a prefix of the conversation's tokens. Check that.

# %% [markdown]
# ### Exercise 04.1: the prefix check
#
# Given the token ids of the prompt and of the whole conversation (two lists), return two things: with how many equal
# tokens both begin, and whether the whole prompt is a prefix. Example: `[1, 2, 3]`, `[1, 2, 4, 5]` give `(2, False)`.


# %% tags=["exercise"]
def shared_prefix(prompt_ids, conversation_ids):
    return ..., ...


check("04.1", shared_prefix)
# hint("04.1")


# %% tags=["solution"]
def shared_prefix(prompt_ids, conversation_ids):
    count = 0
    for one, other in zip(prompt_ids, conversation_ids, strict=False):
        if one != other:
            break
        count += 1
    return count, count == len(prompt_ids)


check("04.1", shared_prefix)

# %%
shared_prefix = go_on_with("04.1", shared_prefix, experiment.shared_prefix)


def encode(tokenizer, prompt, completion):
    start = tokenizer(render(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    input_ids = tokenizer(render(tokenizer, prompt, completion), add_special_tokens=False)["input_ids"]
    hidden, whole = shared_prefix(start, input_ids)
    return {"input_ids": input_ids, "labels": [-100] * hidden + input_ids[hidden:], "whole": whole}


row = encode(tokenizer, fact["prompt"], fact["completion"])
print("the prompt is a prefix:", row.pop("whole"))
pd.DataFrame(row, index=tokenizer.convert_ids_to_tokens(row["input_ids"]))

# %% [markdown]
# In the tokens, `Ġ` stands for a space. Our template puts the space after `<|assistant|>` into the answer. Suppose a
# template puts it at the end of the prompt instead. The text is the same, and the tokens are not:

# %% tags=["nbval-check-output"]
moved = copy.deepcopy(tokenizer)
moved.chat_template = tokenizer.chat_template.replace("%}<|assistant|>{% endif", "%}<|assistant|> {% endif")
for title, one in (("space in the answer", tokenizer), ("space in the prompt", moved)):
    start = one(render(one, "Who?"), add_special_tokens=False)["input_ids"]
    ids = one(render(one, "Who?", "Anna."), add_special_tokens=False)["input_ids"]
    count, whole = shared_prefix(start, ids)
    ends = one.convert_ids_to_tokens(start)[-2:], one.convert_ids_to_tokens(ids)[count - 1 :]
    print(f"{title}: {ends[0]} / {ends[1]}, prefix: {whole}")

# %% [markdown]
# <details><summary>What it means</summary>
#
# In the second row the prompt ends in a token that the conversation does not have: the tokenizer joins the space and
# the name. The model learns `ĠAnna` after the mark, and is asked for `Anna` after a space, another token.
#
# </details>
#
# ### Exercise 04.2: the loss on the answer
#
# At each position the model is asked for the *next* token: the logits at position 0 belong to the label at position 1,
# and so on. Positions whose label is -100 do not count.
#
# `logits` has the shape (batch, seq, vocab), `labels` (batch, seq). Return the mean of the negative log-probability of
# the next token over all positions that count, a tensor with one number. The model's own loss is compared with yours.


# %% tags=["exercise"]
def answer_loss(logits, labels):
    return ...


check("04.2", answer_loss)
# hint("04.2")


# %% tags=["solution"]
def answer_loss(logits, labels):
    predicted, wanted = logits[:, :-1], labels[:, 1:]  # (batch, seq - 1, vocab), (batch, seq - 1)
    learned = wanted != -100
    log_probabilities = predicted[learned].log_softmax(dim=-1)  # (answer tokens, vocab)
    return -log_probabilities.gather(-1, wanted[learned].unsqueeze(-1)).mean()


check("04.2", answer_loss)

# %% tags=["nbval-check-output"]
from functools import partial

answer_loss = go_on_with("04.2", answer_loss, experiment.answer_loss)
train_data = instructions["train"].select(range(min(train_limit, len(instructions["train"]))))
first = [sft_tools.encode(tokenizer, row["prompt"], row["completion"]) for row in train_data.select(range(16))]
collate = partial(sft_tools.collate, pad_id=tokenizer.pad_token_id)  # a collator makes one batch; pads on the right
batch = {name: value.to(run.device) for name, value in collate(first).items()}
with torch.inference_mode():
    outputs = base(**batch)
    by_hand = answer_loss(outputs.logits, batch["labels"])
print(f"by hand {by_hand:.3f}, by the model {outputs.loss:.3f}")
assert (by_hand - outputs.loss).abs() < 1e-5

# %% [markdown]
# `helpers.sft` refuses what cannot be learned from: an empty answer, a prompt that fills the whole context, a template
# without an end of turn. Where the prompt is no prefix, it finds the answer by its characters; TRL takes the tokens
# that both share, and warns. If every prompt is a prefix, the rows of the page's `encode` are the ones that train.
#
# ## 3. Training
#
# Now all rows, careless ones included. Rows of similar length share a batch, as in lesson 02.

# %%
train_rows = sft_tools.encode_rows(tokenizer, train_data)  # checks each row
yours = [encode(tokenizer, row["prompt"], row["completion"]) for row in train_data]
prefixes = [row.pop("whole") for row in yours]
if all(prefixes):
    assert yours == train_rows
    train_rows = yours
if data:
    from helpers.own_data import load_columns, print_notes

    own = print_notes(load_columns(catalog.own_source(data, track), sft_tools.COLUMNS, tokenizer))
    train_rows += sft_tools.encode_rows(tokenizer, own, field=data)
lengths = torch.tensor([len(row["input_ids"]) for row in train_rows])
learned = torch.tensor([sum(label != -100 for label in row["labels"]) for row in train_rows])
print(f"{len(train_rows):,} conversations of {lengths.sum():,} tokens")
print(f"learned from: {learned.sum() / lengths.sum():.0%} of the tokens")
checked = instructions["validation"].filter(lambda row: row["known"] in ("told", "skill"))
checked_rows = sft_tools.encode_rows(
    tokenizer, checked.shuffle(seed=0).select(range(min(test_limit, 96, len(checked))))
)


@torch.inference_mode()
def validation_loss(model):
    """The mean loss for each learned token of some validation rows."""
    batches = list(sft_tools.conversation_batches(checked_rows, tokenizer.pad_token_id, shuffle=False))
    counts = [int((batch["labels"] != -100).sum()) for batch in batches]
    model.eval()
    losses = [model(**{name: value.to(run.device) for name, value in batch.items()}).loss.item() for batch in batches]
    return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)


# %% [markdown]
# The loop is lesson 02's, with **your** loss: it trains every model of sections 3 to 7, 12, and one side of 9.


# %%
def training_step(model, batch, optimizer, scheduler):
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    loss = answer_loss(logits, batch["labels"])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    return loss.item()


def train_by_hand(model, batches, optimizer, scheduler, epochs=1, progress="training"):
    """The loss of every step."""
    model.train()
    losses = []
    for _ in range(epochs):
        for batch in tqdm(batches, desc=progress, leave=False):
            batch = {name: value.to(run.device) for name, value in batch.items()}
            losses.append(training_step(model, batch, optimizer, scheduler))
    return losses


def fine_tune(model, rows, recipe, progress):
    """AdamW; the rate rises from 0 for the first tenth of the steps, then falls to 0."""
    batches = sft_tools.conversation_batches(rows, tokenizer.pad_token_id, recipe.batch_size, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    scheduler = warmup_linear(optimizer, steps=recipe.epochs * len(batches))
    return train_by_hand(model, batches, optimizer, scheduler, recipe.epochs, progress)


# %% [markdown]
# The recipe is printed. Its rate was not tuned for each training below. The validation rows are known facts and jobs.
#
# **Predict 2.** After training: what share of the known facts will it answer to the letter, although the training never
# asks about those films?

# %%
predict("04.2", within=0.05, unit="of the known facts", low=0, high=1)

# %%
from dataclasses import replace

recipe = replace(RECIPE, learning_rate=learning_rate, epochs=epoch_count)
print(recipe)
seed_everything(seed)
sft = catalog.causal_language_model(track, model).to(run.device)
with Stopwatch() as watch_sft:
    losses = fine_tune(sft, train_rows, recipe, "answers only")
tenth = -(-len(losses) // 10)
print(f"{len(losses)} steps in {watch_sft.seconds:.0f} s")
print(f"first tenth of the steps: loss {sum(losses[:tenth]) / tenth:.2f}")
print(f"last tenth of the steps:  loss {sum(losses[-tenth:]) / tenth:.2f}")
print(f"validation loss: {validation_loss(base):.2f} before, {validation_loss(sft):.2f} after")

# %% [markdown]
# ### Fewer examples
#
# A prompt holds a few examples. Now train three new models, on 16, 128 and 1,024 rows, for about 60 steps each, and
# count their right answers on the same test rows. The model above is the fourth: all rows, in many more steps. From
# which number on is fine-tuning better than the best prompt, for this draw of the rows?


# %%
def judged_each(model, rows):
    given = answer(model, tokenizer, [row["prompt"] for row in rows])
    return sft_tools.exact_match(given, [row["completion"] for row in rows])


mixed_rows = train_data.shuffle(seed=seed)
right_tuned = {}
for size in run.by_budget(quick=(16,), standard=(16, 128, 1024)):
    seed_everything(seed)
    pupil = catalog.causal_language_model(track, model).to(run.device)
    some = sft_tools.encode_rows(tokenizer, mixed_rows.select(range(min(size, len(mixed_rows)))))
    enough = replace(recipe, epochs=run.by_budget(quick=1, standard=max(1, 60 * recipe.batch_size // size)))
    few = fine_tune(pupil, some, enough, f"{size} examples")
    last = sum(few[-10:]) / len(few[-10:])
    print(f"{size:5} rows, {len(few)} steps: last losses {last:.2f}, validation loss {validation_loss(pupil):.2f}")
    right_tuned[size] = {group: judged_each(pupil, chosen) for group, chosen in judged.items()}
right_tuned[len(train_rows)] = {group: judged_each(sft, chosen) for group, chosen in judged.items()}
by_examples = {size: {group: share(right) for group, right in found.items()} for size, found in right_tuned.items()}

# %%
from helpers.intervals import paired_bootstrap

best_shot = {
    group: max((found[group].value, -k) for k, found in few_shot.items() if group in found) for group in judged
}
best_prompt = {group: few_shot[-minus_k][group] for group, (_, minus_k) in best_shot.items()}
best_ks = " and ".join(str(-minus_k) for _, minus_k in best_shot.values())
rows = {f"best prompt ({best_ks} examples)": [f"{best_prompt[group]:.2f}" for group in judged]}
rows |= {f"fine-tuned on {size:,}": [f"{found[group]:.2f}" for group in judged] for size, found in by_examples.items()}
for group, (_, minus_k) in best_shot.items():
    prompted, sizes = right_shot[-minus_k][group], []
    for size, found in right_tuned.items():
        if len(prompted) == len(found[group]) and paired_bootstrap(found[group], prompted, seed=seed).low > 0:
            sizes.append(size)
    better = "never clearly better than the best prompt"
    if sizes:
        reached = by_examples[sizes[0]][group].value
        better = f"clearly better than the best prompt from {sizes[0]:,} examples on, where it gets {reached:.0%} right"
    print(f"{group}: fine-tuning is {better}")
pd.DataFrame.from_dict(rows, orient="index", columns=list(judged))

# %% [markdown]
# <details><summary>What it means</summary>
#
# - *Clearly better*: the [95 % interval](../docs/glossary.md#confidence-interval) of the difference, row by row, lies
#   above 0. It is one draw of the training rows, and clearly better need not be good enough: see the share right.
# - A low training loss beside a high validation loss says that a few rows were memorized.
# - For known facts the best prompt is hard to beat, because the form `Q: ... A:` was in the pretraining. For the jobs
#   none of our prompts worked, so any clear success comes from the training.
# - The last row has more examples *and* more steps, so the table cannot say how many examples alone it takes. Few rows
#   for as many steps would tell; that run is left out for its time.
# - The best `k` is chosen on the test rows, which favours the prompt. A prompted answer also counts when more text
#   follows it; a fine-tuned one must stop.
#
# </details>
#
# ## 4. What it answers now
#
# Answers are written by **greedy decoding**: append the likeliest token, again and again, until the end of the turn.
# Lesson 01 wrote that loop. It runs the whole text through the model for each new token. But with a causal mask the
# keys and values of earlier tokens do not change, so they can be kept: the **key-value cache**. After the first pass,
# only the newest token goes in.

# %% [markdown]
# ### Exercise 04.3: greedy decoding with a cache
#
# `model(input_ids=..., past_key_values=cache, use_cache=True)` returns `.logits` and `.past_key_values`. In the first
# call the cache is `None` and the input is the prompt, (1, seq); after that the input is one token, (1, 1). Return all
# ids, prompt and `end_id` included, (1, longer). Stop after `end_id`, or after `max_new_tokens`.


# %% tags=["exercise"]
def greedy_cached(model, input_ids, max_new_tokens, end_id):
    return ...


check("04.3", greedy_cached)
# hint("04.3")


# %% tags=["solution"]
@torch.inference_mode()
def greedy_cached(model, input_ids, max_new_tokens, end_id):
    written, cache, new = input_ids, None, input_ids
    for _ in range(max_new_tokens):
        outputs = model(input_ids=new, past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
        new = outputs.logits[:, -1].argmax(dim=-1, keepdim=True)  # (1, 1)
        written = torch.cat([written, new], dim=1)
        if new.item() == end_id:
            break
    return written


check("04.3", greedy_cached)

# %% tags=["nbval-check-output"]
greedy_cached = go_on_with("04.3", greedy_cached, experiment.greedy_cached)
end = sft_tools.end_of_turn(tokenizer)
settings = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": end}
settings["pad_token_id"] = tokenizer.pad_token_id
sft.eval()  # no dropout, which some models have
equal, with_cache, without_cache = [], Stopwatch(), Stopwatch()
for prompt in test_prompts[:20]:
    ids = tokenizer(render(tokenizer, prompt), return_tensors="pt", add_special_tokens=False)["input_ids"].to(
        run.device
    )
    with with_cache:
        cached = greedy_cached(sft, ids, 24, end)
    with without_cache:
        plain = greedy(sft, ids, 24, end_id=end)
    whole = torch.ones_like(ids)  # nothing is padding, even where the padding token stands in the text
    generated = sft.generate(ids, attention_mask=whole, **settings)
    equal.append(torch.equal(cached, generated) and torch.equal(cached, plain))
print(
    "with cache, without, and by generate, at most one answer differs:", sum(equal) >= len(equal) - 1
)  # a tie may turn
assert sum(equal) >= len(equal) - 1

# %%
print(f"20 answers: {without_cache.total:.2f} s without the cache, {with_cache.total:.2f} s with it")
answers["after"] = answer(sft, tokenizer, test_prompts)  # many at once, padded on the left: all go on from there
known = {when: exact_match_rates(test_rows, given, "known") for when, given in answers.items()}
reveal("04.2", known["after"]["told"].value, reference="exact_answer_rate_sft")
print(pd.DataFrame({when: {kind: f"{rate:.2f}" for kind, rate in found.items()} for when, found in known.items()}))

from helpers.lessons.lesson_04 import figures

answerable = [place for place, row in enumerate(test_rows) if row["known"] in ("told", "skill")]
answerable_rows = [test_rows[place] for place in answerable]
series = {}
for when, given in answers.items():
    found = exact_match_rates(answerable_rows, [given[place] for place in answerable])
    series[f"{when} fine-tuning"] = dict(sorted(found.items()))
sizes = pd.Series([row["kind"] for row in answerable_rows]).value_counts().to_dict()
figure = plotting.by_slice(series, sizes, "share answered to the letter")
figure.axes[0].set(xlabel="answered to the letter, with 95 % interval", xlim=(-0.05, 1.03))
plotting.show(figure)
for row, given in list(zip(test_rows, answers["after"], strict=True))[:8]:
    mark = "right" if given == row["completion"] else f"not {row['completion']!r}"
    print(f"{row['prompt'][:84]}\n    {given!r}   {mark}")

# %% [markdown]
# <details><summary>What it means</summary>
#
# - The *known* facts come out in conversation, although the training asked nothing about their films. The form was
#   learned, and it carries over to knowledge that was there before: section 1 brought it out in another form.
# - The *skills* work on texts never seen. None of the prompts we tried brought them out before.
#
# </details>
#
# ## 5. What it cannot know
#
# The `untold` rows ask about films that no text ever named. The only true answer would be "I do not know".
#
# **Predict 3.** What share of these questions gets a made-up answer, a false name or year in good form?

# %%
predict("04.3", within=0.1, unit="of the questions", low=0, high=1)

# %%
from ipywidgets import HTML, FloatSlider, VBox

from helpers.lessons.lesson_04.experiment import confidence, made_up

unknown_places = [place for place, row in enumerate(test_rows) if row["known"] == "untold"]
invented = made_up(
    [test_rows[place] for place in unknown_places], [answers["after"][place] for place in unknown_places]
)
made_up_after = share(invented)
reveal("04.3", made_up_after.value, reference="made_up_answer_rate_sft")
print(f"made up: {made_up_after:.2f} of {len(unknown_places)} questions about unknown films")
for place in unknown_places[:5]:
    print(f"{test_rows[place]['prompt']:56}{answers['after'][place]}")

asked_base, base_said = [test_rows[place] for place in unknown_places[: run.by_budget(quick=4, standard=40)]], []
for row in asked_base:
    text = f"{opening}Q: {row['prompt']} A:"
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"].to(run.device)
    written = tokenizer.decode(greedy_cached(base, ids, 12, end)[0, ids.shape[1] :])
    base_said.append(written.partition(" Q:")[0].strip() + ".")
made_up_base = share(made_up(asked_base, base_said))
print(f"\nthe pretrained model, asked as Q and A: made up {made_up_base:.2f} of {len(base_said)}: {base_said[0]!r}")

# %% [markdown]
# *Made up* is an answer in the right form (a year, or words with capitals, and a full stop) that is false. In larger
# models this is called hallucination. The last line is the control: the pretrained model in its own form.
#
# Does the model know the difference? It gives every answer a probability: the product over its tokens. Move the slider
# to let it speak only when it is sure.

# %%
sure = confidence(sft, tokenizer, test_prompts, answers["after"])
kinds = {"known": "told", "unknown": "untold"}
groups = {name: sure[[row["known"] == known for row in test_rows]] for name, known in kinds.items()}


def speak_above(threshold):
    """The figure for one threshold."""
    return figures.confidences(groups, threshold)


plotting.show(speak_above(0.5))
slider = FloatSlider(value=0.5, min=0, max=1, step=0.02, description="threshold")
slider.continuous_update = False  # one figure when the mouse lets go, not one for each point on the way
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(speak_above(slider.value))


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])


# %%
def threshold_for(confidences, right, allowed):
    """The lowest threshold such that of the answers at or above it at most the share `allowed` is wrong."""
    for threshold in sorted(confidences):
        spoken = [ok for sure, ok in zip(confidences, right, strict=True) if sure >= threshold]
        if 1 - sum(spoken) / len(spoken) <= allowed:
            return threshold
    return None  # even the surest answer is wrong


# %% [markdown]
# ### Training "I do not know", and its price
#
# The alternative to a threshold is to train the answer "I do not know." Our way: questions about films that
# do not exist. (R-Tuning, Zhang et al. 2024, sorts real questions by whether the model answers them right.)
# Half the rows are refusals, or a tenth; the others are old. A **control** gets as many steps on old rows.
#
# **Predict 4.** How many percentage points of the *known* facts do the refusals cost (half of the rows), compared with
# the control?

# %%
predict("04.4", within=5, unit="points")

# %%
from helpers.reference import has_reference, lesson_reference, load_reference, real_reference

refusal = "I do not know."
titles = sorted({row["film"] for row in instructions["train"]} - {""})  # rows of the hub are about no film
real_films = {row["film"] for part in (*instructions.values(), catalog.dataset("facts", track)["test"]) for row in part}
unasked = [row for row in instructions["train"].shuffle(seed=seed) if row["known"] == "trained"]
unknown = experiment.about_no_film(unasked, titles, real_films - {""}, refusal)
print(unknown[0]["prompt"], "->", unknown[0]["completion"])


def tuned_further(rows):
    """The fine-tuned model after one more pass over these rows, at half the rate."""
    pupil = copy.deepcopy(sft)
    further = replace(recipe, epochs=1, learning_rate=recipe.learning_rate / 2)
    fine_tune(pupil, sft_tools.encode_rows(tokenizer, rows), further, "further")
    return pupil


further_rows = min(run.by_budget(quick=32, standard=800), len(mixed_rows))
pupils = {"before": sft}
for name, refusals in {"control: old rows": 0, "with refusals": 2, "a tenth refusals": 10}.items():
    some = unknown[: further_rows // refusals if refusals else 0]
    pupils[name] = tuned_further(some + list(mixed_rows.select(range(further_rows - len(some)))))

# %% [markdown]
# All answer the same questions: known and unknown facts, some jobs. The second cell's threshold is chosen on one
# half of the fact questions, at most a tenth wrong, and used on the other half; then the halves change places.

# %%
asked_rows = [row for row in test_rows if row["known"] in ("told", "untold")]
asked_rows += [row for row in test_rows if row["known"] == "skill"][:per_group]


def counted(exact, invented, refused):
    """The shares of the table below; all three: 1.0 or 0.0 for each of `asked_rows`."""
    of = {known: torch.tensor([row["known"] == known for row in asked_rows]) for known in ("told", "untold", "skill")}
    return {
        "unknown: made up": share(invented[of["untold"]]), "unknown: refused": share(refused[of["untold"]]),
        "known: right": share(exact[of["told"]]), "known: refused": share(refused[of["told"]]),
        "known: wrong": share((1 - exact - refused)[of["told"]]), "skills: right": share(exact[of["skill"]]),
    }  # fmt: skip


price, said_by = {}, {}
for name, pupil in pupils.items():
    said_by[name] = answer(pupil, tokenizer, [row["prompt"] for row in asked_rows])
    exact = exact_match(said_by[name], [row["completion"] for row in asked_rows])
    refused = torch.tensor([float(text == refusal) for text in said_by[name]])
    price[name] = counted(exact, made_up(asked_rows, said_by[name]), refused)
price_known = price["control: old rows"]["known: right"].value - price["with refusals"]["known: right"].value
by_seed = load_reference("refusals") if has_reference("refusals") and track == "pocket" else None
over_seeds = [by_seed.metrics[f"known_right_{way}"] for way in ("control", "refusals_half")] if by_seed else [[], []]
reveal("04.4", 100 * price_known, reference=[100 * (one - two) for one, two in zip(*over_seeds, strict=True)])

# %%
sure_now = confidence(sft, tokenizer, [row["prompt"] for row in asked_rows], said_by["before"])
true = exact_match(said_by["before"], [row["completion"] for row in asked_rows])
invented_before = made_up(asked_rows, said_by["before"])
facts = [place for place, row in enumerate(asked_rows) if row["known"] != "skill"]
skilled = [place for place, row in enumerate(asked_rows) if row["known"] == "skill"]
silent, thresholds = torch.zeros(len(asked_rows)), []
for half in range(2):
    chosen_on, used_on = facts[1 - half :: 2], facts[half::2] + skilled[half::2]
    threshold = threshold_for(sure_now[chosen_on].tolist(), true[chosen_on].bool().tolist(), 0.1)
    thresholds.append(2.0 if threshold is None else threshold)  # no probability reaches 2: always silent
    silent[used_on] = (sure_now[used_on] < thresholds[-1]).float()
spoken = 1 - silent
price["threshold"] = counted(true * spoken, invented_before * spoken, silent)
print("thresholds of the two halves:", *(f"{threshold:.2f}" for threshold in thresholds))
for name in ("with refusals", "a tenth refusals", "threshold"):
    lost = 100 * (price["before" if name == "threshold" else "control: old rows"]["known: right"].value
                  - price[name]["known: right"].value)  # fmt: skip
    kinds = {what: 100 * price[name][what].value for what in ("known: refused", "known: wrong", "unknown: made up")}
    print(f"{name}: {lost:.0f} points of known facts lost; in percent:", {k: round(v) for k, v in kinds.items()})
pd.DataFrame({name: {what: f"{rate:.2f}" for what, rate in found.items()} for name, found in price.items()})

# %% [markdown]
# <details><summary>What it means</summary>
#
# - The control is more training on old rows alone. What the refusals do is the difference to it. The threshold changes
#   no weights, so its loss is counted from *before*.
# - *Unknown: made up* is what the refusals are for; the fall of *known: right* is their price. *Known: wrong* are false
#   answers about known films.
# - Perhaps the model learned a shortcut: refuse each film that the training never asked about. The known films of the
#   test are such films. We did not test this.
# - The share of refusals changes both columns. At work, tune it on labelled questions of both kinds, or use R-Tuning's
#   way. The rate and the steps were not tuned; the threshold was. One run.
#
# </details>
#
# And what became of the knowledge itself? The forms of section 1, once more:

# %%
forms_after = brought_out(sft, answers["after"])
both = {form: [f"{forms_before[form]:.2f}", f"{forms_after[form]:.2f}"] for form in forms_before}
pd.DataFrame.from_dict(both, orient="index", columns=["before", "after"])

# %% [markdown]
# <details><summary>What it means</summary>
#
# In conversation nearly all known facts come out, so they are still there. Where an *old form* falls, lesson 03 calls
# it [forgetting](../docs/glossary.md#catastrophic-forgetting). Try `workbook run 04 -p learning_rate 0.003` to see more
# of it. The jobs as `Q: ... A:` show the opposite: no training row has that form, so what comes out there is skill that
# was learned in conversation and carried over.
#
# </details>
#
# ## 6. The answer only, or everything?
#
# Why not learn from the questions too? Every token of the conversation would be a label. All else stays the same: rows,
# order, steps, learning rate.
#
# **Predict 5.** Will it do the jobs better or worse than with labels on the answers only?

# %%
predict("04.5", choices=["better", "worse", "no clear difference"])

# %%
seed_everything(seed)
everything = catalog.causal_language_model(track, model).to(run.device)
all_labels = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in train_rows]
fine_tune(everything, all_labels, recipe, "everything")
answers["everything"] = answer(everything, tokenizer, test_prompts)
known["everything"] = exact_match_rates(test_rows, answers["everything"], "known")
right = {way: exact_match(given, [row["completion"] for row in test_rows]) for way, given in answers.items()}
gaps = {}
for group in ("told", "skill"):
    rows = [place for place, row in enumerate(test_rows) if row["known"] == group]
    gaps[group] = paired_bootstrap(right["after"][rows], right["everything"][rows], seed=seed)
    clear = "a clear difference" if 0 not in gaps[group] else "no clear difference"
    print(f"{group:8} answers only minus everything: {gaps[group]:+.3f}, {clear}")
on_jobs = gaps["skill"]
reveal("04.5", "no clear difference" if 0 in on_jobs else "worse" if on_jobs.value > 0 else "better")
pd.DataFrame({way: {kind: f"{rate:.2f}" for kind, rate in known[way].items()} for way in ("after", "everything")})

# %% [markdown]
# The losses of the two runs are means over different tokens, so only the answers can be compared. Shi et al. 2024 find
# cases where labels on the prompt *help*: long prompts, short answers.
#
# One seed is not enough. First, the difference over five seeds of this lesson. Then a table from a separate program,
# `benchmarks/instructions.py`: two passes over the data. Its rate was chosen for *answers only*, which favours that row
# a little. *Without the space*: training and questions use a template with no space before a turn's text.

# %%
of_lesson = lesson_reference("04")
for name, metrics in {"known facts": ("sft", "everything_known"), "jobs": ("skills", "everything_skill")}.items():
    gap = of_lesson.gap(*(f"exact_answer_rate_{metric}" for metric in metrics))
    print(f"{name}: answers only minus everything, paired by seed: {gap:+.3f}")
reference = load_reference("instructions")
ways = {"base": "before", "sft": "answers only", "everything": "everything", "without_space": "without the space"}
columns = {
    "exact_match_known": "known facts",
    "exact_match_skills": "skills",
    "made_up_unknown": "made up, unknown films",
}
table = {}
for way, title in ways.items():
    found = {column: reference.interval(f"{quantity}_{way}") for quantity, column in columns.items()}
    table[title] = {column: f"{experiment.as_share(interval):.2f}" for column, interval in found.items()}
lost = {column: reference.gap(f"{quantity}_sft", f"{quantity}_without_space") for quantity, column in columns.items()}
print(f"without the space, {lost['known facts']:.2f} fewer known facts and {lost['skills']:.2f} fewer skills")
print("Reference:", reference.label, "| the same for all:", reference.settings)
print("before: in conversation no text has the form of an answer, so none counts as made up (section 5 has Q and A)")
pd.DataFrame.from_dict(table, orient="index")

# %% [markdown]
# <details><summary>What it means</summary>
#
# The missing space costs far more known facts than skills. Our guess, not tested: pretraining has read nearly every
# name after a space, as the token `ĠAnna`. Without the space an answer begins with another token, `Anna`, from which
# the fact does not come out. Jobs copy their words from the prompt. So keep the spaces of a model's own template.
#
# </details>
#
# ## 7. More than one turn
#
# People ask a second question that only makes sense after the first: "And who directed it?" Our model has seen single
# turns only. So build conversations of two turns, the second without the film's title.
#
# ### Exercise 04.4: labels for every turn
#
# Learn from **all** of the assistant's turns: from the token after each `start_id` (the mark of the assistant) up to
# and including the next `end_id`. Return a list as long as the list `input_ids`; all else is -100.


# %% tags=["exercise"]
def assistant_labels(input_ids, start_id, end_id):
    return ...


check("04.4", assistant_labels)
# hint("04.4")


# %% tags=["solution"]
def assistant_labels(input_ids, start_id, end_id):
    labels, speaking = [], False
    for token in input_ids:
        labels.append(token if speaking else -100)
        if token == start_id:
            speaking = True
        elif token == end_id:
            speaking = False
    return labels


check("04.4", assistant_labels)

# %%
assistant_labels = go_on_with("04.4", assistant_labels, experiment.assistant_labels)
asking = [{"role": "user", "content": "?"}]
texts = [tokenizer.apply_chat_template(asking, tokenize=False, add_generation_prompt=mark) for mark in (False, True)]
question_ids, marked_ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
start_id = next(token for token in reversed(marked_ids) if token not in question_ids)  # an answer's mark


def talk(first, second):
    """Two questions about one film; the second says "it" where the film was named."""
    follow = second["prompt"].replace(second["film"], "it")
    return [*messages(first["prompt"], first["completion"]), *messages(follow, second["completion"])]


def encode_turns(conversation):
    text = tokenizer.apply_chat_template(conversation, tokenize=False)
    input_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return {"input_ids": input_ids, "labels": assistant_labels(input_ids, start_id, end)}


pairs = experiment.film_pairs([row for row in instructions["train"] if row["known"] == "trained"])
pairs = pairs[: run.by_budget(quick=16, standard=480)]
talks = [talk(*pair) for pair in pairs]
told = [row for row in instructions["test"] if row["known"] == "told"]
test_talks = [talk(*pair) for pair in experiment.film_pairs(told, per_film=3)][: run.by_budget(quick=4, standard=90)]
row = encode_turns(talks[0])
for token, label in zip(tokenizer.convert_ids_to_tokens(row["input_ids"]), row["labels"], strict=True):
    print(f"[{token}]" if label != -100 else token, end=" ")  # in brackets: learned

# %% [markdown]
# Two controls. One is section 5's: old single turns, fewer steps. The other gets the same questions and answers as
# single turns, each with its film's title, in batches of twice as many rows. So it sees the same answers in as many
# steps.


# %%
def second_answers(model):
    """1.0 for each second question that is answered to the letter, the first turn given: (conversations,)."""
    model.eval()
    right = []
    for conversation in test_talks:
        text = tokenizer.apply_chat_template(conversation[:-1], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"].to(run.device)
        written = greedy_cached(model, ids, 24, end)[0, ids.shape[1] :]
        right.append(tokenizer.decode(written, skip_special_tokens=True).strip() == conversation[-1]["content"])
    return torch.tensor(right, dtype=torch.double)


talker = copy.deepcopy(sft)
further = replace(recipe, epochs=run.by_budget(quick=1, standard=2), learning_rate=recipe.learning_rate / 2)
talk_losses = fine_tune(talker, [encode_turns(one) for one in talks], further, "two turns")

single = copy.deepcopy(sft)
one_by_one = [encode_turns(messages(row["prompt"], row["completion"])) for pair in pairs for row in pair]
larger = replace(further, batch_size=2 * further.batch_size)
single_losses = fine_tune(single, one_by_one, larger, "as single turns")
models = {"single turns": pupils["control: old rows"], "the same as single turns": single, "two turns": talker}
seconds_right = {name: second_answers(one) for name, one in models.items()}
second_turn = {name: share(found) for name, found in seconds_right.items()}
print(f"steps: {len(talk_losses)} with two turns, {len(single_losses)} with the same as single turns")
for name, rate in second_turn.items():
    print(f"{name:26}{rate:.2f} of {len(test_talks)} second questions")
talk_gap = paired_bootstrap(seconds_right["two turns"], seconds_right["the same as single turns"], seed=seed)
print(f"two turns minus the same as single turns: {talk_gap:+.2f}, {'no ' if 0 in talk_gap else 'a '}clear difference")

# %% [markdown]
# <details><summary>What it means</summary>
#
# The second question names no film, so the answer needs the first turn. All models start from the same weights, and
# none was trained on the films of these conversations. Models of single turns answer some second questions too: they
# read the whole conversation, and the film's name is in it. The last line says what the rows of two turns add. It rests
# on one seed and on three questions about each film, so its interval is too narrow.
#
# </details>
#
# ## 8. Packing (optional)
#
# [Padding](../docs/glossary.md#padding) is waste. **[Packing](../docs/glossary.md#packing)** lays
# several conversations end to end in one row. It pays where very unequal rows meet in one batch.
#
# But in a packed row a token can see the conversations before its own. Two things fix it: positions that
# start again at 0, and attention that stops at the border. `transformers` finds the borders from the restarted
# positions, but only if you pass no [attention mask](../docs/glossary.md#attention-mask) **and** set
# `use_cache=False`. Otherwise conversations see each other, without an error.

# %% [markdown]
# ### Exercise 04.5: pack
#
# Fill rows of at most `length` tokens with whole conversations, in the given order; a conversation that does not fit
# starts a new row. Return a list of dictionaries with `input_ids`, `labels` and `position_ids`, lists of equal length.
# The first label of each conversation must be -100: the token before it belongs to another one.


# %% tags=["exercise"]
def pack(rows, length):
    return ...


check("04.5", pack)
# hint("04.5")


# %% tags=["solution"]
def pack(rows, length):
    packed = []
    for row in rows:
        size = len(row["input_ids"])
        if not packed or len(packed[-1]["input_ids"]) + size > length:
            packed.append({"input_ids": [], "labels": [], "position_ids": []})
        packed[-1]["input_ids"] += row["input_ids"]
        packed[-1]["labels"] += [-100, *row["labels"][1:]]
        packed[-1]["position_ids"] += range(size)
    return packed


check("04.5", pack)

# %% [markdown]
# **Predict 6.** Three conversations, packed with and without restarted positions, both without mask and cache: which
# gives the logits that each conversation gives alone?

# %%
predict("04.6", choices=["with restarted positions", "without", "both", "neither"])

# %% tags=["nbval-check-output"]
pack = go_on_with("04.5", pack, experiment.pack)
three = train_rows[:3]
alone = collate(three)
(packed,) = pack(three, 10_000)
ids, places = (torch.tensor([packed[name]]).to(run.device) for name in ("input_ids", "position_ids"))
with torch.inference_mode():
    each = base(**{name: value.to(run.device) for name, value in alone.items()})
    separate = torch.cat([each.logits[i, : len(row["input_ids"])] for i, row in enumerate(three)])
    restarted = base(input_ids=ids, position_ids=places, use_cache=False).logits[0]
    run_on = base(input_ids=ids, use_cache=False).logits[0]
    masked = base(input_ids=ids, position_ids=places, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    cached = base(input_ids=ids, position_ids=places, use_cache=True).logits[0]
    packed_loss = base(
        input_ids=ids, position_ids=places, labels=torch.tensor([packed["labels"]]).to(run.device), use_cache=False
    ).loss
ways_to_pack = {"restarted positions": restarted, "positions that run on": run_on}
ways_to_pack |= {"restarted, with an attention mask": masked, "restarted, with a cache": cached}
found = {way: (logits - separate).abs().max().item() < 1e-3 for way, logits in ways_to_pack.items()}
for way, equal_logits in found.items():
    print(f"{way}, the same logits: {equal_logits}")
print("your packed row gives the loss of the three:", (packed_loss - each.loss).abs().item() < 1e-4)
same_logits = list(found.values())[:2]
assert same_logits == [True, False]

# %%
reveal(
    "04.6", {(1, 0): "with restarted positions", (0, 1): "without", (1, 1): "both"}.get(tuple(same_logits), "neither")
)
mixed = torch.randperm(len(train_rows), generator=torch.Generator().manual_seed(seed)).tolist()


def places_used(order, batch_size=RECIPE.batch_size):
    batches = [lengths[order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    return sum(int(batch.max()) * len(batch) for batch in batches)


used = {"rows in any order": places_used(mixed), "like lengths together": places_used(lengths.argsort().tolist())}
block = 256
used[f"packed in rows of {block}"] = len(pack([train_rows[place] for place in mixed], block)) * block
for way, places in used.items():
    print(f"{way:24}{places:10,} positions, {1 - lengths.sum() / places:6.1%} of them empty")

# %% [markdown]
# For these short rows, grouping by length already leaves few places empty (we did not time either).
#
# `SFTConfig(packing=True, max_length=...)` packs too; what exceeds `max_length` is discarded. It also turns on
# `padding_free`: the packed rows of a batch are laid end to end without a mask, as above. TRL supports this only with
# FlashAttention, a fast attention for GPUs. An epoch then has fewer steps: choose the rate again.
#
# ## 9. The same with `SFTTrainer`
#
# TRL's `SFTTrainer` applies the template, masks, pads and trains. First our side.

# %%
steps = run.by_budget(quick=3, standard=20)
size = RECIPE.batch_size
first_rows = [
    sft_tools.encode(tokenizer, row["prompt"], row["completion"]) for row in train_data.select(range(steps * size))
]
by_hand = without_dropout(catalog.causal_language_model(track, model)).to(run.device)
batches = [collate(first_rows[start : start + size]) for start in range(0, len(first_rows), size)]
# `Trainer`, and SFTTrainer with it, spares biases and normalisations from weight decay (lesson 02).
optimizer = torch.optim.AdamW(decay_groups(by_hand, RECIPE.weight_decay), lr=learning_rate)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
with Stopwatch() as watch:
    losses_by_hand = train_by_hand(by_hand, batches, optimizer, schedule)

# %% [markdown]
# `SFTConfig` is `TrainingArguments` with more in it. Its defaults suit large models on a GPU: 16-bit numbers (`bf16`),
# and `activation_checkpointing`, which drops [activations](../docs/glossary.md#activation) and computes them again in
# the backward pass. Here both are off. The default rate is 2e-5; `max_length` 1,024 cuts longer rows, and with them the
# end of the turn.
#
# A step sees `per_device_train_batch_size` times `gradient_accumulation_steps` times devices conversations. With
# accumulation the trainer adds the losses of all learned tokens and divides once by their number, not by batches.

# %%
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

scratch_folder = tempfile.TemporaryDirectory()
config = partial(
    SFTConfig, output_dir=scratch_folder.name, seed=seed, use_cpu=run.device == "cpu",
    bf16=False, activation_checkpointing=False, max_length=256, num_train_epochs=1,
    per_device_train_batch_size=size, weight_decay=RECIPE.weight_decay, optim="adamw_torch",
    save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True,
)  # fmt: skip
arguments = config(learning_rate=learning_rate, warmup_steps=0, train_sampling_strategy="sequential")
turns = [
    {"prompt": messages(row["prompt"]), "completion": [{"role": "assistant", "content": row["completion"]}]}
    for row in train_data.select(range(steps * size))
]
trainer = SFTTrainer(
    model=without_dropout(catalog.causal_language_model(track, model)).to(run.device),
    args=arguments,
    train_dataset=Dataset.from_list(turns),
    processing_class=copy.deepcopy(tokenizer),
)
trainer.remove_callback(PrinterCallback)
theirs = next(iter(trainer.get_train_dataloader()))
same_labels = torch.equal(theirs["labels"].cpu(), batches[0]["labels"])
with Stopwatch() as watch_trainer:
    trainer.train()
print(f"seconds for {steps} steps: {watch.seconds:.1f} by hand, {watch_trainer.seconds:.1f} with SFTTrainer")
losses_trainer = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

# %% tags=["nbval-check-output"]
difference_sft_loss = abs(losses_by_hand[0] - losses_trainer[0])
difference_sft_trajectory = max(abs(a - b) for a, b in zip(losses_by_hand, losses_trainer, strict=True))
print("the same labels:", same_labels)
# One takes a mean, the other divides a sum; a GPU rounds more freely.
for_one, for_all = (1e-6, 1e-5) if run.device == "cpu" else (1e-3, 1e-3)
print(f"the first loss, difference below {for_one:.6f}:", difference_sft_loss < for_one)
print(f"all losses, largest difference below {for_all:.5f}:", difference_sft_trajectory < for_all)
theirs_after, ours_after = trainer.model.state_dict(), by_hand.state_dict()
assert set(theirs_after) == set(ours_after)
difference_sft_weights = max((theirs_after[name] - ours_after[name]).abs().max().item() for name in ours_after)
start_weights = catalog.causal_language_model(track, model).state_dict()
moved_by = max((ours_after[name].cpu() - start_weights[name]).abs().max().item() for name in ours_after)
near_weights = difference_sft_weights < 0.1 * moved_by
print(f"{len(ours_after)} tensors, largest difference below a tenth of the largest move:", near_weights)
# Adam divides by the size of a gradient, so where a gradient is tiny its rounding shows in the weight.
assert near_weights or run.device != "cpu" or run.budget == "quick"  # a few steps move weights too little
assert same_labels and difference_sft_loss < for_one and difference_sft_trajectory < for_all

# %% [markdown]
# The weights are nearly the same, not bit for bit.
# `SFTTrainer` adds packing, checkpoints, several devices, 16-bit numbers, [adapters](../docs/glossary.md#adapter)
# (lesson 09) and logging.
#
# ### Once in full
#
# At work the rows are conversations in a file. Two settings decide whether the result is usable:
#
# - `assistant_only_loss=True`. Without it, `SFTTrainer` learns from **every** token of a `messages` column. The mask
#   comes from `{% generation %}` marks in the template.
# - `eos_token`, the end of a *turn*. The tokenizer's own end token often ends a *text*, as our `<|stop|>` does.

# %%
import json
from pathlib import Path

from datasets import load_dataset

marked = "generation %}" in tokenizer.chat_template
turn_end = tokenizer.convert_ids_to_tokens(end)
print(tokenizer.chat_template)
print(f"\nmarks: {marked}; a turn ends in {turn_end}; the tokenizer's own end token: {tokenizer.eos_token}")
folder = Path(scratch_folder.name)
held = experiment.film_pairs([row for row in instructions["validation"] if row["known"] == "told"])
held_talks = [talk(*pair) for pair in held] or talks[:16]
for name, own in (("train", talks[: run.by_budget(quick=32, standard=256)]), ("validation", held_talks)):
    lines = [json.dumps({"messages": turns}) for turns in own]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
files = {name: str(folder / f"{name}.jsonl") for name in ("train", "validation")}
from_file = load_dataset("json", data_files=files, cache_dir=str(folder / "cache"))

# %% [markdown]
# Our template has the marks, with the end of the turn inside. If one has none, TRL swaps in a marked one for the model
# families that it knows; for any other you add them. Without `eval_strategy` the trainer never evaluates while it
# trains. The order is shuffled, as by default.

# %%
at_work = partial(
    config, learning_rate=learning_rate / 2, warmup_steps=0.1, eval_strategy="epoch", assistant_only_loss=marked
)


def trainer_for(pupil, **more):
    trainer = SFTTrainer(
        pupil, at_work(**more), train_dataset=from_file["train"], eval_dataset=from_file["validation"],
        processing_class=copy.deepcopy(tokenizer),  # the trainer changes its end token
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


trainer = trainer_for(copy.deepcopy(sft), eos_token=turn_end)
its_rows = trainer.train_dataset
same_as_yours = all(row["labels"] == assistant_labels(row["input_ids"], start_id, end) for row in its_rows)
longest = max(len(row["input_ids"]) for row in its_rows)
print(f"its labels are those of your exercise 04.4: {same_as_yours}; the longest row has {longest} of 256 tokens")
assert same_as_yours or track != "pocket"  # SmolLM2: a line break after the mark, which yours learns and TRL leaves out

# %%
validation_before = trainer.evaluate()["eval_loss"]
trainer.train()
evaluated = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
print(f"{trainer.state.global_step} steps; validation loss {validation_before:.2f} before, {evaluated[-1]:.2f} after")
trainer.save_model(folder / "mine")  # weights, configuration, tokenizer with its template
careless = copy.deepcopy(trainer.model)  # the same trained weights, with the stop token that they had before ...
careless.generation_config.eos_token_id = sft.generation_config.eos_token_id
trainer_for(careless).save_model(folder / "careless")  # ... and a trainer without `eos_token`

# %% [markdown]
# Now load both folders as anybody would, with `transformers` alone. `generate` gets no stop token; it reads the
# folder's `generation_config`.

# %%
from transformers import AutoModelForCausalLM, AutoTokenizer


def reply(name, turns):
    """The new tokens, at most 24, as text with its special tokens."""
    its_tokenizer = AutoTokenizer.from_pretrained(folder / name)
    ids = its_tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    ids = {part: ids[part].to(run.device) for part in ("input_ids", "attention_mask")}
    written = mine[name].generate(**ids, max_new_tokens=24, do_sample=False)
    return its_tokenizer.decode(written[0, ids["input_ids"].shape[1] :])


names = ("mine", "careless")
mine = {name: AutoModelForCausalLM.from_pretrained(folder / name).to(run.device).eval() for name in names}
for turn in test_talks[0]:
    print(f"{turn['role']}: {turn['content']}")
for name, one in mine.items():
    print(f"{name}, stops at {one.generation_config.eos_token_id}: {reply(name, test_talks[0][:-1])}")
given = [reply("mine", turns[:-1]).partition(turn_end)[0].strip() for turns in test_talks]
good = exact_match(given, [turns[-1]["content"] for turns in test_talks])
gain = paired_bootstrap(good, second_answers(sft), seed=seed)
print(f"exact second answers: {share(good):.2f}; after minus before this training: {gain:+.2f}")

# %% [markdown]
# <details><summary>What it means</summary>
#
# `careless` has the same weights, but its folder does not know that `<|end|>` stops an answer. So nothing stops it
# there. The last line of the conversation is the true answer. Section 12 shows another way to the same symptom.
#
# </details>
#
# ## 10. Conversations of your own
#
# Three formats are common:
#
# - **messages** (OpenAI, TRL): a list of `role` and `content`;
# - **ShareGPT**: a list of `from` (`human`, `gpt`) and `value`;
# - **Alpaca**: columns `instruction`, `input` and `output`.
#
# The parameter `data` reads all three, with one question and one answer per row; it counts and refuses rows with more
# turns: for those, take section 9's cells. `workbook data check FILE` counts tokens, empty answers and near-duplicates
# (rows that differ in a few words). A converter is a few lines:


# %%
def to_messages(row):
    roles = {"human": "user", "gpt": "assistant"}  # other names, such as `system` and `user`, stay
    if "messages" in row:
        return row["messages"]
    if "conversations" in row:
        return [
            {"role": roles.get(turn["from"], turn["from"]), "content": turn["value"]} for turn in row["conversations"]
        ]
    return messages("\n".join(filter(None, [row["instruction"], row.get("input")])), row["output"])


asked, reply = "Who made it?\nThe film is Red Mill.", "Ann Lee."
same = {
    "messages": {"messages": messages(asked, reply)},
    "sharegpt": {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": reply}]},
    "alpaca": dict(zip(("instruction", "input", "output"), (*asked.split("\n"), reply), strict=True)),
}
assert all(to_messages(row) == messages(asked, reply) for row in same.values())
turns = to_messages({"messages": talks[0]})
row = encode_turns(turns)
print(f"{len(turns)} messages, {sum(label != -100 for label in row['labels'])} of {len(row['labels'])} tokens learned")

# %% [markdown]
# ## 11. A model as a judge (optional)
#
# "Write a kind line about TITLE" has many good answers, and exact matching cannot score them. So people ask a model.
# Ours can tell kind remarks from harsh ones: it judges the *tone* of its own lines. Here an **exact judge**
# (`microworld.judge`, only in this course) knows the truth: it parses the lines. At work, some hundred answers labelled
# by people take its place. First: free text.
#
# **Predict 7.** What share of its answers is neither "positive" nor "negative"?

# %%
predict("04.7", within=0.1, unit="of the answers", low=0, high=1)

# %%
from microworld.judge import judge_answer, wish

requests = {
    part: [row for row in instructions[part] if row["known"] == "open" and row["film"]] for part in instructions
}
wishes = [row["prompt"] for row in requests["test"]][: run.by_budget(quick=16, standard=200)]
lines = answer(sft, tokenizer, wishes, max_new_tokens=40)
question, words = "Positive or negative?", ("negative", "positive")  # as one of the training's jobs begins
said = answer(sft, tokenizer, [f"{question} {line}" for line in lines])
no_verdict = share(torch.tensor([float(word not in words) for word in said]))
reveal("04.7", no_verdict.value)
print(f"no verdict: {no_verdict:.2f} of {len(lines)} answers\n")
for line, word in list(zip(lines, said, strict=True))[:3]:
    print(f"{question} {line}\n    {word}")

# %% [markdown]
# This wording is shorter than the training's ("Is this remark kind or harsh? Answer positive or negative. ..."), so the
# count is about wording and model together. An answer that is no verdict can be neither right nor wrong: count these
# first. Then take the choice away. At the first token of the answer, compare the **logits** of the two words. Their
# difference is a score, and a score above a threshold means "positive".

# %%
first_tokens = []
for word in words:
    labels = sft_tools.encode(tokenizer, question, word)["labels"]
    first_tokens.append(next(token for token in labels if token != -100))


@torch.inference_mode()
def tone_scores(prompts, batch_size=16):
    """The logit of "positive" minus that of "negative" where the answer begins: (prompts,)."""
    rows, scores = [tokenizer(render(tokenizer, one), add_special_tokens=False)["input_ids"] for one in prompts], []
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        batch = collate([{"input_ids": ids, "labels": ids} for ids in some])  # padded on the right
        inputs = {name: batch[name].to(run.device) for name in ("input_ids", "attention_mask")}
        ends = torch.tensor([len(ids) - 1 for ids in some])
        logits = sft.eval()(**inputs).logits.cpu()[torch.arange(len(some)), ends]  # (batch, vocab)
        scores.append(logits[:, first_tokens[1]] - logits[:, first_tokens[0]])
    return torch.cat(scores)


# %% [markdown]
# ### Measure it on labelled rows
#
# A forced choice is always a verdict, but is it right? Ask about rows whose tone you know: the
# [validation set](../docs/glossary.md#validation-set)'s
# remarks, which are like the training's, and its lines about films, written by the grammar. The threshold is 0 at
# first. Then it is *calibrated*: chosen on the labelled **lines**, so that the larger of the two error rates is as
# small as possible. Does it help on the model's own lines?

# %%
remarks = [row for row in instructions["validation"] if row["completion"] in words]
labelled = requests["validation"]
verdicts = [judge_answer(prompt, line) for prompt, line in zip(wishes, lines, strict=True)]
wished = torch.tensor([wish(prompt)[1] > 0 for prompt in wishes])
all_scores = tone_scores([f"{question} {line}" for line in lines])
# verdict.tone: the line has the tone that was asked for. So a line is praise if praise was asked for and given, or if
# blame was asked for and not given.
praise = wished == torch.tensor([verdict.tone for verdict in verdicts])
readable = torch.tensor([verdict.form for verdict in verdicts])  # by the exact judge: only these have a clear tone
scored = {
    "labelled remarks": (
        tone_scores([row["prompt"] for row in remarks]),
        torch.tensor([row["completion"] == "positive" for row in remarks]),
    ),
    "labelled lines": (
        tone_scores([f"{question} {row['completion']}" for row in labelled]),
        torch.tensor([wish(row["prompt"])[1] > 0 for row in labelled]),
    ),
    "its own lines": (all_scores[readable], praise[readable]),
}
granted = [word == words[int(kind)] for word, kind in zip(said, wished, strict=True)]
judge_score, exact_score = sum(granted) / len(wishes), sum(verdict.good for verdict in verdicts) / len(wishes)


# %%
def judge_errors(name, at):
    """The two error rates on one set of lines, where it has such lines."""
    scores, is_praise = scored[name]
    wrong = {"praise called negative": scores[is_praise] <= at, "blame called positive": scores[~is_praise] > at}
    return {error: share(found) for error, found in wrong.items() if len(found)}


def worst(at):
    return max(rate.value for rate in judge_errors("labelled lines", at).values())


limits = {"threshold 0": 0.0, "calibrated": min([0.0, *scored["labelled lines"][0].tolist()], key=worst)}
found = {(name, title): judge_errors(name, at) for name in scored for title, at in limits.items()}
print(f"calibrated threshold: {limits['calibrated']:.2f}; rows:", {name: len(one[0]) for name, one in scored.items()})
by_logits = {title: ((all_scores > at) == wished).double().mean().item() for title, at in limits.items()}
own_scores, own_truth = scored["its own lines"]
agrees = {title: share((own_scores > at) == own_truth) for title, at in limits.items() if len(own_truth)}
print("its tone verdicts agree with the exact judge's:", {title: f"{rate:.2f}" for title, rate in agrees.items()})
print(f"requests satisfied, of {len(wishes)}, in free text {judge_score:.2f},", end=" ")
print("by logits", {title: f"{rate:.2f}" for title, rate in by_logits.items()}, end="; ")
print(f"says the exact judge: tone {sum(one.tone for one in verdicts) / len(wishes):.2f}, with form {exact_score:.2f}")
if "calibrated" in agrees:
    change = agrees["calibrated"].value - agrees["threshold 0"].value
    helped = "helped" if change > 0 else "harmed" if change < 0 else "changed nothing"
    print(f"on its own lines calibration {helped}: agreement {change:+.2f}")
pd.DataFrame({key: {error: f"{rate:.2f}" for error, rate in rates.items()} for key, rates in found.items()}).T

# %% [markdown]
# <details><summary>What it means</summary>
#
# - The judge was trained on remarks. On labelled lines its errors are another matter, and on its own lines another
#   again.
# - If one of the two errors is larger, the judge favours one tone, and a model trained against it will move there
#   (lesson 05). The calibrated threshold evens them out on the labelled lines, and only there.
# - Errors of the two kinds cancel in a total: two scores can be close although many verdicts differ.
#
# **At work:** label some hundred answers of *the model you judge*; print both error rates; calibrate on half of them
# and keep the new threshold only if it is better on the other half. Published judges prefer the first answer and the
# longer one, and perhaps their own (Zheng et al. 2023).
#
# </details>
#
# ## 12. Find the bug
#
# Many decoders come without a padding token. The usual advice is one line: take the end token for it. Here is a
# collator that somebody wrote in a hurry. It runs, and the loss falls nicely.
#
# **Predict 8.** What will the answers look like, after a short training with it?


# %%
def collate_in_a_hurry(rows, pad_id):
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [pad_id] * (width - len(row["input_ids"])) for row in rows])
    labels = torch.tensor([row["labels"] + [pad_id] * (width - len(row["labels"])) for row in rows])
    labels[labels == pad_id] = -100  # no loss on padding
    return {"input_ids": ids, "attention_mask": (ids != pad_id).long(), "labels": labels}


jobs = [row for row in train_data if row["kind"] in ("comma", "passive")][: run.by_budget(quick=32, standard=960)]
job_rows = [sft_tools.encode(tokenizer, row["prompt"], row["completion"]) for row in jobs]


def taught_with(collator):
    """A decoder after a short training on two jobs, with the end of the turn as padding."""
    seed_everything(seed)
    pupil = catalog.causal_language_model(track, model).to(run.device)
    batches = [collator(job_rows[start : start + 16], end) for start in range(0, len(job_rows), 16)]
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(batches))
    return pupil, train_by_hand(pupil, batches, optimizer, schedule)


# %%
predict("04.8", choices=["right", "right at first, without an end", "wrong from the start"])

# %%
pupil, losses = taught_with(collate_in_a_hurry)
held_out = [row for row in instructions["validation"] if row["kind"] in ("comma", "passive")][:60]
given = answer(pupil, tokenizer, [row["prompt"] for row in held_out])
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
exactly = exact_match_rates(held_out, given, "known")["skill"]
begun = share(
    torch.tensor([float(text.startswith(row["completion"])) for row, text in zip(held_out, given, strict=True)])
)
shape = "right at first, without an end" if begun.value > 0.5 else "wrong from the start"
reveal("04.8", "right" if exactly.value > 0.5 else shape)
print(f"exact answers: {exactly:.2f}; answers that begin with the right one: {begun:.2f}\n")
for row, text in list(zip(held_out, given, strict=True))[:3]:
    print(f"wanted  {row['completion']}\ngot     {text}\n")

# %% [markdown]
# ### Exercise 04.6: fix the collator
#
# It must work when the padding token is the end of the turn. `rows` are dictionaries of lists, `input_ids` and
# `labels`. Return `input_ids`, `attention_mask` and `labels`, each a tensor (batch, seq). Print the labels of one row
# first.


# %% tags=["exercise"]
def fixed(rows, pad_id):
    return ...


check("04.6", fixed)
# hint("04.6")


# %% tags=["solution"]
def fixed(rows, pad_id):
    width = max(len(row["input_ids"]) for row in rows)
    ids, labels, mask = [], [], []
    for row in rows:
        real, empty = len(row["input_ids"]), width - len(row["input_ids"])
        ids.append(row["input_ids"] + [pad_id] * empty)
        labels.append(row["labels"] + [-100] * empty)
        mask.append([1] * real + [0] * empty)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


check("04.6", fixed)

# %%
fixed = go_on_with("04.6", fixed, sft_tools.collate)  # the same short training, with your collator
pupil, losses = taught_with(fixed)
given = answer(pupil, tokenizer, [row["prompt"] for row in held_out])
print(f"exact answers: {exact_match_rates(held_out, given, 'known')['skill']:.2f}")

# %% [markdown]
# <details><summary>What was wrong</summary>
#
# "No loss on padding" was written as "no loss on this id". The end of the turn has the same id, so it was never
# learned, and generation runs on. The loss cannot show it: the tokens that go wrong are left out of it. The attention
# mask has the same bug: `ids != pad_id` also hides the `<|end|>` after the *user's* turn, which is no padding.
#
# In `transformers`, `DataCollatorForLanguageModeling(mlm=False)` masks every label that equals the padding id too.
# TRL's class of the same name, which `SFTTrainer` uses, pads the labels by position and does not. The habit that finds
# it: print one row's labels, and read whole answers.
#
# </details>
#
# ## 13. On real text
#
# SmolLM2-135M-Instruct follows instructions already, so it cannot show how a text predictor learns that; `workbook run
# 04 -p track hub` trains its base model, with a network. It can show the best prompt, a small fine-tuning, and
# made-up answers.
#
# The task is lesson 02's on real sentences, by the logits of "positive" and "negative" in conversation: with no example
# (zero-shot), four earlier turns (few-shot), or after training [LoRA](../docs/glossary.md#lora), a small
# addition to frozen weights (lesson 09). It is also asked about six invented films.

# %%
from helpers import real

real_found = {}
if track != "pocket" or real.trouble(["decoder", "texts"]):
    print("Not trained in this run: `workbook real` fetches the files. The table below is the reference.")
else:
    real_size = run.by_budget(quick=(2, 16, 1), standard=(experiment.REAL_TEST_ROWS, 8, experiment.REAL_STEPS))
    real_found = experiment.on_real_text(titles[:6], seed, *real_size)
how = experiment.recipe("lora_decoder", "published")
print(f"{experiment.REAL_TEST_ROWS} test sentences; LoRA: {experiment.REAL_STEPS} steps of 8 new sentences each,")
print(f"rate {how.learning_rate:g}, rank {how.rank}, alpha {how.alpha}, on all linear layers of the blocks")
measured = real_reference("04")
table = {title: [f"{real_found[name]:.2f}"] if real_found else [] for name, title in experiment.REAL_TITLES.items()}
columns = ["this run"] * bool(real_found) + ["mean of the seeds [95 %]"] * (measured is not None)
if measured:
    for name, title in experiment.REAL_TITLES.items():
        table[title].append(f"{experiment.as_share(measured.interval(name)):.2f}")
    for title, pair in experiment.REAL_GAPS.items():
        gap = measured.gap(*pair)
        print(f"{title}: {gap:+.2f}{', no clear difference' if 0 in gap else ''}")
    print(
        f"Reference: {len(measured.seeds)} seeds, the same test sentences in each, {measured.machine}, {measured.date}"
    )
pd.DataFrame.from_dict(table, orient="index", columns=columns)

# %% [markdown]
# <details><summary>How to read it</summary>
#
# - Four examples in the prompt make this published model worse, as they did the small one in section 1. It answers
#   "positive" nearly always then, so its accuracy is near one half whatever it knows. A few steps of training help.
# - The intervals hold the luck of the seed only. Zero-shot has no seed at all, and on sixty sentences an accuracy is
#   uncertain by about ten points to each side.
# - LoRA has few steps, at the course's rate for published models, not tuned on this task.
# - The weights come from a 4-bit file ([docs/real.md](../docs/real.md)), so the published 16-bit model may do better.
# - The questions about invented films have no true answer but "I do not know". The program looks for words of refusal
#   and misses other honest answers. One-word training answers may change these too. Six questions make a sketch.
#
# </details>
#
# ## 14. Recap

# %%
from IPython.display import Markdown, display


def over_seeds_of(metric):
    return f"{experiment.as_share(of_lesson.interval(metric)):.2f}"


recap = f"""
Over five seeds, with 95 % intervals:

1. **A form is learned, and it carries over.** Known facts answered in conversation:
   {over_seeds_of("exact_answer_rate_base")} before, {over_seeds_of("exact_answer_rate_sft")} after; skills
   {over_seeds_of("exact_answer_rate_base_skills")} and {over_seeds_of("exact_answer_rate_skills")} (*section 4*).
2. **The best prompt is the fair "before".** As `Q: ... A:` the pretrained model gives
   {over_seeds_of("question_and_answer_rate_base")} of the known facts (*section 1*). So the training taught the form,
   not the facts.
3. **The unknown is made up**, in {over_seeds_of("made_up_answer_rate_sft")} of the questions about unknown films
   (*section 5*).
4. **Labels on answers only** gain
   {of_lesson.gap("exact_answer_rate_skills", "exact_answer_rate_everything_skill"):+.2f}
   of the jobs over labels on everything (*section 6*).
5. **The loop and `SFTTrainer`**: over the steps of section 9 their losses differ by at most
   {max(of_lesson.metrics["difference_sft_trajectory"]):.0e}.
"""

# %%
if by_seed:
    lost = {way: by_seed.gap("known_right_control", f"known_right_refusals_{way}") for way in ("half", "tenth")}
    left = {way: experiment.as_share(by_seed.interval(f"unknown_made_up_refusals_{way}")) for way in lost}
    turns_gap = by_seed.gap("second_turn_two_turns", "second_turn_same_single")
    recap += f"""
Over {len(by_seed.seeds)} seeds:

6. **Refusals have a price.** Half of the rows: {lost["half"]:.2f} of the known facts lost against the control,
   {left["half"]:.2f} of the unknown still made up. A tenth: {lost["tenth"]:.2f} and {left["tenth"]:.2f}
   (*section 5*).
7. **Rows of two turns** give {turns_gap:+.2f} of the second questions over the same rows as single turns
   (*section 7*).
"""
else:
    recap += """
From this run alone, so look again with `workbook run 04 -p seed 1`: fewer examples (*section 3*), the price of refusals
(*section 5*), the gain of two turns (*section 7*), the model as a judge (*section 11*).
"""
display(Markdown(recap))

# %% [markdown]
# The last two cells keep the model, if you asked for it with `--keep-model`, and the numbers of this run.

# %%
from helpers.kept_model import keep_model
from helpers.record import record

own_errors = judge_errors("its own lines", limits["calibrated"])
before, after = known["before"], known["after"]
kept_figures = {
    "facts that pretraining told, answered to the letter": after["told"],
    "jobs, to the letter": after["skill"],
}
kept_figures["questions about unknown films with a made-up answer"] = made_up_after
keep_model(
    "04_supervised_fine_tuning", sft, tokenizer, examples=test_prompts, figures=kept_figures
)  # with --keep-model

# %%
values = {f"exact_answer_rate_{kind}": rate.value for kind, rate in series["after fine-tuning"].items()}
values |= {"exact_answer_rate_base": before["told"].value, "exact_answer_rate_base_skills": before["skill"].value}
values |= {"exact_answer_rate_sft": after["told"].value, "exact_answer_rate_skills": after["skill"].value}
for name, group in (("known", "told"), ("skill", "skill")):
    values[f"exact_answer_rate_everything_{name}"] = known["everything"][group].value
values |= {"made_up_answer_rate_sft": made_up_after.value, "seconds_sft": watch_sft.seconds}
for when, found in (("base", forms_before), ("sft", forms_after)):
    values[f"completion_rate_{when}"] = found["facts, sentence"].value
    values[f"question_and_answer_rate_{when}"] = found["facts, Q and A"].value
values |= {"difference_sft_loss": difference_sft_loss, "difference_sft_trajectory": difference_sft_trajectory}
values |= {"seconds_loop": watch.seconds, "seconds_trainer": watch_trainer.seconds}
values |= {"difference_sft_weights": difference_sft_weights, "judge_score": judge_score, "exact_score": exact_score}
for k, found in few_shot.items():
    values |= {f"few_shot_{k}_{group.replace(' ', '_')}": rate.value for group, rate in found.items()}
for size, found in by_examples.items():
    values |= {f"exact_{size}_examples_{group.replace(' ', '_')}": rate.value for group, rate in found.items()}
for name, found in price.items():
    way = name.split(":")[0].replace(" ", "_")
    values |= {f"{what.replace(': ', '_').replace(' ', '_')}_{way}": rate.value for what, rate in found.items()}
values |= {f"second_turn_{name.replace(' ', '_')}": rate.value for name, rate in second_turn.items()}
values |= {"made_up_rate_base_q_and_a": made_up_base.value, "judge_no_verdict": no_verdict.value}
values |= {f"judge_{error.partition(' ')[0]}_wrong": rate.value for error, rate in own_errors.items()}
values |= {f"judge_score_{title.replace(' ', '_')}": rate for title, rate in by_logits.items()}
values |= {f"judge_agreement_{title.replace(' ', '_')}": rate.value for title, rate in agrees.items()}
values |= {f"real_{name}": value for name, value in real_found.items()}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data}
saved = record("04_supervised_fine_tuning", parameters | {"epochs": epochs, "learning_rate": learning_rate}, **values)
scratch_folder.cleanup()
print(f"saved: {saved.name}")
solved("04")

# %% [markdown]
# ## Next
#
# - Forget: `workbook run 04 -p learning_rate 0.003`. Your examples: `workbook run 04 -p data mine.csv`.
# - Your model: `workbook run 04 --keep-model`, then `workbook export latest --to my-model`
#   ([docs/export.md](../docs/export.md)).
# - Larger models: start near 1e-5 for all weights or 2e-4 for LoRA. For a base model,
#   `trl.clone_chat_template` copies one, with its tokens.
# - Left out: system turns and tools (TRL's page on dataset formats), choice of data (Zhou et al. 2023), and new facts
#   in SFT, which raise hallucination (Gekhman et al. 2024).

# %% [markdown]
# ## References
#
# | work | year |
# |---|---|
# | Brown et al., *Language models are few-shot learners* | 2020 |
# | Gekhman et al., *Does fine-tuning LLMs on new knowledge encourage hallucinations?* | 2024 |
# | Shi et al., *Instruction tuning with loss over instructions* | 2024 |
# | Zhang et al., *R-Tuning: Instructing large language models to say "I don't know"* | 2024 |
# | Zheng et al., *Judging LLM-as-a-judge with MT-Bench and Chatbot Arena* | 2023 |
# | Zhou et al., *LIMA: Less is more for alignment* | 2023 |
