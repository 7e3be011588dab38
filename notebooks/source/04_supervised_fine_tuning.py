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
# A pretrained decoder continues text. Asked a question, it goes on as if it were reading. A few thousand examples of
# questions with answers turn it into something that answers. How, and what does it then know that it did not know
# before?
#
# *About 45 minutes to read (an estimate), two to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - turn a conversation into token ids and labels, and say which tokens are learned from;
# - fine-tune with a loop of your own and with `SFTTrainer`, and show that they are the same;
# - count right answers and made-up answers, kind by kind, on questions that training never asked;
# - find out why a fine-tuned model does not stop talking.

# %%
import inspect
import tempfile

import pandas as pd
import torch
from torch import nn

from helpers import catalog, plotting
from helpers.checks import check, hint, solved  # noqa: F401 - hint("04.1") helps when you are stuck
from helpers.cost import Stopwatch
from helpers.models import without_dropout
from helpers.runtime import UserError, check_number, seed_everything, start
from helpers.sft import RECIPE
from helpers.training import decay_groups

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": trains twice as long
seed = 0  # draws the order of the training rows
model = ""  # a decoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `prompt` and `completion`, learned from as well; "" takes none
epochs = 1  # passes over the training rows; the shipped model and the reference had two, at a lower rate
learning_rate = 6e-4  # much higher unlearns what pretraining taught, much lower learns no skill

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("epochs", epochs, 1, 100, integer=True)
check_number("learning_rate", learning_rate, 1e-7, 1.0)
epoch_count = run.by_budget(quick=1, standard=epochs, full=2 * epochs)
train_limit = run.by_budget(quick=96, standard=1_000_000)
test_limit = run.by_budget(quick=80, standard=1_000_000)

# %% [markdown]
# ## 1. It knows, and it cannot answer
#
# The instructions are questions about films, small jobs on a text that stands in the prompt, and wishes for a line
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
# - `trained`: training asks about this film, in other words.
# - `told`: pretraining has read the fact, but training never asks anything about this film.
# - `untold`: nobody was ever told. The film is new.
# - `careless` and `open`: wishes. Many lines would do, so lessons 05 and 06 judge them otherwise.

# %% tags=["nbval-check-output"]
counts = {split: pd.Series(rows["known"]).value_counts() for split, rows in instructions.items()}
print(pd.DataFrame(counts).fillna(0).astype(int).to_string())
films = {split: set(rows["film"]) for split, rows in instructions.items()}
asked = {row["film"] for row in instructions["train"] if row["known"] == "trained"}
told = {row["film"] for row in instructions["test"] if row["known"] == "told"}
print("test films of told facts that training asks about:", len(asked & told))

# %% [markdown]
# Take one fact and offer it to the pretrained decoder in four forms: a sentence to complete, a bare question, a
# question as some pages of its corpus write it (`Q: ... A:`), and a conversation, which section 2 explains.
#
# **Predict 1.** Which of the four will bring out the answer?

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
for form, text in forms.items():
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"].to(run.device)
    print(f"{form:15}{text} ... {tokenizer.decode(greedy(base, ids, 12)[0, ids.shape[1] :])!r}")
print(f"{'the truth':15}{fact['completion']}")

# %% [markdown]
# One fact is an anecdote. So we count, over the told facts of the test films: how many does [greedy
# decoding](../docs/glossary.md#greedy-decoding) bring out, to the letter, in each form? And how many of the jobs, which
# need no fact?

# %%
from helpers.evaluation import share
from helpers.language_model import completion_batch, recalled
from helpers.sft import answer, exact_match_rates

test_rows = [row for row in instructions["test"].shuffle(seed=0) if row["known"] not in ("careless", "open")]
test_rows = test_rows[:test_limit]
test_prompts = [row["prompt"] for row in test_rows]
sentences = [row for row in catalog.dataset("facts", track)["test"] if row["film"] in told][:test_limit]


