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
# # Which parameters should you train?
#
# Lesson 02 trained either everything or the last layers. There are other places. You can train only the biases, put
# small layers between the frozen ones, or learn a few vectors that the model reads before the text. Here is a map of
# such methods, a working member of each kind, and one table that compares them.
#
# *About 85 minutes to read (an estimate), six to run (an estimate for two processor cores), some more with the
# files of section 10; no network.*

# %% [markdown]
# **You will be able to**
#
# - name the three families of parameter-efficient fine-tuning (PEFT), and build a member of each in a few lines;
# - do the same with `peft`, and show that it is the same;
# - compare methods by accuracy, trained parameters, memory, size of the file, time and forgetting;
# - find an adapter that disturbs the model before the first step;
# - choose LoRA's layers and rank within a budget;
# - take a published encoder through `peft`'s usual workflow, and choose a method for a job.

# %%
import copy
import tempfile
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown, display
from torch import nn

from helpers import catalog, plotting
from helpers.batches import TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.checks import check, go_on_with, hint, solved  # noqa: F401 - hint("07.1") helps when you are stuck
from helpers.intervals import paired_bootstrap, wilson
from helpers.lessons.lesson_02.experiment import Task
from helpers.lessons.lesson_03.experiment import domain_losses, masked_batches
from helpers.lessons.lesson_03.figures import forgetting
from helpers.lessons.lesson_07 import experiment, figures
from helpers.linear_layers import attention_targets, block_paths, linear_names
from helpers.memory.architecture import Architecture
from helpers.models import MeanPoolClassifier, blocks
from helpers.predictions import predict, reveal
from helpers.reference import lesson_reference, load_reference, real_reference
from helpers.runtime import check_number, seed_everything, start
from helpers.training import HEAD_BATCH_SIZE, HEAD_EPOCHS, to_device, train, trainable_parameters

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "real": published ones; "hub": with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": more labels, more passes
seed = 0  # draws the training reviews and every random start
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 500  # training reviews with a label
epochs = 4  # passes over them
length = 8  # vectors of the soft prompt, and of the prefix in every layer
rank = 8  # of LoRA's update

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("labels", labels, 32, 8000, integer=True)
check_number("epochs", epochs, 1, 100, integer=True)
check_number("length", length, 1, 64, integer=True)  # with 192 tokens of text it fills the 256 positions
train_count = run.by_budget(quick=32, standard=labels, full=4 * labels)
test_count = run.by_budget(quick=32, standard=800, full=2000)
epoch_count = run.by_budget(quick=1, standard=epochs)

# %% [markdown]
# ## 1. The map
#
# | family | what is trained | built here | in `peft` |
# |---|---|---|---|
# | **selective** | some of the model's own parameters | BitFit, last block | LNTuning, SHiRA; near: `BeftConfig` |
# | **additive** | new parameters, inside the blocks or before the text | bottleneck adapter | none (in `adapters`) |
# | | | IA3 | `IA3Config` |
# | | | soft prompt | `PromptTuningConfig` |
# | | | prefix | `PrefixTuningConfig` |
# | **reparameterised** | a matrix's change, written as a thin product | LoRA | `LoraConfig` |
#
# Everything else stays *frozen*. The head, which is new, is always trained. `BeftConfig` trains a bias that it *adds*;
# it stands with the selective methods because the sum is a bias again. Bottleneck
# [adapters](../docs/glossary.md#adapter) are in another library, called `adapters`. (The three families are those of
# the survey by Lialin et al. 2023.)
#
# Why would anyone want that?
#
# - **Memory**: each trained parameter needs a gradient, and an optimizer such as AdamW keeps two more values for it.
# - **Storage**: ten tasks need one model and ten small files, not ten models.
# - **[Forgetting](../docs/glossary.md#catastrophic-forgetting)**: a frozen part is still there afterwards.
#
# Time falls less: the gradient must still pass through everything above what you train, and only the gradients of the
# frozen weights are skipped. All of this is measured below.

# %% [markdown]
# The task is lesson 02's: is a film review positive? The model is the pocket encoder. Each method should beat two
# baselines: a head on the frozen encoder, and a classifier on a
# [bag of words](../docs/glossary.md#bag-of-words).

# %%
from helpers.evaluation import bag_of_words, majority, predict_rows

reviews = catalog.dataset("reviews", track, data, seed)
tokenizer = catalog.tokenizer("encoder", track, model)
collate = pad(tokenizer)
test_count = min(test_count, len(reviews["test"]))
drawn = {"train": sample_rows(reviews["train"], train_count, seed), "test": reviews["test"].select(range(test_count))}
max_tokens = min(experiment.MAX_TOKENS, tokenizer.model_max_length - length)  # the soft prompt takes positions too
rows = {
    split: TokenizedReviews.from_dataset(tokenize(part, tokenizer, max_length=max_tokens))
    for split, part in drawn.items()
}
num_labels = max(reviews["train"]["label"]) + 1
truth = torch.tensor(rows["test"].labels)
usual = majority(drawn["train"]["label"])
words = bag_of_words(drawn["train"]["text"], drawn["train"]["label"])
floor = wilson(int((truth == usual).sum()), len(truth))
guesses = torch.as_tensor(words.predict(drawn["test"]["text"]))
by_words = wilson(int((guesses == truth).sum()), len(truth))
print(f"{len(rows['train'])} reviews to learn from, {len(rows['test']):,} to be tested on")
print(f"majority class {floor:.3f}, bag of words {by_words:.3f}")

# %% [markdown]
# Here are a few reviews to look at shapes with, and the pretrained body. The function `same` compares two tensors: it
# says *equal to the bit*, or prints the largest difference.

# %%
batch = collate([rows["test"][row] for row in range(min(4, test_count))])
text = {name: batch[name].to(run.device) for name in ("input_ids", "attention_mask")}


def new_body():
    return catalog.body("encoder", track, model).to(run.device).eval()


def same(one, other):
    return "equal to the bit" if torch.equal(one, other) else f"apart by {(one - other).abs().max().item():.0e}"


with torch.inference_mode():
    hidden_before = new_body()(**text).last_hidden_state  # (batch, seq, hidden)
total, hidden_size = new_body().num_parameters(), new_body().config.hidden_size
print(f"{total:,} parameters in the body; hidden states {tuple(hidden_before.shape)}")

# %% [markdown]
# ## 2. Selective: open some of what is there
#
# **BitFit** (Ben Zaken et al. 2022) trains every bias: one number for each output of a layer, and no weight
# matrix. **Last block** is lesson 02's. By hand both are a loop over names.


# %% tags=["nbval-check-output"]
def open_biases(body):
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return body


def last_block(body):
    blocks(body.requires_grad_(False))[-1].requires_grad_(True)
    return body


for title, select in (("BitFit", open_biases), ("last block", last_block)):
    moving = trainable_parameters(select(new_body()))
    print(f"{title:12}{moving:8,} of {total:,} parameters are trained, {moving / total:.2%}")

# %% [markdown]
# In `peft`, `LNTuningConfig` trains the normalisations, `TrainableTokensConfig` single rows of the embedding, SHiRA a
# sparse set of weights. `BeftConfig` adds a trainable bias to each linear layer that you name, at first zero: BitFit
# without the biases of the normalisations. It can be merged only where the layer has a bias of its own (else `merge`
# raises a `ValueError`).
#
# Two settings of [LoRA](../docs/glossary.md#lora) open the same parameters as our two loops, beside LoRA's own:
# `bias="all"`, and `modules_to_save` for whole modules. The names of what is trainable show it.

# %%
from helpers.qlora import drop_two_notices

drop_two_notices()  # two messages of peft's that nobody at the keyboard can act on; lesson 11 says which

from peft import LoraConfig, get_peft_model


def moving_names(body):
    """What is trainable, under the plain body's names; LoRA's own parameters left out."""
    found = set()
    for name, parameter in body.named_parameters():
        for wrapping in ("base_model.model.", ".base_layer", ".modules_to_save.default"):
            name = name.replace(wrapping, "")
        if parameter.requires_grad and "lora_" not in name:
            found.add(name)
    return found


plain = new_body()
places = block_paths(plain)  # where a block of this model keeps its layers: "attention.self.query" and so on
last = next(path for path, module in plain.named_modules() if module is blocks(plain)[-1])
biases = LoraConfig(target_modules=[places.query], bias="all")
block = LoraConfig(target_modules=[places.query], exclude_modules=rf"{last}\..*", modules_to_save=[last])
both = [("biases", biases, open_biases), ("block", block, last_block)]
for title, config, select in both[: len(blocks(plain))]:  # a model of one block has no other
    agree = moving_names(get_peft_model(new_body(), config)) == moving_names(select(new_body()))
    print(f"the same {title}:", agree)
    assert agree

# %% [markdown]
# `bias="all"` has a trap. It trains the base model's *own* biases, so `disable_adapter()` no longer gives the old model
# back (`peft` warns you), and the [adapter](../docs/glossary.md#adapter)'s file holds those biases too. `BeftConfig`
# leaves the base alone.

# %%
from peft import BeftConfig

beft = get_peft_model(new_body(), BeftConfig(target_modules=linear_names(plain)))
in_bitfit = trainable_parameters(open_biases(plain))
print(f"BEFT on every linear layer: {trainable_parameters(beft):,} parameters, BitFit: {in_bitfit:,}")

# %% [markdown]
# ## 3. Additive, inside the blocks
#
# A **bottleneck [adapter](../docs/glossary.md#adapter)** (Houlsby et al. 2019) is two small layers with a residual
# connection around them: from `hidden` values down to `size`, a nonlinearity (here gelu), and back up. The model with
# adapters should start as *exactly* the model without. Section 9 shows an adapter that does not.
#
# Two things differ from the paper: its adapters start *near* the identity, ours start at it. And the paper trains the
# normalisations too, which we leave frozen.

# %% [markdown]
# ### Exercise 07.1: the adapter
#
# Write it. Call the two layers `self.down` and `self.up`, both with biases. At the start `forward` returns its input to
# the bit, and yet every parameter of the adapter can learn. Your class is the one that the lesson trains.


