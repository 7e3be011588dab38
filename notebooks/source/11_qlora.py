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
# # Can a 4-bit model still learn?
#
# A weight of 4 bits has sixteen possible values. No optimizer can move it by a thousandth.
# [QLoRA](../docs/glossary.md#qlora) does not try: it freezes the rounded weights and trains a small
# [adapter](../docs/glossary.md#adapter) *through* them. What does that save, and what does it cost?
#
# *About 50 minutes to read (an estimate), two to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - build a 4-bit linear layer with a LoRA branch, and show that it is the library's, gradients included;
# - load a model through `BitsAndBytesConfig` and train it with `Trainer`;
# - predict what a training step takes in memory, part by part, and check the prediction;
# - say which part each method shrinks, and what it does for 7 and for 65 billion weights;
# - keep an adapter together with the base it was trained on.

# %%
import copy
import math
from dataclasses import replace

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import linear

from helpers import catalog, plotting, qlora
from helpers.batches import TokenizedReviews, full_rows, length_batches, pad, sample_rows, tokenize
from helpers.checks import check, hint, solved  # noqa: F401 - hint("11.1") helps when you are stuck
from helpers.evaluation import predict as answers
from helpers.intervals import paired_bootstrap, wilson
from helpers.lessons.lesson_11 import figures
from helpers.lora import LoRALinear
from helpers.memory.architecture import Architecture
from helpers.models import without_dropout
from helpers.runtime import check_number, seed_everything, start
from helpers.training import trainable_parameters

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": twice the labels
seed = 0  # draws the training reviews, the heads and the adapters
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 1200  # training reviews with a label
epochs = 3  # passes over them
rank = 8  # of the adapters
rate_scale = 1.0  # every learning rate times this

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("labels", labels, 2, 1_000_000, integer=True)
check_number("epochs", epochs, 1, 100, integer=True)
check_number("rank", rank, 1, 64, integer=True)
check_number("rate_scale", rate_scale, 1e-3, 1e3)
train_count = run.by_budget(quick=min(labels, 32), standard=labels, full=2 * labels)
test_count = run.by_budget(quick=64, standard=100_000)
epoch_count = run.by_budget(quick=1, standard=epochs)

# %% [markdown]
# ## 1. A gradient through a weight that never moves
#
# Write one linear layer as $y = x W^\top$. Training needs two gradients of it: for $W$, to move it, and for $x$, to
# reach the layers below. If $W$ is frozen, only the second is left: the gradient of $y$, times $W$. That *reads* $W$
# and never writes it. So $W$ may lie in 4 bits, and be unpacked for a moment when it is read.
#
# What learns is a [LoRA](../docs/glossary.md#lora) branch beside it (lesson 08), in float32.

# %% [markdown]
# Lesson 10 built the pieces: [NF4](../docs/glossary.md#nf4) codes, a scale for each block of 64 weights, and those
# scales in 8 bits (*[double quantization](../docs/glossary.md#double-quantization)*). Here they become a layer.
# `autograd.Function` lets us say what the backward pass does: unpack once more, and keep nothing.

# %%
from helpers.quantization.packing import pack, unpack
from helpers.quantization.quantizers import double_dequantize, double_quantize, nf4_code, to_code_book

BLOCK = 64  # weights that share a scale


class FourBitProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, layer):  # x: (..., in)
        ctx.layer = layer  # 4 bits a weight; what a plain product would keep is the unpacked matrix
        return linear(x, layer.weight(), layer.bias)

    @staticmethod
    def backward(ctx, gradient):  # (..., out) -> (..., in), and nothing for W: it is frozen
        return gradient @ ctx.layer.weight(), None