def completed(model, prompts, wanted):
    """Share of the texts that greedy decoding would complete exactly as wanted: one forward pass tells."""
    batch = completion_batch(tokenizer, prompts, wanted)
    inputs = {name: value.to(run.device) for name, value in batch.items() if name != "labels"}
    with torch.inference_mode():
        return share(recalled(model.eval()(**inputs).logits.cpu(), batch["labels"]).double())


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
# <details><summary>What it means</summary>
#
# The facts are in the weights, and the form decides whether they come out. Some pages of the corpus ask and answer
# questions, so `Q: ... A:` works, for films too that no such page was about. Nothing in pretraining said that the text
# after `<|assistant|>` is an answer. And no form brings out the jobs: nobody ever showed them.
#
# So [supervised fine-tuning](../docs/glossary.md#supervised-fine-tuning) (SFT) need not teach the facts. It has to
# teach a **form**, and some new **skills**.
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
# With `add_generation_prompt` the text ends where the assistant is to speak: that is what the model reads when we ask.
# The second text is what it learns from. Three things in it are not words: the marks of who speaks, and `<|end|>`, the
# **end of a turn**. A model that does not learn `<|end|>` never stops.
#
# ### What to learn from
#
# In pretraining every token is a label. Here we want the answer, not the question: the prompt's labels are **-100**,
# which the loss leaves out.
#
# <details><summary>Do the prompt's tokens begin the whole?</summary>
#
# Here they do. Check it token by token with another template: some end in a space, which joins the first word of the
# answer in one token, and some open an answer with `<think>`, which they do not record.
#
# </details>


