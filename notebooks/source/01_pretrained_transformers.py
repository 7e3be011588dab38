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
# Fine-tuning starts from a *pretrained* model: one that has read a lot of text and was never given a
# [label](../docs/glossary.md#label). In this lesson you open such a model, write its
# [attention](../docs/glossary.md#attention), its training task and its sampling loop yourself, and measure what it
# knows.
#
# *About 90 minutes to read (an estimate), two to run (an estimate for two processor cores); no network.* Plan more for
# the exercises. A good place to stop is after section 3.

# %% [markdown]
# **You will be able to**
#
# - load, use, save and share a model with `transformers`;
# - write attention with its masks, and run a block of BERT and of Llama by hand;
# - write masked-token training and a sampling loop with temperature and top-p;
# - measure a language model fairly: bits per character, on text that it has not read;
# - keep pretraining on new text with `Trainer`, and measure gain and forgetting;
# - test what a model knows, in wordings that it has seen and in others.

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": trains longer
seed = 0  # the start of every random draw
model = ""  # an encoder of your own (BERT's family): a folder, or a name on the hub; "" takes the track's
data = ""  # a file of your own with a `text` column, to keep pretraining on; "" takes the recipes
learning_rate = 5e-4  # of the continued pretraining

# %% [markdown]
# The texts are about an invented world, and all training text of our two small "pocket" models is on this disk. Each
# text has a `domain`, its kind. The split "newcomer" holds a kind that no model has read. Section 7 repeats five parts
# with published models on real text. `helpers` is this course's own package.

# %%
import json
import math
import re
from bisect import bisect_left
from collections import Counter
from copy import deepcopy
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, pipeline

from helpers import catalog, language_model, plotting
from helpers import real as real_track
from helpers.checks import check, go_on_with, hint, solved  # noqa: F401 - hint("01.1") helps when you are stuck
from helpers.hub.datasets import CAPITALS
from helpers.intervals import Interval, mean_t, wilson
from helpers.lessons.lesson_01 import experiment, figures
from helpers.predictions import predict, reveal
from helpers.record import record
from helpers.runtime import check_number, start

run = start(track=track, budget=budget, seed=seed)
check_number("learning_rate", learning_rate, 1e-6, 1e-1)
corpus = catalog.dataset("corpus", track, data, seed)  # the splits "train", "validation" and "newcomer"
validation_texts = list(corpus["validation"]["text"])

# %% [markdown]
# ## 1. A model is a folder
#
# On the Hugging Face Hub, a model is a folder under version control; here it is a folder on your disk. `catalog`
# (private to this course) finds the folder, and in a few cells also loads it; the comment beside such a call gives the
# library's own line.
#
# | file | holds |
# |---|---|
# | `config.json` | the architecture: how many layers, how wide |
# | `model.safetensors` | the weights: names and numbers. PyTorch's older `.bin` could run code when opened |
# | `generation_config.json` (decoders) | how `generate` writes unless told otherwise, and the token that ends a text |
# | `tokenizer.json`, `tokenizer_config.json` | how text becomes numbers |
# | `README.md` | the *model card*: training data, results, limits, licence |
#
# `AutoTokenizer` and the `AutoModel...` classes read this folder and pick the right architecture from `config.json`.
# With a GPU, add `device_map="auto", dtype=torch.bfloat16`; for a model of the hub, add `revision="<commit>"`, so that
# it cannot change under you.
#
# | class | adds on top of the [transformer](../docs/glossary.md#transformer) | returns |
# |---|---|---|
# | `AutoModel` | nothing | one vector for each token |
# | `AutoModelForMaskedLM` | a [head](../docs/glossary.md#head) that scores all tokens at each place | scores |
# | `AutoModelForCausalLM` | a head that scores the next token | scores |
# | `AutoModelForSequenceClassification` | a new head with random weights (lesson 02) | a score for each class |

# %% tags=["nbval-check-output"]
from datasets import load_dataset

folder = Path(catalog.model_source("encoder", track, model))
print(", ".join(sorted(path.name for path in folder.iterdir())))
encoder = catalog.masked_language_model(track, model).eval()  # AutoModelForMaskedLM.from_pretrained, folder checked
tokenizer = AutoTokenizer.from_pretrained(folder)
decoder_folder = catalog.model_source("decoder", track)
decoder = AutoModelForCausalLM.from_pretrained(decoder_folder, dtype=torch.float32).eval()  # eval: dropout off
decoder_tokenizer = catalog.tokenizer("decoder", track)  # AutoTokenizer, with a padding token
experiment.check_family(encoder)
if track == "pocket":  # data, too, need no `catalog`: the same rows from their file, as you would read yours
    file = str(catalog.MICROWORLD / "corpus" / "validation.parquet")
    assert list(load_dataset("parquet", data_files=file, split="train")["text"]) == validation_texts
for name, network in (("encoder", encoder), ("decoder", decoder)):
    config = network.config
    weights = sum(parameter.numel() for parameter in network.parameters())
    print(f"{name}: {type(network).__name__}, {weights:,} weights, {config.num_hidden_layers} layers,")
    print(f"         {config.num_attention_heads} heads, width {config.hidden_size}, {config.vocab_size:,} tokens")

# %% [markdown]
# An [encoder](../docs/glossary.md#encoder) reads a finished text in both directions, and was trained to restore hidden
# words. A [decoder](../docs/glossary.md#decoder) reads from left to right, and was trained to predict the next
# [token](../docs/glossary.md#token): a word or a piece of one.
#
# A `pipeline` is three steps in one call: [tokenizer](../docs/glossary.md#tokenizer), model, and turning numbers back
# into words. For a decoder, the middle step is a loop that writes token after token. You write that loop in section 4.

# %%
fill = pipeline("fill-mask", model=encoder, tokenizer=tokenizer, top_k=5)
for sentence in ("The music was superb, and the acting was {}.", "The music was awful, and the acting was {}."):
    guesses = fill(sentence.format(tokenizer.mask_token))
    print(sentence.format("[MASK]"))
    print("   " + ", ".join(f"{guess['token_str']} {guess['score']:.0%}" for guess in guesses))
write = pipeline("text-generation", model=decoder, tokenizer=decoder_tokenizer)
print(write("The film tells the story of", max_new_tokens=30, do_sample=False)[0]["generated_text"])

# %% [markdown]
# Some guesses fit the grammar only ("tested"): the encoder is tiny. And two blanks prove nothing. So we fill hundreds.
# In each, we add up the probabilities of some words of praise, and of some words of blame. The *share of praise* is the
# first sum divided by both sums.
#
# **Predict 1.** No one ever told the encoder what is good or bad. It reads "I hated it. The acting was [MASK].", and
# the same with seven other nouns. Which side gets more probability on average, praise or blame?

# %%
vocabulary = tokenizer.get_vocab()
good_words = "good great wonderful superb lovely moving excellent brilliant charming delightful perfect splendid"
bad_words = "bad awful dull boring weak terrible dreadful clumsy poor tedious flat lamentable"
praise, blame = ([word for word in words.split() if word in vocabulary] for words in (good_words, bad_words))
nouns = ("acting", "script", "music", "editing", "story", "ending", "dialogue", "camera work")


@torch.inference_mode()
def share_of_praise(sentences):
    """For each sentence: the probability of praise as a share of praise and blame together, and both together."""
    filled = [sentence.replace("[MASK]", tokenizer.mask_token) for sentence in sentences]
    rows = tokenizer(filled, padding=True, return_tensors="pt", return_token_type_ids=False)
    scores = encoder(**rows).logits[rows["input_ids"] == tokenizer.mask_token_id].softmax(dim=-1)  # (batch, vocab)
    good, bad = (scores[:, [vocabulary[word] for word in words]].sum(dim=-1) for words in (praise, blame))
    return good / (good + bad), good + bad


predict("01.1", choices=["praise", "blame"])


# %%
def over_nouns(pattern, words):
    """The share of praise after these words, the mean for each of the eight nouns that are asked about: (8,)."""
    shares = []
    for b in nouns:
        sentences = [pattern.format(a=a, b=b, w=w) for a in nouns if a != b for w in words]
        shares.append(share_of_praise(sentences)[0].mean().item())
    return np.array(shares)


nothing = over_nouns("The {b} was [MASK].", [""])
_, together = share_of_praise([f"The {noun} was [MASK]." for noun in nouns])
print(f"{len(praise)} words of praise and {len(blame)} of blame: together {together.mean():.0%} of the probability")
print(f"share of praise with nothing before: {mean_t(nothing.tolist())}")
print(f"{'':44}{'after praise':20}{'after blame':20}gap (paired by noun)")
gaps, count = [], run.by_budget(quick=1, standard=4)  # count: words of each side
links = (", and the", ". The", ", but the")
asked = {f"The {{a}} was {{w}}{link} {{b}} was [MASK].": (praise, blame) for link in links}
asked["They {w} it. The {b} was [MASK]."] = ["liked"], ["hated"]
asked["I {w} it. The {b} was [MASK]."] = ["loved"], ["hated"]
for pattern, sides in asked.items():
    praised, blamed = (over_nouns(pattern, words[:count]) for words in sides)
    gaps.append(praised - blamed)
    print(f"{pattern:44}" + "".join(f"{mean_t(each.tolist())!s:20}" for each in (praised, blamed, gaps[-1])))
print(f'"hated" minus nothing before: {mean_t((blamed - nothing).tolist()):+.2f}; ', end="")
print(f'gap of "but" minus gap of "and": {mean_t((gaps[2] - gaps[0]).tolist()):+.2f}')
blamed_share = float(blamed.mean())  # after "I hated it"
for word in ("liked", "loved", "hated", "wonderful", "awful"):
    found = sum(word in text.lower() for text in corpus["train"]["text"])
    print(f'"{word}": {" ".join(tokenizer.tokenize(word))}, in {found:,} of {len(corpus["train"]):,} training texts')
reveal("01.1", "praise" if blamed_share > 0.5 else "blame")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# (Brackets in this course: a [95 % interval](../docs/glossary.md#confidence-interval); here over the eight nouns.)
# After "I hated it", praise gets about the share that it gets with nothing before. The gap of that row is even below
# zero. One possible cause is in the counts: the training texts hold few "hated" and "liked", and no "loved", but many
# of the adjectives below. (How often a word is read was not varied here, so this stays a guess.) Common adjectives do
# reach the blank, even across a full stop.
#
# After "but", a model that knows the word should give a *negative* gap. The gap is smaller than after "and", but far
# above zero. (One model, few patterns.)
#
# </details>
#
# `save_pretrained` writes such a folder, and `from_pretrained` reads it back, the same to the bit. *Sharing* a
# model means sending the folder. After `hf auth login`, `model.push_to_hub("your-name/your-model")` sends the weights
# and the configuration, and `tokenizer.push_to_hub(...)` the tokenizer. The page is public unless you add
# `private=True`. Others know only what the card says, so write it: training data, how the model was measured, what it
# must not be used for, its licence.

# %% tags=["nbval-check-output"]
with TemporaryDirectory() as copy:
    encoder.save_pretrained(copy)
    tokenizer.save_pretrained(copy)
    again = AutoModelForMaskedLM.from_pretrained(copy)
    print(sorted(path.name for path in Path(copy).iterdir()))
same = all(torch.equal(a, b) for a, b in zip(encoder.parameters(), again.parameters(), strict=True))
print("same weights, to the bit:", same)
assert same

# %% [markdown]
# ## 2. Text becomes numbers
#
# A tokenizer cuts text into tokens from a fixed list, its *vocabulary*. Words that are frequent in its training
# text are one token; rare words are spelled from several pieces.

# %% tags=["nbval-check-output"]
sentence = "The acting was wonderful, but I would not recommend it."
ids = tokenizer(sentence)["input_ids"]
print(tokenizer.convert_ids_to_tokens(ids))
print(ids)
print(tokenizer.decode(ids, skip_special_tokens=True))