# %%
class FourBitLinear(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.in_features, self.out_features = base.in_features, base.out_features
        self.bias = None if base.bias is None else base.bias.detach()
        codes, scale = to_code_book(base.weight, nf4_code(), BLOCK)
        self.packed, self.scales = pack(codes, bits=4), double_quantize(scale)

    def weight(self):
        codes = unpack(self.packed, 4, self.in_features * self.out_features).reshape(-1, BLOCK)
        blocks = nf4_code()[codes] * double_dequantize(*self.scales)  # (blocks, 64)
        return blocks.reshape(self.out_features, self.in_features)

    def forward(self, x):
        return FourBitProduct.apply(x, self)


# %% [markdown]
# (`helpers.quantization.four_bit` holds the same two.) We take a real layer: the first of the encoder that leads from
# `hidden` to `inner`. How far is the unpacked weight from the original?
#
# First `check_rows` asks bitsandbytes for a round trip with rows of this model's lengths. Its AVX-512 code unpacks some
# lengths wrongly, its AVX2 code none, so a model can be refused on one CPU and run on another.

# %%
float_body = catalog.body("encoder", track, model).eval()
qlora.check_rows(float_body, run.device)
architecture = Architecture.of(float_body.config)  # section 3 has no formulas for some families: they are told so now
base = next(m for m in float_body.modules() if isinstance(m, nn.Linear) and m.in_features < m.out_features)
ours = FourBitLinear(base)
off = (ours.weight() - base.weight).abs().mean() / base.weight.abs().mean()
print("weight:", tuple(base.weight.shape), " as float32:", f"{4 * base.weight.numel():,} bytes")
print(f"its 4-bit codes: {len(ours.packed):,} bytes; mean error: {off:.0%} of the mean weight")

# %% [markdown]
# ### What does autograd keep?
#
# Between the forward and the backward pass, autograd keeps the tensors that the gradient will need. A hook sees each
# of them. `saved_bytes` counts them, every piece of memory once, and leaves out the model's own weights. We use it
# again in section 3.

# %%
from helpers.memory.measurement import storage_bytes, weight_tensors


def saved_bytes(model, forward):
    weights = {tensor.untyped_storage().data_ptr() for tensor in weight_tensors(model)}
    kept = {}

    def pack(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor  # holding it keeps its place from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    return loss, storage_bytes(kept.values())


# %% [markdown]
# **Predict 1.** We could have written `linear(x, layer.weight())` and let autograd do the rest. The values would be
# the same. How many bytes would be kept then, and how many with our `FourBitProduct`?

# %% tags=["nbval-check-output"]
x = torch.randn(2, base.in_features, requires_grad=True)  # (tokens, in)
for title, product in (
    ("plain product", lambda: linear(x, ours.weight(), ours.bias).sum()),
    ("FourBitProduct", lambda: ours(x).sum()),
):
    print(f"{title:16}keeps {saved_bytes(ours, product)[1]:>8,} bytes")

# %% [markdown]
# <details><summary>What it means</summary>
#
# The plain product keeps the *unpacked* matrix for its gradient: 32 bits a weight in place of 4, for every layer at
# the same time. All that [quantization](../docs/glossary.md#quantization) has saved would be lost in the first forward
# pass. Unpacking twice costs time and saves exactly that. bitsandbytes does the same.
#
# </details>

# %% [markdown]
# ### The same with bitsandbytes and `peft`
#
# bitsandbytes prints a line when it is imported: it looks for a package named `kernels`, which would fetch a faster
# product from the Hub. We work offline with its own. And `peft` uses a name that `transformers` wants to replace, which
# the latter says. `drop_two_notices` drops these two messages and no others.

# %%
qlora.drop_two_notices()
import bitsandbytes as bnb
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

theirs = bnb.nn.Linear4bit(
    base.in_features, base.out_features, bias=base.bias is not None,
    quant_type="nf4", compress_statistics=True, compute_dtype=torch.float32,
)  # fmt: skip
theirs.load_state_dict(base.state_dict())
theirs = qlora.keep_packing(theirs.to("cpu"))  # moving it is what quantizes it
unpacked = bnb.functional.dequantize_4bit(theirs.weight.data, theirs.weight.quant_state)
print("weights that differ:", int((unpacked != ours.weight()).sum()), "of", base.weight.numel())

# %% [markdown]
# `keep_packing` switches off a surprise. On CPUs with AVX512_BF16, a 4-bit layer repacks itself when it first
# *evaluates*. Results are then rounded to bfloat16, and when training goes on, the gradient stops at the layer
# (without a word where it has no bias). One evaluation between two epochs is enough.
#
# Now the LoRA branch on both, with the same A and B:

# %%
seed_everything(seed)
branch = LoRALinear(ours, rank=rank, alpha=2 * rank)
nn.init.normal_(branch.lora_B, std=0.02)  # as if it had learned something
config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["0"])
theirs = get_peft_model(nn.Sequential(theirs), config).base_model.model[0]
with torch.no_grad():
    theirs.lora_A["default"].weight.copy_(branch.lora_A)
    theirs.lora_B["default"].weight.copy_(branch.lora_B)

# %% tags=["nbval-check-output"]
x = torch.randn(16, base.in_features, requires_grad=True)
direction = torch.randn(16, base.out_features) / base.out_features  # stands for the layers above
trained = {
    "by hand": (branch, [branch.lora_A, branch.lora_B]),
    "library": (theirs, [theirs.lora_A["default"].weight, theirs.lora_B["default"].weight]),
}
values, gradients = {}, {}
for name, (layer, parameters) in trained.items():
    values[name] = layer(x)
    gradients[name] = torch.autograd.grad((values[name] * direction).sum(), [x, *parameters])
difference_forward = (values["by hand"] - values["library"]).abs().max().item()
pairs = zip(gradients["by hand"], gradients["library"], strict=True)
difference_gradient = max((one - other).abs().max().item() for one, other in pairs)
print("forward, largest difference below 0.000001: ", difference_forward < 1e-6)
print("gradients, largest difference below 0.000001:", difference_gradient < 1e-6)
assert difference_forward < 1e-6 and difference_gradient < 1e-6

# %% [markdown]
# That is the whole method in one layer. The QLoRA paper (Dettmers et al. 2023) adds *paged optimizers*: states that
# move between GPU and main memory when the GPU is full. They need a GPU, so they are not in this lesson.
#
# ## 2. A whole model in 4 bits
#
# With the library, quantizing is an option of `from_pretrained`. Each linear layer of the blocks becomes a
# `Linear4bit`, as soon as its weights are read.

# %%
from transformers import AutoModel, BitsAndBytesConfig


def quantization(compute=torch.float32):
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


source = catalog.model_source("encoder", track, model)
body = AutoModel.from_pretrained(source, quantization_config=quantization(), device_map={"": "cpu"})
body.pooler = None  # BERT's own pooler would come with random weights, and we do not use it
body = qlora.keep_packing(body)

# %% [markdown]
# **Predict 2.** Codes of 4 bits in place of floats of 32: is the model an eighth of its size?


# %%
def bytes_by_kind(body):
    """Bytes of the linear layers' weights, of embeddings, and of the rest."""
    found = {"matrices": 0, "embeddings": 0, "the rest": 0}
    for module in body.modules():
        is_table = isinstance(module, nn.Embedding)
        for name, parameter in module.named_parameters(recurse=False):
            is_matrix = isinstance(module, nn.Linear) and name == "weight"
            kind = "matrices" if is_matrix else "embeddings" if is_table else "the rest"
            holder = nn.ParameterList([parameter])
            found[kind] += storage_bytes(weight_tensors(holder))
    return found | {"together": sum(found.values())}


rows = {}
four_bit = bytes_by_kind(body)
for kind, size in bytes_by_kind(float_body).items():
    rows[kind] = [f"{size:,}", f"{four_bit[kind]:,}", f"{size / four_bit[kind]:.1f}"]
pd.DataFrame.from_dict(rows, orient="index", columns=["float32", "4 bits", "smaller by a factor of"])

# %% [markdown]
# <details><summary>What it means</summary>
#
# The matrices shrink by less than eight, since every block has its scale and every matrix its tables. And only the
# matrices shrink: embeddings, normalisations and biases stay as they are. In a small model the embeddings are a large
# part of everything. In one of 65 billion weights they are less than one part in a hundred, as section 3 will show.
#
# </details>
#
# Three steps make the model trainable. `prepare_model_for_kbit_training` freezes everything and brings 16-bit
# normalisations to float32. `get_peft_model` adds the adapters. A new head, in float32, comes on top.

# %%
seed_everything(seed)
body = prepare_model_for_kbit_training(body, use_gradient_checkpointing=False)
config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
body = get_peft_model(body, config)
quantized = trainable_parameters(body)
print(f"{quantized:,} numbers can move, {quantized / sum(p.numel() for p in float_body.parameters()):.1%} of the model")
layer = next(module for module in body.modules() if hasattr(module, "lora_A"))
inside = type(layer.base_layer)
print(f"one layer: {type(layer).__name__} of peft, around {inside.__name__} of {inside.__module__.split('.')[0]}")

# %% [markdown]
# `qlora.classifier(method, ...)` does these steps for the three methods that we compare: `"full"` (float32, everything
# moves), `"lora"` (float32, adapters and head move), `"qlora"`.
#
# ### Exercise 11.1: how many bits is "4 bits"?
#
# Each `block` of weights shares a scale of `scale_bits`. With double quantization each `outer` scales share one more
# scale, of 32 bits; without it `outer` is 0. How many bits does a weight take? (The paper's two cases: 64, 32, 0 and
# 64, 8, 256.)


# %% tags=["exercise"]
def bits_per_weight(block, scale_bits, outer):
    return ...


check("11.1", bits_per_weight)
# hint("11.1")


# %% tags=["solution"]
def bits_per_weight(block, scale_bits, outer):
    return 4 + scale_bits / block + (32 / (block * outer) if outer else 0)


check("11.1", bits_per_weight)

# %% [markdown]
# ## 3. The memory ledger
#
# Four things fill the memory of a training step:
#
# - **weights**: float32 takes 4 bytes each; NF4 about half a byte, and its scales;
# - **gradients**: one number for each that is trained;
# - **optimizer states**: Adam keeps two more for each;
# - **activations**: what the backward pass needs from the forward pass. They grow with the batch.
#
# The first three are arithmetic. For the fourth we count what one block of the encoder keeps of one token.

# %%
from helpers.memory.measurement import measure
from helpers.memory.prediction import Plan, predict

shape = replace(architecture, dropout=0, attention_dropout=False)  # they would keep more
plan = Plan("full", batch=run.by_budget(quick=4, standard=16), length=64, rank=rank, classes=2)
if shape.family == "bert" and shape.activation == 2:
    hidden, inner = shape.hidden, shape.inner
    one_block = {
        "queries, keys, values, their mix": 4 * hidden + shape.heads,
        "before and after two normalisations": 4 * hidden + 4,
        "before and after the GELU": 2 * inner,
    }
    around = hidden + 3  # the embeddings' normalisation, and the mask of the mean
    by_hand = 4 * plan.tokens * (shape.layers * sum(one_block.values()) + around)
    print(pd.Series(one_block, name="numbers per token").to_string())
    print(f"{plan.batch} reviews of {plan.length} tokens, all layers: {by_hand / 1e6:.1f} MB")
    assert by_hand == predict(shape, plan).activations

# %% [markdown]
# `predict` holds all four formulas. It also says the **peak**, the most at any one time: at the start of the backward
# pass (weights, states, activations, and room for the gradient on its way) or inside the optimizer's step, whichever
# is more.
#
# `measure` takes real steps and counts: tensors where they lie, kept activations with our hook, and the peak from
# torch's own allocator. No sampling, so the figures come again.
#
# **Predict 3.** From all parameters to LoRA to QLoRA: which part shrinks at which step? Which does not?

# %%
reviews = catalog.dataset("reviews", track, data, seed)
tokenizer = catalog.tokenizer("encoder", track, model)
num_labels = max(reviews["train"]["label"]) + 1
ids = full_rows(tokenizer, reviews["train"]["text"][:200], plan.batch, plan.length)  # (batch, seq), without padding
zeros = torch.zeros(len(ids), dtype=torch.long)
batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": zeros}


def both_ledgers(method, optimizer_kind=torch.optim.AdamW, bits=32):
    seed_everything(seed)
    classifier = without_dropout(qlora.classifier(method, track, model, num_labels=2, rank=rank))  # on the CPU
    optimizer = optimizer_kind([p for p in classifier.parameters() if p.requires_grad], lr=1e-4)
    wanted = predict(shape, replace(plan, method=method, optimizer_bits=bits))
    return wanted, measure(classifier, batch, optimizer)


predicted, measured = {}, {}
for method in qlora.METHODS:
    predicted[method], measured[method] = both_ledgers(method)


# %%
def compared(predicted, measured):
    """Rows of (method, part), and the largest relative error of all."""
    rows, errors = {}, []
    for method, wanted in predicted.items():
        for part in (*wanted.PARTS, "peak"):
            one, other = getattr(wanted, part), getattr(measured[method], part)
            errors.append(abs(one / other - 1))
            rows[f"{qlora.TITLES[method]}: {part}"] = [
                f"{one / 1e6:.2f}",
                f"{other / 1e6:.2f}",
                f"{one / other - 1:+.1%}",
            ]
    columns = ["predicted (MB)", "measured (MB)", "error"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns), max(errors)


table, largest_error = compared(predicted, measured)
assert largest_error < 0.1  # the promise: within a tenth, every part
print(f"largest error of any part: {largest_error:.1%}")
table

# %% [markdown]
# The same in bars, predicted above measured. The black line is the peak. It is not the sum: gradients come while
# activations go, and the gradient on its way back needs room of its own.

# %%
bars = {f"{qlora.TITLES[method]}, {how}": ledgers[method] for method in qlora.METHODS
        for how, ledgers in (("predicted", predicted), ("measured", measured))}  # fmt: skip
plotting.show(figures.ledgers(bars))

# %% [markdown]
# <details><summary>What it means</summary>
#
# - **LoRA** takes away gradients and optimizer states, three of every four numbers that are not activations. The
#   weights even grow a little, by the adapters.
# - **QLoRA** takes from the weights, and from nothing else.
# - **Neither touches the activations.** The gradient still has to travel through every layer, down to the first
#   adapter, and so everything that it needs on the way is kept. (Below a head that is trained alone nothing needs a
#   gradient.) In a small model with a large batch this is most of the bill.
#
# </details>

# %% [markdown]
# ### What helps against activations
#
# **[Checkpointing](../docs/glossary.md#checkpointing)**: keep only the input of each block, and compute the rest again
# when the backward pass gets there. It costs one more forward pass. The paper uses it, and
# `prepare_model_for_kbit_training` switches it on unless told otherwise.

# %%
seed_everything(seed)
classifier = without_dropout(qlora.classifier("qlora", track, model, num_labels=2, rank=rank))
classifier.body.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
optimizer = torch.optim.AdamW([p for p in classifier.parameters() if p.requires_grad], lr=1e-4)
name = "qlora, checkpointed"
predicted[name] = predict(shape, replace(plan, method="qlora", checkpointed=True))
measured[name] = measure(classifier, batch, optimizer)
for what, ledgers in (("predicted", predicted), ("measured", measured)):
    print(f"peak {what}: {ledgers['qlora'].peak / 1e6:.1f} MB, checkpointed {ledgers[name].peak / 1e6:.1f} MB")
assert abs(predicted[name].peak / measured[name].peak - 1) < 0.1

# %% [markdown]
# ### The same formulas for large models
#
# What was checked on a small model we now use where we cannot measure: LLaMA with 7 and 65 billion weights, in 16 bits
# (2 bytes), one text of 512 tokens, adapters of [rank](../docs/glossary.md#rank) 64 on every matrix, checkpointing. The
# paper's own figures, for 65 billion: more than 780 GB for [full fine-tuning](../docs/glossary.md#full-fine-tuning),
# less than 48 GB with QLoRA.


# %%
def at_scale(size, length=512, rank=64):
    large = Plan("full", batch=1, length=length, rank=rank, value_bytes=2, checkpointed=True)
    llama = Architecture.published(size)
    return {qlora.TITLES[method]: predict(llama, replace(large, method=method)) for method in qlora.METHODS}


theirs_say = {"all parameters": "more than 780", "QLoRA": "less than 48"}
rows = {}
for size in ("7B", "65B"):
    for title, ledger in at_scale(size).items():
        parts = [f"{part / 1e9:,.1f}" for part in ledger.parts.values()]
        said = theirs_say.get(title, "") if size == "65B" else ""
        rows[f"{size}, {title}"] = [*parts, f"{ledger.peak / 1e9:,.1f}", said]
columns = ["weights", "gradients", "optimizer", "activations", "peak", "QLoRA paper (theirs)"]
print("in GB, by our formulas:")
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %%
gpu = {"a GPU of 48 GB": 48e9}


def scale_figure(size, length):
    bars = at_scale(size, length)
    title = f"LLaMA {size}, one text of {length:,} tokens: would it fit?"
    return figures.ledgers(bars, "GB", marks=gpu, title=title)


plotting.show(scale_figure("7B", 512))

# %% [markdown]
# Choose another model, or longer texts. From which length on do the activations decide?

# %%
from ipywidgets import HTML, SelectionSlider, ToggleButtons, VBox

size_choice = ToggleButtons(options=["7B", "13B", "33B", "65B"], value="65B", description="model")
lengths = [128, 512, 2048, 8192]
length_choice = SelectionSlider(options=lengths, value=512, description="tokens", continuous_update=False)
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(scale_figure(size_choice.value, length_choice.value))


for choice in (size_choice, length_choice):
    choice.observe(redraw, names="value")
redraw()
VBox([size_choice, length_choice, page])

# %% [markdown]
# (The figure above the buttons is one of their positions, for readers without a running kernel.)
#
# <details><summary>What to look at</summary>
#
# LoRA alone already removes most of the bill, since gradients and states of 16- and 32-bit numbers are three quarters
# and more of it. What is left is the weights, and there QLoRA does its work: a model of 65 billion weights, 130 GB of
# them in 16 bits, becomes one that a single 48 GB card can train. At 8,192 tokens look at the activations.
#
# </details>
#
# ### Exercise 11.2: before the first batch
#
# `frozen` weights lie in `bits` bits each. `trained` numbers have a weight and a gradient in 16 bits, and Adam's two
# states in 32. How many bytes stand there, activations aside?


# %% tags=["exercise"]
def standing_bytes(frozen, bits, trained):
    return ...


check("11.2", standing_bytes)
# hint("11.2")


# %% tags=["solution"]
def standing_bytes(frozen, bits, trained):
    return frozen * bits / 8 + trained * (2 + 2 + 8)


check("11.2", standing_bytes)

# %% [markdown]
# ## 4. Does it learn?
#
# The task is lesson 02's: is a film review positive? Three methods, the same reviews, the same `Trainer`. Only the
# learning rate differs between them; each was chosen on validation reviews.

# %%
train_reviews = sample_rows(reviews["train"], train_count, seed)
test_reviews = reviews["test"].select(range(min(test_count, len(reviews["test"]))))
train_rows = TokenizedReviews.from_dataset(tokenize(train_reviews, tokenizer))
test_rows = TokenizedReviews.from_dataset(tokenize(test_reviews, tokenizer))
collate = pad(tokenizer)
print(f"{len(train_rows):,} training reviews, {epoch_count} passes in batches of {qlora.BATCH_SIZE}; rank {rank}")
for method, rate in qlora.RATES.items():
    print(f"{qlora.TITLES[method]:16}learning rate {rate * rate_scale:g}")

# %% [markdown]
# `qlora.fit` is a `Trainer` with a progress bar:
#
# ```python
# arguments = TrainingArguments(..., num_train_epochs=epochs, learning_rate=learning_rate, weight_decay=0.01,
#                               warmup_steps=..., optim="adamw_torch", train_sampling_strategy="group_by_length")
# Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate).train()
# ```
#
# Nothing in it knows about 4 bits: `Trainer` sees parameters with `requires_grad`, and moves those.

# %%
classifiers, right, seconds = {}, {}, {}


def learn(method):
    seed_everything(seed)
    classifier = qlora.classifier(method, track, model, num_labels, rank=rank, device=run.device)
    rate = qlora.RATES[method] * rate_scale
    seconds[method] = qlora.fit(classifier, train_rows, collate, learning_rate=rate, epochs=epoch_count, seed=seed)
    logits, true = answers(classifier, length_batches(test_rows, collate, 64, shuffle=False))
    right[method] = (logits.argmax(dim=-1) == true).double()
    classifiers[method] = classifier
    found = wilson(int(right[method].sum()), len(true))
    print(f"{qlora.TITLES[method]}: {found:.3f}, {trainable_parameters(classifier):,} trained, {seconds[method]:.0f} s")
    return found


# %% [markdown]
# **Predict 4.** The 4-bit weights are off, by how much section 1 has shown. How many points of accuracy will QLoRA lose
# against LoRA? And which of the three takes longest?

# %%
accuracy = {"full": learn("full")}

# %%
accuracy["lora"] = learn("lora")

# %% [markdown]
# And on 4 bits. Everything else is the same.

# %%
accuracy["qlora"] = learn("qlora")

# %%
gap = {
    "QLoRA - LoRA": paired_bootstrap(right["qlora"], right["lora"], seed=seed),
    "LoRA - all parameters": paired_bootstrap(right["lora"], right["full"], seed=seed),
}
for title, difference in gap.items():
    clear = "clear" if difference.low > 0 or difference.high < 0 else "not clear"
    print(f"{title}: {difference:+.3f}, {clear} on this test set")
for one, other in (("lora", "full"), ("qlora", "lora")):
    print(f"{qlora.TITLES[one]} took {seconds[one] / seconds[other]:.2f} times as long as {qlora.TITLES[other]}")

# %% [markdown]
# One run is one draw. The **reference table** is *not* from this run: a command in this repository trained the three
# methods once per seed. Its intervals are Student's, over the seeds; the gap is taken seed by seed, since both methods
# saw the same reviews.

# %%
from helpers.intervals import mean_t
from helpers.reference import load_reference

reference = load_reference("qlora")
rows = {}
for method in qlora.METHODS:
    there, here = reference.interval(f"accuracy_{method}"), accuracy[method].value
    cost = [f"{seconds[method]:.0f}", f"{measured[method].peak / 1e6:.0f}"]
    rows[qlora.TITLES[method]] = [f"{there:.3f}", f"{here:.3f}", *cost]
by_seed = zip(reference.metrics["accuracy_qlora"], reference.metrics["accuracy_lora"], strict=True)
reference_gap = mean_t([one - other for one, other in by_seed])
print("Reference:", reference.label)
answer = reference_gap.within(-0.01, 0.01)  # lesson 12's rule; "open": these seeds cannot tell
print(f"QLoRA against LoRA, reference: {reference_gap:+.3f}; within one point: {answer}")
columns = ["reference accuracy [95 %]", "this run", "this run's seconds", "peak of a step (MB)"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What it means</summary>
#
# In the reference QLoRA stayed behind LoRA for every seed, by about a point: on so small a model, with so few labels,
# rounding may not be quite free. Three seeds do not tell one point from a half or from two, as the interval says.
#
# Why does it work at all? The adapter is trained *on top of the rounded weights*. It sees their errors in every forward
# pass, and can learn to make up for some of them. Rounding after the training would not have that chance.
#
# The seconds of this run are those of this machine, with whatever else it was doing. LoRA leaves out the products that
# give the weights' gradients, and adds thin ones for its branches: on so narrow a model no gain is left. QLoRA takes
# longest, since it unpacks every matrix twice per step. These methods are about memory.
#
# </details>

# %% [markdown]
# ## 5. A decoder, and what rounding costs it
#
# The same for a text predictor: the pocket decoder. Its [perplexity](../docs/glossary.md#perplexity) on two kinds of
# held-out text, what it was pretrained on and recipes, which it has never read (lesson 01): in float32, in 4 bits, and
# in 4 bits after a short training of adapters on recipes, with `Trainer`.

# %%
from transformers import AutoModelForCausalLM

from helpers.language_model import blocks_of_text, mean_next_token_loss

corpus = catalog.dataset("corpus", track, seed=seed)
recipes, known = corpus["newcomer"]["text"], corpus["validation"]["text"]
decoder_tokenizer = catalog.tokenizer("decoder", track)
held_out, steps = run.by_budget(quick=20, standard=200), run.by_budget(quick=2, standard=40)
unseen = {"known text": known[:held_out], "recipes": recipes[:held_out]}
unseen = {name: blocks_of_text(decoder_tokenizer, texts, length=64) for name, texts in unseen.items()}
blocks = blocks_of_text(decoder_tokenizer, recipes[held_out:], length=64, seed=seed)[: steps * qlora.BATCH_SIZE]
text_rows = [{"input_ids": block, "labels": block} for block in blocks]


def stack(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


# %% [markdown]
# **Predict 5.** Which of the two perplexities does rounding to 4 bits change more, and which does the training?


# %%
def perplexities(decoder):
    return {name: math.exp(mean_next_token_loss(decoder, rows)) for name, rows in unseen.items()}


seed_everything(seed)
perplexity = {"float32": perplexities(catalog.causal_language_model(track).to(run.device))}
source = catalog.model_source("decoder", track)
decoder = qlora.load_four_bit(AutoModelForCausalLM, source, run.device)
perplexity["4 bits"] = perplexities(decoder)
decoder = prepare_model_for_kbit_training(decoder, use_gradient_checkpointing=False)
decoder = get_peft_model(decoder, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
qlora.fit(decoder, text_rows, stack, learning_rate=5e-3 * rate_scale, epochs=1, seed=seed)
perplexity["4 bits, adapters trained"] = perplexities(decoder)
if budget != "quick":
    assert perplexity["4 bits, adapters trained"]["recipes"] < perplexity["float32"]["recipes"]
pd.DataFrame(perplexity).T.map("{:,.2f}".format)

# %% [markdown]
# <details><summary>What it means</summary>
#
# Rounding costs little on text that the decoder knows. (On recipes it knows next to nothing that could be lost.) The
# adapters, a few percent of the numbers, learn the new domain through the rounded weights. What that does to the known
# text is lesson 03's [forgetting](../docs/glossary.md#catastrophic-forgetting): neither 4 bits nor adapters protect
# against it.
#
# </details>

# %% [markdown]
# ## 6. An optimizer in 8 bits
#
# Adam's two states can be rounded as well: `bnb.optim.AdamW8bit` keeps them in 8 bits, in blocks of 256 with a scale
# each, unpacks a block, steps, and packs it again. Does it still train? We give both the same start and the same
# batches, with every parameter free, and count their states.


# %%
def few_steps(kind, method, steps, rate):
    seed_everything(seed)
    classifier = qlora.classifier(method, track, model, num_labels, rank=rank).train()
    optimizer = kind([p for p in classifier.parameters() if p.requires_grad], lr=rate, weight_decay=0.01)
    batches, losses = length_batches(train_rows, collate, 16, seed=seed), []
    for _, batch in zip(range(steps), batches, strict=False):
        loss = classifier(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


step_count = run.by_budget(quick=2, standard=30)
optimizers = {"32 bits": torch.optim.AdamW, "8 bits": bnb.optim.AdamW8bit}
curves = {name: few_steps(kind, "full", step_count, qlora.RATES["full"] / 2) for name, kind in optimizers.items()}
for name, losses_here in curves.items():
    tail = losses_here[-10:]
    print(f"{name:8}first loss {losses_here[0]:.3f}, mean of the last {len(tail)} {sum(tail) / len(tail):.3f}")

# %%
rows, states = {}, {}
for method in ("full", "qlora"):
    in_32 = predicted[method], measured[method]
    in_8 = both_ledgers(method, bnb.optim.AdamW8bit, bits=8)
    for bits, (wanted, found) in (("32", in_32), ("8", in_8)):
        states[method, bits] = found.optimizer
        pair = [f"{value / 1e6:.2f}" for value in (wanted.optimizer, found.optimizer)]
        rows[f"{qlora.TITLES[method]}, {bits} bits"] = pair
        assert abs(wanted.optimizer / found.optimizer - 1) < 0.1
pd.DataFrame.from_dict(rows, orient="index", columns=["states, predicted (MB)", "states, measured (MB)"])

# %% [markdown]
# <details><summary>Why does it not save the same share twice?</summary>
#
# bitsandbytes leaves tensors with fewer than 4,096 numbers in 32 bits, because rounding them would save next to
# nothing. Most of our A and B are that small. In a large model they are not. (Where the adapters are trained, their
# states are a small part of the bill anyway: 8-bit Adam is for full fine-tuning.)
#
# </details>

# %% [markdown]
# ## 7. Find the bug
#
# The adapter is trained, and a colleague wants one plain float32 model to hand on. They load the original weights, add
# the update $\frac{\alpha}{r} B A$ to each, and save. No error appears. Yet the outputs are *not* those of the model
# that was measured.


# %%
def exported(trained, weight_of):
    """A float32 classifier: in every adapted layer the weight that `weight_of(original, layer)` gives."""
    plain = catalog.classifier(track, model, num_labels).to(run.device).eval()
    plain.head = copy.deepcopy(trained.head)
    with torch.no_grad():
        for path, layer in trained.body.get_base_model().named_modules():
            if hasattr(layer, "lora_A"):
                original = plain.body.get_submodule(path).weight
                original.copy_(weight_of(original, layer))
    return plain


def unpack_weight(layer):
    weight = layer.get_base_layer().weight
    return bnb.functional.dequantize_4bit(weight.data, weight.quant_state)


def colleague(original, layer):
    return original + layer.get_delta_weight("default")


# %%
looked_at = reviews["validation"]
looked_at = looked_at.select(range(min(run.by_budget(quick=32, standard=500), len(looked_at))))
some = TokenizedReviews.from_dataset(tokenize(looked_at, tokenizer))


def scores(classifier):
    return answers(classifier, length_batches(some, collate, 64, shuffle=False))[0]


measured_model = scores(classifiers["qlora"])


def against(name, classifier):
    found = scores(classifier)
    moved = (found - measured_model).abs().max().item()
    turned = (found.argmax(dim=-1) != measured_model.argmax(dim=-1)).sum().item()
    print(f"{name}: logits differ by up to {moved:.2g}, {turned} of {len(found)} answers change")
    return moved


difference_wrong_base = against("the colleague's model", exported(classifiers["qlora"], colleague))

# %% [markdown]
# ### Exercise 11.3: the right base
#
# Mend it for one layer, ours of section 1: `original` is its weight in the file, `layer` the `LoRALinear` around a
# `FourBitLinear`. `layer.change()` is the update and `layer.base` the 4-bit layer. Return the merged float weight.


# %% tags=["exercise"]
def merged(original, layer):
    return ...


check("11.3", merged)
# hint("11.3")


# %% tags=["solution"]
def merged(original, layer):
    return layer.base.weight() + layer.change()


check("11.3", merged)

# %% [markdown]
# With the weights that the adapter really saw, the merged model is the trained one:


# %%
def on_its_own_base(original, layer):
    return unpack_weight(layer) + layer.get_delta_weight("default")


difference_merge = against("on the unpacked weights", exported(classifiers["qlora"], on_its_own_base))
assert difference_merge < 1e-3 and difference_merge < difference_wrong_base

# %% [markdown]
# An adapter is a *difference*. It belongs to one base, down to how that base was rounded. (Rounding the merged weights
# to 4 bits once more would be a third model: `peft` warns of it when you merge into a 4-bit layer.)
#
# ## 8. Recap: what this run showed

# %%
from IPython.display import Markdown, display

share = measured["qlora"].weights / measured["full"].weights
large = at_scale("65B")
display(
    Markdown(f"""
1. **A frozen 4-bit weight lets the gradient through**: by hand and by the library it differs by
   less than 0.000001 (*section 1, the assertion*).
2. **The ledger is arithmetic**: no part is off by more than {largest_error:.1%}. QLoRA leaves {share:.0%} of the
   weights' bytes here; the same formulas give {large["QLoRA"].peak / 1e9:.0f} GB in place of
   {large["all parameters"].peak / 1e9:,.0f} for 65 billion weights (*section 3, the tables*).
3. **Accuracy**: QLoRA {accuracy["qlora"].value:.3f}, LoRA {accuracy["lora"].value:.3f}, all parameters
   {accuracy["full"].value:.3f} in this run; over the reference's seeds QLoRA against LoRA {reference_gap:+.3f}
   (*section 4, the reference*).
""")
)

# %%
from helpers.record import record

values_to_keep = {"difference_qlora_forward": difference_forward, "difference_qlora_gradient": difference_gradient}
for method in qlora.METHODS:
    values_to_keep |= {
        f"accuracy_{method}": accuracy[method].value, f"seconds_{method}": seconds[method],
        f"trainable_parameters_{method}": trainable_parameters(classifiers[method]),
        f"peak_memory_bytes_{method}": measured[method].peak, f"predicted_bytes_{method}": predicted[method].peak,
    }  # fmt: skip
    for part in predicted[method].PARTS:
        values_to_keep[f"{part}_bytes_{method}"] = getattr(measured[method], part)
        values_to_keep[f"predicted_bytes_{method}_{part}"] = getattr(predicted[method], part)
    values_to_keep[f"predicted_bytes_{method}_65b"] = large[qlora.TITLES[method]].peak
values_to_keep |= {f"optimizer_bytes_{method}_{bits}_bits": size for (method, bits), size in states.items()}
for ending, found in zip(("float32", "4_bits", "qlora"), perplexity.values(), strict=True):
    values_to_keep |= {f"perplexity_{ending}_{domain.replace(' ', '_')}": value for domain, value in found.items()}
values_to_keep |= {"difference_merge_own_base": difference_merge, "difference_merge_wrong_base": difference_wrong_base}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data}
parameters |= {"labels": labels, "epochs": epochs, "rank": rank, "rate_scale": rate_scale}
saved = record("11_qlora", parameters, **values_to_keep)
print(f"saved: {saved.name}")
solved("11")

# %% [markdown]
# **What needs a GPU**, and was not shown: paged optimizers, fast products that unpack 4 bits on the way, and models for
# which all this decides whether they can be trained. The formulas of section 3 hold there too; temporaries differ.
#
# ## Next
#
# - A smaller adapter: `workbook run 11 -p rank 1`. Which part of the ledger moves?
# - More labels: `workbook run 11 -p labels 4000`. Does the gap between the three close?
# - Lesson 12 sets all claims of the course side by side.
#
# ## References
#
# | work | year |
# |---|---|
# | Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs* | 2023 |