# %%
def encode(tokenizer, prompt, completion, answer_only=True):
    start = tokenizer(render(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    input_ids = tokenizer(render(tokenizer, prompt, completion), add_special_tokens=False)["input_ids"]
    same = [one == other for one, other in zip(start, input_ids, strict=False)]
    hidden = [*same, False].index(False) if answer_only else 0  # the tokens that both begin with
    return {"input_ids": input_ids, "labels": [-100] * hidden + input_ids[hidden:]}


row = encode(tokenizer, fact["prompt"], fact["completion"])
pd.DataFrame(row, index=tokenizer.convert_ids_to_tokens(row["input_ids"]))

# %% [markdown]
# In the tokens, `Ġ` stands for a space. A name after a space and the same name without it are two tokens, with nothing
# in common, and the model has read names after a space nearly always.

# %% tags=["nbval-check-output"]
for text in ("<|assistant|> Anna", "<|assistant|>Anna"):
    print(f"{text:22}", tokenizer.tokenize(text, add_special_tokens=False))

# %% [markdown]
# So the space after `<|assistant|>` in this template is no ornament. Section 6 shows what a template without it costs.
#
# ### The loss
#
# Position by position the model is asked for the *next* token, so the labels move one place to the left. The model
# does this itself when it is given labels. By hand:


# %% tags=["nbval-check-output"]
from functools import partial

train_data = instructions["train"].select(range(min(train_limit, len(instructions["train"]))))
first = [encode(tokenizer, row["prompt"], row["completion"]) for row in train_data.select(range(16))]
collate = partial(sft_tools.collate, pad_id=tokenizer.pad_token_id)  # pads on the right
batch = {name: value.to(run.device) for name, value in collate(first).items()}
with torch.inference_mode():
    outputs = base(**batch)
    predicted = outputs.logits[:, :-1]  # (batch, seq - 1, vocab)
    wanted = batch["labels"][:, 1:]  # (batch, seq - 1)
    learned = wanted != -100
    log_probabilities = predicted[learned].log_softmax(dim=-1)  # (answer tokens, vocab)
    by_hand = -log_probabilities.gather(-1, wanted[learned].unsqueeze(-1)).mean()
print("by hand and by the model, difference below 0.00001:", (by_hand - outputs.loss).abs().item() < 1e-5)
assert (by_hand - outputs.loss).abs() < 1e-5

# %% [markdown]
# ### Exercise 04.1: more than one turn
#
# A conversation of several turns is one row too. Learn from **all** the assistant's turns: from the token after each
# `start_id` (the mark of the assistant) up to and with the next `end_id`. All else is -100.


# %% tags=["exercise"]
def assistant_labels(input_ids, start_id, end_id):
    return ...


check("04.1", assistant_labels)
# hint("04.1")


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


check("04.1", assistant_labels)

# %% [markdown]
# `helpers.sft` holds the same functions, and refuses what cannot be learned from. An answer that is empty, a
# prompt that fills the whole context, a template that has lost its end of turn: each trains without complaint
# otherwise, and is found much later.

# %% tags=["nbval-check-output"]
from copy import deepcopy

endless = deepcopy(tokenizer)
mark = tokenizer.convert_ids_to_tokens(sft_tools.end_of_turn(tokenizer))  # <|end|>, or what this template has
endless.chat_template = tokenizer.chat_template.replace(mark, "")
for tokenizer_used, prompt, completion in (
    (tokenizer, "Who made it?", "  "),
    (tokenizer, "Who made it? " * 100, "Ann Lee."),
    (endless, "Who made it?", "Ann Lee."),
):
    try:
        sft_tools.encode(tokenizer_used, prompt, completion)
    except UserError as problem:
        print(f"- {problem}")

# %% [markdown]
# ## 3. Training
#
# Now all rows. Wishes are among them, careless ones too; they will matter in lessons 05 and 06. Rows of like length
# share a batch, as in lesson 02.

# %%
train_rows = sft_tools.encode_rows(tokenizer, train_data)
if data:
    from helpers.own_data import load_columns, print_notes

    own = print_notes(load_columns(catalog.own_source(data, track), sft_tools.COLUMNS, tokenizer))
    train_rows += sft_tools.encode_rows(tokenizer, own, field=data)
lengths = torch.tensor([len(row["input_ids"]) for row in train_rows])
learned = torch.tensor([sum(label != -100 for label in row["labels"]) for row in train_rows])
print(f"{len(train_rows):,} conversations of {lengths.sum():,} tokens")
print(f"learned from: {learned.sum() / lengths.sum():.0%} of the tokens")

# %% [markdown]
# The loop is lesson 02's, to the letter. Nothing in it knows about instructions: all that is new is in the labels.


# %%
def train_by_hand(model, batches, optimizer, scheduler):
    model.train()
    losses = []
    for batch in batches:
        loss = model(**{name: value.to(run.device) for name, value in batch.items()}).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %% [markdown]
# `helpers.sft.fine_tune` is this loop with a progress bar, AdamW, and a learning rate that rises for a tenth of
# the steps and then falls to zero. Should a loss become NaN, it stops before the weights are touched.
#
# **Predict 2.** After training: what share of the told facts will it answer to the letter, although nobody asked about
# those films? And of sentiment, passive, comma?

# %%
from dataclasses import replace

from helpers.sft import fine_tune

recipe = replace(RECIPE, learning_rate=learning_rate, epochs=epoch_count)
seed_everything(seed)
sft = catalog.causal_language_model(track, model).to(run.device)
history = fine_tune(sft, train_rows, tokenizer.pad_token_id, recipe, seed=seed, progress="answers only")
tenth = -(-len(history.losses) // 10)
print(f"{len(history.losses)} steps in {history.seconds:.0f} s")
print(f"first tenth of the steps: loss {sum(history.losses[:tenth]) / tenth:.2f}")
print(f"last tenth of the steps:  loss {history.mean_loss(tenth):.2f}")

# %% [markdown]
# ## 4. What it answers now
#
# Answers are written by **greedy decoding**: append the likeliest token, again and again, until the end of the turn.
# Lesson 01 wrote that loop. `generate` does the same faster, since it keeps what it has computed for earlier tokens.

# %% tags=["nbval-check-output"]
end = sft_tools.end_of_turn(tokenizer)
settings = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": end}
settings["pad_token_id"] = tokenizer.pad_token_id
sft.eval()  # no dropout, which some models have
equal = []
for prompt in test_prompts[:20]:
    ids = tokenizer(render(tokenizer, prompt), return_tensors="pt", add_special_tokens=False)["input_ids"]
    ids = ids.to(run.device)
    whole = torch.ones_like(ids)  # nothing is padding, even where the padding token stands in the text
    equal.append(torch.equal(greedy(sft, ids, 24, end_id=end), sft.generate(ids, attention_mask=whole, **settings)))
print("by hand and by generate, at most one answer differs:", sum(equal) >= len(equal) - 1)  # rounding may turn a tie
assert sum(equal) >= len(equal) - 1

# %% [markdown]
# `answer` gives `generate` many prompts at once. They are padded on the *left*, so that every answer goes on from the
# same place.

# %%
answers["after"] = answer(sft, tokenizer, test_prompts)
known = {when: exact_match_rates(test_rows, given, "known") for when, given in answers.items()}
pd.DataFrame({when: {kind: f"{rate:.2f}" for kind, rate in found.items()} for when, found in known.items()})

# %% [markdown]
# Kind by kind, for the facts that pretraining told and the skills:

# %%
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

# %%
for row, given in list(zip(test_rows, answers["after"], strict=True))[:8]:
    mark = "right" if given == row["completion"] else f"not {row['completion']!r}"
    print(f"{row['prompt'][:84]}\n    {given!r}   {mark}")

# %% [markdown]
# <details><summary>What it means</summary>
#
# - The *told* facts come out, although training asked nothing about their films. A form was learned, and it carries
#   over to knowledge that was there before: section 1 showed it waiting, under another form.
# - The *skills* work on texts never seen. They were not knowledge but a procedure, and it was learned here.
#
# </details>

# %% [markdown]
# ## 5. What it was never told
#
# The `untold` rows ask about films that nobody ever mentioned. The only true answer would be "I do not know". No row
# of the training says that.
#
# **Predict 3.** What will it say?

# %%
from helpers.lessons.lesson_04.experiment import confidence, made_up

untold = [place for place, row in enumerate(test_rows) if row["known"] == "untold"]
invented = made_up([test_rows[place] for place in untold], [answers["after"][place] for place in untold])
made_up_after = share(invented)
print(f"made up: {made_up_after:.2f} of {len(untold)} questions about unknown films")
for place in untold[:5]:
    print(f"{test_rows[place]['prompt']:56}{answers['after'][place]}")

# %% [markdown]
# <details><summary>What it means</summary>
#
# *Made up* is an answer that has the form of an answer, a name or a year, and is false. Every question in training had
# such an answer, so every question gets one. SFT taught how to answer, not when. Larger models do the same, and it has
# a name there: hallucination.
#
# </details>
#
# Does the model itself know the difference? It gives every answer a probability: the product over the answer's tokens.
# Move the slider to let it speak only when it is sure.

# %%
sure = confidence(sft, tokenizer, test_prompts, answers["after"])
groups = {name: sure[[row["known"] == name for row in test_rows]] for name in ("told", "untold")}


def speak_above(threshold):
    """The figure for one threshold."""
    return figures.confidences(groups, threshold)


plotting.show(speak_above(0.5))

# %%
from ipywidgets import HTML, FloatSlider, VBox

slider = FloatSlider(value=0.5, min=0, max=1, step=0.02, description="threshold")
slider.continuous_update = False  # one figure when the mouse lets go, not one for each point on the way
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(speak_above(slider.value))


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])

# %% [markdown]
# The figure above the slider is its position at 0.5, for readers without a running kernel.
#
# ### Exercise 04.2: when to stay silent
#
# Given the probability of each answer, and whether it is `right`, find the lowest threshold (one of the confidences)
# such that among the answers at or above it at most the share `allowed` is wrong. None if there is no such threshold.


# %% tags=["exercise"]
def threshold_for(confidences, right, allowed):
    return ...


check("04.2", threshold_for)
# hint("04.2")


# %% tags=["solution"]
def threshold_for(confidences, right, allowed):
    for threshold in sorted(confidences):
        spoken = [ok for sure, ok in zip(confidences, right, strict=True) if sure >= threshold]
        if 1 - sum(spoken) / len(spoken) <= allowed:
            return threshold
    return None


check("04.2", threshold_for)

# %% [markdown]
# And what became of the knowledge itself? The forms of section 1, once more:

# %%
forms_after = brought_out(sft, answers["after"])
both = {form: [f"{forms_before[form]:.2f}", f"{forms_after[form]:.2f}"] for form in forms_before}
pd.DataFrame.from_dict(both, orient="index", columns=["before", "after"])

# %% [markdown]
# <details><summary>What to look at</summary>
#
# In conversation nearly all facts come out, so they are still there. It is the *old forms* that suffer (lesson 03 calls
# it [forgetting](../docs/glossary.md#catastrophic-forgetting)): fine-tuning moves every weight. The jobs, learnt in
# conversation, carry over in part. How much is lost depends on the learning rate before all: try
# `workbook run 04 -p learning_rate 0.003`.
#
# </details>

# %% [markdown]
# ## 6. The answer only, or everything?
#
# Why not learn from the questions too? Every token of the conversation would be a label, and the loss would see more of
# them. All else stays the same: rows, order, steps, learning rate.
#
# **Predict 4.** Will it answer better or worse?

# %%
seed_everything(seed)
everything = catalog.causal_language_model(track, model).to(run.device)
all_labels = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in train_rows]
fine_tune(everything, all_labels, tokenizer.pad_token_id, recipe, seed=seed, progress="everything")
answers["everything"] = answer(everything, tokenizer, test_prompts)
known["everything"] = exact_match_rates(test_rows, answers["everything"], "known")
pd.DataFrame({way: {kind: f"{rate:.2f}" for kind, rate in known[way].items()} for way in ("after", "everything")})