# %% [markdown]
# `##` marks a piece that continues a word. `[CLS]` ("classification") opens every text and `[SEP]` ("separator")
# closes it: *special tokens* that BERT's tokenizer adds. This tokenizer also lowercases.
#
# How does it choose the pieces? BERT's method, *WordPiece*, takes the longest piece of the vocabulary that the word
# begins with, and goes on with the rest. (The decoder uses *byte-pair encoding*: merge the most frequent pair of
# neighbours, again and again. Sennrich et al. 2016 start from characters, GPT-2 from bytes, so that no text is unknown;
# Radford et al. 2019.)


# %% tags=["nbval-check-output"]
def wordpiece(word, vocabulary, unknown="[UNK]"):
    """Cut one word into the longest known pieces, from left to right."""
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):  # the longest piece first
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return [unknown]  # not even one letter is known here
        pieces.append(piece)
        start = end
    return pieces


words = sorted(set(re.findall(r"[a-z]+", " ".join(validation_texts).lower())))
for word in ("recommend", "unwatchable", "xylophone"):
    print(word, wordpiece(word, vocabulary))
different = [word for word in words if wordpiece(word, vocabulary) != tokenizer.tokenize(word)]
print(f"{len(words):,} different words of held-out text; cut differently by the library: {len(different)}")

# %% [markdown]
# Sentences differ in length, but a tensor is a rectangle. So shorter rows are filled up with a
# [padding](../docs/glossary.md#padding) token, and the [attention mask](../docs/glossary.md#attention-mask) says which
# tokens are real: 1 for text, 0 for padding. (`token_type_ids` tell the two texts of a pair apart; we leave them out.)
#
# **Predict 2.** "Not bad." goes through the model once alone and once padded, beside the longer sentence. When are its
# [logits](../docs/glossary.md#logits), the scores before [softmax](../docs/glossary.md#softmax), the same as alone?

# %%
predict("01.2", choices=["always", "only with the mask", "never"])

# %% tags=["nbval-check-output"]
batch = tokenizer(["Not bad.", sentence], padding=True, return_tensors="pt", return_token_type_ids=False)
for name, tensor in batch.items():
    print(f"{name} {tuple(tensor.shape)}  # (batch, seq)\n{tensor}")
alone = tokenizer("Not bad.", return_tensors="pt", return_token_type_ids=False)
count = alone["input_ids"].shape[1]
with torch.inference_mode():
    by_itself, with_mask = encoder(**alone).logits[0], encoder(**batch).logits[0, :count]  # (seq, vocab) each
    without_mask = encoder(input_ids=batch["input_ids"]).logits[0, :count]
difference_padding, difference_no_mask = ((by_itself - other).abs().max().item() for other in (with_mask, without_mask))
print("with the mask, the same to 1e-4:   ", difference_padding < 1e-4)
print("without it, the same to 1e-4:      ", difference_no_mask < 1e-4)
assert difference_padding < 1e-4 < difference_no_mask
reveal("01.2", "only with the mask")

# %% [markdown]
# <details><summary>Why</summary>
#
# The mask gives padding an attention [weight](../docs/glossary.md#weight) of exactly zero; what remains is rounding.
# Without the mask, a sentence's scores depend on its neighbours in the [batch](../docs/glossary.md#batch). This bug
# raises no exception. In the next section you write the mask yourself.
#
# </details>

# %% [markdown]
# ## 3. Inside: attention and the block
#
# Both models turn each token into a vector, its [embedding](../docs/glossary.md#embedding), and let the vectors
# exchange information in *attention*. They differ in who may look at whom.
#
# In an encoder, each token attends to the whole sentence, on both sides. In a decoder, a token attends only to itself
# and to earlier tokens (a *[causal mask](../docs/glossary.md#causal-mask)*). So in training, the decoder cannot copy
# the next token that it has to predict.

# %% [markdown]
# From its vector, each token computes a *query*, a *key* and a *value*, of $d$ numbers each. A softmax over the dot
# products of one query with all keys gives weights that sum to 1. The result is the weighted mean of the values
# (Vaswani et al. 2017, equation 1):
#
# $$\text{attention}(Q, K, V) = \text{softmax}\left(\frac{Q K^\top}{\sqrt{d}}\right) V$$
#
# <details><summary>Why divide by the root of d?</summary>
#
# A dot product of $d$ independent numbers of mean 0 and variance 1 has variance $d$ (here 32). Without the division,
# wide vectors would give large scores, one weight near 1, and almost no [gradient](../docs/glossary.md#gradient) for
# the rest.
#
# </details>

# %% [markdown]
# ### Exercise 01.1: attention with its masks
#
# Write the formula for all sentences and [heads](../docs/glossary.md#head) at once. (A layer runs several attentions
# side by side, its *attention heads*.) `attention_mask` is 1 for tokens and 0 for padding, which stands at the end. No
# token may give weight to padding. With `causal=True`, none may give any to a later one. Forbidden weights
# are exactly 0. Padding as a *query* needs no special care.
#
# `check` compares with PyTorch's `scaled_dot_product_attention`. From here on the lesson runs *your* function, or a
# solution from `helpers`.


# %% tags=["exercise"]
def attention(query, key, value, attention_mask, causal):
    """query, key, value: (batch, heads, seq, d); attention_mask: (batch, seq).

    Returns the mixed values (batch, heads, seq, d) and the weights (batch, heads, seq, seq), one row for each query.
    """
    return ..., ...


check("01.1", attention)
# hint("01.1")


# %% tags=["solution"]
def attention(query, key, value, attention_mask, causal):
    """query, key, value: (batch, heads, seq, d); attention_mask: (batch, seq).

    Returns the mixed values (batch, heads, seq, d) and the weights (batch, heads, seq, seq), one row for each query.
    """
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (batch, heads, seq, seq)
    allowed = attention_mask[:, None, None, :].bool()  # (batch, 1, 1, seq): the same keys for every head and query
    if causal:
        allowed = allowed & torch.ones_like(scores).tril().bool()
    weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)
    return weights @ value, weights


check("01.1", attention)

# %% [markdown]
# A BERT *block* computes queries, keys and values from a token's whole vector; each head takes its own slice. Their
# results are put side by side and combined (`mixing`). Then a two-layer network processes each token separately: it
# widens the vector, applies *GELU* (a smooth ReLU), and narrows it again. Both halves add their result to what came in:
# a *residual connection*. A *layer norm* then rescales each vector to mean 0 and variance 1, with a learned scale and
# shift. The parts:

# %% tags=["nbval-check-output"]
body = encoder.base_model
layers = (body.encoder if hasattr(body, "encoder") else body.transformer).layer
parts = experiment.parts_of(layers[0])  # role -> (the library's name, the module)
for role, (name, module) in parts.items():
    print(f"{role:16}{name:28}{module}")

# %%
attention = go_on_with("01.1", attention, experiment.library_attention)


def split_heads(x, heads):
    """(batch, seq, heads * d) -> (batch, heads, seq, d)"""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def bert_block(hidden, layer, heads, attention_mask):
    """One BERT block without dropout. hidden: (batch, seq, hidden); returns the same shape, and the weights."""
    part = {role: module for role, (_, module) in experiment.parts_of(layer).items()}  # part["query"] and so on
    query, key, value = (split_heads(part[role](hidden), heads) for role in ("query", "key", "value"))
    mixed, weights = attention(query, key, value, attention_mask, causal=False)
    mixed = mixed.transpose(1, 2).flatten(2)  # (batch, heads, seq, d) -> (batch, seq, hidden)
    hidden = part["attention_norm"](hidden + part["mixing"](mixed))
    wide = nn.functional.gelu(part["widening"](hidden))  # (batch, seq, intermediate)
    return part["output_norm"](hidden + part["narrowing"](wide)), weights


# %% tags=["nbval-check-output"]
encoder.set_attn_implementation("eager")  # plain PyTorch: slower than "sdpa", but it returns the weights
heads = encoder.config.num_attention_heads
with torch.inference_mode():  # the padded batch of section 2
    outputs = encoder(**batch, output_hidden_states=True, output_attentions=True)
    ours, weights = bert_block(outputs.hidden_states[0], layers[0], heads, batch["attention_mask"])
is_text = batch["attention_mask"].bool()  # (batch, seq): what stands in the padding is never used
difference_block = (ours - outputs.hidden_states[1])[is_text].abs().max().item()
difference_attention_head = (weights - outputs.attentions[0]).transpose(1, 2)[is_text].abs().max().item()
print("hidden", tuple(ours.shape), "weights", tuple(weights.shape))
print("our weights and our block are the library's to 1e-5:", max(difference_attention_head, difference_block) < 1e-5)
assert max(difference_attention_head, difference_block) < 1e-5

# %% [markdown]
# So here is all of BERT, from the bottom up. Each token gets a vector. A vector for its *position* is added, and one
# for its text of a pair. Then come a layer norm, the blocks, and the head: one more layer, a GELU and a norm, and the
# scores.
#
# ### The decoder's block (optional: skip it and its two cells if you like)
#
# | | BERT | Llama |
# |---|---|---|
# | positions | a vector, added to each token's vector | *rotary*: `rotate` turns queries and keys (Su et al. 2021) |
# | norm | layer norm, after each half | *RMS norm*, before each half (Zhang and Sennrich 2019) |
# | small network | GELU between two layers | *gated*: SiLU (a smooth ReLU) of one layer times another (Shazeer 2020) |
# | keys and values | one for each head | several heads may share them (Ainslie et al. 2023) |
# | biases | yes | none |
#
# Why turn? The token at position 5 is turned by five times some angle, the token at 3 by three times. A dot product
# does not change when both vectors turn together. So only the *distance* counts, here 2.


# %%
def rotate(x, theta):
    """Turn pairs of coordinates by angles that grow with the position. x: (batch, heads, seq, d)."""
    seq, d = x.shape[-2:]
    speeds = theta ** -(torch.arange(0, d, 2) / d)  # (d / 2,): the first pair turns fastest
    angles = torch.arange(seq)[:, None] * speeds  # (seq, d / 2)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)  # (seq, d)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def rms_norm(x, norm):
    return norm.weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + norm.variance_epsilon).sqrt()


def llama_block(hidden, layer, config, attention_mask):
    """One Llama block. hidden: (batch, seq, hidden); returns the same shape, and the weights."""
    attend, network = layer.self_attn, layer.mlp
    normed = rms_norm(hidden, layer.input_layernorm)
    query = split_heads(attend.q_proj(normed), config.num_attention_heads)
    key, value = (split_heads(part(normed), config.num_key_value_heads) for part in (attend.k_proj, attend.v_proj))
    theta = config.rope_parameters["rope_theta"]
    query, key = rotate(query, theta), rotate(key, theta)
    sharing = config.num_attention_heads // config.num_key_value_heads  # query heads with the same keys; often 1
    key, value = key.repeat_interleave(sharing, dim=1), value.repeat_interleave(sharing, dim=1)
    mixed, weights = attention(query, key, value, attention_mask, causal=True)
    hidden = hidden + attend.o_proj(mixed.transpose(1, 2).flatten(2))
    normed = rms_norm(hidden, layer.post_attention_layernorm)
    gated = nn.functional.silu(network.gate_proj(normed)) * network.up_proj(normed)
    return hidden + network.down_proj(gated), weights


# %% tags=["nbval-check-output"]
rows = decoder_tokenizer(["The director of", sentence], padding=True, padding_side="right", return_tensors="pt")
mask = rows["attention_mask"]
shared = deepcopy(decoder.config)
shared.num_hidden_layers, shared.num_key_value_heads = 2, 1  # all heads share one set of keys and values
sharing = AutoModelForCausalLM.from_config(shared).eval()
for name, network in (("random weights, shared keys", sharing), ("pocket decoder", decoder)):
    network.set_attn_implementation("eager")
    with torch.inference_mode():
        read = network(**rows, output_hidden_states=True, output_attentions=True)
        ours, weights = llama_block(read.hidden_states[0], network.model.layers[0], network.config, mask)
    difference_llama_block = (ours - read.hidden_states[1])[mask.bool()].abs().max().item()
    ahead = max(layer.triu(1).max().item() for layer in read.attentions)
    print(f"{name}: our block is the library's to 1e-4: {difference_llama_block < 1e-4}; ", end="")
    print(f"the largest weight that any head of any layer gives to a later token: {ahead}")
    assert difference_llama_block < 1e-4 and ahead == 0
