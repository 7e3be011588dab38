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
# # What does a model know before you train it?
#
# Fine-tuning starts from a *pretrained* model: one that has read a great deal of text without being told any answer.
# Before changing one we open it, run one of its blocks by hand, and measure what it knows.
#
# *About 40 minutes to read (an estimate), half a minute to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - load and save a model, and say what each file in its folder is for;
# - compute an attention head, a block and both pretraining losses, and get the library's numbers;
# - pretrain further on a new kind of text, and measure gain and loss;
# - measure what pretraining put into the weights.

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": trains longer
seed = 0  # the start of every random draw
model = ""  # an encoder of your own (BERT's family): a folder, or a name on the hub; "" takes the track's
data = ""  # a file of your own with a `text` column, to keep pretraining on; "" takes the recipes
learning_rate = 5e-4  # of the continued pretraining: low enough to keep most of the old knowledge

# %%
import math
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from helpers import catalog, plotting
from helpers.checks import check, hint, solved  # noqa: F401 - hint("01.1") helps when you are stuck
from helpers.language_model import top_words
from helpers.lessons.lesson_00.figures import top_words_figure
from helpers.lessons.lesson_01 import figures
from helpers.lessons.lesson_01.experiment import encoder_block
from helpers.runtime import check_number, start

run = start(track=track, budget=budget, seed=seed)
check_number("learning_rate", learning_rate, 1e-6, 1e-1)
corpus = catalog.dataset("corpus", track, data, seed)
pretraining_steps = run.by_budget(quick=4, standard=60, full=600)
measured_rows = run.by_budget(quick=8, standard=96, full=400)
facts_asked = run.by_budget(quick=40, standard=400, full=2000)

# %% [markdown]
# ## 1. A model is a folder
#
# On the Hugging Face Hub a model is a folder under version control, and so it is here. `catalog` knows where each
# folder is; everything after that is the library's own.

# %%
folder = Path(catalog.model_source("encoder", track, model))
for path in sorted(folder.iterdir()):
    print(f"{path.name:28}{path.stat().st_size / 1000:10,.0f} kB")

# %% [markdown]
# | file | holds |
# |---|---|
# | `config.json` | the architecture: how many layers, how wide |
# | `model.safetensors` | the weights: names and numbers. A pickle could run code when opened, this cannot |
# | `tokenizer.json`, `tokenizer_config.json` | how text becomes numbers |
# | `README.md` | the *model card*: training data, results, limits, licence |
#
# `from_pretrained` reads the first two and builds the model.

# %%
encoder = AutoModelForMaskedLM.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
decoder = catalog.causal_language_model(track).eval()
decoder_tokenizer = catalog.tokenizer("decoder", track)

# %% tags=["nbval-check-output"]
for name, network in (("encoder", encoder), ("decoder", decoder)):
    config = network.config
    weights = sum(parameter.numel() for parameter in network.parameters())
    print(f"{name}: {type(network).__name__}, {weights:,} weights, {config.num_hidden_layers} layers,")
    print(f"         {config.num_attention_heads} heads, width {config.hidden_size}, {config.vocab_size:,} tokens")

# %% [markdown]
# **Predict 1.** The [encoder](../docs/glossary.md#encoder) has never been told what a review is, what is good or what
# is bad. It reads "The music was superb, the acting [MASK]." and has to fill the blank. Which kind of word will it put
# first? And after "awful"? And if the opinion stands a sentence earlier: "I loved it. The acting was [MASK]."?

# %%
fill = pipeline("fill-mask", model=encoder, tokenizer=tokenizer, top_k=5)
near = ["The music was superb, the acting {}.", "The music was awful, the acting {}."]
far = ["I loved it. The acting was {}.", "I hated it. The acting was {}."]
for sentence in near + far:
    guesses = fill(sentence.format(tokenizer.mask_token))
    print(sentence.format("[MASK]"))
    print("   " + ", ".join(f"{guess['token_str']} {guess['score']:.0%}" for guess in guesses))