# %%
from helpers.intervals import paired_bootstrap
from helpers.sft import exact_match

right = {way: exact_match(given, [row["completion"] for row in test_rows]) for way, given in answers.items()}
gaps = {}
for group in ("told", "skill"):
    rows = [place for place, row in enumerate(test_rows) if row["known"] == group]
    gaps[group] = paired_bootstrap(right["after"][rows], right["everything"][rows], seed=seed)
    clear = "a clear difference" if 0 not in gaps[group] else "no clear difference"
    print(f"{group:8} answers only minus everything: {gaps[group]:+.3f}, {clear}")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Prompts are much longer than answers here, so with all labels most of the gradient teaches the model to *ask*. The
# table of seeds below shows who pays. The losses of the two runs cannot be compared: they are means over other tokens.
# Only the answers can.
#
# </details>
#
# ### The same over several seeds
#
# The reference table is *not* from this run: a command in this repository fine-tuned once per seed and way, with two
# passes at a lower rate, as was the model that lessons 05 and 06 start from. *Without the space* is training with a
# template that puts no space before a turn's text (section 2): one character.

# %%
from helpers.reference import load_reference

reference = load_reference("instructions")
ways = {"base": "before", "sft": "answers only", "everything": "everything", "without_space": "without the space"}
columns = {
    "exact_match_known": "told facts",
    "exact_match_skills": "skills",
    "made_up_unknown": "made up, unknown films",
}
table = {}
for way, title in ways.items():
    found = {column: reference.interval(f"{quantity}_{way}") for quantity, column in columns.items()}
    table[title] = {column: f"{interval:.2f}" for column, interval in found.items()}