# %% tags=["exercise"]
class BottleneckAdapter(nn.Module):
    def __init__(self, hidden, size):
        super().__init__()

    def forward(self, hidden):
        return ...


check("07.1", BottleneckAdapter)
# hint("07.1")


# %% tags=["solution"]
class BottleneckAdapter(nn.Module):
    def __init__(self, hidden, size):
        super().__init__()
        self.down, self.up = nn.Linear(hidden, size), nn.Linear(size, hidden)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden):
        return hidden + self.up(nn.functional.gelu(self.down(hidden)))


check("07.1", BottleneckAdapter)

# %% [markdown]
# One goes behind each block's attention and one behind its feed-forward layer, before the residual connection and the
# normalisation. To put one in, we replace the linear layer by a sequence of two: the layer itself, then the adapter.

# %% tags=["nbval-check-output"]
from helpers import adapters

BottleneckAdapter = go_on_with("07.1", BottleneckAdapter, adapters.BottleneckAdapter)
adapted = adapters.add_bottlenecks(new_body(), experiment.SIZE, BottleneckAdapter)
print(blocks(adapted)[0].get_submodule(places.feed_forward_output))
with torch.inference_mode():
    print("hidden states before the first step:", same(adapted(**text).last_hidden_state, hidden_before))
    assert torch.equal(adapted(**text).last_hidden_state, hidden_before)

# %% [markdown]
# `peft` has no bottleneck adapter (another library, `adapters`, does), but it has **IA3** (Liu et al. 2022). IA3
# multiplies every entry of the keys, of the values and inside the feed-forward layer by a learned factor. The factors
# start at 1.


# %%
class Rescale(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(features))

    def forward(self, x):
        return x * self.scale


def add_ia3(body):
    for block in blocks(body.requires_grad_(False)):
        for path in dict.fromkeys((places.key, places.value)):
            layer = block.get_submodule(path)
            block.set_submodule(path, nn.Sequential(layer, Rescale(layer.out_features)).to(layer.weight.device))
        last = block.get_submodule(places.feed_forward_output)  # it reads the feed-forward layer's inside
        rescaled = nn.Sequential(Rescale(last.in_features), last).to(last.weight.device)
        block.set_submodule(places.feed_forward_output, rescaled)
    return body


# %% [markdown]
# Does our IA3 compute what `peft`'s does? We give both the same factors, drawn at random, and compare the hidden
# states. Then both learn for a few steps, from the same start on the same batches, and we compare the losses.

# %%
from peft import IA3Config

inner = rf".*\.\d+\.{places.feed_forward_output}"
config = IA3Config(target_modules=rf"{inner}|.*\.({places.key}|{places.value})", feedforward_modules=inner)
bodies = {"by hand": add_ia3(new_body()), "peft": get_peft_model(new_body(), config).eval()}
factors = {who: [p for p in body.parameters() if p.requires_grad] for who, body in bodies.items()}
with torch.no_grad():
    for ours, theirs in zip(factors["by hand"], factors["peft"], strict=True):
        ours.normal_(1.0, 0.2)
        theirs.copy_(ours.reshape(theirs.shape))
    hidden = {who: body(**text).last_hidden_state for who, body in bodies.items()}
print(f"{len(factors['peft'])} vectors of factors, {trainable_parameters(bodies['peft']):,} parameters")

# %% tags=["nbval-check-output"]
losses = {}
some = rows["train"].select(range(min(5 * 16, len(rows["train"]))))
for who, body in bodies.items():
    torch.manual_seed(seed)
    classifier = MeanPoolClassifier(body, num_labels).to(run.device)
    optimizer = torch.optim.AdamW([p for p in classifier.parameters() if p.requires_grad], lr=0.01)
    losses[who] = train(classifier, length_batches(some, collate, 16, seed=seed), optimizer, progress=who).losses
difference_ia3 = max(abs(a - b) for a, b in zip(losses["by hand"], losses["peft"], strict=True))
print("hidden states:", same(hidden["by hand"], hidden["peft"]))
print("losses of a few steps within 0.000001:", difference_ia3 <= 1e-6)
assert torch.equal(hidden["by hand"], hidden["peft"]) and difference_ia3 <= 1e-6

# %% [markdown]
# ### Exercise 07.2: fold IA3 into the weights
#
# After training, IA3 need not cost anything: its factors can be multiplied into the weights. A linear layer of weight
# (out, in) and a bias reads its input times `inputs` (in,), and its output is multiplied by `outputs` (out,). Return
# the weight and the bias of the plain linear layer that computes the same. Section 6 folds the trained IA3 with it.


# %% tags=["exercise"]
def folded(weight, bias, inputs, outputs):
    return ..., ...


check("07.2", folded)
# hint("07.2")


# %% tags=["solution"]
def folded(weight, bias, inputs, outputs):
    return outputs.unsqueeze(1) * weight * inputs, outputs * bias


check("07.2", folded)

# %% [markdown]
# Can a bottleneck adapter be folded in too? No: between its two layers stands a gelu. It costs time at every use.
#
# ## 4. Additive, before the text
#
# A **[soft prompt](../docs/glossary.md#soft-prompt)** (Lester et al. 2021) leaves every layer alone and changes what
# the model *reads*: some learned vectors, joined in front of the words' [embeddings](../docs/glossary.md#embedding).
# These vectors belong to no token, but they have the size of token embeddings, so we start them as the embeddings of
# tokens drawn at random.

# %% [markdown]
# ### Exercise 07.3: join them
#
# Given `prompt` (length, hidden), the words' vectors (batch, seq, hidden) and the mask (batch, seq): return the joined
# vectors, prompt first, and the mask that belongs to them.


# %% tags=["exercise"]
def join(prompt, words, attention_mask):
    return ..., ...


check("07.3", join)
# hint("07.3")


# %% tags=["solution"]
def join(prompt, words, attention_mask):
    joined = torch.cat([prompt.expand(len(words), -1, -1), words], dim=1)
    return joined, nn.functional.pad(attention_mask, (len(prompt), 0), value=1)


check("07.3", join)

# %% [markdown]
# The rest is a few lines around your `join`. What the body returns for the prompt is cut off again, so that the
# classifier still gets one vector per word. The prompt takes `length` of the model's positions: every word moves to the
# right by that many, and the longest text that fits is shorter by as many tokens.


# %%
from transformers.modeling_outputs import BaseModelOutput

from helpers import prompt_tuning

join = go_on_with("07.3", join, prompt_tuning.join)


class SoftPrompt(nn.Module):
    def __init__(self, body, length):
        super().__init__()
        self.body, self.config = body.requires_grad_(False), body.config
        words = body.get_input_embeddings().weight
        drawn = torch.randint(len(words), (length,), device=words.device)
        self.prompt = nn.Parameter(words[drawn].detach().clone())

    def forward(self, input_ids, attention_mask, **others):
        words = self.body.get_input_embeddings()(input_ids)  # (batch, seq, hidden)
        joined, mask = join(self.prompt, words, attention_mask)  # (batch, length + seq, hidden), (batch, length + seq)
        others = {name: value for name, value in others.items() if value is not None}
        output = self.body(inputs_embeds=joined, attention_mask=mask, **others)
        return BaseModelOutput(last_hidden_state=output.last_hidden_state[:, len(self.prompt) :])


# %% [markdown]
# `peft` calls it [prompt tuning](../docs/glossary.md#prompt-tuning). Its default start is `RANDOM`; the start above is
# `prompt_tuning_init="SAMPLE_VOCAB"`. With the same vectors in both and the same head on top: the same logits?

# %% tags=["nbval-check-output"]
from peft import PromptTuningConfig

from helpers.models import mean_pool

ours = SoftPrompt(new_body(), length).eval()
sizes = {"token_dim": ours.config.hidden_size, "num_attention_heads": ours.config.num_attention_heads}
config = PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=length, **sizes)
theirs = get_peft_model(new_body(), config).eval()
head = MeanPoolClassifier(ours, num_labels).to(run.device).head
with torch.inference_mode():
    theirs.prompt_encoder["default"].embedding.weight.copy_(ours.prompt)
    by_hand = head(mean_pool(ours(**text).last_hidden_state, text["attention_mask"]))
    of_words = theirs(**text).last_hidden_state[:, length:]  # peft keeps what the prompt became
    by_peft = head(mean_pool(of_words, text["attention_mask"]))
difference_soft_prompt_peft = (by_hand - by_peft).abs().max().item()
print("logits:", same(by_hand, by_peft))
assert difference_soft_prompt_peft <= 1e-6

# %% [markdown]
# A **prefix** (Li and Liang 2021) does this in every layer: attention reads `length` learned keys and values beside
# those of the words. The library lets us register an attention function of our own under a name, and a model that asks
# for "prefix" calls it; `module.prefix` holds what the layer learned.
#
# The *mask* needs a second line: for a name without a registered mask function, `transformers` builds no mask at all,
# and every word would read the [padding](../docs/glossary.md#padding), without a warning.


# %%
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask


def attention_with_prefix(module, query, key, value, attention_mask, scaling=None, **others):
    rows, length = len(key), module.prefix.keys.shape[1]
    keys, values = (learned.expand(rows, -1, -1, -1).to(key.dtype) for learned in module.prefix.parameters())
    key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)  # (batch, heads, length + seq, head)
    if attention_mask is not None:
        attention_mask = nn.functional.pad(attention_mask, (length, 0))  # 0 hides nothing
    found = nn.functional.scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
    return found.transpose(1, 2).contiguous(), None  # (batch, heads, seq, head) -> (batch, seq, heads, head)


AttentionInterface.register("prefix", attention_with_prefix)
AttentionMaskInterface.register("prefix", eager_mask)  # a mask that is added: 0 shows, a very negative number hides

# %% [markdown]
# What a layer learns is two tensors. We hang one such module on every attention layer of the frozen body, and ask the
# body for our attention. Every prefix below is made and trained with this code.


# %%
class Prefix(nn.Module):
    def __init__(self, heads, length, head):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(heads, length, head))
        self.values = nn.Parameter(torch.zeros(heads, length, head))