# %%
write = pipeline("text-generation", model=decoder, tokenizer=decoder_tokenizer)
text = write("The film tells the story of", max_new_tokens=30, do_sample=False)
print(text[0]["generated_text"])

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Two things, separately. Grammar: the words should be ones that *can* stand there. Opinion: do the lists differ in
# the right direction? Grammar comes early in [pretraining](../docs/glossary.md#pretraining), since every sentence
# teaches it. Agreement in opinion comes later, and across a full stop last of all. What you see is where this model
# stands.
#
# </details>
#
# A `pipeline` is three steps in one call: [tokenizer](../docs/glossary.md#tokenizer), model, and turning the numbers
# back into words. In section 4 we write this generation loop ourselves.
#
# `save_pretrained` writes the folder again. Nothing is lost on the way, to the last bit:

# %% tags=["nbval-check-output"]
from tempfile import TemporaryDirectory

with TemporaryDirectory() as copy:
    encoder.save_pretrained(copy)
    tokenizer.save_pretrained(copy)
    again = AutoModelForMaskedLM.from_pretrained(copy)
    print(sorted(path.name for path in Path(copy).iterdir()))
same = all(torch.equal(a, b) for a, b in zip(encoder.parameters(), again.parameters(), strict=True))
print("same weights, to the bit:", same)
assert same

# %% [markdown]
# **Sharing** a model means sending that folder: `push_to_hub("your-name/your-model")` uploads what `save_pretrained`
# writes. Whoever loads it knows only what the card tells them, so the card is part of the model: what it was trained
# on, how it was measured, what it must not be used for, its licence.
#
# A dataset is a folder with a card too, read by `load_dataset`; a metric is a module, read by `evaluate.load`, so
# that everybody counts in the same way.

# %%
import evaluate
from datasets import load_dataset

reviews = load_dataset(str(catalog.MICROWORLD), "reviews")
print({part: rows.num_rows for part, rows in reviews.items()}, reviews["train"].features["label"])
print(reviews["train"][0]["text"])
metric = evaluate.load(str(catalog.ROOT / "helpers" / "metrics" / "accuracy_with_interval"))
found = metric.compute(predictions=[1, 0, 1, 1], references=[1, 0, 0, 1])
print({name: round(value, 2) for name, value in found.items()})

# %% [markdown]
# ## 2. Text becomes a rectangle of numbers
#
# A tokenizer cuts text into pieces from a fixed list. Frequent words are one piece; rare ones are spelt from several.

# %% tags=["nbval-check-output"]
sentence = "The acting was wonderful, but I would not recommend it."
ids = tokenizer(sentence)["input_ids"]
print(tokenizer.convert_ids_to_tokens(ids))
print(ids)
print(tokenizer.decode(ids, skip_special_tokens=True))

# %% [markdown]
# Sentences differ in length, a tensor does not. So shorter rows are filled with a
# [padding](../docs/glossary.md#padding) [token](../docs/glossary.md#token), and the `attention_mask` says which tokens
# are real: 1 for text, 0 for padding.

# %% tags=["nbval-check-output"]
batch = tokenizer(["Not bad.", sentence], padding=True, return_tensors="pt", return_token_type_ids=False)
for name, tensor in batch.items():
    print(f"{name} {tuple(tensor.shape)}  # (batch, seq)")
    print(tensor)

# %% [markdown]
# **Predict 2.** "Not bad." goes through the model once alone and once beside the longer sentence, padded. Are its
# [logits](../docs/glossary.md#logits) the same? And if we forget the mask?

# %% tags=["nbval-check-output"]
alone = tokenizer("Not bad.", return_tensors="pt", return_token_type_ids=False)
words = alone["input_ids"].shape[1]
with torch.inference_mode():
    by_itself = encoder(**alone).logits[0]  # (seq, vocab)
    with_mask = encoder(**batch).logits[0, :words]
    without_mask = encoder(input_ids=batch["input_ids"]).logits[0, :words]
difference_padding = (by_itself - with_mask).abs().max().item()
difference_no_mask = (by_itself - without_mask).abs().max().item()
print("with the mask, the same to 1e-4:   ", difference_padding < 1e-4)
print("without it, the same to 1e-4:      ", difference_no_mask < 1e-4)
assert difference_padding < 1e-4 < difference_no_mask