decoder.set_attn_implementation("sdpa")  # the fast implementation again

# %% [markdown]
# ### What do the heads look at?
#
# Here is a map of one head: each row is one token's weights and sums to 1. (Layers and heads are counted from 0, as in
# the code. We chose this head because its map looks striking. In JupyterLab, sliders below it let you pick another head
# or type a sentence.)

# %%
tokens = tokenizer.convert_ids_to_tokens(batch["input_ids"][1])
layer, head = shown_head = min(2, len(layers) - 1), 2
shown_map = outputs.attentions[layer][1, head]  # (seq, seq)
plotting.show(figures.attention_map(shown_map, tokens, f"layer {layer}, head {head}"))
print(f'from the last piece of "recommend" to "not": {shown_map[tokens.index("it") - 1, tokens.index("not")]:.2f}')
figures.attention_browser(encoder, tokenizer, sentence, layer, head)

# %% [markdown]
# In this head of the pocket encoder, "not" is the brightest column. A story suggests itself: *this head finds the
# negation*. One sentence proves nothing, so look at all held-out texts with a "not".
#
# **Predict 3.** Take the four tokens after each "not". How much of their weight in this head goes back to the "not"?
# Compare with the weight that tokens give to *any* token one to four places before. Is the first at least twice the
# second?


# %%
def at_distance(tokens, *distances, of=None):
    """Which pairs are that many tokens apart, the second token being the word `of`: (seq, seq).

    A row is the token that looks, a column the token it looks at; a positive distance means: it looks back.
    """
    places = torch.arange(len(tokens))
    near = torch.isin(places[:, None] - places, torch.tensor(distances))
    return near & torch.tensor([of is None or token == of for token in tokens])


patterns = {  # name -> which pairs (the token that looks, the token looked at) count: (seq, seq)
    "one before": lambda tokens: at_distance(tokens, 1),
    "one after": lambda tokens: at_distance(tokens, -1),
    '"not", 1 to 4 before': lambda tokens: at_distance(tokens, 1, 2, 3, 4, of="not"),
    "any word, 1 to 4 before": lambda tokens: at_distance(tokens, 1, 2, 3, 4),
    "[SEP]": lambda tokens: torch.tensor([[token == "[SEP]" for token in tokens]] * len(tokens)),
}


predict("01.3", choices=["at least twice as much", "less than twice as much"])


# %%
def patterns_in(text, network=encoder, cut=tokenizer):
    """Of one text, pattern -> the weight on the pairs that it marks, summed: (layers, heads); and their number."""
    tokens, attentions = figures.attention_of(network, cut, text, longest=100)
    weights = torch.stack([each[0] for each in attentions])  # (layers, heads, seq, seq)
    marked = {name: pattern(tokens) for name, pattern in patterns.items()}
    return {name: (weights[:, :, where].sum(dim=-1), int(where.sum())) for name, where in marked.items()}


def pooled(found):
    """Pattern -> the mean weight over all pairs of these texts: (layers, heads)."""
    return {name: sum(each[name][0] for each in found) / sum(each[name][1] for each in found) for name in patterns}


with_not = [text for text in validation_texts if " not " in text][
    : run.by_budget(quick=10, standard=len(validation_texts))
]
in_texts = [patterns_in(text) for text in with_not]
looks = pooled(in_texts)
plotting.show(figures.head_patterns(looks))
NOT, ANY = list(patterns)[2:4]
half = pooled(in_texts[::2])  # every second text chooses the head that prefers "not" most; the others measure it
most = divmod((half[NOT] - half[ANY]).argmax().item(), heads)
ratios = {}
print(f"{len(with_not)} texts with a not; weight on it over weight on any token, 1 to 4 places back (brackets: texts)")
for at, said, some in ((most, "chosen in the other half", in_texts[1::2]), (shown_head, "the map above", in_texts)):
    to_not, to_any = ([each[name] for each in some] for name in (NOT, ANY))
    ratios[at] = experiment.ratio_over_texts(to_not, to_any, at, seed)
    print(f"layer {at[0]}, head {at[1]} ({said}): ratio {ratios[at]}")
reveal("01.3", "at least twice as much" if ratios[shown_head].value >= 2 else "less than twice as much")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# In layer 0, head 0 looks at the token before and head 1 at the token after. Published
# [transformers](../docs/glossary.md#transformer) have such heads, too (Clark et al. 2019). A ratio of 1 means: "not"
# gets as much weight as any token. Where the interval contains 1, the bright column was an anecdote.
#
# Another head may prefer "not". But a map cannot show what the model *uses* (Jain and Wallace 2019, for recurrent
# classifiers; Wiegreffe and Pinter 2019 disagree in part). Section 4 tests both heads, with a verdict.
#
# </details>
#
# **You are half-way:** a good place to stop. You have opened a model, its tokenizer and its blocks. The second half
# asks what such models are trained to do, and what they know. When you come back, select the next cell, choose *Run
# All Above Selected Cell*, and go on.

# %% [markdown]
# ## 4. What a model is trained to do
#
# Nobody labelled the [pretraining](../docs/glossary.md#pretraining) text: the text is its own answer
# (*self-supervised* learning). The encoder learns by [masked language
# modeling](../docs/glossary.md#masked-language-modeling): hide some tokens, restore them. BERT chooses 15 % of the
# tokens. Of these, 80 % become `[MASK]`, 10 % become a random token, and 10 % stay (Devlin et al. 2019). The model must
# restore all the chosen ones.
#
# <details><summary>Why not always [MASK]?</summary>
#
# Later texts contain no `[MASK]`. The authors' reason for the other 20 %: the model cannot know which words are right,
# so it has to represent each of them. That is a reason, not a measurement; Wettig et al. (2023) tested the split again,
# so read them before you copy it. The 15 % is a choice, too: our pocket encoder was pretrained with 30 %, and they
# found 40 % better for larger models.
#
# </details>

# %% [markdown]
# ### Exercise 01.2: hide tokens
#
# Choose each token by its own draw, with probability `rate`, but never where `special` is 1 or True (padding, `[CLS]`,
# `[SEP]`). A second draw for each chosen token decides: 80 % `mask_id`, 10 % a random id from 0 to `vocab_size - 1`
# (any id), 10 % unchanged.
#
# Return a changed copy (`input_ids` stays as it is) and the labels: the old id of a chosen token, elsewhere -100, which
# PyTorch's [cross-entropy](../docs/glossary.md#cross-entropy) ignores. Hand `generator` to every draw; `None` means
# PyTorch's own.


# %% tags=["exercise"]
def mask_tokens(input_ids, special, mask_id, vocab_size, rate=0.15, generator=None):
    """input_ids, special: (batch, seq), integers. Returns what the model reads and the labels, both (batch, seq)."""
    return ..., ...


check("01.2", mask_tokens)
# hint("01.2")


# %% tags=["solution"]
def mask_tokens(input_ids, special, mask_id, vocab_size, rate=0.15, generator=None):
    """input_ids, special: (batch, seq). Returns what the model reads and the labels, both (batch, seq)."""
    draw = torch.rand(input_ids.shape, generator=generator)
    chosen = (draw < rate) & ~special.bool()  # (batch, seq)
    labels = input_ids.masked_fill(~chosen, -100)
    fate = torch.rand(input_ids.shape, generator=generator)
    random_ids = torch.randint(vocab_size, input_ids.shape, generator=generator)
    masked = input_ids.masked_fill(chosen & (fate < 0.8), mask_id)
    masked = torch.where(chosen & (fate >= 0.9), random_ids, masked)
    return masked, labels


check("01.2", mask_tokens)

# %%
from transformers import DataCollatorForLanguageModeling

mask_tokens = go_on_with("01.2", mask_tokens, language_model.mask_tokens)
IGNORED, mask_id = -100, tokenizer.mask_token_id
options = {"truncation": True, "max_length": 128, "return_special_tokens_mask": True}


def hide(texts, draw):
    """These texts as one batch with hidden tokens: the model's inputs, and the labels."""
    rows = tokenizer(texts, padding=True, return_tensors="pt", **options)
    sizes = {"mask_id": mask_id, "vocab_size": tokenizer.vocab_size}
    draws = torch.Generator().manual_seed(draw)
    masked, labels = mask_tokens(rows["input_ids"], rows["special_tokens_mask"], **sizes, generator=draws)
    return {"input_ids": masked, "attention_mask": rows["attention_mask"]}, labels


texts = validation_texts[: run.by_budget(quick=32, standard=len(validation_texts))]
masked, wanted = hide(texts, seed)
collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
library = collator([tokenizer(text, **options) for text in texts])
usable = sum(row.count(0) for row in tokenizer(texts, **options)["special_tokens_mask"])
for name, read, labels in (
    ("ours", masked["input_ids"], wanted),
    ("the library", library["input_ids"], library["labels"]),
):
    chosen = labels != IGNORED  # (batch, seq)
    hidden, same = read[chosen] == mask_id, read[chosen] == labels[chosen]
    print(f"{name:12}chose {chosen.sum() / usable:.1%} of {usable:,} tokens; of these ", end="")
    print(f"[MASK] {hidden.float().mean():.0%}, same {same.float().mean():.0%}")
inputs, labels = hide(validation_texts[:32], seed)  # the batch of the next cells

# %% [markdown]
# (The library's *collator*, which turns a list of examples into one batch, pads and masks. It draws otherwise, so we
# compared shares.) The loss is the cross-entropy over the chosen tokens: minus the logarithm of the probability that
# the model gave to the token that really stood there, averaged. With the natural logarithm, its unit is called *nat*.
#
# How well does the encoder restore each kind of chosen token?


# %%
def masked_loss(logits, labels):
    """Mean cross-entropy in nats over the chosen tokens. logits: (batch, seq, vocab); labels: (batch, seq)."""
    hidden = labels != IGNORED  # (batch, seq)
    log_probabilities = logits[hidden].log_softmax(dim=-1)  # (hidden tokens, vocab)
    right = log_probabilities.gather(-1, labels[hidden].unsqueeze(-1))
    return -right.mean()


with torch.inference_mode():
    outputs = encoder(**inputs, labels=labels)
difference_masked_loss = (masked_loss(outputs.logits, labels) - outputs.loss).abs().item()
print("our masked loss is the model's to 1e-5:", difference_masked_loss < 1e-5)
assert difference_masked_loss < 1e-5
chosen = labels != IGNORED  # (batch, seq)
truth, read = labels[chosen], inputs["input_ids"][chosen]  # (hidden tokens,) each
right = outputs.logits[chosen].argmax(dim=-1) == truth
kinds_of_token = {"[MASK]": read == mask_id, "left as it was": read == truth}
kinds_of_token["a random token"] = ~(kinds_of_token["[MASK]"] | kinds_of_token["left as it was"])
for name, where in kinds_of_token.items():
    if where.any():
        print(f"{name:15}restored exactly {wilson(int(right[where].sum()), int(where.sum()))} of {where.sum()} tokens")
restored, most_common = right.float().mean().item(), (truth == truth.mode().values).float().mean().item()
print(f"all chosen tokens {restored:.0%}; always answering with the most common token gives {most_common:.0%}")

# %% [markdown]
# A token left as it was can be copied. A random one has to be overruled: no mark says that it is wrong, only its
# neighbours do. (Some of these sentences also occur in the training text, as you will see.)
#
# Training is this loss and an [optimizer](../docs/glossary.md#optimizer), again and again with new masks. The next cell
# trains on recipes, which the encoder has never read (or on your texts).