print("Reference:", reference.label)
pd.DataFrame.from_dict(table, orient="index")

# %% [markdown]
# ## 7. Packing
#
# [Padding](../docs/glossary.md#padding) is computed and thrown away. **[Packing](../docs/glossary.md#packing)** lays
# several conversations end to end in one row, so that no place is empty. How much would it save here?

# %%
mixed = torch.randperm(len(train_rows), generator=torch.Generator().manual_seed(seed)).tolist()


def places_used(order, batch_size=RECIPE.batch_size):
    batches = [lengths[order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    return sum(int(batch.max()) * len(batch) for batch in batches)


block = 256
ways = {
    "rows in any order": places_used(mixed),
    "like lengths together": places_used(lengths.argsort().tolist()),
    f"packed in rows of {block}": -(-int(lengths.sum()) // block) * block,
}
for way, places in ways.items():
    print(f"{way:24}{places:10,} places, {1 - lengths.sum() / places:6.1%} of them empty")

# %% [markdown]
# There is a catch. In a packed row a token can see the conversations before its own, and its position is counted from
# the start of the row. Two things mend it: positions that start again at 0, and attention that stops at the border.
# `transformers` reads the border from the positions.
#
# **Predict 5.** Three conversations, packed with and without restarted positions: which gives the logits that each
# conversation gives alone?

# %% tags=["nbval-check-output"]
three = train_rows[:3]
alone = collate(three)
packed = torch.tensor([[token for row in three for token in row["input_ids"]]])  # (1, all tokens)
positions = torch.tensor([[place for row in three for place in range(len(row["input_ids"]))]])
with torch.inference_mode():
    each = base(**{name: value.to(run.device) for name, value in alone.items()})
    separate = torch.cat([each.logits[i, : len(row["input_ids"])] for i, row in enumerate(three)])
    ids = packed.to(run.device)
    restarted = base(input_ids=ids, position_ids=positions.to(run.device), use_cache=False).logits[0]
    run_on = base(input_ids=ids, use_cache=False).logits[0]
print("restarted positions, the same logits:", (restarted - separate).abs().max().item() < 1e-3)
print("positions that run on, the same logits:", (run_on - separate).abs().max().item() < 1e-3)
assert (restarted - separate).abs().max() < 1e-3 < (run_on - separate).abs().max()

# %% [markdown]
# `SFTTrainer` packs with `SFTConfig(packing=True, max_length=...)`, and restarts the positions too. With rows as short
# and as alike as ours, batches of like length save nearly as much. Where lengths range from ten tokens to thousands,
# packing is worth its care.
#
# ## 8. The same with `SFTTrainer`
#
# TRL's `SFTTrainer` takes the prompts and completions themselves: it applies the template, masks the prompt, pads and
# trains. First our side of the comparison: some steps, in order.

# %%
steps = run.by_budget(quick=3, standard=20)
size = RECIPE.batch_size
first_rows = [encode(tokenizer, row["prompt"], row["completion"]) for row in train_data.select(range(steps * size))]
by_hand = without_dropout(catalog.causal_language_model(track, model)).to(run.device)
batches = [collate(first_rows[start : start + size]) for start in range(0, len(first_rows), size)]
# `Trainer`, and SFTTrainer with it, spares biases and normalisations from weight decay (lesson 02).
optimizer = torch.optim.AdamW(decay_groups(by_hand, RECIPE.weight_decay), lr=learning_rate)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
with Stopwatch() as watch:
    losses_by_hand = train_by_hand(by_hand, batches, optimizer, schedule)

# %% [markdown]
# `SFTConfig` is `TrainingArguments` with more in it. Its defaults are for large models on a GPU: 16-bit numbers, and
# [activations](../docs/glossary.md#activation) computed twice to save memory. Here both are off.

# %%
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

scratch_folder = tempfile.TemporaryDirectory()
arguments = SFTConfig(
    output_dir=scratch_folder.name, seed=seed, use_cpu=run.device == "cpu",
    bf16=False, activation_checkpointing=False, max_length=256,
    num_train_epochs=1, per_device_train_batch_size=size,
    learning_rate=learning_rate, weight_decay=RECIPE.weight_decay, warmup_steps=0,
    optim="adamw_torch", train_sampling_strategy="sequential",
    save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True,
)  # fmt: skip

# %%
turns = [
    {"prompt": messages(row["prompt"]), "completion": messages("", row["completion"])[1:]}
    for row in train_data.select(range(steps * size))
]
trainer = SFTTrainer(
    model=without_dropout(catalog.causal_language_model(track, model)).to(run.device),
    args=arguments,
    train_dataset=Dataset.from_list(turns),
    processing_class=tokenizer,
)
trainer.remove_callback(PrinterCallback)
theirs = next(iter(trainer.get_train_dataloader()))
same_labels = torch.equal(theirs["labels"].cpu(), batches[0]["labels"])
with Stopwatch() as watch_trainer:
    trainer.train()
losses_trainer = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

# %% [markdown]
# The first loss is that of the same batch under the same weights; the others follow from it.

# %% tags=["nbval-check-output"]
difference_sft_loss = abs(losses_by_hand[0] - losses_trainer[0])
difference_sft_trajectory = max(abs(a - b) for a, b in zip(losses_by_hand, losses_trainer, strict=True))
print("the same labels:", same_labels)
# One takes a mean, the other divides a sum; a GPU rounds more freely.
for_one, for_all = (1e-6, 1e-5) if run.device == "cpu" else (1e-3, 1e-3)
print(f"the first loss, difference below {for_one:.6f}:", difference_sft_loss < for_one)
print(f"all losses, largest difference below {for_all:.5f}:", difference_sft_trajectory < for_all)
assert same_labels and difference_sft_loss < for_one and difference_sft_trajectory < for_all

# %%
ours = sum(len(inspect.getsource(part).splitlines()) for part in (messages, render, encode, train_by_hand))
both = {
    "lines that say how": [ours, "in the library"],
    "seconds for these steps": [f"{watch.seconds:.1f}", f"{watch_trainer.seconds:.1f}"],
    "last loss": [f"{losses_by_hand[-1]:.4f}", f"{losses_trainer[-1]:.4f}"],
}
pd.DataFrame.from_dict(both, orient="index", columns=["by hand", "SFTTrainer"])

# %% [markdown]
# Same batches, same losses, same weights. `SFTTrainer` adds packing, checkpoints, several devices, 16-bit numbers,
# [adapters](../docs/glossary.md#adapter) (lesson 09) and logging. It hides the mask. Its default learns from the
# completion alone when a dataset has prompts and completions, and from **everything** when it has a single column of
# messages.
#
# ## 9. Find the bug
#
# Many decoders come without a padding token. The usual advice is one line: take the end token for it. Here is a
# collator that somebody wrote in a hurry. It runs, the loss falls nicely.


# %%
def collate_in_a_hurry(rows, pad_id):
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [pad_id] * (width - len(row["input_ids"])) for row in rows])
    labels = torch.tensor([row["labels"] + [pad_id] * (width - len(row["labels"])) for row in rows])
    labels[labels == pad_id] = -100  # no loss on padding
    return {"input_ids": ids, "attention_mask": (ids != pad_id).long(), "labels": labels}


jobs = [row for row in train_data if row["kind"] in ("comma", "passive")][: run.by_budget(quick=32, standard=960)]
job_rows = [encode(tokenizer, row["prompt"], row["completion"]) for row in jobs]


def taught_with(collator):
    """A decoder after a short training on two jobs, with the end of the turn as padding."""
    seed_everything(seed)
    pupil = catalog.causal_language_model(track, model).to(run.device)
    batches = [collator(job_rows[start : start + 16], end) for start in range(0, len(job_rows), 16)]
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(batches))
    return pupil, train_by_hand(pupil, batches, optimizer, schedule)