# %% [markdown]
# <details><summary>Why</summary>
#
# The mask gives padding an [attention](../docs/glossary.md#attention) [weight](../docs/glossary.md#weight) of zero, so
# a sentence never notices its neighbours; what is left is rounding, since sums over longer rows are added in another
# order. Without the mask the words attend to padding, and the answer depends on whoever happens to share the
# [batch](../docs/glossary.md#batch): an error that raises no exception and only makes results a little worse.
#
# </details>
#
# ## 3. Inside: attention, by hand
#
# Both models turn each token into a vector and let the vectors exchange information. They differ in who may look at
# whom.
#
# **Predict 3.** We change only the *last* word of a sentence. For which positions does the vector change in the
# encoder? In the [decoder](../docs/glossary.md#decoder)?


# %% tags=["nbval-check-output"]
def changed_positions(network, *pair):
    """True for each position whose last hidden vector differs between two inputs of equal length."""
    with torch.inference_mode():
        runs = [network(input_ids=ids, output_hidden_states=True).hidden_states[-1][0] for ids in pair]
    return ((runs[0] - runs[1]).abs().amax(dim=-1) > 1e-4).tolist()  # (seq, hidden) -> (seq,)


one = torch.arange(100, 106).unsqueeze(0)  # (1, 6): any six tokens will do
other = one.clone()
other[0, -1] = 200
seen_by_encoder, seen_by_decoder = (changed_positions(network, one, other) for network in (encoder, decoder))
print("encoder:", seen_by_encoder)
print("decoder:", seen_by_decoder)
assert all(seen_by_encoder) and seen_by_decoder == [False] * 5 + [True]

# %% [markdown]
# <details><summary>Why</summary>
#
# In the encoder every token sees the whole sentence, on both sides: good for understanding a finished text. In the
# decoder a token sees only what stands before it, so the past never changes when a word is added: good for writing,
# one word after the other, and it cannot cheat when it is trained to predict the next one.
#
# </details>
#
# Each token asks a *query*, offers a *key*, and carries a *value*. Its weights are a
# [softmax](../docs/glossary.md#softmax) over how well its query matches each key; its new vector is the weighted mean
# of the values (Vaswani et al. 2017, equation 1):
#
# $$\text{attention}(Q, K, V) = \text{softmax}\left(\frac{Q K^\top}{\sqrt{d}}\right) V$$


# %%
def attention_head(hidden, query, key, value):
    """One head. hidden: (seq, hidden); the rest: functions to (seq, d). Gives (seq, d) and (seq, seq)."""
    q, k, v = query(hidden), key(hidden), value(hidden)  # (seq, d) each
    scores = q @ k.T / math.sqrt(q.shape[-1])  # (seq, seq): row asks, column answers
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


# %% [markdown]
# The library keeps the [heads](../docs/glossary.md#head) of a layer side by side in one matrix: head $h$ owns rows $h
# d$ to $(h + 1) d$. We cut out one head, and ask the model for its own weights.

# %%
encoder.set_attn_implementation("eager")  # the only form that returns the weights
inputs = tokenizer(sentence, return_tensors="pt", return_token_type_ids=False)
with torch.inference_mode():
    outputs = encoder(**inputs, output_hidden_states=True, output_attentions=True)
hidden = outputs.hidden_states[0][0]  # (seq, hidden), what block 0 reads
block = encoder_block(encoder, 0)  # its layers by their roles: every family names them otherwise
heads, width = encoder.config.num_attention_heads, encoder.config.hidden_size
d = width // heads


# %% tags=["nbval-check-output"]
def one_head(linear, head):
    """The part of a layer's projection that belongs to one head."""
    rows = slice(head * d, (head + 1) * d)
    return lambda x: x @ linear.weight[rows].T + linear.bias[rows]


with torch.inference_mode():
    parts = [one_head(linear, 1) for linear in (block.query, block.key, block.value)]
    context, weights = attention_head(hidden, *parts)
difference_attention_head = (weights - outputs.attentions[0][0, 1]).abs().max().item()
print(tuple(weights.shape), "our weights are the library's to 1e-5:", difference_attention_head < 1e-5)
assert difference_attention_head < 1e-5