def add_prefix(body, length):
    prompt_tuning.check_prefix(body)  # an encoder of a known family; in a decoder the mask would need more care
    heads, width = body.config.num_attention_heads, body.config.hidden_size
    for block in blocks(body.requires_grad_(False)):
        attention = next(module for module in block.modules() if hasattr(module, "scaling"))
        attention.prefix = Prefix(heads, length, width // heads).to(body.device)
    body.set_attn_implementation("prefix")
    return body


# %% [markdown]
# `peft` puts the prefix elsewhere: into the cache where a decoder keeps the keys and values of earlier tokens. Two
# things differ from the prefix that we train:
#
# - `peft` counts the prefix as positions, and so moves the words to the right; ours does not;
# - `peft` draws the first keys and values from a normal distribution; ours draws the keys and sets the values to zero.
#
# For this comparison we use `peft`'s positions, keys and values. The same result?

# %% tags=["nbval-check-output"]
from peft import PrefixTuningConfig

from helpers.prompt_tuning import peft_knows_prefix

ours = add_prefix(new_body(), length).eval()
depth, heads = ours.config.num_hidden_layers, ours.config.num_attention_heads
if peft_knows_prefix(ours):
    config = PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=length)
    theirs = get_peft_model(new_body(), config).eval()
    learned = theirs.prompt_encoder["default"].embedding.weight.view(length, depth, 2, heads, -1)
    moved = torch.arange(length, length + text["input_ids"].shape[1]).expand(len(text["input_ids"]), -1)
    with torch.inference_mode():
        prefixes = [module for module in ours.modules() if isinstance(module, Prefix)]
        for prefix, (keys, values) in zip(prefixes, learned.permute(1, 2, 3, 0, 4), strict=True):
            prefix.keys.copy_(keys)  # (heads, length, head)
            prefix.values.copy_(values)
        by_hand = ours(**text, position_ids=moved.to(run.device)).last_hidden_state
        difference_prefix_peft = (by_hand - theirs(**text).last_hidden_state).abs().max().item()
    print("largest difference within 0.000001:", difference_prefix_peft <= 1e-6)
    assert difference_prefix_peft <= 1e-6
else:
    print(f"not for a {ours.config.model_type} model: it has no cache that peft could use in this way")

# %% [markdown]
# Unlike our adapter, a prompt or a prefix changes the output from the start: the softmax shares its attention among all
# that is there to be read, so the new vectors take some from the words. (A gate that starts at zero prevents that:
# LLaMA-Adapter, Zhang et al. 2023; `AdaptionPromptConfig` in `peft`.)

# %% [markdown]
# Li and Liang found that training the prefix directly is unstable. They train it through a small network (an MLP), and
# throw the network away afterwards: `PrefixTuningConfig(prefix_projection=True)`. P-Tuning v2 (Liu et al. 2022) brings
# prefixes to encoders and to classification. We train the prefix directly, and do not test the MLP. Keep that in mind
# when you read the prefix's accuracy.

# %% [markdown]
# ## 5. Reparameterised: LoRA
#
# **LoRA** (Hu et al. 2021) writes the *change* of a weight matrix as a product of two thin ones: $W + \frac{\alpha}{r}
# B A$. `B` starts at zero, so the model starts unchanged. Lesson 08 builds it; here we borrow it. Alpha is 16 at
# every [rank](../docs/glossary.md#rank), in all lessons; lesson 08 says why.

# %% tags=["nbval-check-output"]
from helpers.lora import inject, lora_layers

ours = new_body()
targets = attention_targets(ours)  # ("query", "value") in the pocket encoder
inject(ours, targets, rank=rank, alpha=experiment.ALPHA)
theirs = get_peft_model(new_body(), LoraConfig(r=rank, lora_alpha=experiment.ALPHA, target_modules=list(targets)))
pairs = {path: theirs.base_model.model.get_submodule(path) for path in lora_layers(ours)}
with torch.inference_mode():
    print("before the first step:", same(ours(**text).last_hidden_state, hidden_before))
    for path, layer in lora_layers(ours).items():
        layer.lora_B.normal_(std=0.1)
        pairs[path].lora_A["default"].weight.copy_(layer.lora_A)
        pairs[path].lora_B["default"].weight.copy_(layer.lora_B)
    by_hand, by_peft = ours(**text).last_hidden_state, theirs.eval()(**text).last_hidden_state
difference_lora_peft = (by_hand - by_peft).abs().max().item()
print("within 0.000001 of peft's:", difference_lora_peft <= 1e-6)
assert difference_lora_peft <= 1e-6

# %% [markdown]
# LoRA and the adapter are related. Leave the gelu and the biases out, and let the adapter read what the layer reads
# instead of what it returns: then `up(down(x))` is LoRA's $BAx$, up to the factor $\alpha/r$. He et al. (2022) describe
# all of these methods in one frame. LoRA is linear, so it can be added into the weights after training, as IA3's
# factors can be multiplied in.

# %% [markdown]
# ## 6. One table for all
#
# All nine methods train on the same reviews for the same [epochs](../docs/glossary.md#epoch), in batches of 16. The
# head-only row differs: it reads features that are computed once, so it gets more epochs in larger batches, as in
# lesson 02.
#
# The learning rate is each method's own: the best of 5e-4, 1e-3, 2e-3, 4e-3, 1e-2, 3e-2 and 1e-1 on validation reviews
# (`python -m benchmarks.peft_methods --tune`). A published model gets the rates of `helpers.recipes`.

# %% [markdown]
# The rest is equal for all: AdamW with [weight decay](../docs/glossary.md#weight-decay) 0.01 on whatever is trained,
# gradients clipped at norm 1, a rate that warms up over the first tenth of the steps and then falls
# to 0. Weight decay pulls IA3's factors from 1 towards 0.
#
# *Where* a method acts differs too: LoRA at queries and values, the adapter behind attention and feed-forward layer,
# IA3 at keys, values and inside the feed-forward layer. The table compares
# method *and* placement; what LoRA gains at every linear layer is printed later.

# %%
own = {"bitfit": open_biases, "last_block": last_block, "ia3": add_ia3}  # this page's own code, where you saw it
own["adapter"] = lambda body: adapters.add_bottlenecks(body, experiment.SIZE, BottleneckAdapter)
own["soft_prompt"] = lambda body: SoftPrompt(body, length)
own["prefix"] = lambda body: add_prefix(body, length)
of = experiment.methods(length=length, rank=rank, own=own)
origin = catalog.origin("encoder", track, model)
recipes = {name: method.recipe(origin) for name, method in of.items()}
edges = {5e-4: "lowest rate tried", 1e-1: "highest rate tried"} if origin == "pocket" else {}
shown = {}
for name, found in recipes.items():
    batch_size, passes = (HEAD_BATCH_SIZE, HEAD_EPOCHS) if name == "head_only" else (16, epoch_count)
    shown[of[name].title] = [f"{found.learning_rate:g}", edges.get(found.learning_rate, ""), batch_size, passes]
pd.DataFrame.from_dict(shown, orient="index", columns=["learning rate", "an edge of the grid?", "batch", "epochs"])

# %% [markdown]
# Two methods took the highest rate that was tried: soft prompt and prefix. A still higher one might suit them better,
# so below we try one for the soft prompt. On a GPU, or a CPU with AVX512_BF16 instructions, products run in bfloat16,
# elsewhere in float32.
#
# **Predict 1.** Which method comes closest to training everything?

# %%
predict("07.1", choices=["BitFit", "last block", "bottleneck adapter", "IA3", "soft prompt", "prefix", "LoRA"])

# %%
task = Task(None, rows["train"], rows["test"], collate, run.device)
folder = tempfile.TemporaryDirectory()
fitted, outcomes, file_bytes = {}, {}, {}


def file_of(name):
    return Path(folder.name) / f"{name}.safetensors"


def fine_tune(*names):
    for name in names:
        language_model = catalog.masked_language_model(track, model)
        settings = {"epochs": epoch_count, "seed": seed, "num_labels": num_labels}
        fitted[name], found = experiment.fine_tune(of[name], language_model, task, **settings)
        outcomes[name] = found
        file_bytes[name] = experiment.save_trained(fitted[name].classifier, file_of(name))
        print(f"{found.title:20}{found.accuracy:.3f}  {found.parameters:9,} trained  {found.seconds:5.1f} s")


fine_tune(*of)

# %% [markdown]
# Each method's file holds what was trained and nothing else. Does that suffice? We take a fresh pretrained model, adapt
# it in the same way, and read the file into it. It has to give the same logits.

# %% tags=["nbval-check-output"]
for name in of:
    fresh = experiment.pair(catalog.masked_language_model(track, model).to(run.device), of[name].adapt, num_labels)
    experiment.load_trained(fresh.classifier, file_of(name))
    with torch.inference_mode():
        one, other = (both.classifier.eval()(**text).logits for both in (fitted[name], fresh))
    print(f"{outcomes[name].title:20}{same(one, other)}")
    assert torch.equal(one, other)

# %% [markdown]
# And your `folded`? We take the trained IA3, multiply its factors into the weights, and get a model of plain layers.

# %% tags=["nbval-check-output"]
folded = go_on_with("07.2", folded, experiment.folded)
plain = copy.deepcopy(fitted["ia3"].classifier)
for block in blocks(plain.body):
    for path in dict.fromkeys((places.key, places.value, places.feed_forward_output)):
        first, second = block.get_submodule(path)
        layer = first if isinstance(first, nn.Linear) else second
        inputs, outputs = torch.ones(layer.in_features), torch.ones(layer.out_features)
        inputs, outputs = (inputs, second.scale) if layer is first else (first.scale, outputs)
        with torch.no_grad():
            new = folded(layer.weight, layer.bias, inputs.to(run.device), outputs.to(run.device))
            layer.weight.data, layer.bias.data = new
        block.set_submodule(path, layer)
with torch.inference_mode():
    difference_folded = (plain(**text).logits - fitted["ia3"].classifier(**text).logits).abs().max().item()
print("folded IA3, logits within 0.0001 of the trained one's:", difference_folded <= 1e-4)
assert difference_folded <= 1e-4