# %% [markdown]
# **Predict 6.** What will its answers look like?

# %%
pupil, losses = taught_with(collate_in_a_hurry)
held_out = [row for row in instructions["validation"] if row["kind"] in ("comma", "passive")][:60]
given = answer(pupil, tokenizer, [row["prompt"] for row in held_out])
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
print(f"exact answers: {exact_match_rates(held_out, given, 'known')['skill']:.2f}\n")
for row, text in list(zip(held_out, given, strict=True))[:3]:
    print(f"wanted  {row['completion']}\ngot     {text}\n")

# %% [markdown]
# ### Exercise 04.3: mend the collator
#
# It must work when the padding token is the end of the turn. Look at the labels of one row before you write.


# %% tags=["exercise"]
def mended(rows, pad_id):
    return ...


check("04.3", mended)
# hint("04.3")


# %% tags=["solution"]
def mended(rows, pad_id):
    width = max(len(row["input_ids"]) for row in rows)
    ids, labels, mask = [], [], []
    for row in rows:
        real, empty = len(row["input_ids"]), width - len(row["input_ids"])
        ids.append(row["input_ids"] + [pad_id] * empty)
        labels.append(row["labels"] + [-100] * empty)
        mask.append([1] * real + [0] * empty)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


check("04.3", mended)