# %% [markdown]
# A *block* is all heads together, then a small network for each token on its own. Both parts add their result to what
# came in (a *residual*), and a layer norm keeps the size of the numbers in check. That is all there is to a block. A
# model is a vector for each token and place, blocks in a row, and a layer that turns vectors into scores.


# %%
from torch import nn


def whole_block(hidden, block):
    """One BERT block without dropout: (seq, hidden) in, (seq, hidden) out."""
    every = []
    for head in range(heads):
        parts = [one_head(linear, head) for linear in (block.query, block.key, block.value)]
        every.append(attention_head(hidden, *parts)[0])  # (seq, d)
    mixed = block.mixing(torch.cat(every, dim=-1))  # (seq, hidden)
    hidden = block.attention_norm(hidden + mixed)
    wide = nn.functional.gelu(block.widening(hidden))  # (seq, intermediate)
    return block.output_norm(hidden + block.narrowing(wide))


# %% tags=["nbval-check-output"]
with torch.inference_mode():
    ours = whole_block(hidden, block)
difference_block = (ours - outputs.hidden_states[1][0]).abs().max().item()
print(tuple(ours.shape), "our block is the library's to 1e-5:", difference_block < 1e-5)
assert difference_block < 1e-5

# %% [markdown]
# ### What the heads look at
#
# Each small square is one head: rows are tokens that look, columns tokens that are looked at, bright means much.
# **Predict 4.** Will the heads be alike? Which patterns do you expect?

# %%
tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
plotting.show(figures.attention_grid(outputs.attentions, tokens))

# %% [markdown]
# <details><summary>What to look for</summary>
#
# A bright line beside the diagonal: a head that looks at the neighbour. A bright column: one token that everybody
# looks at, often punctuation or a special token, a place to look when there is nothing to find. An even dark blue: a
# head that averages. Attention shows where information *may* flow, not why the model decides as it does.
#
# </details>

# %% [markdown]
# The sharpest head, large, and below it the same figure to move: pick a layer and a head, or type a sentence of your
# own. (In a page without Python you see only the first.)

# %%
peaks = torch.stack(outputs.attentions)[:, 0].amax(dim=-1).mean(dim=-1)  # (layers, heads)
layer, head = divmod(peaks.argmax().item(), heads)
sharpest = outputs.attentions[layer][0, head]
plotting.show(figures.attention_map(sharpest, tokens, f"layer {layer}, head {head}"))
figures.attention_browser(encoder, tokenizer, sentence, layer, head)

# %% [markdown]
# And the blank from section 1, for any sentence: write `___` where the model should guess. The figure above the
# widget is its first picture.

# %%
blank = "The script is ___, but the music is lovely."
plotting.show(top_words_figure(top_words(encoder, tokenizer, blank), blank))
figures.fill_the_blank(encoder, tokenizer, blank)

# %% [markdown]
# ### Exercise 01.1: no looking ahead
#
# Turn attention scores into a *decoder's* weights: no token may look at a later one, and each row still sums to 1.


# %% tags=["exercise"]
def causal_weights(scores):
    """scores: (seq, seq). Returns weights (seq, seq), zero above the diagonal, rows summing to 1."""
    return ...


check("01.1", causal_weights)
# hint("01.1")


# %% tags=["solution"]
def causal_weights(scores):
    """scores: (seq, seq). Returns weights (seq, seq), zero above the diagonal, rows summing to 1."""
    allowed = torch.ones_like(scores).tril()
    return scores.masked_fill(allowed == 0, -math.inf).softmax(dim=-1)


check("01.1", causal_weights)

# %% [markdown]
# ### Exercise 01.2: find the bug
#
# A colleague builds a review encoder from PyTorch's own block. It runs and the shapes are right, but something is
# wrong with who looks at whom: the last line should say True, as in section 2. Mend it. `check` tries your block on
# reviews alone, together, and with one word changed.


# %%
def build_block(hidden, heads):
    return nn.TransformerEncoderLayer(hidden, heads, dim_feedforward=64, dropout=0.0)


torch.manual_seed(0)
suspect = build_block(32, 4).eval()
three_reviews = torch.randn(3, 6, 32)  # (batch, seq, hidden)
with torch.inference_mode():
    together, alone = suspect(three_reviews), suspect(three_reviews[:1])