# %% [markdown]
# The points below are **this run's**. The pale bands are the **reference**: five runs of this lesson with the seeds 0
# to 4, each with its own reviews and random starts. (Its seed 0 draws the same reviews as a run of yours with seed 0.)

# %%
reference = lesson_reference("07")
titles = {name: found.title for name, found in outcomes.items()}
scores = {titles[name]: found.accuracy for name, found in outcomes.items()}
parameters = {titles[name]: found.parameters for name, found in outcomes.items()}
families = {titles[name]: of[name].family for name in of}
bands = {titles[name]: reference.interval(f"accuracy_{name}") for name in of}
plotting.show(figures.tradeoff(scores, parameters, families, bands))
print("Reference:", reference.label)

gaps, there, rows_ = {}, {}, {}
for name in of:
    over_words = f"{reference.gap(f'accuracy_{name}', 'accuracy_bag_of_words'):+.3f}"
    rows_[titles[name]] = ["", "", over_words]
    if name != "full":
        gaps[name] = paired_bootstrap(outcomes[name].correct, outcomes["full"].correct, seed=seed)
        there[name] = reference.gap(f"accuracy_{name}", "accuracy_full")
        rows_[titles[name]] = [f"{gaps[name]:+.3f}", f"{there[name]:+.3f}", over_words]
others = [name for name in there if name != "head_only"]
reveal(
    "07.1",
    titles[max(others, key=lambda name: gaps[name].value)],
    reference=[titles[max(others, key=lambda name: reference.metrics[f"accuracy_{name}"][draw])]
               for draw in range(len(reference.seeds))],
)  # fmt: skip
columns = [f"minus everything: {whose} [95 %]" for whose in ("this run", "five seeds")]
columns.append("minus bag of words: five seeds [95 %]")
pd.DataFrame.from_dict(rows_, orient="index", columns=columns)

# %% [markdown]
# Which of the five methods inside the blocks can five seeds tell apart? Ten pairs are ten questions, and with intervals
# of 95 % one in twenty questions gets a wrong answer by chance. The second column has wider intervals (Bonferroni: 99.5
# % each), so that all ten together are right in 95 of 100 such tables.

# %%
from itertools import combinations

from helpers.intervals import mean_t

inside = ["bitfit", "last_block", "adapter", "ia3", "lora"]
pairs, table = list(combinations(inside, 2)), {}
for one, other in pairs:
    by_seed = [reference.metrics[f"accuracy_{name}"] for name in (one, other)]
    found = [a - b for a, b in zip(*by_seed, strict=True)]
    alone, together = mean_t(found), mean_t(found, 1 - 0.05 / len(pairs))
    apart = "neither" if 0.0 in alone else "alone" if 0.0 in together else "both"
    table[f"{titles[one]} minus {titles[other]}"] = [f"{alone:+.3f}", f"{together:+.3f}", apart]
columns = ["one pair [95 %]", f"all {len(pairs)} pairs together [95 %]", "without 0"]
display(pd.DataFrame.from_dict(table, orient="index", columns=columns))
variants = load_reference("lora_variants")
wider = variants.gap("accuracy_lora", "accuracy_lora_attention")
print(f"LoRA, all linear layers minus the attention's alone, each with its own rate: {wider:+.3f}")
print(f"({variants.settings['labels']:,} labels, {variants.settings['epochs']} epochs; {variants.label})")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - BitFit, the last block, the adapter, IA3 and LoRA lie far above the head alone. The number of parameters says
#   little: compare IA3 and BitFit with the last block.
# - Soft prompt and prefix lie below the bag of words and near the head alone, *with this recipe*. That is no verdict on
#   them: their rate lies at the edge of the grid, and the prefix has no MLP. They get some hundred steps; Lester et al.
#   (2021) train for 30,000, and report that small models gain less.
#
# </details>
#
# ### Is it the rate?
#
# Lester et al. train at a rate of 0.3, with another optimizer (Adafactor) and far longer. The grid ended at 0.1. Does
# its edge explain the gap? One more run at 0.3, all else as above, gives a first answer (not for the prefix or longer
# training).
#
# The workbook prints a message if a training loss ends no lower than that of a constant guess. Then the prompt learned
# nothing at this rate, so a still higher one is no cure.

# %%
higher = 0.3
base = catalog.masked_language_model(track, model)
settings = {"epochs": epoch_count, "seed": seed, "num_labels": num_labels, "rate": higher}
_, hotter = experiment.fine_tune(of["soft_prompt"], base, task, **settings)
change = paired_bootstrap(hotter.correct, outcomes["soft_prompt"].correct, seed=seed)
to_words = paired_bootstrap(hotter.correct, guesses == truth, seed=seed)
usual_rate = recipes["soft_prompt"].learning_rate
print(f"soft prompt at {higher:g}: {hotter.accuracy:.3f}")
print(f"minus that at {usual_rate:g}: {change:+.3f}; minus the bag of words: {to_words:+.3f}")
print("This run", "cannot tell" if 0.0 in change else "can tell", "the two rates apart.")
hot = "accuracy_soft_prompt_higher_rate"
if hot in reference.metrics:
    print(f"the same difference, {len(reference.seeds)} seeds: {reference.gap(hot, 'accuracy_soft_prompt'):+.3f}")

# %% [markdown]
# ### Memory and time
#
# The first reason was memory. Beside the weights a training step keeps the
# [activations](../docs/glossary.md#activation) for the backward pass, a gradient for each trained number, and AdamW's
# two means. We count them as lesson 02 does: PyTorch reports every tensor that it saves, here in float32. The seconds
# of one run depend on what else the machine does, so the table also has the mean of five seeds.

# %%
one_batch = collate([rows["train"][row] for row in range(min(16, len(rows["train"])))])
memory, table = {}, {}
for name in of:
    fresh = experiment.pair(catalog.masked_language_model(track, model).to(run.device), of[name].adapt, num_labels)
    memory[name] = experiment.training_bytes(fresh.classifier, to_device(one_batch, fresh.classifier))
    found, usual_time = memory[name], reference.interval(f"seconds_{name}").value
    table[titles[name]] = [f"{size / 1e6:.2f}" for size in (*found.values(), sum(found.values()))]
    table[titles[name]] += [f"{outcomes[name].seconds:.1f}", f"{usual_time:.1f}"]
    table[titles[name]] += [f"{usual_time / reference.interval('seconds_full').value:.0%}"]