# %% [markdown]
# The same short training with the collator of `helpers.sft`, which asks how long a row is and never what an
# id means:

# %%
pupil, losses = taught_with(sft_tools.collate)
given = answer(pupil, tokenizer, [row["prompt"] for row in held_out])
print(f"exact answers: {exact_match_rates(held_out, given, 'known')['skill']:.2f}")

# %% [markdown]
# <details><summary>What was wrong</summary>
#
# "No loss on padding" was written as "no loss on this id". The end of the turn has the same id, so it was never
# learned, and generation runs until the tokens are used up. The loss cannot show it: the very tokens that go wrong
# are left out of it. The habit that finds it: print one row's labels, and read a few whole answers.
#
# </details>
#
# ## 10. Recap: what this run showed

# %%
from IPython.display import Markdown, display

before, after = known["before"], known["after"]
display(
    Markdown(f"""
1. **A form is learned, and it carries over.** Told facts answered: {before["told"].value:.0%} before fine-tuning,
   {after["told"].value:.0%} after, on films that training never asks about; skills {before["skill"].value:.0%} and
   {after["skill"].value:.0%} (*section 4, the figure*).
2. **What was never told is made up**: {made_up_after.value:.0%} of the questions about unknown films got a false answer
   in good form (*section 5*).
3. **The loop and `SFTTrainer`** are the same: on one batch their losses differ by {difference_sft_loss:.0e}, over
   {len(losses_by_hand)} steps by {difference_sft_trajectory:.0e} at most (*section 8, the assertion*).
""")
)