print("shape:", tuple(together.shape))
print("review 0 is the same alone and beside two others:", torch.allclose(together[0], alone[0], atol=1e-4))


# %% tags=["exercise"]
def mended_block(hidden, heads):
    """A block for (batch, seq, hidden) in which words of one review look at each other, and at no one else."""
    return ...


check("01.2", mended_block)
# hint("01.2")


# %% tags=["solution"]
def mended_block(hidden, heads):
    """A block for (batch, seq, hidden) in which words of one review look at each other, and at no one else."""
    # Without batch_first the layer reads (seq, batch, hidden): attention runs across reviews, not words.
    return nn.TransformerEncoderLayer(hidden, heads, dim_feedforward=64, dropout=0.0, batch_first=True)


check("01.2", mended_block)

# %% [markdown]
# ## 4. What it was trained to do
#
# Nobody labelled the pretraining text: the text is its own answer. That is *self-supervised* learning. The encoder's
# task is to restore hidden tokens. Of every hundred, fifteen are chosen; of these 80 % become `[MASK]`, 10 % another
# token, 10 % stay as they are (Devlin et al. 2019).


# %%
def mask_tokens(input_ids, special, *, mask_id, vocab_size, rate=0.15, generator=None):
    """Hide some tokens: returns what the model reads, and the labels it must restore (-100: none)."""
    draw = torch.rand(input_ids.shape, generator=generator)
    chosen = (draw < rate) & ~special.bool()  # (batch, seq)
    labels = input_ids.masked_fill(~chosen, IGNORED)
    fate = torch.rand(input_ids.shape, generator=generator)
    random_ids = torch.randint(vocab_size, input_ids.shape, generator=generator)
    masked = input_ids.masked_fill(chosen & (fate < 0.8), mask_id)
    masked = torch.where(chosen & (fate >= 0.9), random_ids, masked)
    return masked, labels


IGNORED = -100  # the label that a loss leaves out

# %% [markdown]
# Why not always `[MASK]`? No text that the model will be used on contains it; a word that may be wrong, or right,
# keeps it attentive to all.

# %% tags=["nbval-check-output"]
texts = corpus["validation"]["text"][:32]
rows = tokenizer(
    texts, padding=True, truncation=True, max_length=128, return_tensors="pt", return_special_tokens_mask=True
)
ids, special = rows["input_ids"], rows["special_tokens_mask"]
draws = torch.Generator().manual_seed(seed)
sizes = {"mask_id": tokenizer.mask_token_id, "vocab_size": tokenizer.vocab_size}
masked, labels = mask_tokens(ids, special, **sizes, generator=draws)
print(tokenizer.decode(ids[0, 1:20]))
print(tokenizer.decode(masked[0, 1:20]))

# %%
chosen = labels != IGNORED
share_chosen = (chosen.sum() / (special == 0).sum()).item()
share_masked = (masked[chosen] == tokenizer.mask_token_id).float().mean().item()
print(f"chosen {share_chosen:.0%} of the real tokens; of these {share_masked:.0%} became {tokenizer.mask_token}")
assert 0.10 < share_chosen < 0.20 and 0.7 < share_masked < 0.9

# %% [markdown]
# The loss is the [cross-entropy](../docs/glossary.md#cross-entropy) over the hidden tokens alone: how improbable did
# the model find the token that really stood there? We compute it by hand and ask the model for its own.


# %% tags=["nbval-check-output"]
def masked_loss(logits, labels):
    """Mean cross-entropy over the hidden tokens. logits: (batch, seq, vocab); labels: (batch, seq)."""
    hidden = labels != IGNORED  # (batch, seq)
    log_probabilities = logits[hidden].log_softmax(dim=-1)  # (hidden tokens, vocab)
    right = log_probabilities.gather(-1, labels[hidden].unsqueeze(-1))
    return -right.mean()


with torch.inference_mode():
    outputs = encoder(input_ids=masked, attention_mask=rows["attention_mask"], labels=labels)
difference_masked_loss = (masked_loss(outputs.logits, labels) - outputs.loss).abs().item()
print("our masked loss is the model's to 1e-5:", difference_masked_loss < 1e-5)
assert difference_masked_loss < 1e-5