columns = ["activations (MB)", "gradients and AdamW (MB)", "both", "seconds: this run", "five seeds", "of everything"]
pd.DataFrame.from_dict(table, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - *Gradients and AdamW* almost vanish. The larger the model, the more they weigh; here, in a batch of 16 reviews, the
#   activations are larger.
# - *Activations* shrink for two reasons. A frozen linear layer need not keep its input, so BitFit and LoRA keep less
#   than *everything* does. And below the lowest trained layer nothing is kept, as with the last block. IA3's factors
#   need their inputs; a soft prompt makes every text longer.
# - *Seconds*, five seeds: the last block takes about half, since nothing flows back below it. The methods that reach
#   through all blocks save far less.
#
# </details>
#
# ## 7. What is forgotten, and can you get it back?
#
# As in lesson 03 we let the language model, which shares the body, fill in masked words of held-out texts in five
# domains: first as it was pretrained, then with each method's change **in place**.
#
# **Predict 2.** Of the methods that train something inside the blocks, which raises the old loss least?

# %%
predict("07.2", choices=["BitFit", "last block", "bottleneck adapter", "IA3", "LoRA", "everything"])

# %%
corpus = catalog.dataset("corpus", track, seed=seed)
per_domain = run.by_budget(quick=2, standard=24, full=100)
texts = {domain: [] for domain in sorted(set(corpus["validation"]["domain"]))}
for row in corpus["validation"]:
    texts[row["domain"]].append(row["text"])
pretrained = catalog.masked_language_model(track, model).to(run.device)
room = min(128, pretrained.config.max_position_embeddings - experiment.LENGTH)  # a soft prompt takes positions too
domains = {domain: masked_batches(tokenizer, own[:per_domain], seed, max_length=room) for domain, own in texts.items()}
before = domain_losses(pretrained, domains)
after = {titles[name]: domain_losses(both.language_model, domains) for name, both in fitted.items()}
rise = {name: sum(after[titles[name]][domain] - before[domain] for domain in before) / len(before) for name in fitted}
plotting.show(forgetting(before, after))
print("the embeddings are the language model's output matrix too:", pretrained.config.tie_word_embeddings)
deep = [*inside, "full"]
reveal(
    "07.2",
    titles[min(deep, key=rise.get)],
    reference=[titles[min(deep, key=lambda name: reference.metrics[f"loss_rise_{name}"][draw])]
               for draw in range(len(reference.seeds))],
)  # fmt: skip

# %% [markdown]
# Now undo the change. For the added parts that means leaving them out; for the others, putting the old values back,
# which you must have kept. Which methods changed no pretrained parameter? (The table after this cell counts them for
# all.)


# %% tags=["nbval-check-output"]
def numbers_changed(both):
    """How many of the pretrained parameters are not what they were."""
    old = pretrained.base_model.named_parameters()
    return sum(int((value != both.base[name]).sum()) for name, value in old)


untouched = [name for name, both in fitted.items() if numbers_changed(both) == 0]
print("every pretrained parameter is as it was:", ", ".join(titles[name] for name in untouched))
assert {of[name].family for name in untouched} >= {"selective", "additive", "reparameterised"}
for name in untouched:
    without_parts = new_body()
    without_parts.load_state_dict(fitted[name].base, strict=False)  # the trained model's own values, no added parts
    with torch.inference_mode():
        left = without_parts(**text).last_hidden_state
    print(f"{titles[name]:20}outputs without the added parts: {same(left, hidden_before)}")
    assert torch.equal(left, hidden_before)

# %% [markdown]
# The whole table, with the two baselines. "Old loss" is the mean rise of the masked-word loss with the change in place;
# the columns "five seeds" hold means with Student's intervals.

# %%
table = {}
for title, score, metric in (("majority class", floor, "majority"), ("bag of words", by_words, "bag_of_words")):
    over_seeds = f"{reference.interval(f'accuracy_{metric}'):.3f}"
    table[title] = {"accuracy [95 %]": f"{score:.3f}", "five seeds": over_seeds}
for name, found in outcomes.items():
    back = "leave it out" if name in untouched else "put the old values back"
    table[found.title] = {
        "accuracy [95 %]": f"{found.accuracy:.3f}",
        "five seeds": f"{reference.interval(f'accuracy_{name}'):.3f}",
        "rate": f"{recipes[name].learning_rate:g}",
        "trained parameters": f"{found.parameters:,}",
        "memory (MB)": f"{sum(memory[name].values()) / 1e6:.1f}",
        "file (kB)": f"{file_bytes[name] / 1e3:,.1f}",
        "training seconds": f"{found.seconds:.1f}",
        "old loss": f"{rise[name]:+.2f}",
        "five seeds, old loss": f"{reference.interval(f'loss_rise_{name}'):+.2f}",
        "pretrained parameters changed": f"{numbers_changed(fitted[name]):,}",
        "the way back": back,
    }
display(pd.DataFrame.from_dict(table, orient="index").fillna(""))
mean_rise = {titles[name]: reference.interval(f"loss_rise_{name}").value for name in deep}
least, most = min(mean_rise, key=mean_rise.get), max(mean_rise, key=mean_rise.get)
print(f"Inside the blocks, five seeds: from {mean_rise[least]:+.2f} ({least}) to {mean_rise[most]:+.2f} ({most})")

# %% [markdown]
# <details><summary>What it means</summary>
#
# - With its change in place, every method inside the blocks raises the masked-word loss; the line under the table has
#   the range. Soft prompt and prefix hardly do; they have also learned little. *Few trained parameters* is not *little
#   forgotten*. (Rates and accuracies differ, so the table shows no cause.)
# - *Everything* also trains the embeddings, which are the language model's output matrix where they are tied.
# - Biderman et al. (2024) compare LoRA with [full fine-tuning](../docs/glossary.md#full-fine-tuning) on code and
#   mathematics, in models of 7 billion parameters. LoRA learns less there, and forgets less.
# - Leave added parts out, and the old model is there to the bit. So one base model can serve many tasks, each with its
#   own adapter file.
# - For BitFit and the last block you must have kept the old values: a small file as well.
#
# </details>
#
# ## 8. How large should it be?
#
# Two settings side by side: the number of vectors in a soft prompt, and the [rank](../docs/glossary.md#rank) of LoRA's
# update. A prompt also makes every text longer. The rate is that of size 8 at every size, so the other sizes may be a
# little worse than they could be.
#
# **Predict 3.** Which of the two gains more from size 1 to size 8?

# %%
predict("07.3", choices=["soft prompt", "LoRA"])

# %%
sizes = run.by_budget(quick=(1,), standard=experiment.SIZES)
swept = {"soft_prompt": {length: outcomes["soft_prompt"]}, "lora": {rank: outcomes["lora"]}}
prompts = lambda size: experiment.soft_prompt(size, lambda body: SoftPrompt(body, size))  # noqa: E731
for name, of_size in (("soft_prompt", prompts), ("lora", experiment.low_rank)):
    for size in sorted({*sizes, *swept[name]}):
        if size not in swept[name]:  # else it stands in the table already
            settings = {"epochs": epoch_count, "seed": seed, "num_labels": num_labels}
            language_model = catalog.masked_language_model(track, model)
            _, swept[name][size] = experiment.fine_tune(of_size(size), language_model, task, **settings)
        found = swept[name][size]
        print(f"{titles[name]:12}{size:3}  {found.accuracy:.3f}  {found.parameters:7,} trained  {found.seconds:5.1f} s")

# %%
called = {"soft prompt": "vectors of the soft prompt", "LoRA": "rank of LoRA's update"}
series = {titles[name]: {size: parts[size].accuracy for size in sorted(parts)} for name, parts in swept.items()}
own_sizes = {f"accuracy_{name}_{size}" for name in swept for size in experiment.SIZES} <= set(reference.metrics)
by_size = reference if own_sizes else load_reference("peft_methods")
same_alpha = own_sizes or "alpha" in by_size.settings  # else its LoRA had another alpha at other ranks
alike = {"soft_prompt": experiment.SIZES, "lora": experiment.SIZES if same_alpha else [experiment.RANK]}
there = {titles[name]: {size: by_size.interval(f"accuracy_{name}_{size}") for size in alike[name]} for name in swept}
lines = {"everything": outcomes["full"].accuracy.value, "head only": outcomes["head_only"].accuracy.value}
plotting.show(figures.sweeps(series, called, there, lines))
print("Reference:", by_size.label)
if not own_sizes:
    print(f"({by_size.settings['test_rows']:,} test rows there, {len(truth):,} here)")
whole = [name for name in swept if {1, 8} <= set(alike[name])]
for name, sized in swept.items():
    mine = paired_bootstrap(sized[8].correct, sized[1].correct, seed=seed) if {1, 8} <= set(sized) else None
    said = f"{mine:+.3f} in this run, {'told apart' if 0.0 not in mine else 'not told apart'}" if mine else "not run"
    if name in whole:
        said += f"; {by_size.gap(f'accuracy_{name}_8', f'accuracy_{name}_1'):+.3f} in the reference"
    print(f"{titles[name]}, size 8 minus size 1: {said}")
if not same_alpha:
    print("LoRA's reference at other ranks has another alpha, so it is left out.")

# %%
both_sizes = {name: parts for name, parts in swept.items() if {1, 8} <= set(parts)}
here = {name: parts[8].accuracy.value - parts[1].accuracy.value for name, parts in both_sizes.items()}
of_draw = [{name: by_size.metrics[f"accuracy_{name}_8"][draw] - by_size.metrics[f"accuracy_{name}_1"][draw]
            for name in swept} for draw in range(len(by_size.seeds))]  # fmt: skip
reveal(
    "07.3",
    titles[max(here, key=here.get)] if here else None,
    reference=[titles[max(one, key=one.get)] for one in of_draw] if len(whole) == len(swept) else (),
)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - LoRA at rank 1 has most of what LoRA gains over the head alone. Whether rank 8 adds anything is for the intervals
#   above to say. Where one contains 0, its runs cannot tell. Lesson 08 looks at the rank in detail.
# - The soft prompt stays where it is at every length: with this recipe, more vectors do not help.
# - The points are one seed, one draw of reviews, and their bars cover the test rows alone. A band is over seeds.
#
# </details>
#
# ### Exercise 07.4: LoRA on a budget
#
# At work you decide two things: which layers get LoRA, and at which rank. More layers at one rank are also more
# parameters, so a fair comparison fixes the number of parameters.
#
# Write the function that makes such a comparison fair. It gets a model, the last parts of some linear layers' paths
# (`["query", "value"]`) and a budget. It returns a `LoraConfig` for these layers, with alpha 16 and the largest rank
# whose parameters fit. Your configuration is trained below.


# %% tags=["exercise"]
def lora_within(body, names, budget):
    return ...


check("07.4", lora_within)
# hint("07.4")


# %% tags=["solution"]
def lora_within(body, names, budget):
    layers = [
        layer
        for path, layer in body.named_modules()
        if isinstance(layer, nn.Linear) and path.rpartition(".")[2] in names
    ]
    each = sum(layer.in_features + layer.out_features for layer in layers)  # what one rank costs
    return LoraConfig(r=budget // each, lora_alpha=16, target_modules=list(names))


check("07.4", lora_within)

# %% [markdown]
# We spread the parameters over every linear layer, and compare with LoRA of the table. The budget is what rank 9 on
# queries and values would cost; at rank 2 every linear layer of the pocket encoder costs exactly that. A choice of
# layers is a choice like a rate, so *validation* rows judge it.
#
# Both train at the rate that was searched for queries and values at rank 8. So the comparison favours the table's LoRA.

# %%
lora_within = go_on_with("07.4", lora_within, experiment.lora_within)
chosen_layers = linear_names(new_body())  # try others: ["dense"], or ["query", "key", "value"]
allowance = 9 * (outcomes["lora"].parameters - outcomes["head_only"].parameters) // rank
kept_back = reviews["validation"].select(range(min(test_count, len(reviews["validation"]))))
kept_back = TokenizedReviews.from_dataset(tokenize(kept_back, tokenizer, max_length=max_tokens))
judging = Task(None, rows["train"], kept_back, collate, run.device)
settings = {"epochs": epoch_count, "seed": seed, "num_labels": num_labels}
base, method = catalog.masked_language_model(track, model), experiment.within(chosen_layers, allowance, lora_within)
_, placed = experiment.fine_tune(method, base, judging, **settings)
logits, labels_kept = predict_rows(fitted["lora"].classifier, kept_back, collate, bfloat16=True)
of_table = (logits.argmax(dim=-1) == labels_kept).double()
by_choice, by_table = placed.accuracy, wilson(int(of_table.sum()), len(of_table))
print(f"{len(kept_back)} validation reviews; budget {allowance:,} parameters beside the head")
print(f"{', '.join(chosen_layers)}: {by_choice:.3f}, {placed.parameters:,} trained with the head")
print(f"{', '.join(targets)} at rank {rank}: {by_table:.3f}, {outcomes['lora'].parameters:,}")
placing = paired_bootstrap(placed.correct, of_table, seed=seed)
print(f"difference {placing:+.3f}: this run", "cannot tell them apart" if 0.0 in placing else "tells them apart")

# %% [markdown]
# Read the interval first: with one draw of reviews, a small gap decides nothing. Change
# `chosen_layers`, and run the cell again. "LoRA Without Regret" (Schulman et al. 2025) reports that LoRA at the
# attention alone falls behind even at equal parameters, in models of billions. See lessons 08 and 09.
#
# ### And on a larger model?
#
# The model's sizes decide how many parameters a method trains. Here are the formulas, checked against the models that
# we trained. For larger models they say what is trained, not how well.


# %%
def counts(hidden, depth, inner, vocabulary, places):  # places: positions and types of sentence
    """Method -> parameters trained in the body (without the head), for a model like BERT."""
    block = 4 * (hidden * hidden + hidden) + hidden * inner + inner + inner * hidden + hidden + 4 * hidden
    return {
        "BitFit": hidden + depth * (5 * hidden + inner + 2 * hidden),
        "last block": block,
        "bottleneck adapter": depth * 2 * (2 * hidden * experiment.SIZE + experiment.SIZE + hidden),
        "IA3": depth * (2 * hidden + inner),
        "soft prompt": length * hidden,
        "prefix": depth * 2 * length * hidden,
        "LoRA": depth * 2 * 2 * rank * hidden,
        "everything": (vocabulary + places + 2) * hidden + depth * block,
    }


shape = Architecture.of(new_body().config)  # its sizes, whatever the family calls them
sizes_of = (shape.hidden, shape.layers, shape.inner, shape.vocabulary, shape.positions)
here = counts(*sizes_of)
in_head = outcomes["head_only"].parameters
for name in of:
    if name != "head_only":
        assert here[titles[name]] + in_head == outcomes[name].parameters, name

# %%
from ipywidgets import HTML, SelectionSlider, VBox

models = {
    "this one": sizes_of,
    "BERT-base": (768, 12, 3072, 30522, 514),
    "BERT-large": (1024, 24, 4096, 30522, 514),
    "MiniLM": (384, 6, 1536, 30522, 514),  # the published encoder of section 10
    "7B": (4096, 32, 16384, 32000, 2050),  # GPT-style. A Llama has no biases, so BitFit has nothing to train there
}
in_7b = counts(*models["7B"])
print(f"7B in float32: the weights take {4 * in_7b['everything'] / 1e9:.1f} GB, gradients and AdamW's means take")
for name in ("LoRA", "bottleneck adapter", "everything"):
    print(f"{12 * in_7b[name] / 1e9:8.2f} GB to train {name}")


def shares(name):
    found = counts(*models[name])
    return figures.trained_shares(found, families, f"{name}: {found['everything']:,} parameters")


plotting.show(shares("7B"))

# %%
slider = SelectionSlider(options=list(models), value="this one", description="model", continuous_update=False)
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(shares(slider.value))


slider.observe(redraw, names="value")
redraw()
VBox([slider, page])

# %% [markdown]
# The figure above the slider is its position at a GPT-style 7B. (A Llama has no biases, so BitFit has nothing to train
# there; `BeftConfig` can add biases, but they cannot be merged.)
#
# A weight matrix grows with the square of `hidden`. At a fixed size, rank and length, what adapter, IA3, prompt, prefix
# and LoRA add grows with `hidden` alone: the larger the model, the smaller their share. The gigabytes printed above
# come on top of the weights, which every method keeps in memory, and of the activations.

# %% [markdown]
# ## 9. Find the bug
#
# This adapter sets the weights of its last layer to zero. The code runs, the loss falls, no warning appears. Yet the
# model that it is put into is disturbed before the first step. What does it do to an input of zeros?


# %%
class FaultyAdapter(nn.Module):
    def __init__(self, hidden, size):
        super().__init__()
        self.down, self.up = nn.Linear(hidden, size), nn.Linear(size, hidden)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden):
        return hidden + self.up(nn.functional.gelu(self.down(hidden)))


# %% [markdown]
# How would you have seen it? By one measurement before training: with the adapters in, the language model's loss has
# to be what it was, to the last digit.


# %%
def with_adapters(adapter):
    """A language model with an adapter of this class behind each attention and each feed-forward layer."""
    seed_everything(seed)
    language_model = catalog.masked_language_model(track, model).to(run.device)
    for block in blocks(language_model.base_model):
        for path in (places.attention_output, places.feed_forward_output):
            layer = block.get_submodule(path)
            made = adapter(layer.out_features, experiment.SIZE)
            block.set_submodule(path, nn.Sequential(layer, made).to(run.device))
    return language_model


loss_at_start = {}
for name, adapter in (("BottleneckAdapter", BottleneckAdapter), ("FaultyAdapter", FaultyAdapter)):
    found = domain_losses(with_adapters(adapter), domains)
    loss_at_start[name] = sum(found.values()) / len(found)
loss_pretrained = sum(before.values()) / len(before)
print(f"masked-word loss of the pretrained model   {loss_pretrained:.3f}")
for name, loss in loss_at_start.items():
    print(f"before the first step, with {name:18}{loss:.3f}")
assert loss_at_start["BottleneckAdapter"] == loss_pretrained != loss_at_start["FaultyAdapter"]
assert model or loss_pretrained < loss_at_start["FaultyAdapter"]  # one of your own that knows nothing may gain

# %% [markdown]
# <details><summary>What is wrong</summary>
#
# `up` has a bias, and that bias is drawn at random. So the adapter adds a constant vector to every token, in every
# block. Zeroing everything would cure that and bring the next bug: with `down` at zero too, no gradient reaches `up`'s
# weight, nor `down`'s.
#
# </details>
#
# ## 10. On real text
#
# Five of the methods on all-MiniLM-L6-v2, a published encoder, and sentences of film reviews that people wrote and
# rated (Hutto and Gilbert 2014). `workbook real` fetches both once. The code is that of section 6, with 480 labelled
# sentences, two epochs and 500 test sentences. The baselines are fitted to the same sentences.
#
# The rates are the recipes for published models. The last column says how each was searched. That differs, so a table
# below asks whether another rate would help training everything.

# %%
from helpers import real

real_values, compared = {}, ("head_only", "bitfit", "adapter", "lora", "full")
if track != "pocket" or real.trouble(["encoder", "texts"]):
    print("Not trained in this run: `workbook real` fetches the files. The table below is the reference.")
else:
    sentences, real_tokenizer = catalog.dataset("reviews", "real"), catalog.tokenizer("encoder", "real")
    chosen = sample_rows(sentences["train"], run.by_budget(quick=32, standard=experiment.REAL_LABELS), seed)
    judged = sentences["test"].select(range(run.by_budget(quick=32, standard=experiment.REAL_TEST_ROWS)))
    parts = [TokenizedReviews.from_dataset(tokenize(part, real_tokenizer, 128)) for part in (chosen, judged)]
    real_task = Task(None, *parts, pad(real_tokenizer), run.device)
    real_values |= {f"accuracy_{name}": value for name, value in experiment.baselines(chosen, judged).items()}
    for name in compared:
        language_model = catalog.masked_language_model("real", new_head=True)
        passes = run.by_budget(quick=1, standard=experiment.REAL_EPOCHS)
        _, found = experiment.fine_tune(of[name], language_model, real_task, epochs=passes, seed=seed)
        real_values[f"accuracy_{name}"] = found.accuracy.value
        print(f"{found.title}: {found.accuracy:.3f}, {found.parameters:,} trained, {found.seconds:.0f} s")

# %%
measured, table = real_reference("07"), {}
known = set(measured.metrics if measured else ())


def on_sentences(metric):
    """This run's value, the reference, and the reference minus training everything and minus the bag of words."""
    cells = [f"{real_values[metric]:.3f}" if metric in real_values else ""]
    cells.append(f"{measured.interval(metric):.3f}" if metric in known else "")
    for other in ("accuracy_full", "accuracy_bag_of_words"):
        cells.append(f"{measured.gap(metric, other):+.3f}" if metric != other and {metric, other} <= known else "")
    return cells


for name, title in (("majority", "majority class"), ("bag_of_words", "bag of words")):
    table[title] = [*on_sentences(f"accuracy_{name}"), "", "", ""]
for name in compared:
    used, in_body = of[name].recipe("published"), counts(*models["MiniLM"]).get(titles[name], 0)
    cells = [f"{in_body + 2 * (384 + 1):,}", f"{used.learning_rate:g}", used.source]
    table[titles[name]] = [*on_sentences(f"accuracy_{name}"), *cells]
columns = ["this run", "reference [95 %]", "minus everything [95 %]", "minus bag of words [95 %]"]
columns += ["trained parameters", "rate", "its source"]
with pd.option_context("display.max_colwidth", None):
    display(pd.DataFrame.from_dict(table, orient="index", columns=columns))

# %%
on_minilm = "no reference yet"
if measured:
    gap_to = {name: measured.gap(f"accuracy_{name}", "accuracy_full") for name in compared if name != "full"}
    below = ", ".join(titles[name] for name, gap in gap_to.items() if gap.high < 0) or "none"
    level = ", ".join(f"{titles[name]} {gap:+.3f}" for name, gap in gap_to.items() if 0.0 in gap) or "none"
    on_minilm = f"below everything by an interval without 0: {below}; not told apart from it: {level}"
    print("Reference:", measured.label, on_minilm, sep="\n")
searched = load_reference("peft_real_rates")
asked, seeds = searched.settings["validation_rows"], len(searched.seeds)
scores = {f"{rate:g}": searched.interval(f"accuracy_full_{rate:g}") for rate in searched.settings["rates"]}
if seeds == 1:  # no interval over seeds, so the one that the sentences alone give
    scores = {rate: wilson(round(asked * score.value), asked) for rate, score in scores.items()}
print(f"Everything at other rates, {asked} validation sentences: {searched.label}")
title = f"validation accuracy [95 %, over {'sentences' if seeds == 1 else 'seeds'}]"
pd.DataFrame({title: {rate: f"{score:.3f}" for rate, score in scores.items()}}).rename_axis("rate")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - Read the baselines first. So few sentences give the bag of words little to count. In the reference MiniLM's head
#   alone is above it, unlike the pocket encoder's in section 6: its features already tell much about sentiment.
# - *Not told apart* is not *equal*. With three seeds these intervals are some points wide on either side.
# - Compare the last table's rows with the rate in use. A difference inside the intervals is no reason to change it. A
#   larger one means that everything could do better than above.
#
# </details>
#
# ### The usual `peft` workflow, once in full
#
# At work you rarely write a method yourself. You take the library's classifier, hand it to `peft` with a configuration,
# train it with `Trainer`, and save the adapter. Here is that for LoRA: on MiniLM where its files are on this disk, else
# on the encoder of this run. Lesson 09 looks into every step.
#
# `AutoModelForSequenceClassification` puts a new head on the pretrained body. A BERT classifier reads the first token
# through one more layer, the *pooler*.

# %%
from transformers import AutoModelForSequenceClassification

from helpers.recipes import recipe

on, own_model = ("real", "") if real_values else (track, model)
source, classes = catalog.model_source("encoder", on, own_model), 2 if real_values else num_labels
work_tokenizer = catalog.tokenizer("encoder", on, own_model)
work_train, work_test = parts if real_values else (rows["train"], rows["test"])
kept_back = (sentences if real_values else reviews)["validation"]  # for `Trainer`; the test rows are for the end
kept_back = kept_back.select(range(min(run.by_budget(quick=32, standard=200), len(kept_back))))
work_validation = TokenizedReviews.from_dataset(tokenize(kept_back, work_tokenizer, 128 if real_values else max_tokens))


def new_classifier(start):
    """The library's classifier, and its modules that the pretrained file lacks; those are drawn at random."""
    seed_everything(start)
    options = {"num_labels": classes, "dtype": torch.float32, "output_loading_info": True}
    found, loading = AutoModelForSequenceClassification.from_pretrained(source, **options)
    prefix = f"{found.base_model_prefix}."
    return found.to(run.device), sorted({key.removeprefix(prefix).split(".")[0] for key in loading["missing_keys"]})


base, new_modules = new_classifier(seed)
print(f"{type(base).__name__}, {base.num_parameters():,} parameters; drawn at random: {', '.join(new_modules)}")

# %% [markdown]
# Three settings of `LoraConfig` deserve a decision:
#
# - `task_type="SEQ_CLS"`: `peft` then trains and *saves* the classification head. With `FEATURE_EXTRACTION` it does not
#   add the head to `modules_to_save`: the file lacks the head, and `all-linear` even puts a LoRA on the random head.
# - `target_modules="all-linear"`: LoRA at every linear layer but the head, not at queries and values alone.
# - `modules_to_save`: what else is new, and so has to be trained and saved in full.
#
# The rank is this lesson's.

# %%
how = recipe("lora", catalog.origin("encoder", on, own_model))
others = [name for name in new_modules if name not in ("classifier", "score")]  # SEQ_CLS adds these two itself


def lora_for(task_type):  # `peft` extends the list that it gets, so every configuration needs a list of its own
    return LoraConfig(task_type=task_type, r=rank, lora_alpha=experiment.ALPHA, target_modules="all-linear",
                      modules_to_save=list(others) or None)  # fmt: skip


with torch.inference_mode():
    probe = pad(work_tokenizer)([work_test[row] for row in range(min(4, len(work_test)))])
    probe = {name: probe[name].to(run.device) for name in ("input_ids", "attention_mask")}
    logits_before = base.eval()(**probe).logits
adapted = get_peft_model(base, lora_for("SEQ_CLS"))
adapted.print_trainable_parameters()
in_full = sum(p.numel() for name, p in adapted.named_parameters() if p.requires_grad and "lora_" not in name)
print(f"of these, {in_full:,} are not LoRA's but the new modules', which are trained in full")

# %%
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments


def compute_metrics(evaluated):
    return {"accuracy": float((evaluated.predictions.argmax(axis=-1) == evaluated.label_ids).mean())}


def trainer_for(found, rate, epochs):
    arguments = TrainingArguments(
        output_dir=folder.name, seed=seed, use_cpu=run.device == "cpu", learning_rate=rate, num_train_epochs=epochs,
        per_device_train_batch_size=16, per_device_eval_batch_size=64, warmup_steps=0.1, lr_scheduler_type="linear",
        weight_decay=0.01, train_sampling_strategy="group_by_length", label_names=["labels"], save_strategy="no",
        report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=found, args=arguments, train_dataset=work_train, eval_dataset=work_validation,
        data_collator=DataCollatorWithPadding(work_tokenizer), compute_metrics=compute_metrics,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


# %% [markdown]
# The rate of a recipe was searched for another classifier and another number of steps. So try it and twice as much, and
# let the *validation* rows choose. The test rows judge the chosen one alone. The epochs are those of the tables.

# %%
passes = run.by_budget(quick=1, standard=experiment.REAL_EPOCHS if real_values else epochs)
found_at = {}
for rate in (how.learning_rate, 2 * how.learning_rate):
    adapted = get_peft_model(new_classifier(seed)[0], lora_for("SEQ_CLS"))
    trainer = trainer_for(adapted, rate, passes)
    spent = trainer.train().metrics["train_runtime"]
    found_at[rate] = trainer.evaluate()["eval_accuracy"], trainer
    print(f"LoRA at all linear layers, rate {rate:g}: validation {found_at[rate][0]:.3f}, {spent:.0f} s")
best_rate = max(found_at, key=lambda rate: found_at[rate][0])
trainer = found_at[best_rate][1]
adapted = trainer.model
judged_as = trainer.predict(work_test)
right_lora = judged_as.predictions.argmax(axis=-1) == judged_as.label_ids
by_workflow = wilson(int(right_lora.sum()), len(right_lora))
print(f"chosen: {best_rate:g}; test {by_workflow:.3f}")

# %% [markdown]
# Is that good? The classifier differs from the tables': it reads the first token and not the mean of all. So the fair
# comparison is **everything in the same classifier**, with the same rows, `Trainer` and epochs. It gets the rate of
# the table, where LoRA got the better of two. That favours LoRA a little.

# %%
full_rate = recipe("full", catalog.origin("encoder", on, own_model)).learning_rate
control = trainer_for(new_classifier(seed)[0], full_rate, passes)
spent = control.train().metrics["train_runtime"]
judged_as = control.predict(work_test)
right_full = judged_as.predictions.argmax(axis=-1) == judged_as.label_ids
full_by_workflow = wilson(int(right_full.sum()), len(right_full))
behind_full = paired_bootstrap(right_lora, right_full, seed=seed)
floor_here = real_values["accuracy_bag_of_words"] if real_values else by_words.value
print(f"everything, rate {full_rate:g}: test {full_by_workflow:.3f}, {spent:.0f} s; bag of words {floor_here:.3f}")
print(f"LoRA minus everything, in this classifier: {behind_full:+.3f}")

# %% [markdown]
# Compare the two validation figures: how much the rate decides. If a first run lies near the bag of words, try other
# rates on validation rows before you blame the method.
#
# Now save the adapter, and load it onto a fresh base. The fresh head has other random numbers, so the right logits can
# come from the adapter's file alone. (The merged model adds in another order, so it agrees up to rounding.)

# %% tags=["nbval-check-output"]
from peft import PeftModel
from safetensors.torch import load_file

at = Path(folder.name) / "peft"
adapted.save_pretrained(at)
loaded = PeftModel.from_pretrained(new_classifier(seed + 1)[0], at).eval()
with torch.inference_mode():
    logits_trained = adapted.eval()(**probe).logits
    print("saved, and loaded onto a fresh base:", same(loaded(**probe).logits, logits_trained))
    with adapted.disable_adapter():
        print("adapter disabled, against before the training:", same(adapted(**probe).logits, logits_before))
    merged = loaded.merge_and_unload()
    difference_merged = (merged(**probe).logits - logits_trained).abs().max().item()
print(f"merged into a plain {type(merged).__name__}; logits within 0.0001: {difference_merged <= 1e-4}")
assert difference_merged <= 1e-4

# %% [markdown]
# What is in the file, and what would the other task type have saved? We save an untrained adapter of each type and list
# the tensors that are not LoRA's.

# %%
heads, file_name = {}, "adapter_model.safetensors"
for task_type in ("SEQ_CLS", "FEATURE_EXTRACTION"):
    one = get_peft_model(new_classifier(seed)[0], lora_for(task_type))
    one.save_pretrained(at.with_name(task_type))
    kept = load_file(at.with_name(task_type) / file_name)
    full = [key.removeprefix("base_model.model.") for key in kept if "lora_" not in key]
    heads[task_type] = any(key.startswith("classifier.") for key in full)
    on_head = any(".classifier." in key and "lora_" in key for key in kept)
    print(f"{task_type}: {len(kept)} tensors; a LoRA on the head: {on_head}; in full: {', '.join(sorted(full))}")
if "classifier" in new_modules:
    assert heads == {"SEQ_CLS": True, "FEATURE_EXTRACTION": False}
size = (at / file_name).stat().st_size
print(f"the trained adapter's file: {size / 1e6:.2f} MB; the whole model: {4 * merged.num_parameters() / 1e6:.1f} MB")

# %% [markdown]
# The adapter never changed the base. Ten tasks are ten such files beside one base: `load_adapter` reads a second one,
# and `set_adapter` chooses. Our second one is the untrained adapter of the last cell, so with it the model has to
# answer as before the training. For one task, `merge_and_unload()` gives a plain model, at no extra cost per call.

# %% tags=["nbval-check-output"]
adapted.load_adapter(at.with_name("SEQ_CLS"), "second")
with torch.inference_mode():
    for name, wanted in (("second", logits_before), ("default", logits_trained)):
        adapted.set_adapter(name)
        print(f"adapter {name}:", same(adapted.eval()(**probe).logits, wanted))
        assert torch.equal(adapted(**probe).logits, wanted)

# %% [markdown]
# ### Which method, when?
#
# Now the title's question. A method is a candidate if its mean accuracy over five seeds lies at most `allowed` below
# training everything. Each job then takes the candidate that costs least. A mean inside the limit is no proof, so one
# column says whether the whole interval lies inside. *Level with it* lists the methods that five seeds cannot tell
# from the chosen one in accuracy. The last column has the same gap on MiniLM; it is empty for methods that were not
# trained there.

# %%
allowed = 0.05  # accuracy that you would give up; try 0.03
mean_of = {name: {kind: reference.interval(f"{kind}_{name}").value
                  for kind in ("accuracy", "checkpoint_bytes", "seconds", "loss_rise")} for name in of}  # fmt: skip
lost = {name: reference.gap(f"accuracy_{name}", "accuracy_full") for name in of}
candidates = [name for name in of if name not in ("head_only", "full") and lost[name].value >= -allowed]
apart = [name for name in candidates if name in untouched]  # its parts can be left out
jobs = {
    "the highest accuracy": ([*candidates, "full"], lambda name: -mean_of[name]["accuracy"]),
    "the smallest file for each task": (candidates, lambda name: mean_of[name]["checkpoint_bytes"]),
    "the least memory beside the weights": (candidates, lambda name: sum(memory[name].values())),
    "the shortest training": (candidates, lambda name: mean_of[name]["seconds"]),
    "the old task least disturbed, in place": (candidates, lambda name: mean_of[name]["loss_rise"]),
    "many tasks on one base": (apart, lambda name: -mean_of[name]["accuracy"]),
    "the same, and merged for use": ([name for name in apart if name in ("ia3", "lora")],
                                     lambda name: -mean_of[name]["accuracy"]),
}  # fmt: skip
there = {  # on MiniLM: accuracy over the reference's seeds, or in this run
    name: measured.interval(f"accuracy_{name}").value if measured else real_values[f"accuracy_{name}"]
    for name in (compared if measured or real_values else ())
}
gap_there = {name: value - there["full"] for name, value in there.items()}


# %%
def level_with(name, among):
    """The methods among these that five seeds cannot tell from this one in accuracy."""
    gap = {other: reference.gap(f"accuracy_{other}", f"accuracy_{name}") for other in among if other != name}
    return ", ".join(titles[other] for other, found in gap.items() if 0.0 in found)


chosen_for = {job: min(among, key=cost) for job, (among, cost) in jobs.items() if among}
rule = {
    job: [
        titles[name],
        f"{lost[name]:+.3f}" if name != "full" else "",
        "" if name == "full" else "yes" if lost[name].low >= -allowed else "crosses it",
        level_with(name, jobs[job][0]),
        f"{gap_there[name]:+.3f}" if name in gap_there and name != "full" else "",
    ]
    for job, name in chosen_for.items()
}
columns = ["take", "minus everything (five seeds) [95 %]", "interval within the limit", "level with it in accuracy"]
with pd.option_context("display.max_colwidth", None):
    display(pd.DataFrame.from_dict(rule, orient="index", columns=[*columns, "the same gap on MiniLM"]))
if gap_there:
    near = [name for name in gap_there if name not in ("head_only", "full") and gap_there[name] >= -allowed]
    print("On MiniLM, within the limit by the mean:", ", ".join(titles[name] for name in near) or "none")
    whole = [titles[name] for name in near if measured and gap_to[name].low >= -allowed]
    print("by the whole interval:", ", ".join(whole) or "none")

# %% [markdown]
# <details><summary>How to use it</summary>
#
# - Start from the job. Where only the accuracy of one task counts, train everything if it fits your memory.
# - Where *level with it* names others, accuracy does not decide: take the one whose cost you care about, or the one
#   that your tools support. `peft` trains, saves and merges LoRA and IA3.
# - The rule is this task's, on small models. Measure two or three candidates on your own validation rows, each with its
#   own rate.
#
# </details>
#
# ### Other people's figures
#
# | method, model, task | what they report | source |
# |---|---|---|
# | adapters, BERT-large, GLUE | within 0.4 % of full fine-tuning, with 3.6 % more parameters | Houlsby et al. 2019 |
# | prefix, GPT-2 | comparable on table-to-text with all data, 0.1 % of the parameters | Li and Liang 2021 |
# | prefix, BART | behind full fine-tuning on summaries (XSUM) | Li and Liang 2021 |
# | soft prompt, T5 | far behind for small models, as good as full at billions of parameters | Lester et al. 2021 |
# | LoRA, RoBERTa-base, GLUE mean | 87.24 with 0.8 M trained, against 86.40 with 125 M | microsoft/LoRA README |
#
# Theirs, not ours: other data, far larger models. LoRA's mean is not quite like against like: for MRPC, RTE and STS-B
# its training started from the checkpoint for MNLI (Hu et al. 2021, appendix D).
#
# ## 11. Recap

# %%
thin = {name: outcomes[name].parameters / outcomes["full"].parameters for name in ("ia3", "bitfit", "adapter", "lora")}
told = "; ".join(
    f"{titles[name]} ({part:.1%} of the parameters) {reference.gap(f'accuracy_{name}', 'accuracy_full'):+.3f}"
    for name, part in thin.items()
)
head_gap = reference.gap("accuracy_head_only", "accuracy_full")
share_of_bytes = file_bytes["lora"] / file_bytes["full"]
share_of_memory = sum(memory["lora"].values()) / sum(memory["full"].values())
share_of_time = reference.interval("seconds_lora").value / reference.interval("seconds_full").value
sure = {name: name == "full" or lost[name].low >= -allowed for name in chosen_for.values()}
picked = "; ".join(f"{job}: {titles[name]}{'' if sure[name] else ' (?)'}" for job, name in chosen_for.items())
unsure = ", ".join(titles[name] for name, inside in sure.items() if not inside) or "none of them"
old_loss = {name: reference.interval(f"loss_rise_{name}") for name in ("lora", "full")}
under = [titles[name] for name in of if reference.gap(f"accuracy_{name}", "accuracy_bag_of_words").high < 0]
display(
    Markdown(f"""
1. **Few parameters do most of the work**, at these placements. Accuracy minus training everything, five seeds: {told};
   the head alone {head_gap:+.3f}. Below the bag of words: {", ".join(under) or "none"} (*section 6*).
2. **PEFT saves much storage and optimizer memory, but little time.** LoRA's file takes {share_of_bytes:.1%} of the
   bytes, and its training {share_of_memory:.0%} of the memory beside the weights (*this run*) and {share_of_time:.0%}
   of the seconds (*five seeds, section 6*).
3. **Added parts can be left out without a trace**; in place, they disturb the old task too: over five seeds LoRA raised
   the old loss by {old_loss["lora"]:.2f}, training everything by {old_loss["full"]:.2f} (*section 7*).
4. **Soft prompt and prefix** are not judged fairly here: their rate lies at the edge of the grid, and their training is
   short. At a rate of {higher:g} this run's soft prompt changes by {change:+.3f} (*section 6*).
5. **On MiniLM and real sentences** (*section 10*): {on_minilm}.
6. **Which, when?** If you give up at most {allowed:g} of accuracy: {picked}. A question mark: by the mean alone; the
   interval over five seeds crosses the limit ({unsure}) (*section 10*).
""")
)

# %%
from helpers.record import record

values = {"accuracy_majority": floor.value, "accuracy_bag_of_words": by_words.value}
for name, found in outcomes.items():
    values |= found.metrics(name) | {f"checkpoint_bytes_{name}": file_bytes[name], f"loss_rise_{name}": rise[name]}
for name, parts in swept.items():
    values |= {f"accuracy_{name}_{size}": part.accuracy.value for size, part in parts.items()}
values["accuracy_soft_prompt_higher_rate"] = hotter.accuracy.value
values |= {"difference_ia3_peft": difference_ia3, "difference_soft_prompt_peft": difference_soft_prompt_peft}
values |= {"difference_lora_peft": difference_lora_peft}
if peft_knows_prefix(new_body()):
    values["difference_prefix_peft"] = difference_prefix_peft
values |= {f"loss_at_start_{kind.replace('Adapter', '').lower()}": loss for kind, loss in loss_at_start.items()}
values |= {f"training_bytes_{name}": sum(found.values()) for name, found in memory.items()}
values |= {"accuracy_workflow_lora": by_workflow.value, "accuracy_workflow_full": full_by_workflow.value}
values |= {"validation_lora": by_table.value, "validation_lora_within": by_choice.value}
values |= {f"real_{metric}": value for metric, value in real_values.items()}
settings = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data}
settings |= {"labels": labels, "epochs": epochs, "length": length, "rank": rank}
saved = record("07_peft_methods", settings, **values)
folder.cleanup()
print(f"saved: {saved.name}")
solved("07")

# %% [markdown]
# ## Next
#
# - Does the order change with more labels? `workbook run 07 -p labels 2000`.
# - A longer prompt and a higher rank: `workbook run 07 -p length 64 -p rank 32`.
# - Lesson 08 takes LoRA and builds it from nothing.
# - Read on: `method_comparison/` in `peft`'s repository, and methods left out here: DoRA (lesson 09) trains a weight's
#   length and direction apart, AdaLoRA spends the rank where it helps, VeRA trains two vectors between random matrices,
#   OFT multiplies a weight by a trained orthogonal matrix.
#
# ## References
#
# | work | year |
# |---|---|
# |Ben Zaken et al., *BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models*|2022|
# | Houlsby et al., *Parameter-Efficient Transfer Learning for NLP* | 2019 |
# | Liu et al., *Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning* | 2022 |
# | Hutto and Gilbert, *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text* | 2014 |
# | Lester et al., *The Power of Scale for Parameter-Efficient Prompt Tuning* | 2021 |
# | Li and Liang, *Prefix-Tuning: Optimizing Continuous Prompts for Generation* | 2021 |
# | Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*; the code: microsoft/LoRA | 2021 |
# | He et al., *Towards a Unified View of Parameter-Efficient Transfer Learning* | 2022 |
# | Lialin et al., *Scaling Down to Scale Up: A Guide to Parameter-Efficient Fine-Tuning* | 2023 |
# | Schulman et al., *LoRA Without Regret*, Thinking Machines Lab | 2025 |
# |Liu et al., *P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally Across Scales and Tasks*|2022|
# | Zhang et al., *LLaMA-Adapter: Efficient Fine-tuning of Language Models with Zero-init Attention* | 2023 |
# | Zhang et al., *AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning* | 2023 |
# | Biderman et al., *LoRA Learns Less and Forgets Less* | 2024 |
# | Qiu et al., *Controlling Text-to-Image Diffusion by Orthogonal Finetuning* (OFT) | 2023 |
# | Kopiczko et al., *VeRA: Vector-based Random Matrix Adaptation* | 2024 |
# | Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation* | 2024 |