# %%
recipes = list(corpus["newcomer"]["text"])
kept_back = max(1, len(recipes) // 5)  # for measuring
test_inputs, test_labels = hide(recipes[:kept_back][:64], seed)
learner, draws = deepcopy(encoder), np.random.default_rng(seed)
optimizer = torch.optim.AdamW(learner.parameters(), lr=learning_rate)
steps = run.by_budget(quick=2, standard=15)
for step in range(steps + 1):
    if step in (0, steps):
        learner.eval()  # dropout off
        with torch.inference_mode():
            scores = learner(**test_inputs).logits
        hits = (scores.argmax(dim=-1) == test_labels)[test_labels != IGNORED].float().mean()
        print(
            f"after {step:2} steps: {masked_loss(scores, test_labels):.2f} nats, {hits:.0%} restored, held-out recipes"
        )
    some, wanted = hide(draws.choice(recipes[kept_back:], 16).tolist(), seed + step)  # new masks in each step
    learner.train()  # dropout on
    with torch.random.fork_rng():  # dropout's draws change no later ones
        loss = masked_loss(learner(**some).logits, wanted)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"an even guess over all {tokenizer.vocab_size:,} tokens costs {math.log(tokenizer.vocab_size):.2f} nats")

# %% [markdown]
# At the start, recipes cost more than an even guess: the encoder bets on words of other texts.
#
# ### Back to the heads: take one away
#
# To test what a head is worth, set its columns in `mixing` to zero and measure the masked loss again (Michel et al.
# 2019; Voita et al. 2019). (Later layers then get inputs that they never met.)
#
# **Predict 4.** In which layer is the head that the model misses most?


# %%
from contextlib import contextmanager


@contextmanager
def without(layer, head):
    """Inside a `with` block, the encoder works without this attention head."""
    _, mixing = experiment.parts_of(layers[layer])["mixing"]
    d, kept = encoder.config.hidden_size // heads, mixing.weight.detach().clone()
    with torch.no_grad():
        mixing.weight[:, head * d : (head + 1) * d] = 0
        yield
        mixing.weight.copy_(kept)


predict("01.4", choices=[f"layer {layer}" for layer in range(len(layers))])


# %%
@torch.inference_mode()
def masked_losses():
    """The masked loss of the encoder as it is now on each batch: (batches,)."""
    return np.array([masked_loss(encoder(**some).logits, wanted).item() for some, wanted in batches])


encoder.set_attn_implementation("sdpa")  # the fast implementation: the loss needs no maps
starts = range(0, 32 * run.by_budget(quick=1, standard=4), 32)
batches = [hide(validation_texts[at : at + 32], seed + at // 32) for at in starts]
whole, harm = masked_losses(), {}
for at in [(layer, head) for layer in range(len(layers)) for head in range(heads)]:
    with without(*at):
        harm[at] = masked_losses() - whole
ranked = sorted(harm, key=lambda at: -harm[at].mean())
print("nats added to the masked loss without a head (brackets: over the batches)")
for at in dict.fromkeys([*ranked[:4], most, shown_head]):
    print(f"layer {at[0]}, head {at[1]}: {mean_t(harm[at].tolist()):+.2f}")
reveal("01.4", f"layer {ranked[0][0]}")

# %% [markdown]
# Now the verdict on the negation story. Hide each token that stands one to four places after a "not", one at a time.
# If a head carries the "not" to these tokens, losing the head must hurt. And it must hurt *less* when the "not" itself
# is hidden, too: then there is nothing to carry. So we take the head away in both cases, and compare.


# %%
def after_a_not(sentences):
    """For each token 1 to 4 places after a "not": its sentence's number, its place, its id, the ids with it hidden."""
    rows = []
    for number, text in enumerate(sentences):
        ids = tokenizer(text, truncation=True, max_length=128)["input_ids"]
        for place in range(1, len(ids) - 1):
            if not_id in ids[max(0, place - 4) : place] and ids[place] != not_id:
                rows.append((number, place, ids[place], [*ids[:place], mask_id, *ids[place + 1 :]]))
    return rows


@torch.inference_mode()
def nats(rows, hide_not=False):
    """What the hidden tokens cost, the mean of each sentence: (sentences,)."""
    costs = {}
    for number, place, truth, ids in rows:
        read = [mask_id if hide_not and token == not_id else token for token in ids]
        scores = encoder(input_ids=torch.tensor([read])).logits[0, place].log_softmax(dim=-1)
        costs.setdefault(number, []).append(-scores[truth].item())
    return np.array([np.mean(each) for each in costs.values()])


# %%
not_id = tokenizer(" not", add_special_tokens=False)["input_ids"][0]
rows = after_a_not([line for text in with_not for line in re.findall(r"[^.!?]* not [^.!?]*[.!?]", text)])
with_word, word_hidden = nats(rows), nats(rows, hide_not=True)
print(f"{len(rows)} tokens in {len(with_word)} sentences; nats added (brackets: over the sentences)")
print(f'hiding the "not": {mean_t((word_hidden - with_word).tolist()):+.2f}')
for at, ratio in ratios.items():
    with without(*at):
        added = nats(rows) - with_word, nats(rows, hide_not=True) - word_hidden
    there, gone, less = (mean_t(each.tolist()) for each in (*added, added[0] - added[1]))
    print(f'layer {at[0]}, head {at[1]} taken away: {there:+.2f}; with the "not" hidden, too: {gone:+.2f}')
    prefers = "prefers" if ratio.low > 1 else "was not shown to prefer"
    carries = "carries" if min(there.low, less.low) > 0 else "was not shown to carry"
    print(f'    Verdict: it {prefers} "not" (ratio {ratio}); it {carries} it onwards (difference {less:+.2f}).')

# %% [markdown]
# <details><summary>What to look at</summary>
#
# A bright column, even a real preference for a word, is no proof of a job: a head may matter near a "not" for other
# reasons. So the word is taken away, too. A difference below zero says that the head mattered *more* without the "not",
# so it was not carrying it. (Hiding the "not" also puts a second `[MASK]` into the sentence, which makes the guess
# harder; hiding another word would be the next control. And heads can replace each other.)
#
# </details>
#
# ### The decoder's task
#
# [Next-token prediction](../docs/glossary.md#next-token-prediction): at each position, predict the token that follows.
# The labels are the text itself, moved one place to the left. The causal mask lets all positions train at once.
#
# [Packing](../docs/glossary.md#packing) fills rows of one length without padding: lay whole, shuffled texts one after
# the other until a row is full, cut what hangs over, and start the next row with the next text. (Tokens can then look
# at the texts before theirs. `DataCollatorWithFlattening` and TRL's packing can keep texts apart.)


# %%
def shift_labels(labels):
    """The label of each position is the next token; the last position has none. (batch, seq) to the same."""
    shifted = torch.full_like(labels, IGNORED)
    shifted[:, :-1] = labels[:, 1:]
    return shifted


def next_token_loss(logits, labels):
    """Mean cross-entropy of each next token. logits: (batch, seq, vocab); labels: (batch, seq), not shifted."""
    return masked_loss(logits, shift_labels(labels))


def pack(documents, length, start, end, seed):
    """Documents (token ids) in full rows, each beginning where a document begins: (rows, length)."""
    order = np.random.default_rng(seed).permutation(len(documents))
    blocks, block = [], [start]
    for index in order:
        block.extend(documents[index])
        block.append(end)
        if len(block) >= length:
            blocks.append(block[:length])
            block = [start]
    return torch.tensor(np.array(blocks, dtype=np.int64))


# %% tags=["nbval-check-output"]
from helpers.language_model import blocks_of_text  # tokenizes, then packs just so

documents = decoder_tokenizer(validation_texts[:32], add_special_tokens=False)["input_ids"]
rows_general = blocks_of_text(decoder_tokenizer, validation_texts[:32], length=64)
if track == "pocket":
    assert torch.equal(
        rows_general, pack(documents, 64, decoder_tokenizer.bos_token_id, decoder_tokenizer.eos_token_id, 0)
    )
tokens = sum(len(ids) + 1 for ids in documents)  # each with its end token
print(f"{len(rows_general)} rows of 64; of {tokens:,} tokens, {1 - 63 * len(rows_general) / tokens:.0%} were cut off")
print(decoder_tokenizer.decode(rows_general[0]))
with torch.inference_mode():
    outputs = decoder(input_ids=rows_general, labels=rows_general)
    ours = next_token_loss(outputs.logits, rows_general)
difference_next_token_loss = (ours - outputs.loss).abs().item()
print("our next-token loss is the model's to 1e-5:", difference_next_token_loss < 1e-5)
assert difference_next_token_loss < 1e-5

# %% [markdown]
# The usual number for a language model is the *[perplexity](../docs/glossary.md#perplexity)*, the exponential of this
# loss: among how many equally likely tokens does the model seem to choose?
#
# **Predict 5.** The vocabulary has 4,096 tokens. What perplexity do you expect from the pretrained decoder on texts
# that were held out?

# %%
predict("01.5", factor=1.5, unit="perplexity", low=1)


# %%
@torch.inference_mode()
def mean_loss(network, rows):
    """The mean of `next_token_loss` over rows (rows, seq) of token ids, in nats per token."""
    parts = rows.split(32)
    return sum(next_token_loss(network(input_ids=part).logits, part).item() * len(part) for part in parts) / len(rows)


def perplexity(mean_loss):
    """exp of the mean loss in nats: a choice between this many equally likely tokens costs the same."""
    return math.exp(mean_loss)


untrained = catalog.random_like("decoder", track).eval()
perplexity_pretrained = perplexity(mean_loss(decoder, rows_general))
perplexity_random = perplexity(mean_loss(untrained, rows_general))
print(
    f"{len(rows_general)} rows: pretrained {perplexity_pretrained:,.1f}, random weights {perplexity_random:,.0f}, ",
    end="",
)
print(f"all tokens equally likely {decoder.config.vocab_size:,}")
assert perplexity_pretrained < perplexity_random / 2
reveal("01.5", perplexity_pretrained)

# %% [markdown]
# (Random weights do worse than an even guess: they have preferences, all unfounded.)
#
# The pretrained figure is very low. Two checks before you believe it. **First: has the model read these sentences?**
# The *texts* were held out, but a sentence can occur in several texts. We have the whole training text and can count.
# With published models you usually cannot; the problem is called *contamination*. (Near-copies are not counted. Brown
# et al. 2020 looked for shared runs of 13 words.)


# %%
def sentences_of(texts):
    """The sentences of some texts: cut after each . ! and ? that a space follows."""
    joined = "\n".join(texts)
    for mark in ".!?":
        joined = joined.replace(f"{mark} ", f"{mark}\n")
    return joined.split("\n")


training_text = list(corpus["train"]["text"])
if track == "pocket":  # the decoder has read a second part, with more pages and questions about films
    training_text += pd.read_parquet(catalog.MICROWORLD / "library" / "train.parquet")["text"].tolist()
seen = Counter(sentences_of(training_text))
print(f"{seen.total():,} training sentences, {len(seen):,} different")
held_out = {}  # the sentences of each domain that are new
for domain in sorted(set(corpus["validation"]["domain"])):
    own = sentences_of(row["text"] for row in corpus["validation"] if row["domain"] == domain)
    different = np.random.default_rng(seed).permutation(sorted({text for text in own if len(text) >= 20})).tolist()
    held_out[domain] = [text for text in different if text not in seen]
    share = sum(text in seen for text in own) / len(own)
    print(f"{domain:9}{len(own):6} held-out sentences, {share:4.0%} stand in the training text")

# %% [markdown]
# **Second: perplexity is per *token*,** so it depends on the tokenizer. [Bits per
# character](../docs/glossary.md#bits-per-character) are the bits of all texts for each of their characters. (A nat is
# $1 / \ln 2$ bits.)
#
# ### Exercise 01.3: find the bug
#
# A colleague computes them for a padded batch, with *two* mistakes. Two symptoms: the figure of two texts is far from
# both, and without padding it changes when the same tokens are one text. Repair the function. Each text has a real
# token; return a tensor with one number.


# %%
def colleagues_bits(losses, attention_mask, characters):
    """losses: (batch, seq), nats of each token; attention_mask: (batch, seq); characters: (batch,)."""
    return (losses.sum(dim=1) / characters).mean() / math.log(2)


losses = torch.tensor([[2.0, 2.0, 2.0, 2.0], [1.0, 7.0, 7.0, 7.0]])  # nats; each 7.0 stands at a padding token
example = {"attention_mask": torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]), "characters": torch.tensor([16, 4])}
print(f"both texts together: {colleagues_bits(losses, **example):.2f} bits per character")
print(f"the first alone: {colleagues_bits(losses[:1], example['attention_mask'][:1], example['characters'][:1]):.2f}")
second = losses[1:, :1], example["attention_mask"][1:, :1], example["characters"][1:]  # without its padding
print(f"the second alone: {colleagues_bits(*second):.2f}")
equal, full = torch.full((2, 2), 2.0), torch.ones(2, 2)  # no padding here
print(f"a text of 2 characters and one of 20: {colleagues_bits(equal, full, torch.tensor([2, 20])):.2f}; ", end="")
as_one = colleagues_bits(equal.view(1, 4), full.view(1, 4), torch.tensor([22]))
print(f"the same tokens as one text of 22: {as_one:.2f}")