# %%
from helpers.kept_model import keep_model
from helpers.record import record

measured = {"facts that pretraining told, answered to the letter": after["told"], "jobs, to the letter": after["skill"]}
measured["questions about unknown films with a made-up answer"] = made_up_after
keep_model("04_supervised_fine_tuning", sft, tokenizer, examples=test_prompts, figures=measured)  # with --keep-model

values = {f"exact_answer_rate_{kind}": rate.value for kind, rate in series["after fine-tuning"].items()}
values |= {"exact_answer_rate_base": before["told"].value, "exact_answer_rate_base_skills": before["skill"].value}
values |= {"exact_answer_rate_sft": after["told"].value, "exact_answer_rate_skills": after["skill"].value}
values |= {"exact_answer_rate_everything_known": known["everything"]["told"].value}
values |= {"exact_answer_rate_everything_skill": known["everything"]["skill"].value}
values |= {"made_up_answer_rate_sft": made_up_after.value, "seconds_sft": history.seconds}
for when, found in (("base", forms_before), ("sft", forms_after)):
    values[f"completion_rate_{when}"] = found["facts, sentence"].value
    values[f"question_and_answer_rate_{when}"] = found["facts, Q and A"].value
values |= {"difference_sft_loss": difference_sft_loss, "difference_sft_trajectory": difference_sft_trajectory}
values |= {"seconds_loop": watch.seconds, "seconds_trainer": watch_trainer.seconds}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data}
parameters |= {"epochs": epochs, "learning_rate": learning_rate}
saved = record("04_supervised_fine_tuning", parameters, **values)
scratch_folder.cleanup()
print(f"saved: {saved.name}")
solved("04")

# %% [markdown]
# ## Next
#
# - Forget on purpose: `workbook run 04 -p learning_rate 0.003`. What goes first, skills or facts?
# - With examples of your own: `workbook run 04 -p data mine.csv` (columns `prompt` and `completion`).
# - Take the model away: `workbook run 04 --keep-model`, then `workbook export latest --to my-model`. The folder loads
#   with plain `transformers`; [docs/export.md](../docs/export.md) says what is in it.
# - Demonstrations show one answer to each prompt. Lesson 05 asks what to do when we can only say which of two answers
#   is better.