# %%
truth = labels[chosen]
restored = (outputs.logits[chosen].argmax(dim=-1) == truth).float().mean().item()
most_common = (truth == truth.mode().values).float().mean().item()
print(f"hidden tokens restored exactly: {restored:.0%}; always saying the most common token: {most_common:.0%}")

# %% [markdown]
# The decoder's task is simpler to say: at each place, predict the next token. The labels are the text itself, moved
# one place to the left.


# %%
def shift_labels(labels):
    """The label of each position is the next token; the last position has none. (batch, seq) to the same."""
    shifted = torch.full_like(labels, IGNORED)
    shifted[:, :-1] = labels[:, 1:]
    return shifted


def next_token_loss(logits, labels):
    """Mean cross-entropy of each next token. logits: (batch, seq, vocab); labels: (batch, seq), not shifted."""
    return masked_loss(logits, shift_labels(labels))


# %% tags=["nbval-check-output"]
from helpers.language_model import blocks_of_text

rows_general = blocks_of_text(decoder_tokenizer, texts, length=64)  # (rows, 64)
with torch.inference_mode():
    outputs = decoder(input_ids=rows_general, labels=rows_general)
    ours = next_token_loss(outputs.logits, rows_general)
difference_next_token_loss = (ours - outputs.loss).abs().item()
print(rows_general[0, :6].tolist(), "are read, with the labels", shift_labels(rows_general)[0, :6].tolist())
print("our next-token loss is the model's to 1e-5:", difference_next_token_loss < 1e-5)
assert difference_next_token_loss < 1e-5

# %% [markdown]
# A loss in nats is hard to feel. Its exponential, the *[perplexity](../docs/glossary.md#perplexity)*, is easier:
# between how many equally likely tokens does the model feel torn? Below it stands beside two
# [baselines](../docs/glossary.md#baseline): the same architecture with random weights, and a guess that finds all
# tokens equally likely.

# %%
from helpers.language_model import mean_next_token_loss


def perplexity(mean_loss):
    """Between how many equally likely tokens the model is torn: exp of the mean loss in nats."""
    return math.exp(mean_loss)


untrained = catalog.random_like("decoder", track).eval()
perplexity_pretrained = perplexity(mean_next_token_loss(decoder, rows_general))
perplexity_random = perplexity(mean_next_token_loss(untrained, rows_general))
print(f"pretrained {perplexity_pretrained:,.1f}, random weights {perplexity_random:,.0f}, ", end="")
print(f"all tokens equally likely {decoder.config.vocab_size:,}")
assert perplexity_pretrained < perplexity_random / 2

# %% [markdown]
# (Random weights can do worse than an even guess: they have preferences, all unfounded.)
#
# Predicting the next token, again and again, is writing. `generate` does this too, and faster, since it remembers
# keys and values; the tokens are the same.


# %%
@torch.inference_mode()
def greedy(model, input_ids, max_new_tokens, end_id=None):
    """Append the likeliest next token again and again. input_ids: (1, seq); returns (1, longer)."""
    for _ in range(max_new_tokens):
        logits = model(input_ids=input_ids).logits[:, -1]  # (1, vocab)
        best = logits.argmax(dim=-1, keepdim=True)  # (1, 1)
        input_ids = torch.cat([input_ids, best], dim=1)
        if end_id is not None and best.item() == end_id:
            break
    return input_ids


# %% tags=["nbval-check-output"]
prompt = decoder_tokenizer("The director of", return_tensors="pt")["input_ids"]
ours = greedy(decoder, prompt, max_new_tokens=20, end_id=decoder.generation_config.eos_token_id)
theirs = decoder.generate(prompt, max_new_tokens=20, do_sample=False)
print(decoder_tokenizer.decode(ours[0], skip_special_tokens=True))
print("the same tokens as generate:", torch.equal(ours, theirs))
assert torch.equal(ours, theirs)

# %% [markdown]
# ### Exercise 01.3: perplexity without the padding
#
# You have the loss of each token of a padded batch. Give the perplexity over the real tokens. (Two things can go
# wrong; `check` knows both.)


# %% tags=["exercise"]
def padded_perplexity(losses, attention_mask):
    """losses, attention_mask: (batch, seq). Returns one number."""
    return ...