# %% tags=["exercise"]
def bits_per_character(losses, attention_mask, characters):
    """losses: (batch, seq), nats of each token; attention_mask: (batch, seq); characters: (batch,). One number."""
    return ...


check("01.3", bits_per_character)
# hint("01.3")


# %% tags=["solution"]
def bits_per_character(losses, attention_mask, characters):
    """losses: (batch, seq), nats of each token; attention_mask: (batch, seq); characters: (batch,). One number."""
    # The padding must not count, and a short text must weigh less: all bits over all characters.
    return (losses * attention_mask).sum() / characters.sum() / math.log(2)


check("01.3", bits_per_character)

# %%
bits_per_character = go_on_with("01.3", bits_per_character, experiment.bits_per_character)


@torch.inference_mode()
def token_losses(network, cut, sentences):
    """What `bits_per_character` takes: the loss of each token after the first, the mask, and the characters."""
    rows = cut([cut.bos_token + text for text in sentences], padding=True, padding_side="right",
               add_special_tokens=False, return_tensors="pt")  # fmt: skip
    ids, mask, losses = rows["input_ids"], rows["attention_mask"], []
    for some, real in zip(ids.split(16), mask.split(16), strict=True):
        logits = network(input_ids=some, attention_mask=real).logits[:, :-1]  # (batch, seq - 1, vocab)
        losses.append(nn.functional.cross_entropy(logits.transpose(1, 2), some[:, 1:], reduction="none"))
    return torch.cat(losses), mask[:, 1:], torch.tensor([len(text) for text in sentences])


# %% [markdown]
# Now the fair figure: new sentences, per character. (Shannon 1951 put printed English at 0.6 to 1.3 bits per character:
# people guessed letters and spaces, 27 symbols, with 100 characters before them. Our sentences start from nothing and
# come from a world with far fewer wordings.)


# %%
def per_character(network, sentences, cut=decoder_tokenizer):
    """Bits per character over all of these sentences, with an interval: the sentences drawn again 1,000 times."""
    parts, count = token_losses(network, cut, sentences), len(sentences)
    draws = torch.randint(count, (1000, count), generator=torch.Generator().manual_seed(seed))
    again = [float(bits_per_character(*(part[draw] for part in parts))) for draw in draws]
    return Interval(float(bits_per_character(*parts)), *np.quantile(again, [0.025, 0.975]).tolist())


limit = run.by_budget(quick=8, standard=120, full=400)
measured = {domain: sentences[:limit] for domain, sentences in held_out.items() if sentences}
new = {domain: per_character(decoder, sentences) for domain, sentences in measured.items()}
for domain, value in new.items():
    print(f"{domain:9}{value} bits per character over {len(measured[domain])} new sentences")

# %% [markdown]
# ### From predicting to writing
#
# Predict a token, append it, repeat: that is writing. Always taking the likeliest token is [greedy
# decoding](../docs/glossary.md#greedy-decoding). `generate` does the same, only faster: it stores keys and values of
# earlier tokens (the *KV cache*).


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


# %% [markdown]
# *Sampling* draws the next token from the model's probabilities, shaped by two settings:
#
# - **temperature** divides the logits before the softmax: below 1 sharpens, above 1 flattens;
# - **top-p** (*nucleus sampling*; Holtzman et al. 2020) keeps the likeliest tokens, just enough to hold a
#   probability of at least $p$ together. (*Top-k* keeps the k likeliest; `generate` takes 50 unless `top_k=0`.)

# %% [markdown]
# ### Exercise 01.4: write the sampling loop
#
# The prompts have one length. In each step, divide the last logits by `temperature` (above 0), then apply top-p. The
# token that reaches $p$ stays, so at least one does; `top_p=1.0` removes none.
#
# Draw all rows with one `torch.multinomial`, in the vocabulary's order: a *sorted* list gives other tokens than
# `generate` with the same seed. Append exactly `max_new_tokens`; an end token stops nothing.


# %% tags=["exercise"]
def sample(model, input_ids, max_new_tokens, temperature=1.0, top_p=1.0):
    """Append tokens drawn at random. input_ids: (batch, seq); returns (batch, seq + max_new_tokens)."""
    return ...


check("01.4", sample)
# hint("01.4")


# %% tags=["solution"]
@torch.inference_mode()
def sample(model, input_ids, max_new_tokens, temperature=1.0, top_p=1.0):
    """Append tokens drawn at random. input_ids: (batch, seq); returns (batch, longer)."""
    for _ in range(max_new_tokens):
        logits = model(input_ids=input_ids).logits[:, -1] / temperature  # (batch, vocab)
        ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered  # what the likelier tokens hold together
        kept = ordered.masked_fill(before >= top_p, 0.0)
        probabilities = torch.zeros_like(kept).scatter(-1, order, kept)
        input_ids = torch.cat([input_ids, torch.multinomial(probabilities, 1)], dim=1)
    return input_ids


check("01.4", sample)

# %%
sample = go_on_with("01.4", sample, experiment.library_sample)
prompt = decoder_tokenizer("The acting", return_tensors="pt")["input_ids"]
likeliest = greedy(decoder, prompt, max_new_tokens=20, end_id=decoder.generation_config.eos_token_id)
assert torch.equal(likeliest, decoder.generate(prompt, max_new_tokens=20, do_sample=False))
settings = {"temperature": 0.8, "top_p": 0.9}
torch.manual_seed(seed)
ours = sample(decoder, prompt, 12, **settings)
torch.manual_seed(seed)
theirs = decoder.generate(prompt, max_new_tokens=12, do_sample=True, top_k=0, **settings)
for name, rows in (("greedy", likeliest), ("sample", ours), ("generate", theirs)):
    print(f"{name:9}{decoder_tokenizer.decode(rows[0], skip_special_tokens=True)}")
# Forty beginnings of four tokens, from five seeds: how many differ, and what does a token cost at temperature 1?
print("temperature  top_p  different of 40       bits per new token")
for temperature, top_p in ((0.3, 1.0), (0.7, 1.0), (1.0, 1.0), (1.5, 1.0), (1.0, 0.9), (1.0, 0.5)):
    different, bits = [], []
    for draw in range(seed, seed + run.by_budget(quick=2, standard=5)):
        torch.manual_seed(draw)
        rows = sample(decoder, prompt.repeat(40, 1), 4, temperature=temperature, top_p=top_p)
        new_tokens = rows.clone()
        new_tokens[:, : prompt.shape[1]] = IGNORED
        with torch.inference_mode():
            bits.append(next_token_loss(decoder(input_ids=rows).logits, new_tokens).item() / math.log(2))
        different.append(len({tuple(row) for row in rows.tolist()}))
    counts = f"{np.mean(different):.1f} ({min(different)} to {max(different)})"
    print(f"{temperature:8}{top_p:10}     {counts:22}{mean_t(bits):.1f}")

# %% [markdown]
# Our loops write what `generate` writes (greedy: the `assert`). The clipped style ("The acting ..., the writing ...")
# is one of the invented world's.
#
# <details><summary>What to look at</summary>
#
# At the lowest temperature only half of the forty differ. At the highest, the model finds its own tokens unlikely: each
# costs it more bits than at any other setting. Top-p cuts off the tail of unlikely tokens and leaves the ratios of the
# others as they are. Which setting suits a task has to be tried.
#
# </details>
#
# ## 5. Keep pretraining on a new kind of text
#
# The model has never read a recipe (or, with `data`, your own texts). *Continued pretraining*, also called
# self-supervised [fine-tuning](../docs/glossary.md#fine-tuning), is the same task on new text: no labels, only more
# reading (Gururangan et al. 2020). One text in five is kept for measuring: its sentences that no training text has.

# %%
from datasets import Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments

from helpers.reference import recorded

new_kind = "recipes" if track == "pocket" and not data else "new texts"
newcomer = corpus["newcomer"]["text"]
print(newcomer[0])
kept_back = max(1, len(newcomer) // 5)
new_texts, new_sentences = newcomer[kept_back:], sentences_of(newcomer[:kept_back])
trained_on = set(sentences_of(new_texts))
unseen = sorted({text for text in new_sentences if text not in trained_on and text not in seen and len(text) >= 20})
measured[new_kind] = np.random.default_rng(seed).permutation(unseen or new_sentences)[:limit].tolist()
repeated = sum(text in trained_on for text in new_sentences)
print(f"{len(new_sentences):,} held-out sentences, {repeated:,} of them also in the training part; ", end="")
print(f"{len(measured[new_kind])} of the others are measured")


def packed(texts):
    """These texts as a data set of full rows of token ids."""
    rows = lambda all_of: {"input_ids": blocks_of_text(decoder_tokenizer, all_of["text"], 64).tolist()}  # noqa: E731
    whole = {"batched": True, "batch_size": None}  # one call with all texts, so that rows can run across them
    return Dataset.from_dict({"text": list(texts)}).map(rows, remove_columns="text", **whole)


# %% [markdown]
# The usual tool is the library's `Trainer`: it takes a model, `TrainingArguments`, a collator and data sets of token
# ids. With `mlm=False` the collator copies the input to the labels, and the model shifts them. Padding gets no loss. So
# give a tokenizer its own padding token (ours has one): reuse the end token, and no end is learned. `Dataset.map` packs
# the rows. (The library's `run_clm.py` lets a text go on in the next row.)
#
# The [learning rate](../docs/glossary.md#learning-rate) is how far the [optimizer](../docs/glossary.md#optimizer)
# (AdamW) moves in a step.


# %%
def keep_pretraining(texts, held_out_texts, seed, folder):
    """The decoder trained on these texts; the loss of each step and on the held-out texts; the epochs."""
    steps = run.by_budget(quick=4, standard=60, full=600)
    # For a short, plain comparison on any machine. At work: warm-up and decay, your GPU, and the default
    # max_grad_norm=1.0, which shortens very long gradients ("clipping").
    arguments = TrainingArguments(
        output_dir=folder, max_steps=steps, per_device_train_batch_size=16, learning_rate=learning_rate, seed=seed,
        lr_scheduler_type="constant", weight_decay=0.01, max_grad_norm=0, use_cpu=track == "pocket",
        logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(decoder_folder, dtype=torch.float32),
        args=arguments,
        data_collator=DataCollatorForLanguageModeling(decoder_tokenizer, mlm=False),
        train_dataset=packed(texts),
        eval_dataset=packed(held_out_texts),
        processing_class=decoder_tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    eval_loss = trainer.evaluate()["eval_loss"]
    trainer.save_model(folder)  # the folder of section 1: AutoModelForCausalLM.from_pretrained reads it
    steps_logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return trainer.model.cpu().eval(), steps_logged, eval_loss, trainer.state.epoch


# %% [markdown]
# **Predict 6.** The model takes 60 steps of 16 rows on recipes alone. New recipes will get much easier. By how many
# bits per character do new sentences of the *old* kinds get harder, on average? (A negative number: easier.)
#
# A *control* beside it: the same number of steps, at the same learning rate, on training text of the old kinds. It
# shows how much of a change comes from training again at this rate, and not from the recipes.

# %%
kept_seeds = (recorded("01", f"bits_per_character_{when}_general") for when in ("after", "before"))
predict("01.6", within=0.1, unit="bits per character")

# %%
before = {domain: per_character(decoder, sentences).value for domain, sentences in measured.items()}
some_old = np.random.default_rng(seed).choice(len(corpus["train"]), min(len(new_texts), len(corpus["train"])), False)
few = run.by_budget(quick=10, standard=60)  # held-out texts for the Trainer's own evaluation
reading = {new_kind: (new_texts, newcomer[:kept_back][:few])}
reading["old kinds"] = (corpus["train"].select(some_old)["text"], validation_texts[:few])
trained, after, losses, control_after, students = {}, [], [], [], {name: [] for name in reading}
for one in reversed(range(seed, seed + run.by_budget(quick=1, standard=3, full=5))):  # the last is this run's seed
    for name, texts in reading.items():
        with TemporaryDirectory() as folder:
            trained[name] = keep_pretraining(*texts, one, folder)
        students[name].append(trained[name][0])
        found = {domain: per_character(trained[name][0], sentences).value for domain, sentences in measured.items()}
        (after if name == new_kind else control_after).append(found)
    losses.append(trained[new_kind][1])
student = trained[new_kind][0]

# %%
curves = {f"on {name}, {epochs:.2f} epochs": curve for name, (_, curve, _, epochs) in trained.items()}
plotting.show(figures.loss_curves(curves))
print(f"Trainer's evaluation on held-out {new_kind}: {trained[new_kind][2]:.2f} nats per token")
print(f"bits per character: before, change after {new_kind}, change after the old kinds (brackets: over the seeds)")
for domain, start_value in before.items():
    changes = [mean_t([each[domain] - start_value for each in found]) for found in (after, control_after)]
    print(f"{domain:9}{start_value:.2f}     {format(changes[0], '+.2f'):24}{changes[1]:+.2f}")
means = {domain: mean_t([each[domain] for each in after]).value for domain in measured}
plotting.show(figures.before_after(before, means, "bits per character"))
assert after[0][new_kind] < before[new_kind]
old_kinds = [domain for domain in before if domain != new_kind]
old_before, old_after = (sum(each[domain] for domain in old_kinds) / len(old_kinds) for each in (before, means))
harder, control = (
    mean_t([np.mean([each[domain] - before[domain] for domain in old_kinds]) for each in found])
    for found in (after, control_after)
)
print(f"mean of the old kinds: change after {new_kind} {harder:+.2f}, after old kinds {control:+.2f}")
reveal("01.6", old_after - old_before, reference=[late - early for late, early in zip(*kept_seeds, strict=True)])

# %% [markdown]
# <details><summary>What happened</summary>
#
# (`Trainer` evaluates in nats per token, from its own held-out rows. The bits per character are of new sentences.)
#
# With no label anywhere, the model learned to predict the new kind of text, and the old kinds became harder. Look at
# the line "mean of the old kinds". As many steps on old kinds, at the same rate, changed their mean hardly at all. So
# not the training as such, but reading recipes alone made them harder:
# *[forgetting](../docs/glossary.md#catastrophic-forgetting)*. Lesson 03 measures and reduces it.
#
# (An [epoch](../docs/glossary.md#epoch) is one pass over all rows; the control's texts fill fewer rows.)
#
# </details>
#
# Papers mostly print perplexity per token, over all held-out text. Here it is for this run's seed, beside what the
# model writes before and after:


# %%
def usual_perplexity(network, texts):
    """Per token, over texts packed in rows of 64, sentences that were read before included."""
    rows = blocks_of_text(decoder_tokenizer, texts, length=64)[: run.by_budget(quick=8, standard=96, full=400)]
    return perplexity(mean_loss(network, rows))


by_kind = {domain: [row["text"] for row in corpus["validation"] if row["domain"] == domain] for domain in held_out}
usual = {}
for name, network in (("before", decoder), ("after", student)):
    logs = [math.log(usual_perplexity(network, own)) for own in by_kind.values()]
    usual[name] = usual_perplexity(network, newcomer[:kept_back]), math.exp(sum(logs) / len(logs))
    print(f"{name:7}perplexity {usual[name][0]:,.1f} on {new_kind}, {usual[name][1]:.1f} on old kinds")
    writer = pipeline("text-generation", model=network, tokenizer=decoder_tokenizer)
    print("      ", writer("For the potato", max_new_tokens=24, do_sample=False)[0]["generated_text"])
for name, some in ((new_kind, newcomer[:kept_back]), ("old kinds", validation_texts)):
    joined = " ".join(some)
    print(f"{name}: {len(joined) / len(decoder_tokenizer.tokenize(joined)):.2f} characters per token")

# %% [markdown]
# (Old kinds: the exponential of their mean loss, each kind with the same weight.) The drop looks far larger than in
# bits per character: perplexity is an exponential. (Sentences that occur in both parts of the recipes may add to it;
# that was not separated.)
#
# Which number belongs in a report? Bits per character on new sentences. Perplexity compares models with *one* tokenizer
# on *one* text, never kinds of text: a token of a recipe has fewer characters, which alone makes it smaller.

# %% [markdown]
# ## 6. What does it know?
#
# To predict the next word of "The director of this film is", grammar is not enough. So pretraining leaves facts in the
# weights, and one can ask for them (Petroni et al. 2019). First we ask in wordings of the training text. (The counts
# are of that text. The models read some kinds of text several times, and of others only a part.)


# %%
def stands_there(beginning):
    """How many training sentences begin like this."""
    at, total = bisect_left(in_order, beginning), 0
    while at < len(in_order) and in_order[at].startswith(beginning):
        total, at = total + seen[in_order[at]], at + 1
    return total


in_order = sorted(seen)
everything = "\n".join(in_order)
facts = next(iter(catalog.dataset("facts", track).values())).shuffle(seed=seed)
asked = facts.select(range(min(run.by_budget(quick=40, standard=400, full=2000), len(facts))))
times = sorted(stands_there(f"{row['prompt']} {row['answer']}") for row in asked)
for row in asked.select(range(3)):
    print(f"{row['prompt']} -> {row['answer']}")
print(f"{times[0]} to {times[-1]} training sentences begin with prompt and answer (median {times[len(times) // 2]})")
one = next((row for row in facts if row["kind"] == "director"), facts[0])
naming = Counter({text: count for text, count in seen.items() if one["film"] in text and one["answer"] in text})
print(f"{len(naming)} different training sentences name {one['film']} and {one['answer']}; the most frequent:")
for text, count in naming.most_common(5):
    print(f"{count:5}  {text}")

# %% [markdown]
# **First score: exact.** Writing greedily, does the model complete the sentence exactly? We need not write to find out:
# each token of the answer has to be the likeliest one after the prompt and the right tokens before it. One forward pass
# over prompt and answer shows that.


# %%
def recalled(logits, labels):
    """Which rows greedy writing would complete exactly: (batch,)."""
    labels = shift_labels(labels)
    right = logits.argmax(dim=-1) == labels  # (batch, seq)
    return (right | (labels == IGNORED)).all(dim=-1)


@torch.inference_mode()
def count_recalled(network, cut, prompts, answers):
    """How many of these completions the model writes exactly."""
    starts = [cut(prompt)["input_ids"] for prompt in prompts]
    ends = [cut(f" {answer}", add_special_tokens=False)["input_ids"] for answer in answers]
    rows = [first + last for first, last in zip(starts, ends, strict=True)]
    batch = cut.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    for row, first in zip(labels, starts, strict=True):
        row[: len(first)] = IGNORED  # only the answer counts
    logits = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return int(recalled(logits, labels).sum())


# %%
common = {kind: Counter() for kind in facts["kind"]}
for kind, answer in zip(facts["kind"], facts["answer"], strict=True):
    common[kind][answer] += 1
recall = lambda network: count_recalled(network, decoder_tokenizer, asked["prompt"], asked["answer"])  # noqa: E731
correct = {
    "pretrained": recall(decoder),
    f"after reading {new_kind} (section 5)": recall(student),
    "after reading old kinds again (control)": recall(trained["old kinds"][0]),
    "random weights": recall(untrained),
    "most common answer to such a question": sum(
        row["answer"] == common[row["kind"]].most_common(1)[0][0] for row in asked
    ),
}
results = {name: wilson(count, len(asked)) for name, count in correct.items()}
lost = {name: [correct["pretrained"] - recall(one) for one in some] for name, some in students.items()}  # per seed
for name, share in results.items():
    print(f"{name:40}{share}, {correct[name]} of {len(asked)}")
for name, each in lost.items():
    print(f"facts lost by reading {name}: {mean_t(each):.1f} of {len(asked)} (brackets: over {len(each)} seeds)")
if budget != "quick":
    assert results["pretrained"].low > results["random weights"].high

# %% [markdown]
# Perfect recall, before section 5. Reading recipes took facts away, although recipes are about none of them; compare
# what the control lost. But the model has read each of these sentences many times. Does it know the *fact*, or the
# *sentence*? We ask in other words.
#
# **Second score: ranked first.** An exact completion needs the fact, and a wording after which the answer comes at
# once. So we also compute the log-probability of *every* answer of the kind (all directors, say) after the prompt.
# Does the right one come first?


# %%
def over_kinds(shares):
    """The mean over kinds of facts, with an interval: the kinds drawn again 2,000 times."""
    values = np.array([np.mean(each) for each in shares])
    again = np.random.default_rng(seed).choice(values, (2000, len(values))).mean(axis=1)
    return Interval(values.mean(), *np.quantile(again, [0.025, 0.975]))


@torch.inference_mode()
def scores_of(network, cut, prompt, answers):
    """The log-probability of each of these answers after the prompt: (answers,)."""
    ends = [cut(f" {answer}", add_special_tokens=False)["input_ids"] for answer in answers]
    rows = cut.pad({"input_ids": ends}, padding_side="right", return_tensors="pt")
    ids, real = rows["input_ids"], rows["attention_mask"].bool()  # (answers, seq)
    read = network(input_ids=cut(prompt, return_tensors="pt")["input_ids"], use_cache=True)
    cache = read.past_key_values  # the prompt's keys and values, computed once for all answers
    cache.batch_repeat_interleave(len(answers))
    logits = read.logits[:, -1:].expand(len(answers), -1, -1)  # these scores choose each answer's first token
    if ids.shape[1] > 1:
        logits = torch.cat([logits, network(input_ids=ids[:, :-1], past_key_values=cache).logits], dim=1)
    each = logits.log_softmax(dim=-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)  # (answers, seq)
    return each.masked_fill(~real, 0).sum(dim=-1)


def rank_of_right(network, cut, prompt, answers, right):
    """Where the right answer ranks by log-probability among these answers: 1 is first."""
    total = scores_of(network, cut, prompt, answers)
    return int((total > total[answers.index(right)]).sum()) + 1


# %% [markdown]
# These wordings were written before any was tried, and the code checks that no training sentence begins like that. So
# each *prompt* is new. But the words after the title may still occur in the training text, in other sentences. We print
# how many sentences contain them ("-" for a single word, such as "is", which says nothing). ("capital" is for section
# 7.)
#
# **Predict 7.** What share of the facts does the model complete exactly, in a wording that no training sentence begins
# with?

# %%
wordings = {
    "director": ("The film {} had as its director", "Directing {} was the task of", "In charge of directing {} was"),
    "year": ("Audiences first saw {} in the year", "{} had its premiere in", "{} dates from the year"),
    "lead": ("In {}, the leading role belongs to", "The main part of {} went to", "The leading actor of {} is"),
    "place": ("The events of {} happen in the town of", "{} tells of people in", "The action of {} unfolds in"),
    "studio": ("{} is a picture from the studio", "The company that produced {} is", "The film {} comes from"),
    "composer": ("The score of {} was composed by", "The soundtrack of {} is by", "The notes of {} were written by"),
    "capital": ("The seat of government of {} is in", "The capital city of {} is called", "{} is governed from"),
}
about = pd.DataFrame(facts[:])
about["subject"] = about["film"].where(about["film"] != "", about["prompt"].str.extract("capital of (.+) is")[0])
about = about.dropna(subset="subject").drop_duplicates(["subject", "kind"])


def familiar(wording):
    """How many training sentences contain the words of this wording that follow the title; "-" where it is one."""
    predicate = wording.split("{}")[1] + " "
    if len(predicate.split()) == 1:
        return "-"
    return f"{sum(count for text, count in seen.items() if predicate in text) if predicate in everything else 0:,}"


predict("01.7", within=0.1, unit="of the facts", low=0, high=1)

# %%
old_words, new_words, ranked_first = [], [], {"seen": [], "new": []}  # for each kind of fact
by_words = {"familiar": [], "unknown": []}  # exact shares: the words after the title are in the training text, or not
few = run.by_budget(quick=2, standard=24, full=100)  # facts whose answers are ranked: each needs all answers scored
print(f"{'exact':7}{'first':7}{'median rank':14}{'in the text':12} wording")
for kind, rows in about.groupby("kind"):
    if kind not in wordings:
        continue
    answers, exact, first = sorted(set(rows["answer"])), [], []
    for wording in (None, *wordings[kind]):
        prompts = rows["prompt"].tolist() if wording is None else [wording.format(each) for each in rows["subject"]]
        assert wording is None or track == "hub" or not any(map(stands_there, prompts)), f"the text has: {wording}"
        exact.append(count_recalled(decoder, decoder_tokenizer, prompts, rows["answer"]) / len(rows))
        pairs = list(zip(prompts, rows["answer"], strict=True))[:few]
        ranks = [rank_of_right(decoder, decoder_tokenizer, prompt, answers, right) for prompt, right in pairs]
        first.append(np.mean(np.array(ranks) == 1))
        place = f"{np.median(ranks):.0f} of {len(answers)}"
        text = f"a seen wording ({kind}, {len(rows)} facts)" if wording is None else wording.format("...")
        count = "" if wording is None else familiar(wording)
        if count not in ("", "-"):
            by_words["unknown" if count == "0" else "familiar"].append(exact[-1])
        print(f"{exact[-1]:5.2f}  {first[-1]:5.2f}  {place:14}{count:>11}  {text}")
    old_words.append(exact[:1]), new_words.append(exact[1:])
    ranked_first["seen"].append(first[:1]), ranked_first["new"].append(first[1:])
in_old_words, in_new_words = over_kinds(old_words), over_kinds(new_words)
first_old, first_new = map(over_kinds, ranked_first.values())
print(f"mean of {len(new_words)} kinds, seen wording: exact {in_old_words}, ranked first {first_old}")
print(f"mean of {len(new_words)} kinds, new wordings: exact {in_new_words}, ranked first {first_new}")
for name, shares in by_words.items():
    print(f"exact, where the words after the title are {name}:", *(f"{share:.2f}" for share in sorted(shares)[::-1]))
reveal("01.7", in_new_words.value, reference="facts_recalled_new_wording")

# %% [markdown]
# <details><summary>What this says</summary>
#
# In wordings of the training text, all facts; in new ones, anything from none to all. The second score shows that the
# form is only a part of this: in most new wordings, most right answers do not come first among their kind either. Words
# that the training text knows can help (compare the two lists above), but they are neither needed nor enough.
#
# So "the model knows it" is a statement about a fact *and* a wording, as Jiang et al. (2020) and Elazar et al. (2021)
# found for BERT. Allen-Zhu and Li (2024), who asked questions after fine-tuning, found facts accessible once training
# had rephrased them. Here the text names a director in many forms (you saw five), and that was not enough.
#
# (The interval resamples the six kinds: the facts of one kind resemble each other.)
#
# </details>
#
# **Predict 8.** The other direction: we give the director and let the model name a film. Any of the director's films in
# the training text counts. What share of the directors gets one right?

# %%
predict("01.8", within=0.1, unit="of the directors", low=0, high=1)

# %%
directed = about[about["kind"] == "director"].groupby("answer")["film"].agg(set).to_dict()
form = re.compile(r"(?:It was )?(\S+ \S+)(?: who)? directed (\S.*?)(?:\.|,| in \d{4})")  # as in the training text
titles = set(about["film"]) - {""}  # of all films, whoever directed them
for found in filter(None, map(form.match, (text for text in seen if " directed " in text))):
    titles.add(found[2])
    if found[1] in directed:
        directed[found[1]].add(found[2])
sizes = sorted(map(len, directed.values()))
if directed:  # the hub's facts name no films
    print(f"{len(directed)} directors with {sizes[0]} to {sizes[-1]} films (median {sizes[len(sizes) // 2]})")
reverse = {}
for wording in ("{} directed", "It was {} who directed") if directed else ():
    prompts = [wording.format(director) for director in directed]
    batch = decoder_tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    mask = batch["attention_mask"]
    written = decoder.generate(batch["input_ids"], attention_mask=mask, max_new_tokens=12, do_sample=False)
    endings = decoder_tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    endings = [ending.strip() for ending in endings]
    fits = np.array([[ending.startswith(tuple(films)) for films in directed.values()] for ending in endings])
    reverse[wording.format("...")] = wilson(int(fits.diagonal().sum()), len(prompts))
    print(f"{wording.format('...')} ({sum(map(stands_there, prompts)):,} training sentences begin so)")
    print(f"    right: {reverse[wording.format('...')]}, {fits.diagonal().sum()} of {len(prompts)}; ", end="")
    print(f"by chance (each ending for a director drawn at random): {fits.mean() * len(prompts):.1f}")
    print(f"    a film's title: {sum(ending.startswith(tuple(titles)) for ending in endings)}; ", end="")
    print(f"{len(set(endings))} different endings; for example: {prompts[0]} {endings[0]}")
reveal("01.8", next(iter(reverse.values())).value if reverse else None)

# %% [markdown]
# <details><summary>What this says</summary>
#
# About as few as by chance, although the training text has this order, too, and although the form is right: the
# endings are titles of films. They are other directors' films, and a few of them come again and again. Berglund et al.
# (2024) call it the *reversal curse* that models trained on "A is B" cannot answer "B is A"; in their study the
# reversed order was missing in training. Two things may make this direction harder here: a title has several tokens,
# and many directors have several films, so no single ending follows. We have not separated these, and this is the exact
# score alone.
#
# </details>
#
# And films that exist nowhere?


# %%
def confidence(title):
    """What the model answers, two tokens written greedily (each director's name is two), and their probability."""
    prompt = decoder_tokenizer(f"The director of {title} is", return_tensors="pt")["input_ids"]
    written = greedy(decoder, prompt, max_new_tokens=2)
    labels = torch.cat([torch.full_like(prompt, IGNORED), written[:, prompt.shape[1] :]], dim=1)
    with torch.inference_mode():
        loss = next_token_loss(decoder(input_ids=written).logits, labels).item()
    return decoder_tokenizer.decode(written[0], skip_special_tokens=True), math.exp(-2 * loss)


halves = [found.groups() for found in map(re.compile(r"(The \w+) and (the \w+)$").match, set(about["film"])) if found]
halves = sorted(halves) or [("The Lantern", "the Piano"), ("The Mill", "the Lantern")]  # the hub's facts name no films
mixed = sorted({f"{first} and {second}" for first, _ in halves for _, second in halves})
shuffled = np.random.default_rng(seed).permutation(mixed).tolist()
count = run.by_budget(quick=5, standard=100)
invented = islice((title for title in shuffled if title not in everything), count)
answered = {"real": [" and ".join(pair) for pair in halves][:count], "invented": list(invented)}
answered = {name: [confidence(title) for title in some] for name, some in answered.items()}
for name, some in answered.items():
    chances = [chance for _, chance in some]
    low, middle, high = np.quantile(chances, [0.1, 0.5, 0.9])
    print(
        f"{len(some)} {name} titles: probability of its answer {middle:.2f} (median; 80 % in {low:.2f} to {high:.2f})"
    )
    print(f"    for example: {some[0][0]}")
table = {f"seen wording, exact ({len(old_words)} kinds)": in_old_words, "seen wording, ranked first": first_old}
table |= {f"new wordings, exact ({len(new_words)} kinds)": in_new_words, "new wordings, ranked first": first_new}
table |= {f"reversed: {wording} ({len(directed)} directors)": share for wording, share in reverse.items()}
plotting.show(figures.bars(table, "share right", limit=1.0))

# %% [markdown]
# (Brackets: in the first four bars, the kinds of facts are drawn again; in the last two, directors.)
#
# The model has no fact about the invented films and answers all the same, with a name, as fluently. It was
# trained to continue text, not to say what is true. But compare the probabilities: its answers about invented films are
# less sure. Nothing in the text that it writes shows this. Lesson 04 counts such made-up answers.

# %% [markdown]
# ## 7. On real text
#
# Does this hold outside an invented world? The *real track* (`workbook real` fetches it once; see
# [docs/real.md](../docs/real.md)) brings published models and rated sentences of four kinds (Hutto and Gilbert 2014):
#
# | model | weights | about it |
# |---|---|---|
# | **all-MiniLM-L6-v2**, encoder | 22.7 million | trained to embed sentences; has no head that could fill blanks |
# | **SmolLM2-135M-Instruct**, decoder | 134.5 million | pretrained, then tuned to chat; stored in 4 bits (lesson 10) |
#
# So SmolLM2 is *not* a model before fine-tuning: chat tuning and 4 bits came between, and what they changed is not
# measured. (At work, keep pretraining a *base* model, whose name has no "Instruct". For instructions and dialogue,
# start from the chat-tuned one.) Not repeated: filling blanks, removing heads, Llama's block, and continued
# pretraining, which takes too long for SmolLM2 on two cores.

# %%
missing = real_track.trouble(("encoder", "decoder", "texts"))
live = not missing and budget != "quick"
kept = {} if live else json.loads((catalog.ROOT / "data" / "reference" / "real_pretrained.json").read_text("utf-8"))


def shown(name, measure):
    """What `measure()` gives now, or, without the real files, what it gave when the reference was made."""
    kept[name] = measure() if live else kept[name]
    return kept[name]


if live:
    small, large = map(real_track.model_folder, ("encoder", "decoder"))
    mini_tokenizer, smol_tokenizer = AutoTokenizer.from_pretrained(small), AutoTokenizer.from_pretrained(large)
    mini = AutoModel.from_pretrained(small, attn_implementation="eager").eval()
    smol_tokenizer.bos_token = "<|endoftext|>"  # what stands between two texts in pretraining
    smol = AutoModelForCausalLM.from_pretrained(large, dtype=torch.float32).eval()
print("The figures below are", "measured now." if live else f"kept ones: {kept['label']}.")


# %%
def real_tokens():
    """MiniLM's tokens of one sentence, and how many words our WordPiece cuts differently."""
    reviews = real_track.dataset("reviews")["train"]["text"][:1000]
    words = sorted(set(re.findall(r"[a-z]+", " ".join(reviews).lower())))
    pieces = mini_tokenizer.get_vocab()
    wrong = sum(wordpiece(word, pieces) != mini_tokenizer.tokenize(word) for word in words)
    example = next(text for text in reviews if len(mini_tokenizer.tokenize(text)) > len(text.split()) + 6 < 40)
    return {"text": example, "tokens": mini_tokenizer.tokenize(example), "words": len(words), "wrong": wrong}


found = shown("tokens", real_tokens)
print(found["text"])
print(" ".join(found["tokens"]))
print(f"of {found['words']:,} words of film reviews, our WordPiece cuts {found['wrong']} differently from the library")


# %%
@torch.inference_mode()
def real_attention():
    """Our block against MiniLM's, and the mean weights of its heads, over sentences of film reviews with a "not"."""
    reviews = [text for text in real_track.dataset("reviews")["train"]["text"] if " not " in text][:100]
    rows = mini_tokenizer(reviews[:8], padding=True, return_tensors="pt", return_token_type_ids=False)
    read = mini(**rows, output_hidden_states=True).hidden_states
    ours, _ = bert_block(read[0], mini.encoder.layer[0], 12, rows["attention_mask"])
    looks = pooled([patterns_in(text, mini, mini_tokenizer) for text in reviews])  # pattern -> (layers, heads)
    looks = {name: [look.mean().item(), look.max().item()] for name, look in looks.items()}
    return {"difference": (ours - read[1])[rows["attention_mask"].bool()].abs().max().item(), "looks": looks}


found = shown("attention", real_attention)
print("MiniLM has 6 layers of 12 heads; [SEP], at the end, stands for no word at all.")
print(f"our block, run with MiniLM's weights, against MiniLM's own: largest difference {found['difference']:.0e}")
for name, (mean, largest) in found["looks"].items():
    print(f"{name:24}mean weight over all 72 heads {mean:.2f}; the head with most {largest:.2f}")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# A head for the token before exists here, too, and a sharper one than in the pocket model. On average over the heads,
# "not" gets no more weight than any word at the same distances (single heads are not compared here). And `[SEP]` gets
# little, although Clark et al. (2019) found that BERT's heads give it more than half of their weight in the middle
# layers. (Their inputs were pairs of texts, with two `[SEP]`, and MiniLM was trained further to embed sentences.) What
# holds for one encoder need not hold for the next: measure yours.
#
# </details>
#
# Now SmolLM2 writes, with the `greedy` and the `sample` of this lesson. (Figures that are not measured now were kept
# from a run with the solution of exercise 01.4.) It is a model tuned for chats, and gets bare beginnings here, as the
# base models before it: no [chat template](../docs/glossary.md#chat-template), and no start token, because its
# tokenizer adds none.


# %%
@torch.inference_mode()
def real_writing():
    """The likeliest next tokens after a prompt, and what greedy and our sampling loop write."""
    prompt = smol_tokenizer("The film was", return_tensors="pt")["input_ids"]
    chances = smol(input_ids=prompt).logits[0, -1].softmax(dim=-1).topk(6)
    torch.manual_seed(0)
    rows = {"greedy": greedy(smol, prompt, 16)}
    for temperature, top_p in ((0.7, 0.9), (1.0, 1.0), (1.6, 1.0)):
        rows[f"temperature {temperature}, top_p {top_p}"] = sample(smol, prompt, 16, temperature, top_p)
    likeliest = dict(zip(map(smol_tokenizer.decode, chances.indices), chances.values.tolist(), strict=True))
    return {"next": likeliest, "texts": {name: smol_tokenizer.decode(row[0]) for name, row in rows.items()}}


found = shown("writing", real_writing)
print("The film was ...", ", ".join(f"{token.strip()} {chance:.0%}" for token, chance in found["next"].items()))
for name, text in found["texts"].items():
    print(f"{name:28}{' '.join(text.split())}")

# %% [markdown]
# **Predict 9.** Which form lets SmolLM2 complete most capitals: the common wording "The capital of Kenya is", three
# other wordings of the same fact (their mean), or reversed, "Nairobi is the capital of"?

# %%
forms = ("The capital of {} is", *wordings["capital"])
predict("01.9", choices=["common", "others", "reversed"])


# %%
def real_facts():
    """How many capitals SmolLM2 completes exactly in each wording: wording -> [right, asked]."""
    lands, cities = list(CAPITALS), list(CAPITALS.values())
    counts = {}
    for wording in forms:
        prompts = [wording.format(land) for land in lands]
        counts[wording.format("...")] = count_recalled(smol, smol_tokenizer, prompts, cities), len(lands)
    prompts = [f"{city} is the capital of" for city in cities]
    counts["reversed: ... is the capital of"] = count_recalled(smol, smol_tokenizer, prompts, lands), len(lands)
    return counts


recalled_forms = {form: wilson(*counts) for form, counts in shown("facts", real_facts).items()}
plotting.show(figures.bars(recalled_forms, f"of {len(CAPITALS)} capitals completed exactly", limit=1.0))
common_form, *other_forms, reversed_form = (share.value for share in recalled_forms.values())
shares = {"common": common_form, "others": sum(other_forms) / len(other_forms), "reversed": reversed_form}
print(f"common {common_form:.2f}, mean of three others {shares['others']:.2f}, reversed {reversed_form:.2f}", end="; ")
print(f"the best single wording: {max(recalled_forms, key=lambda form: recalled_forms[form].value)}")
reveal("01.9", max(shares, key=shares.get))

# %% [markdown]
# <details><summary>What this says</summary>
#
# With a published model, too, the wording decides what comes back. "Others" is the *mean* of three wordings that differ
# widely: the best of them may do as well as the common one, so compare their bars and intervals. Without SmolLM2's
# training text, we cannot count how often each wording occurs in it, nor the reversed order. (The answer
# has to be the very next words; "The capital of Kenya is a city ..." counts as not recalled. The second score of
# section 6 was not measured here.)
#
# </details>
#
# Last, bits per character: which kind of real text costs SmolLM2 the most, and is it more or less than the pocket
# decoder needed for new sentences of its own world?


# %%
def real_bits():
    """SmolLM2's bits per character on 40 sentences of each kind, with their intervals."""
    corpus = real_track.dataset("corpus")
    rows = pd.concat(corpus[split].to_pandas() for split in ("validation", "newcomer"))
    kinds = {kind: [text for text in some if len(text) >= 40][:40] for kind, some in rows.groupby("domain")["text"]}
    values = {kind: per_character(smol, some, smol_tokenizer) for kind, some in kinds.items()}
    return {kind: [value.value, value.low, value.high] for kind, value in values.items()}


all_bits = {f"SmolLM2: {kind}": Interval(*values) for kind, values in shown("bits", real_bits).items()}
all_bits |= {f"pocket: {kind}": value for kind, value in new.items()}
plotting.show(figures.bars(all_bits, "bits per character"))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Tweets cost most, editorials least, and the four intervals do not overlap. The mean of every real kind lies above that
# of every invented one (the closest intervals overlap), though SmolLM2 is fifty times larger: the invented world has
# few wordings, so compare its figures only with each other. One more caution: we do not know which of these sentences
# SmolLM2 has read; the film sentences have been public since 2005.
#
# </details>

# %%
llama = {"difference_llama_block": difference_llama_block} if "difference_llama_block" in globals() else {}  # optional
saved = record(
    "01_pretrained_transformers",
    {"track": track, "budget": budget, "seed": seed, "model": model, "data": data, "learning_rate": learning_rate},
    perplexity_pretrained=perplexity_pretrained, perplexity_random=perplexity_random,
    perplexity_before_general=usual["before"][1], perplexity_after_general=usual["after"][1],
    perplexity_before_new_domain=usual["before"][0], perplexity_after_new_domain=usual["after"][0],
    bits_per_character_before_general=old_before, bits_per_character_after_general=old_after,
    bits_per_character_before_new_domain=before[new_kind],
    bits_per_character_after_new_domain=means[new_kind],
    facts_recalled_pretrained=results["pretrained"].value,
    facts_recalled_random=results["random weights"].value,
    facts_recalled_most_common=results["most common answer to such a question"].value,
    facts_recalled_new_wording=in_new_words.value,
    accuracy_masked_pretrained=restored, accuracy_masked_most_common=most_common,
    difference_padding=difference_padding, difference_attention_head=difference_attention_head,
    difference_block=difference_block, difference_masked_loss=difference_masked_loss,
    difference_next_token_loss=difference_next_token_loss,
    losses_new_domain=losses[-1],
    facts_lost_new_domain=lost[new_kind][-1] / len(asked),
    facts_lost_old_kinds=lost["old kinds"][-1] / len(asked),
    praise_after_hated=blamed_share, praise_after_nothing=float(nothing.mean()),
    **(llama | (experiment.real_metrics(kept, recalled_forms) if live else {})),
)  # fmt: skip
print(f"saved: {saved.name}")
solved("01")

# %% [markdown]
# ## Recap
#
# 1. Count how often a model read a word before you test it (*sections 1, 6*).
# 2. Pass the attention mask: without it, scores change silently (*section 2*).
# 3. One attention map is an anecdote: take away head *and* word (*sections 3, 4*).
# 4. Compare language models by bits per character, on new sentences (*section 4*).
# 5. Reading only new text makes old text harder and loses facts; a control shows the cause (*sections 5, 6*).
# 6. What is recalled depends on wording and direction (*sections 6, 7*).

# %% [markdown]
# ## Next
#
# Later lessons import some of these pieces from `helpers.language_model`. In [lesson
# 02](02_full_vs_last_layer.ipynb) the pretrained encoder meets its first labels: how much of it must be trained?
#
# Not here: how a tokenizer is trained, and how a model is pretrained from nothing. Chapters 6 and 7 of the Hugging Face
# course and Raschka's book show both.
#
# ## References
#
# | work | year |
# |---|---|
# | Ainslie et al., *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints* | 2023 |
# | Allen-Zhu and Li, *Physics of Language Models: Part 3.1, Knowledge Storage and Extraction* | 2024 |
# | Berglund et al., *The Reversal Curse: LLMs trained on "A is B" fail to learn "B is A"* | 2024 |
# | Brown et al., *Language Models are Few-Shot Learners* | 2020 |
# | Clark et al., *What Does BERT Look At? An Analysis of BERT's Attention* | 2019 |
# | Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding* | 2019 |
# | Elazar et al., *Measuring and Improving Consistency in Pretrained Language Models* | 2021 |
# | Gururangan et al., *Don't Stop Pretraining: Adapt Language Models to Domains and Tasks* | 2020 |
# | Holtzman et al., *The Curious Case of Neural Text Degeneration* | 2020 |
# | Hutto and Gilbert, *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text* | 2014 |
# | Jain and Wallace, *Attention is not Explanation* | 2019 |
# | Jiang et al., *How Can We Know What Language Models Know?* | 2020 |
# | Michel et al., *Are Sixteen Heads Really Better than One?* | 2019 |
# | Petroni et al., *Language Models as Knowledge Bases?* | 2019 |
# | Radford et al., *Language Models are Unsupervised Multitask Learners* | 2019 |
# | Raschka, *Build a Large Language Model (From Scratch)* | 2024 |
# | Sennrich et al., *Neural Machine Translation of Rare Words with Subword Units* | 2016 |
# | Shannon, *Prediction and Entropy of Printed English* | 1951 |
# | Shazeer, *GLU Variants Improve Transformer* | 2020 |
# | Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding* | 2021 |
# | Vaswani et al., *Attention Is All You Need* | 2017 |
# | Voita et al., *Analyzing Multi-Head Self-Attention: Specialized Heads Do the Heavy Lifting ...* | 2019 |
# | Wettig et al., *Should You Mask 15% in Masked Language Modeling?* | 2023 |
# | Wiegreffe and Pinter, *Attention is not not Explanation* | 2019 |
# | Zhang and Sennrich, *Root Mean Square Layer Normalization* | 2019 |