check("01.3", padded_perplexity)
# hint("01.3")


# %% tags=["solution"]
def padded_perplexity(losses, attention_mask):
    """losses, attention_mask: (batch, seq). Returns one number."""
    mean_loss = (losses * attention_mask).sum() / attention_mask.sum()
    return math.exp(mean_loss)


check("01.3", padded_perplexity)

# %% [markdown]
# ## 5. Keep pretraining on a new kind of text
#
# The model knows films, reviews, news. It has never read what stands in the split `newcomer`. *Self-supervised
# fine-tuning* is the same task as before on this new text: no labels, only more reading.

# %%
newcomer = corpus["newcomer"]["text"]
print(newcomer[0])
held_out = max(1, len(newcomer) // 5)  # one text in five is only ever measured
train_rows = blocks_of_text(decoder_tokenizer, newcomer[held_out:], length=64)
measured = {"newcomer": blocks_of_text(decoder_tokenizer, newcomer[:held_out], length=64)}
for domain in sorted(set(corpus["validation"]["domain"])):
    own = [row["text"] for row in corpus["validation"] if row["domain"] == domain]
    measured[domain] = blocks_of_text(decoder_tokenizer, own, length=64)
measured = {domain: rows[:measured_rows] for domain, rows in measured.items()}


# %%
def perplexities(network):
    """The perplexity on each domain's held-out rows."""
    return {domain: perplexity(mean_next_token_loss(network, rows)) for domain, rows in measured.items()}


def on_the_old(table):
    """The geometric mean over the domains that the model knew before."""
    logarithms = [math.log(value) for domain, value in table.items() if domain != "newcomer"]
    return math.exp(sum(logarithms) / len(logarithms))


before = perplexities(decoder)
print({domain: round(value, 1) for domain, value in before.items()})

# %% [markdown]
# **Predict 5.** After a few dozen steps on the new texts alone: what happens to the perplexity on them? And on the
# texts the model knew before: better, the same, worse?

# %%
from tqdm import tqdm

student = catalog.causal_language_model(track)  # a fresh copy: `decoder` stays as it was
optimizer = torch.optim.AdamW(student.parameters(), lr=learning_rate)
draws = torch.Generator().manual_seed(seed)
losses = []
student.train()
for _ in tqdm(range(pretraining_steps), desc="reading", leave=False):
    batch = train_rows[torch.randint(len(train_rows), (16,), generator=draws)]  # (16, 64)
    loss = next_token_loss(student(input_ids=batch).logits, batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())

# %%
after = perplexities(student)
print(f"on the new texts: {before['newcomer']:8.1f} before, {after['newcomer']:8.1f} after")
print(f"on the old ones:  {on_the_old(before):8.1f} before, {on_the_old(after):8.1f} after (geometric mean)")
plotting.show(figures.before_after(before, after))
assert after["newcomer"] < before["newcomer"]

# %% [markdown]
# <details><summary>What happened, and why</summary>
#
# The new texts became far more predictable after a few dozen steps, with no label anywhere. (A first figure above the
# size of the vocabulary is worse than guessing evenly: sure, and wrong.) Nothing protected the old ones: no step was
# taken for them, and all weights are shared, so as a rule they get worse. How much depends on the [learning
# rate](../docs/glossary.md#learning-rate), which you can change at the top of this notebook, and on the number of
# steps. Lesson 03 calls this *[forgetting](../docs/glossary.md#catastrophic-forgetting)* and mends it.
#
# </details>
#
# ## 6. What does it know?
#
# To predict the next word of "The director of this film is", grammar is not enough. So pretraining leaves facts in
# the weights. We ask for them: does the model, writing greedily, complete the sentence exactly?

# %%
from helpers.language_model import completion_batch

facts = next(iter(catalog.dataset("facts", track).values())).shuffle(seed=seed)
asked = facts.select(range(min(facts_asked, len(facts))))
for row in asked.select(range(3)):
    print(f"{row['prompt']} -> {row['answer']}")

# %% [markdown]
# One pass tells it for a whole batch: greedy writing gives the answer exactly when, with the right words before it,
# *each* token of the answer is the likeliest.


# %%
def recalled(logits, labels):
    """Which rows greedy writing would complete exactly: (batch,)."""
    labels = shift_labels(labels)
    right = logits.argmax(dim=-1) == labels  # (batch, seq)
    return (right | (labels == IGNORED)).all(dim=-1)


@torch.inference_mode()
def count_recalled(network, rows):
    """How many facts the model completes exactly."""
    batch = completion_batch(decoder_tokenizer, rows["prompt"], rows["answer"])
    logits = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return int(recalled(logits, batch["labels"]).sum())


# %% [markdown]
# **Predict 6.** What share is completed exactly by the pretrained model? By the same architecture with random
# weights? And, as a baseline, by whoever always says the most common answer to that kind of question?

# %%
from collections import Counter

from helpers.intervals import wilson

common = {kind: Counter() for kind in facts["kind"]}
for kind, answer in zip(facts["kind"], facts["answer"], strict=True):
    common[kind][answer] += 1
correct = {
    "pretrained": count_recalled(decoder, asked),
    "random weights": count_recalled(untrained, asked),
    "most common answer": sum(row["answer"] == common[row["kind"]].most_common(1)[0][0] for row in asked),
}
results = {name: wilson(count, len(asked)) for name, count in correct.items()}

# %%
for name, share in results.items():
    print(f"{name:20}{share}  of {len(asked)}")
plotting.show(figures.shares(results, "facts completed exactly"))
if budget != "quick":
    assert results["pretrained"].low > results["random weights"].high
for title in ("The Crooked Lantern", "No Orchard for Karel"):  # films that exist nowhere
    prompt = decoder_tokenizer(f"The director of {title} is", return_tensors="pt")["input_ids"]
    written = greedy(decoder, prompt, max_new_tokens=5, end_id=decoder.generation_config.eos_token_id)
    print(decoder_tokenizer.decode(written[0], skip_special_tokens=True))

# %% [markdown]
# <details><summary>What this says</summary>
#
# What was read often, in many wordings, is recalled. Random weights know nothing: architecture is not knowledge. For
# a film that was never in the text the model has no fact, and answers all the same, as fluently as before. It was
# trained to continue text, not to tell the truth; lesson 04 counts such made-up answers. The brackets are [95 %
# intervals](../docs/glossary.md#confidence-interval): when two do not overlap, chance is a poor explanation.
#
# </details>

# %%
from helpers.record import record

saved = record(
    "01_pretrained_transformers",
    {"track": track, "budget": budget, "seed": seed, "model": model, "data": data, "learning_rate": learning_rate},
    perplexity_pretrained=perplexity_pretrained,
    perplexity_random=perplexity_random,
    perplexity_before_general=on_the_old(before),
    perplexity_after_general=on_the_old(after),
    perplexity_before_new_domain=before["newcomer"],
    perplexity_after_new_domain=after["newcomer"],
    facts_recalled_pretrained=results["pretrained"].value,
    facts_recalled_random=results["random weights"].value,
    facts_recalled_most_common=results["most common answer"].value,
    accuracy_masked_pretrained=restored,
    accuracy_masked_most_common=most_common,
    difference_padding=difference_padding,
    difference_attention_head=difference_attention_head,
    difference_block=difference_block,
    difference_masked_loss=difference_masked_loss,
    difference_next_token_loss=difference_next_token_loss,
    losses_new_domain=losses,
)
print(f"saved: {saved.name}")
solved("01")

# %% [markdown]
# ## Recap
#
# 1. A block is attention, a small network, two residuals and two norms: ours gives the library's numbers (*section 3,
#    `whole_block`*).
# 2. Pretraining takes its labels from the text itself; more of it makes new text predictable, at a price (*sections 4
#    and 5*).
# 3. Pretraining puts facts into weights that random ones lack (*section 6*).

# %% [markdown]
# ## Next
#
# From here on the pieces you wrote come from `helpers.language_model`, word for word. In [lesson
# 02](02_full_vs_last_layer.ipynb) the pretrained encoder meets its first labels: how much of it must be trained?
#
# ## References
#
# | work | year |
# |---|---|
# | Vaswani et al., *Attention Is All You Need* | 2017 |
# | Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding* | 2019 |
