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
# # How few bits does a weight need?
#
# A trained [weight](../docs/glossary.md#weight) takes 32 or 16 bits. Four bits leave it 16 possible values, and models
# still work. Which 16 values? What does the rounding cost, how can you reduce that cost, and is the model faster in the
# end?
#
# *About 95 minutes to read (an estimate), three to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - write a block quantizer, NF4 and a 4-bit float, and show that your codes equal those of bitsandbytes, to the bit;
# - read a GGUF file's 4-bit weights by hand;
# - reduce the error with calibration data: GPTQ, AWQ, and SmoothQuant for activations;
# - train a model for 2 bits, and tell quantization, clustering and pruning apart;
# - choose a format by accuracy, bytes and speed.
#
# | technique | what changes | a form of quantization? |
# |---|---|---|
# | **[quantization](../docs/glossary.md#quantization)** | each number gets fewer bits, so fewer values | yes |
# | **clustering** (weight sharing) | the few values are learned from the weights | yes, with unequal steps |
# | **[pruning](../docs/glossary.md#pruning)** | some weights go, the others keep all bits | no; the two combine |
#
# Two more distinctions return all the time. *Post-training quantization* rounds a finished model; *[quantization-aware
# training](../docs/glossary.md#quantization-aware-training)* trains while the weights are rounded. *Weight-only*
# formats round the weights alone; others also round the [activations](../docs/glossary.md#activation), the numbers that
# a layer reads.

# %%
import copy
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from helpers import catalog, evaluation, plotting
from helpers.checks import check, go_on_with, hint, solved  # noqa: F401 - hint("10.1") helps when you are stuck
from helpers.intervals import mean_t, wilson  # 95 % intervals: of a mean over seeds, of an accuracy
from helpers.lessons.lesson_10 import experiment, figures
from helpers.predictions import predict, reveal
from helpers.quantization import quantizers
from helpers.quantization.quantizers import SMALLEST, blocks, check_bits, check_weights, never_zero  # 0 becomes 1
from helpers.reference import FOLDER, lesson_reference, real_reference, recorded  # results that are committed
from helpers.runtime import check_number, start

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": more test rows and text
seed = 0  # draws the training reviews and the order of the batches
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 1000  # training reviews of the classifier that is going to be quantized
bits = 4  # of the examples with equal steps and clusters; the figures go through several
block_size = 64  # weights that share one scale where a scale belongs to a block

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("labels", labels, 2, 1_000_000, integer=True)
check_bits(bits)
check_number("block_size", block_size, 2, 4096, integer=True)
scratch_folder = tempfile.TemporaryDirectory()
path = Path(scratch_folder.name) / "model.safetensors"
values = {}  # what this run measures, for the record at the end

# %% [markdown]
# ## 1. Range and levels
#
# The values that a quantized weight can take are its **levels**. With $b$ bits there are at most $2^b$ of them. What is
# stored is a small whole number, the **code**, and one floating-point number that many weights share: the **scale**,
# the distance between two levels. Weights that share a scale form a **block**.

# %% [markdown]
# **Symmetric** [quantization](../docs/glossary.md#quantization) centres the levels on zero: `weight ≈ code * scale`.
# The largest absolute weight of the block gets the largest code. One of the $2^b$ codes stays unused, so that both
# sides have as many levels.
#
# The helper `blocks` reshapes a tensor into one row per block (for now a single row). It refuses empty tensors, NaN and
# infinity.


# %%
def symmetric(weights, bits, block_size=None):
    """The nearest of 2^bits - 1 levels: codes and scales; `codes * scale` comes back."""
    rows = blocks(weights, block_size)
    top = 2 ** (check_bits(bits) - 1) - 1
    scale = never_zero(rows.abs().amax(dim=1, keepdim=True) / top)
    return torch.round(rows * (1 / scale)), scale  # times the inverse, as PyTorch and bitsandbytes do it


# %% [markdown]
# Three bits for the weights -0.30, -0.04, 0.02, 0.11, 0.26: the scale is 0.30 / 3 = 0.10, the codes are -3, 0, 0, 1, 3,
# and -0.30, 0, 0, 0.10, 0.30 come back. No weight moves farther than half a step.
#
# If all numbers are positive, such as a ReLU's output, symmetric levels waste half of the codes. **Affine**
# quantization spreads the levels from the smallest number to the largest. The **[zero
# point](../docs/glossary.md#zero-point)** is the code that stands for 0, so `weight ≈ (code - zero) * scale`:

# %% [markdown]
# $$\text{scale} = \frac{\text{high} - \text{low}}{2^b - 1}, \qquad
# \text{zero} = \text{round}(-\text{low} / \text{scale})$$
#
# Here *low* is the block's smallest weight, or 0 if all are positive. *High* is the largest, or 0 if all are negative.
# So a weight of 0 comes back as exactly 0, which [padding](../docs/glossary.md#padding) and pruned weights need.
#
# ### Exercise 10.1: an affine block quantizer
#
# Write `quantize(weights, bits, block_size)`, for all blocks at once. `block_size` divides the number of weights.
# Return three tensors of whole numbers or floats: codes (blocks, block_size) from 0 to $2^b - 1$, scales (blocks, 1),
# zero points (blocks, 1).

# %% [markdown]
# Three cases break most first versions:
#
# - all weights of a block are equal, for example 0.7: they have to come back;
# - all are zero: any positive scale will do, as long as zeros come back;
# - a weight is NaN: raise a `ValueError`. You may use `blocks`, which refuses it.


# %% tags=["exercise"]
def quantize(weights, bits, block_size):
    return ...


check("10.1", quantize)
# hint("10.1")


# %% tags=["solution"]
def quantize(weights, bits, block_size):
    if not torch.isfinite(weights).all():
        raise ValueError("weights have to be finite")
    rows = weights.reshape(-1, block_size)
    low, high = rows.amin(dim=1, keepdim=True).clamp(max=0), rows.amax(dim=1, keepdim=True).clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-low / scale)
    return (torch.round(rows / scale) + zero).clamp(0, 2**bits - 1), scale, zero


check("10.1", quantize)

# %%
# If yours passes the check, the lesson goes on with it, also for the files that it measures; else with `affine`.
quantize = go_on_with("10.1", quantize, quantizers.affine)


def restored(numbers, bits, block_size=None, kind="affine"):
    """What comes back from equal steps, in the shape of `numbers`."""
    if kind == "symmetric":
        codes, scale = symmetric(numbers, bits, block_size)
        return (codes * scale).reshape(numbers.shape)
    rows = blocks(numbers, block_size)
    codes, scale, zero = quantize(rows, bits, rows.shape[1])
    return ((codes - zero) * scale).reshape(numbers.shape)


# %% [markdown]
# Do both quantizers follow the field's definition? PyTorch has its own rounding, made to simulate quantization during
# training. A weight near the middle of two levels may go to the other one, where your function divides and PyTorch
# multiplies by the inverse. So we count the weights that differ.

# %% tags=["nbval-check-output"]
from helpers.quantization.storage import example_matrix, matrices

encoder = catalog.body("encoder", track, model).to(run.device)
name, weights = example_matrix(encoder, block_size)
_, scale = symmetric(weights, bits=8, block_size="channel")  # "channel": one scale per row
zeros = torch.zeros(len(weights), dtype=torch.int32)
theirs = torch.fake_quantize_per_channel_affine(weights, scale.flatten(), zeros, 0, -127, 127)
differ_symmetric = int((restored(weights, 8, "channel", "symmetric") != theirs).sum())
_, scale, zero = quantize(blocks(weights), 8, weights.numel())  # one scale for the whole tensor
theirs = torch.fake_quantize_per_tensor_affine(weights, scale.item(), int(zero), 0, 255)
differ_affine = int((restored(weights, 8) != theirs).sum())
print(f"{name}: {tuple(weights.shape)}")
print(f"weights that differ from torch's: symmetric per channel {differ_symmetric}, affine per tensor {differ_affine}")
assert differ_symmetric == 0 and differ_affine <= 16

# %% [markdown]
# ## 2. Where does a scale belong?
#
# The largest weight decides the scale, and the scale decides everybody's error. One scale can serve the whole tensor,
# one **channel** (a row of the matrix: all weights of one output), or one block of neighbours.
#
# **Predict 1.** We make a single weight 30 times as large as the largest, an
# [outlier](../docs/glossary.md#outlier). By what factor does the mean error of the *other* weights grow with one scale
# for the whole tensor?

# %%
predict("10.1", factor=1.5, unit="times", low=1)  # counts as right within a factor of 1.5

# %%
spoilt = weights.clone()
spoilt[0, 0] = 30 * weights.abs().max()
rows = {}
for title, size in (("one scale", None), ("a scale per channel", "channel"), (f"blocks of {block_size}", block_size)):
    errors = []
    for tensor in (weights, spoilt):
        apart = restored(tensor, bits, size, "symmetric") - tensor
        errors.append(apart.flatten()[1:].abs().mean().item())  # all but the outlier
    scales = len(blocks(weights, size))
    cost = f"{32 * scales / weights.numel():.3f}"
    rows[title] = [f"{scales:,}", cost, *(f"{error:.4f}" for error in errors), f"{errors[1] / errors[0]:.1f}"]
    if size is None:
        reveal("10.1", errors[1] / errors[0])
columns = ["scales", "bits of the scales, per weight", "mean error", "with an outlier", "times"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# With one scale, the outlier spoils every other weight, but not by a factor of 30. With 4 bits the step is now 30/7 of
# the largest other weight, so all of them become zero, and a weight that becomes zero is off by its own size only. With
# blocks the outlier spoils its own block. The price is the scales: 32 bits each, shared by a block.
#
# </details>
#
# ## 3. Levels where the weights are
#
# Equal steps suit numbers that are spread evenly, but most weights lie near zero. Floating-point numbers have unequal
# steps: fine near zero, coarse far away.
#
# A float has a **sign** bit, **exponent** bits (which power of two) and **fraction** bits (where between two powers).
# Exponent bits buy range, fraction bits buy precision. FP8 comes in two kinds, E4M3 and E5M2: the name counts the
# exponent and the fraction (*mantissa*) bits.

# %% [markdown]
# ### Exercise 10.2: every value of a small float
#
# Write `small_float(exponent_bits, fraction_bits)`: the value of each code, in the order of the codes. A code is the
# sign bit, then the exponent $e$, then the fraction $f$ (read as whole numbers). With $m$ fraction bits:
#
# $$\pm\, 2^{\,e - \text{bias}} \left(1 + \tfrac{f}{2^m}\right) \text{ if } e > 0, \qquad
# \pm\, 2^{\,1 - \text{bias}}\, \tfrac{f}{2^m} \text{ if } e = 0 \text{ (a \emph{subnormal} number)}$$
#
# The bias is $2^{\text{exponent bits} - 1} - 1$. Give every code a number. The check compares E4M3 and E5M2 with
# torch's types, and E2M1 with the `gguf` package's. torch uses a few codes for NaN and infinity; the check skips
# those.


# %% tags=["exercise"]
def small_float(exponent_bits, fraction_bits):
    return ...


check("10.2", small_float)
# hint("10.2")


# %% tags=["solution"]
def small_float(exponent_bits, fraction_bits):
    codes = torch.arange(2 ** (exponent_bits + fraction_bits))
    exponent, fraction = codes // 2**fraction_bits, (codes % 2**fraction_bits) / 2**fraction_bits
    bias = 2 ** (exponent_bits - 1) - 1
    sizes = torch.where(exponent > 0, 2.0 ** (exponent - bias) * (1 + fraction), 2.0 ** (1 - bias) * fraction)
    return torch.cat([sizes, -sizes])


check("10.2", small_float)

# %% [markdown]
# The next figure shows how six formats store 0.3. The last row, E2M1, comes from your function.
#
# **Predict 2.** float16 and bfloat16 both have 16 bits. Which of them is nearer to 0.3?

# %%
small_float = go_on_with("10.2", small_float, quantizers.small_float)
predict("10.2", choices=["float16", "bfloat16"])

# %%
FORMATS = {  # name: torch's type, whole numbers of the same width, exponent bits, fraction bits
    "float32": (torch.float32, torch.int32, 8, 23),
    "float16": (torch.float16, torch.int16, 5, 10),
    "bfloat16": (torch.bfloat16, torch.int16, 8, 7),
    "FP8 E4M3": (torch.float8_e4m3fn, torch.int8, 4, 3),
    "FP8 E5M2": (torch.float8_e5m2, torch.int8, 5, 2),
}
drawn, tiny = {}, small_float(2, 1)
for title, (dtype, whole, exponent, fraction) in FORMATS.items():
    stored = torch.tensor(0.3).to(dtype)
    pattern = stored.view(whole).item() % 2 ** (1 + exponent + fraction)  # the bits, read as a whole number
    drawn[title] = (f"{pattern:0{1 + exponent + fraction}b}", exponent, stored.item(), torch.finfo(dtype).max)
code = (tiny[:8] - 0.3).abs().argmin().item()
drawn["FP4 E2M1"] = (f"{code:04b}", 2, tiny[code].item(), tiny.max().item())
plotting.show(figures.bit_fields(drawn, 0.3))
reveal("10.2", min(("float16", "bfloat16"), key=lambda title: abs(drawn[title][2] - 0.3)))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# float16 spends its bits on the fraction and is nearer to 0.3. bfloat16 keeps float32's eight exponent bits, so it
# reaches nearly as far as float32, in both directions. The smallest positive float16 is about 6e-8, and far smaller
# gradients become zero. Training in float16 therefore multiplies the loss, so that small gradients do not vanish.
#
# E4M3 ends at 448, because torch keeps its highest code for NaN; your function gives that code the value 480. E2M1 is
# never used alone: a scale stretches it to each block.
#
# </details>
#
# ### Code books
#
# A **[code book](../docs/glossary.md#code-book)** lists any levels we like, from -1 to 1. Each block is divided by its
# largest absolute weight (its scale), and each weight takes the nearest level:
#
# - **E2M1**, your small float, divided by 6: the 4-bit float of the OCP standard. Recent GPUs multiply it.
# - **FP4 of bitsandbytes**: the same fields, but the exponent runs the other way, and exponent 0 holds zero and one
#   tiny number. Both floats have 15 levels in 16 codes, because zero has two, +0 and -0.

# %% [markdown]
# - **[NF4](../docs/glossary.md#nf4)** (Dettmers et al. 2023) is no float. Its levels are *quantiles* of the normal
#   distribution: equally far apart in probability, so close together where weights are many.
#
# The quantile at probability 1 would be infinite, so NF4 stops a little earlier. With 16 equal steps of probability,
# half a step before 1 is 1 - 1/32. With 15 steps it is 1 - 1/30. NF4 takes the mean of both, 0.9677083. One code is
# zero, so 15 are left: eight above zero, seven below.


# %%
from statistics import NormalDist


def nf4_code(tail=0.9677083):
    """16 quantiles of the normal distribution, 8 above zero and 7 below, scaled to -1 ... 1."""
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in torch.linspace(tail, 0.5, 9)[:-1].tolist()]  # 0.5 is zero: added below, once
    below = [-quantile(p) for p in torch.linspace(tail, 0.5, 8)[:-1].tolist()]
    levels = torch.tensor(sorted([*below, 0.0, *above]))
    return levels / levels.max()


def fp4_code():
    """The 16 levels of bitsandbytes' FP4 in the order of their codes, scaled to -1 ... 1."""
    sizes = [0.0, 0.0625]  # exponent 0
    for exponent in (1, 2, 3):
        sizes += [2.0 ** (4 - exponent) * (1 + fraction / 2) for fraction in (0, 1)]  # 8, 12, 4, 6, 2, 3
    return torch.tensor(sizes + [-size for size in sizes]) / max(sizes)


# %%
def to_code_book(weights, code, block_size=64):
    """Each weight's nearest level: codes (places in `code`) and scales; `code[codes] * scale` comes back."""
    rows = blocks(weights, block_size)
    scale = rows.abs().amax(dim=1, keepdim=True)
    order = code.argsort()  # the codes of a small float are not in order of their levels
    middles = (code[order[:-1]] + code[order[1:]]) / 2
    nearest = torch.bucketize(rows * (1 / scale.clamp(min=SMALLEST)), middles)
    return order[nearest], scale


def in_book(numbers, code, size):
    """What comes back from a code book, in the shape of `numbers`."""
    codes, scale = to_code_book(numbers, code, size)
    return (code[codes] * scale).reshape(numbers.shape)


# %% [markdown]
# ### The same with the library
#
# bitsandbytes packs two codes into a byte, the first into the upper four bits. To compare, we unpack them.

# %% tags=["nbval-check-output"]
from helpers.quantization.four_bit import quiet_bitsandbytes

quiet_bitsandbytes()  # leaves out one line: an optional, faster kernel from the Hub is not installed
import bitsandbytes.functional as bnb

mismatches = {}
for kind, code in (("nf4", nf4_code()), ("fp4", fp4_code())):
    packed, state = bnb.quantize_4bit(weights, blocksize=64, quant_type=kind)
    theirs = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=1).flatten()
    codes, scale = to_code_book(weights, code)
    mismatches[kind] = int((codes.flatten() != theirs).sum())
    same_scales = torch.equal(scale.flatten(), state.absmax)
    same_levels = torch.equal(code, bnb.get_4bit_type(kind, device="cpu"))
    print(f"{kind}: levels equal {same_levels}, scales equal {same_scales}, codes that differ: {mismatches[kind]}")
    assert same_levels and same_scales and not mismatches[kind]

# %% [markdown]
# Equal to the bit, with no tolerance anywhere.
#
# **Predict 3.** A million random numbers from the normal distribution, 4 bits, blocks of 64: which format has the
# smallest mean error: symmetric, affine, NF4, bitsandbytes' FP4, or E2M1?

# %%
normal = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(seed))
BOOKS = {"nf4": nf4_code(), "fp4": fp4_code(), "e2m1": tiny / tiny.max()}
ways = {kind: partial(restored, bits=4, kind=kind) for kind in ("symmetric", "affine")}
ways |= {kind: partial(in_book, code=code) for kind, code in BOOKS.items()}
errors, root_mean_square = {64: {}, 128: {}, 256: {}}, {}
for kind, way in ways.items():
    for size in errors:
        apart = (way(normal, block_size=size) if kind in ("symmetric", "affine") else way(normal, size=size)) - normal
        errors[size][kind] = apart.abs().mean().item()
        root_mean_square[kind, size] = apart.square().mean().sqrt().item()
TITLES = {"symmetric": "symmetric", "affine": "affine", "nf4": "NF4", "fp4": "FP4, bitsandbytes", "e2m1": "E2M1"}
predict("10.3", choices=list(TITLES.values()))

# %%
PUBLISHED = {  # mean absolute errors in bitsandbytes' own tests (test_functional.py)
    "nf4": {64: 0.072792, 128: 0.076835, 256: 0.080326},
    "fp4": {64: 0.096545, 128: 0.102947, 256: 0.108685},
}
rows = {}
for kind, title in TITLES.items():
    told = [f"{PUBLISHED[kind][size]:.6f}" if kind in PUBLISHED else "" for size in (64, 256)]
    cost = 4 + 32 / 64 + (4 / 64 if kind == "affine" else 0)
    rows[title] = [f"{cost:.2f}", f"{errors[64][kind]:.6f}", told[0], f"{root_mean_square[kind, 64]:.4f}",
                   f"{errors[256][kind]:.6f}", told[1]]  # fmt: skip
for kind in PUBLISHED:
    assert abs(errors[64][kind] / PUBLISHED[kind][64] - 1) < 0.005  # within 0.5 % of the published error
by_seed = experiment.best_by_seed({f"error_{kind}_block_64": title for kind, title in TITLES.items()})
ratio = experiment.ratios("error_fp4_block_64", "error_e2m1_block_64")
print(f"mean error of bitsandbytes' FP4 over E2M1's, {len(ratio)} seeds: {min(ratio):.3f} to {max(ratio):.3f}")
reveal("10.3", TITLES[min(errors[64], key=errors[64].get)], reference=by_seed)
columns = ["bits per weight", "mean error, blocks of 64", "published", "RMS error, 64", "mean error, 256", "published"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# By mean error NF4 wins, on the distribution that it was made for. By RMS error (the root of the mean square), which
# punishes large errors more, affine is slightly ahead of NF4 in blocks of 64. bitsandbytes' FP4 loses even to equal
# steps: it has no level between 0.005 and 0.17, where a third of these numbers lie. E2M1 has as many bits and a
# smaller error, in every seed. All errors grow with the block, because the largest of more numbers is larger. (*Bits
# per weight* counts a 32-bit scale per block, and for affine a 4-bit zero point.)
#
# </details>
#
# NF4's levels are quantiles of a bell that ends at its 0.9677 quantile, 1.85 standard deviations. The largest of 64
# weights ends another bell, and the larger the block, the farther out. So no code book is best for every block size:
# Yoshida (2023) chooses the levels for a given size, and gains mostly with large blocks.

# %% [markdown]
# ## 4. The scales cost bits too
#
# 32 bits per 64 weights are half a bit per weight. **[Double quantization](../docs/glossary.md#double-quantization)**
# stores the scales in 8 bits as well: subtract their mean, cut them into blocks of 256, and code each block with a book
# of 256 levels. That leaves $8/64 + 32/(64 \cdot 256) = 0.127$ bits per weight, the figure of the
# [QLoRA](../docs/glossary.md#qlora) paper.

# %% [markdown]
# `dynamic_code` is bitsandbytes' book of 256 levels, fine near zero and coarse far away. One detail matters only if you
# want the same bits: bitsandbytes' CPU code finds the level in a table of 65,536 cells, so a number close to the middle
# of two levels can get the farther one. `through_table` does the same. We also count how many codes differ without it.

# %%
from helpers.quantization.quantizers import SCALES_PER_BLOCK, dynamic_code, through_table


def double_quantize(scale):
    """Scales (blocks, 1) in 8 bits each: codes, outer scales, and the mean."""
    mean = scale.mean()
    rest = scale.flatten() - mean
    rows = torch.nn.functional.pad(rest, (0, -len(rest) % SCALES_PER_BLOCK)).reshape(-1, SCALES_PER_BLOCK)
    outer = rows.abs().amax(dim=1, keepdim=True)
    code = dynamic_code()
    shares = (rows * (1 / outer.clamp(min=SMALLEST))).clamp(-1, 1)
    codes = torch.bucketize(through_table(shares), (code[1:] + code[:-1]) / 2)
    codes = codes.where(outer > 0, 0)  # all scales alike: as bitsandbytes writes it
    return codes.flatten()[: len(rest)], outer, mean


# %% tags=["nbval-check-output"]
different, levels = {"exact": 0, "table": 0}, dynamic_code()
in_blocks = [w.cpu() for w in matrices(encoder).values() if w.numel() % 64 == 0]
for tensor in in_blocks:
    _, state = bnb.quantize_4bit(tensor, blocksize=64, quant_type="nf4", compress_statistics=True)
    scale = to_code_book(tensor, nf4_code())[1]
    codes, outer, mean = double_quantize(scale)
    different["table"] += int((codes != state.absmax.long()).sum())
    repeated = outer.repeat_interleave(SCALES_PER_BLOCK)[: len(scale)]
    exact = torch.bucketize((scale.flatten() - mean) / repeated, (levels[1:] + levels[:-1]) / 2)
    different["exact"] += int((exact != state.absmax.long()).sum())
    assert torch.equal(outer.flatten(), state.state2.absmax) and torch.equal(mean, state.offset)
scale_count = sum(w.numel() // 64 for w in in_blocks)
print(f"{scale_count:,} scales; codes that differ: {different['table']}, without the table {different['exact']}")
assert different["table"] == 0

# %% [markdown]
# ## 5. Levels that are learned
#
# **Weight clustering** (Han et al. 2016) finds the levels with k-means: assign each weight to its nearest centre, move
# each centre to the mean of its weights, repeat. The centres are the tensor's own code book, and there are no scales.
# They start at the quantiles of a wide normal distribution, and k-means moves them from there.


# %%
from helpers.quantization.quantizers import not_constant


def k_means(weights, bits, steps=10):
    """Cluster the weights around 2^bits centres: codes and the code book; `centres[codes]` comes back."""
    values = not_constant(blocks(weights).flatten())
    shares = (torch.arange(2 ** check_bits(bits)) + 0.5) / 2**bits
    centres = values.mean() + 3**0.5 * values.std() * torch.special.ndtri(shares)
    for _ in range(steps):
        codes = torch.bucketize(values, (centres[1:] + centres[:-1]) / 2)
        count = torch.bincount(codes, minlength=2**bits)
        total = torch.bincount(codes, weights=values.double(), minlength=2**bits)
        centres = torch.where(count > 0, total / count.clamp(min=1), centres).float()
    return torch.bucketize(values, (centres[1:] + centres[:-1]) / 2), centres


_, centres = k_means(weights, bits)
top = weights.abs().max()
equal = torch.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1)) / (2 ** (bits - 1) - 1)
books = {f"symmetric, {bits} bits": equal * top} | {TITLES[kind]: code * top for kind, code in BOOKS.items()}
plotting.show(figures.levels(weights, books | {f"k-means, {bits} bits": centres}))

# %% [markdown]
# The figure draws every book with one scale for the whole matrix. With blocks, each block stretches the book to its own
# largest weight, except for k-means.
#
# ## 6. Codes in bytes: open a GGUF file
#
# A 4-bit code in a PyTorch tensor still takes a byte. Files pack two codes into each byte, as bitsandbytes did above.

# %% [markdown]
# **[GGUF](../docs/glossary.md#gguf)** is the format of llama.cpp, Ollama and LM Studio. **Q4_1**, one of its older
# types, stores 32 weights in 20 bytes: a float16 scale $d$, a float16 minimum $m$, and 16 bytes that hold two codes
# each. The *lower* four bits are the first 16 weights, the *upper* four the last 16. A weight is `code * d + m`: affine
# quantization with a minimum instead of the zero point, so 0 need not stay 0. That is 20 · 8 / 32 = 5 bits per weight.

# %% [markdown]
# We decode it by hand, first for our own matrix, then for a published file: SmolLM2-135M-Instruct in Q4_1. That file
# belongs to the course's *real track*, which `workbook real` fetches once. Without it the committed reference is shown.
# `contents` goes through `gguf.GGUFReader(path).tensors` and adds up weights and bytes by `tensor_type`.

# %% tags=["nbval-check-output"]
import gguf
import numpy as np


def q4_1(raw):
    """Decode Q4_1: bytes (any shape, 20 per block) to float32 weights (blocks, 32)."""
    rows = torch.from_numpy(np.array(raw)).reshape(-1, 20)
    d, m = rows[:, :4].contiguous().view(torch.float16).float().split(1, dim=1)
    codes = torch.cat([rows[:, 4:] & 15, rows[:, 4:] >> 4], dim=1)
    return codes * d + m


raw = gguf.quants.quantize(weights.reshape(-1, 32).numpy(), gguf.GGMLQuantizationType.Q4_1)
theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q4_1)
same_pocket = torch.equal(q4_1(raw), torch.from_numpy(theirs))
print(f"first block: {bytes(raw.flatten()[:20]).hex(' ', 4)}")
d, m = raw.flatten()[:4].view(np.float16).astype(np.float32)
low, high = raw.flatten()[4] & 15, raw.flatten()[4] >> 4
print(f"d = {d:.6f}, m = {m:.6f}; byte {raw.flatten()[4]:02x} holds code {low} (weight 1) and code {high} (weight 17)")
print(f"weight 1: {low} d + m = {low * d + m:.4f}, was {weights[0, 0]:.4f}; ", end="")
print(f"weight 17: {high} d + m = {high * d + m:.4f}, was {weights[0, 16]:.4f}")
print("our matrix, decoded by hand, equals the gguf package's:", same_pocket)
assert same_pocket

# %%
from helpers import real
from helpers.lessons.lesson_10.experiment import contents

live = not real.trouble()
published = None if live else real_reference("10")
inside = {} if live else {name: published.interval(name).value for name in published.metrics}
if live:
    inside = contents(real.gguf_file(), q4_1)
print("SmolLM2-135M-Instruct.Q4_1.gguf:", "read now" if live else f"read on {published.date}, for the reference")
print(f"Q4_1 tensors decoded as the gguf package does: {inside['equal_q4_1']:.0f} of {inside['count_q4_1']:.0f}")
rows = {}
for kind in ("q4_1", "q8_0", "f32", "all"):
    count, size = inside[f"weights_{kind}"], inside[f"bytes_{kind}"]
    rows[kind.upper()] = [f"{count / 1e6:.2f}", f"{size / 1e6:.2f}", f"{8 * size / count:.2f}"]
pd.DataFrame.from_dict(rows, orient="index", columns=["weights (millions)", "size (MB)", "bits per weight"])

# %% [markdown]
# <details><summary>What to look at</summary>
#
# A "4-bit" file has more than 4 bits per weight. Its blocks cost one bit more, and the embedding table, a fifth of this
# small model, is kept in 8 bits (Q8_0). Always compare files by their bytes, never by the number in their name.
#
# </details>
#
# ## 7. What does a model lose?
#
# We measure two models. A **classifier**: the pocket encoder with a head, fine-tuned on film reviews with lesson 02's
# recipe. And the **decoder** as it was pretrained, judged by its [perplexity](../docs/glossary.md#perplexity) on review
# texts. `fine_tune` and `answers` are lesson 02's training loop and evaluation.

# %%
from helpers.batches import TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.recipes import recipe
from helpers.runtime import seed_everything
from helpers.training import train_on_text

reviews = catalog.dataset("reviews", track, data, seed)
train_rows = sample_rows(reviews["train"], run.by_budget(quick=min(labels, 32), standard=labels), seed)
test_count = min(run.by_budget(quick=64, standard=1000, full=100_000), len(reviews["test"]))
tokenizer = catalog.tokenizer("encoder", track, model)
rows_of = {"train": train_rows, "test": reviews["test"].select(range(test_count))}
rows_of = {split: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for split, part in rows_of.items()}
full_rate = recipe(
    "full", catalog.origin("encoder", track, model)
).learning_rate  # chosen on validation rows in lesson 02
epochs = run.by_budget(quick=1, standard=3)
print(f"{len(train_rows):,} reviews, {epochs} epochs, AdamW, batches of 16, rate {full_rate:g}, warm-up, linear decay")


# %%
def fine_tune(network, epochs, rate, title):
    return train_on_text(network, rows_of["train"], pad(tokenizer), rate, epochs=epochs, seed=seed, progress=title)


def answers(network):
    """1.0 for each test review that gets its label, else 0.0."""
    logits, true = evaluation.predict(network, length_batches(rows_of["test"], pad(tokenizer), 64, shuffle=False))
    return (logits.argmax(dim=-1) == true).double()


seed_everything(seed)
classifier = catalog.classifier(track, model, max(reviews["train"]["label"]) + 1).to(run.device)
history = fine_tune(classifier, epochs, full_rate, "the classifier")
right = answers(classifier)
accuracy = wilson(int(right.sum()), len(right))
print(f"accuracy {accuracy:.3f} on {len(right):,} reviews, trained in {history.seconds:.0f} s")

# %% [markdown]
# From here on every model makes the full round trip: quantize the matrices, pack the codes, write a file, count its
# bytes, **read the file back** into a fresh copy, and measure that copy. `helpers.quantization.storage` packs, writes
# and reads. For affine blocks it calls your `quantize`. For the other formats it has copies of this lesson's
# functions; we count the matrices in which the two differ. Vectors (biases, norms) and the head stay in float32.
# (*NF4, double* below is NF4 with double quantization.)

# %%
from helpers.language_model import blocks_of_text, mean_next_token_loss, perplexity
from helpers.quantization.storage import clustered, code_book, compress, load, pruned, uniform, write

decoder = catalog.causal_language_model(track).to(run.device).eval()
decoder_tokenizer = catalog.tokenizer("decoder", track)
text_count = run.by_budget(quick=8, standard=64, full=512)
text_rows = blocks_of_text(decoder_tokenizer, reviews["validation"]["text"], length=64, seed=seed, again=True)
text_rows = text_rows[:text_count]


def measured_perplexity(network, rows=text_rows):
    return perplexity(mean_next_token_loss(network, rows))


perplexity_whole = measured_perplexity(decoder)
print(f"the decoder's perplexity is {perplexity_whole:.3f} on {text_rows.numel():,} tokens of review text")


# %%
def through_a_file(original, technique, skip="nothing"):
    """A copy of the model as it comes back from a file, and the file's bytes."""
    stored = compress(original, technique) if technique else {}
    size = write(path, original, {name: one for name, one in stored.items() if skip not in name})
    return load(path, copy.deepcopy(original)), size


my_affine = partial(uniform, block_size=block_size, zero_point=True, quantizer=quantize)  # my_affine(bits)
same_as_here = {  # title: the technique that is stored, and the same with this page's functions
    "affine": (my_affine(4), lambda w: restored(w, 4, block_size)),
    "symmetric": (uniform(4, "channel"), lambda w: restored(w, 4, "channel", "symmetric")),
    "NF4": (code_book("nf4", 64), lambda w: in_book(w, nf4_code(), 64)),
    "k-means": (clustered(3), lambda w: (parts := k_means(w, 3))[1][parts[0]].reshape(w.shape)),
}
in_blocks = [w.cpu() for w in matrices(decoder).values() if not w.numel() % block_size and not w.numel() % 64]
for title, (technique, here) in same_as_here.items():
    differ = sum(not torch.equal(technique(w).restore(), here(w)) for w in in_blocks)
    print(f"{title}: {differ} of {len(in_blocks)} matrices differ from what this page's functions give")

# %%
# How large are the files?
whole_bytes, double_nf4, sizes = {}, code_book("nf4", 64, double=True), {}
for title, network in (("classifier", classifier), ("decoder", decoder)):
    whole_bytes[title] = through_a_file(network, None)[1]
    both = [through_a_file(network, double_nf4, skip)[1] for skip in ("nothing", "embed")]
    counts = {key: one.numel() for key, one in network.named_parameters()}
    table = sum(count for key, count in counts.items() if "embed" in key) / sum(counts.values())
    sizes[title] = [*(f"{size / 1e6:.2f}" for size in (whole_bytes[title], *both)), f"{table:.0%}"]
columns = ["float32 (MB)", "NF4, double (MB)", "the same, embeddings in float32 (MB)", "embeddings, of all weights"]
pd.DataFrame.from_dict(sizes, orient="index", columns=columns)

# %% [markdown]
# (This lesson quantizes the embedding table, too. bitsandbytes, and so lesson 11, leaves it as it is.)
#
# ## 8. The same with the library
#
# The usual way with the library is one argument of `from_pretrained`. The cell prints two defaults that surprise many:
# without `bnb_4bit_quant_type` you get FP4, the worst format of section 3; without `bnb_4bit_compute_dtype` products
# run in float32. On a GPU take `torch.bfloat16`; we take float32. `keep_packing` (this course's own) keeps some
# processors from rounding to bfloat16.

# %%
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from helpers.qlora import keep_packing

default = BitsAndBytesConfig(load_in_4bit=True)
print(f"defaults: {default.bnb_4bit_quant_type}, computes in {default.bnb_4bit_compute_dtype}, ", end="")
print(f"double quantization {default.bnb_4bit_use_double_quant}")
config = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)
source = catalog.model_source("decoder", track)
loaded = AutoModelForCausalLM.from_pretrained(
    source, quantization_config=config, device_map={"": "cpu"}, dtype=torch.float32
)
by_library = measured_perplexity(keep_packing(loaded).eval())
by_hand = measured_perplexity(through_a_file(decoder, double_nf4, "embed")[0])
print(f"perplexity in NF4: bitsandbytes {by_library:.4f}, by hand {by_hand:.4f}, float32 {perplexity_whole:.4f}")
print(f"in memory: {loaded.get_memory_footprint() / 1e6:.2f} MB, before {decoder.get_memory_footprint() / 1e6:.2f} MB")

# %% [markdown]
# `loaded.save_pretrained(folder)` writes the packed weights, and `from_pretrained(folder)` reads them without a
# config. `llm_int8_skip_modules` names layers to leave alone, also in 4 bits. A list of your own replaces the default,
# so put the head into it: `["lm_head", ...]`.
#
# ## 9. Fewer weights: pruning
#
# [Pruning](../docs/glossary.md#pruning) is no quantization: it removes weights and leaves the others in 32 bits.
# **Magnitude pruning** sets the smallest weights to zero. The file keeps one bit per weight that says which are left;
# the matrices keep their shape, so the products are not faster.

# %% [markdown]
# **Structured pruning** removes whole neurons: a row of the layer into a feed-forward block and a column of the layer
# out of it. Those with the smallest product of norms (of the row and of the column) go first. The matrices become
# smaller, so any processor multiplies them faster. Only the feed-forward blocks are pruned here. So 90 % of the
# *neurons* is far less than 90 % of the *weights*, and the figure below counts weights.


# %%
def magnitude_mask(weights, sparsity):
    """Which weights stay: all but the smallest share `sparsity`. Same shape, True for what stays."""
    check_number("sparsity", sparsity, 0.0, 1.0)
    sizes = check_weights(weights).detach().abs().flatten()
    mask = torch.ones_like(sizes, dtype=torch.bool)
    mask[sizes.argsort(stable=True)[: round(sparsity * len(sizes))]] = False
    return mask.reshape(weights.shape)


def pruned_copy(share):
    """A copy with the smallest weights of every matrix at zero, and the masks of what stays."""
    network = copy.deepcopy(classifier)
    masks = {name: magnitude_mask(weights, share) for name, weights in matrices(network).items()}
    with torch.no_grad():
        for name, mask in masks.items():
            network.get_parameter(name).mul_(mask)
    return network, masks


# %%
from helpers.quantization.pruning import hold_at_zero, prune_neurons


def cut(title, share):
    """A smaller copy of the classifier, and the masks of what stays."""
    if title == "smallest weights":
        return pruned_copy(share)
    prune_neurons((network := copy.deepcopy(classifier)).body, share)
    return network, {}


def scored(network):
    """The accuracy with its interval, and the share of the classifier's weights that is zero or gone."""
    found, stay = answers(network), sum(int(one.count_nonzero()) for one in network.parameters())
    return wilson(int(found.sum()), len(found)), 1 - stay / sum(one.numel() for one in classifier.parameters())


# %% [markdown]
# Pruned models are usually **trained again**. `hold_at_zero` multiplies each gradient by its mask, so the zeros stay
# zeros. Every model gets one more pass over the same reviews, at half the rate of section 7. We chose this rate once,
# for all, and did not tune it. The control is the *unpruned* classifier with the same extra pass. It shows how much the
# pass changes without any pruning.
#
# **Predict 4.** What will the accuracy be without the smallest 70 % of the weights, before any more training?

# %%
predict("10.4", within=0.05, unit="accuracy", low=0, high=1)
fine_tune(dense := copy.deepcopy(classifier), 1, full_rate / 2, "the control: nothing pruned")
weight_shares = run.by_budget(quick=(0.5,), standard=(0.3, 0.5, 0.7, 0.9))
neuron_shares = run.by_budget(quick=(0.5,), standard=(0.5, 0.75, 0.9))
curves, trained_again = {}, {}
for title, some in {"smallest weights": weight_shares, "whole neurons": neuron_shares}.items():
    for share in some:
        network, masks = cut(title, share)
        curves.setdefault(title, {})[share] = scored(network)
        if share > some[0] or share == some[-1]:  # the mildest cut is not trained again, which saves time
            again = f"{title}, trained again"
            hold_at_zero(network, masks)
            fine_tune(network, 1, full_rate / 2, again)
            copied, size = through_a_file(network, pruned(share) if masks else None)
            curves.setdefault(again, {})[share] = scored(copied)
            point = figures.Point(size, curves[again][share][0].value, f"{share:.0%}")
            trained_again.setdefault(again, []).append(point)

# %%
control, _ = scored(dense)
by_weights = {title: {gone: score for score, gone in one.values()} for title, one in curves.items()}
plotting.show(figures.against_sparsity(by_weights, accuracy.value, control.value))
for title, one in curves.items():
    for share, (score, gone) in one.items():
        print(f"{title}: {share:.0%} of them, {gone:.0%} of all weights, accuracy {score.value:.3f}")
        values[f"accuracy_{title.replace(',', '').replace(' ', '_')}_{100 * share:.0f}"] = score.value
at_70, _ = curves["smallest weights"].get(0.7, (None, None))
reveal("10.4", at_70 and at_70.value, reference="accuracy_smallest_weights_70")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# The axis counts *all* weights of the model. Nine tenths of the neurons sound like a lot, but the embeddings and the
# attention stay whole, so only about a third of the weights is gone. These curves are one seed; section 18 compares
# both kinds over five. In this figure look at 70 % and 90 % of the weights: how much of the accuracy does the extra
# pass bring back? Compare each "trained again" with the control, not with the classifier before the extra pass.
#
# </details>
#
# ## 10. All techniques, by their bytes
#
# **Predict 5.** At 2 bits, which of three techniques leaves the decoder with the lowest perplexity?

# %%
all_bits = run.by_budget(quick=(4,), standard=(2, 3, 4, 8))
FAMILIES = {  # the ending of its metrics: its title, and its techniques by their label
    "uniform_tensor": ("symmetric, one scale", {str(b): uniform(b) for b in all_bits}),
    "uniform_channel": ("symmetric, per channel", {str(b): uniform(b, "channel") for b in all_bits}),
    "uniform_block": (f"symmetric, blocks of {block_size}", {str(b): uniform(b, block_size) for b in all_bits}),
    "affine_block": (f"affine, blocks of {block_size}", {str(b): my_affine(b) for b in all_bits}),
    "clusters": ("k-means", {str(b): clustered(b) for b in all_bits}),
    "fp4": ("FP4, bitsandbytes", {"4": code_book("fp4", block_size)}),
    "e2m1": ("E2M1", {"4": code_book("e2m1", block_size)}),
    "nf4": ("NF4", {"4": code_book("nf4", block_size)}),
    "nf4_double": ("NF4, double", {"4": code_book("nf4", block_size, double=True)}),
    "pruned": ("pruned", {f"{share:.0%}": pruned(share) for share in weight_shares}),
}
AT_TWO = {"uniform_block": "symmetric blocks", "affine_block": "affine blocks", "clusters": "k-means"}
predict("10.5", choices=list(AT_TWO.values()))

# %%
from tqdm import tqdm

found = {}
for family, (_, techniques) in tqdm(FAMILIES.items(), desc="techniques", leave=False):
    for label, technique in techniques.items():
        copied, size = through_a_file(classifier, technique)
        found["accuracy", family, label] = figures.Point(size, answers(copied).mean().item(), label)
        copied, size = through_a_file(decoder, technique)
        found["perplexity", family, label] = figures.Point(size, measured_perplexity(copied), label)
        name = f"{family}_{label.removesuffix('%')}"
        for quantity, where in (("accuracy", ""), ("perplexity", "_decoder")):
            point = found[quantity, family, label]
            values |= {f"{quantity}_{name}": point.value, f"bytes_{name}{where}": point.bytes}
by_seed = experiment.best_by_seed({f"perplexity_{kind}_2": title for kind, title in AT_TWO.items()})
measured = {title: values.get(f"perplexity_{kind}_2", torch.inf) for kind, title in AT_TWO.items()}
reveal("10.5", min(measured, key=measured.get) if 2 in all_bits else None, reference=by_seed)


# %%
# Numbers at the points: bits, or the share pruned. A line that leaves the panel goes on to a far worse point. The two
# lines "trained again" had one more pass over the reviews than all others.
def lines(quantity):
    """Family title -> its points."""
    return {
        title: [found[quantity, family, one] for one in techniques] for family, (title, techniques) in FAMILIES.items()
    }


panels = {"accuracy": lines("accuracy") | trained_again, "perplexity": lines("perplexity")}
whole = {
    "accuracy": figures.Point(whole_bytes["classifier"], accuracy.value),
    "perplexity": figures.Point(whole_bytes["decoder"], perplexity_whole),
}
limits = {
    "accuracy": (accuracy.value - 0.2, accuracy.value + 0.03),
    "perplexity": (0.97 * perplexity_whole, 1.6 * perplexity_whole),
}
plotting.show(figures.against_bytes(panels, whole, limits))

# %% [markdown]
# One rounding of one classifier is one draw: with another seed the order changes. So the table uses the **five seeds**
# of the committed reference. Each seed trains its own classifier and draws its own texts, and each difference is taken
# within a seed: quantized minus float32, with a 95 % [confidence interval](../docs/glossary.md#confidence-interval).
# The decoder is the same in all five seeds. So the intervals of its perplexity describe other texts, not other models.

# %%
results = pd.read_parquet(FOLDER / "results.parquet").query("lesson == '10'")
five = results.pivot(index="seed", columns="metric", values="value")


def over_seeds(metric, other):
    return mean_t((five[metric] - five[other]).dropna().tolist())


def change(technique, quantity, minus="float32"):
    """The mean difference over the seeds, its interval, and whether that holds zero."""
    gap = over_seeds(f"{quantity}_{technique}", f"{quantity}_{minus}")
    return f"{quantity} {gap:+.3f}{', no clear difference' if 0 in gap else ''}"


def range_of(metric):
    """The smallest and the largest value in the reference's runs."""
    found = recorded("10", metric)
    return f"{min(found):.2f} to {max(found):.2f}" if found else "this run only"


rows = {}
for kind, (title, _) in FAMILIES.items():
    for label in ("4", "3", "2"):
        if f"accuracy_{kind}_{label}" in five and kind != "uniform_tensor":
            gap, torn = (over_seeds(f"{one}_{kind}_{label}", f"{one}_float32") for one in ("accuracy", "perplexity"))
            size, other = (five[f"bytes_{kind}_{label}{end}"].mean() / 1e6 for end in ("", "_decoder"))
            worse = f"{torn:+.2f}" if torn.value < 1000 else "over 1,000"
            rows[f"{label} bits, {title}"] = [f"{size:.2f}", f"{gap:+.3f}", f"{other:.2f}", worse]
columns = ["classifier (MB)", "its accuracy minus float32", "decoder (MB)", "its perplexity minus float32"]
pd.DataFrame.from_dict(dict(sorted(rows.items(), reverse=True)), orient="index", columns=columns)

# %%
# Which format is best? The best mean, and every format whose difference from it has an interval that holds 0.
for label in ("4", "3", "2"):
    for quantity, pick in (("accuracy", "idxmax"), ("perplexity", "idxmin")):
        metrics = {kind: f"{quantity}_{kind}_{label}" for kind in FAMILIES if kind not in ("uniform_tensor", "pruned")}
        metrics = {kind: metric for kind, metric in metrics.items() if metric in five}
        best = getattr(five[list(metrics.values())].mean(), pick)()
        shown = {FAMILIES[kind][0]: metric for kind, metric in metrics.items()}
        tied = [title for title, metric in shown.items() if metric != best and 0 in over_seeds(metric, best)]
        first = next(title for title, metric in shown.items() if metric == best)
        print(f"{label} bits, {quantity}: {first}; no clear difference: {'; '.join(tied) or 'none'}")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - Accuracy is better when higher, perplexity when lower. An interval that holds 0 shows no clear loss. That is not a
#   proof of "no loss": five seeds may be too few to see a small one.
# - The two models can disagree. k-means has one code book for a whole matrix and no scales. Find its place in both
#   columns at 4 bits, and at 2 bits.
# - **2 bits.** Symmetric rounding has three levels, affine four. No format with equal steps keeps the decoder usable.
# - Compare sizes too. At the same bits, the scales of blocks make a larger file than k-means.
#
# </details>
#
# For large models, from table 2 of the QLoRA paper: the mean perplexity of OPT, BLOOM, LLaMA and Pythia models of 125
# million to 13 billion weights is 34.34 with 4-bit integers, 31.07 with E2M1 and 27.41 with NF4 and double
# quantization.

# %% [markdown]
# ## 11. Is it faster?
#
# So far the whole model became float32 again when its file was read, so nothing was faster. A *kernel* is the code that
# computes one operation. A *fused* kernel reads the small codes and turns them into floats just before it multiplies.
# That helps where a product is **bound by memory**: to generate one token for one user, a language model reads every
# weight for one multiplication, so fewer bytes are faster. Weight-only [GPTQ](../docs/glossary.md#gptq) and AWQ models
# (sections 13 and 14) run so.

# %% [markdown]
# With many inputs at once each weight is used many times, and the product is **bound by arithmetic**. There quantizing
# the weights alone saves no time. To save time, the product itself has to run in whole numbers: int8 inputs
# times int8 weights, sums in 32 bits, and one multiplication by both scales at the end. `int8_product` does that with a
# scale for each row of inputs and each output.
#
# llama.cpp mixes both: with Q4_1 weights it rounds the inputs to 8 bits (`Q8_1`) and multiplies whole numbers.


# %% tags=["nbval-check-output"]
def int8_product(inputs, weights):
    """inputs (rows, in), weights (out, in): the product (rows, out), and its sums in whole numbers."""
    left, left_scale = symmetric(inputs, 8, "channel")  # a scale per row of inputs
    right, right_scale = symmetric(weights, 8, "channel")  # a scale per output
    sums = left.int() @ right.int().T  # (rows, out), exact
    return sums * left_scale * right_scale.T, sums


inputs = torch.randn(32, weights.shape[1], generator=torch.Generator().manual_seed(0))
theirs = bnb.int8_linear_matmul(bnb.int8_vectorwise_quant(inputs)[0], bnb.int8_vectorwise_quant(weights)[0])
print("our sums equal bitsandbytes':", same_sums := torch.equal(int8_product(inputs, weights)[1], theirs))
assert same_sums

# %% [markdown]
# To time a whole model we take `quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)` of
# `torch.ao.quantization`. `int8_copy` calls it and hides its warning: it is **deprecated** in favour of torchao
# (section 17). It is coarser than `int8_product`: one scale for a whole weight matrix, one scale and zero point for all
# inputs of a call, and inputs of 7 bits on x86 processors (`reduce_range`). So **its times are not those of section
# 12's int8**.
#
# We time the pocket encoder, and two blocks as wide as BERT-base, with random weights.

# %%
from transformers import BertConfig, BertModel

from helpers.lessons.lesson_10.experiment import fastest_seconds, int8_copy

wide = BertModel(BertConfig(num_hidden_layers=2, vocab_size=1000), add_pooling_layer=False).eval()
rows, faster, made = {}, {}, lesson_reference("10")
for title, network in {"pocket": encoder.cpu().eval(), "wide": wide}.items():
    for batch, length in ((1, 16), (4, 64)):
        ids = torch.randint(5, 1000, (batch, length), generator=torch.Generator().manual_seed(seed))
        calls = [partial(one, input_ids=ids) for one in (network, int8_copy(network))]
        times = [1000 * fastest_seconds(call, run.by_budget(quick=2, standard=8)) for call in calls]
        faster[title, batch] = times[0] / times[1]
        case = f"{title} ({network.config.hidden_size} wide), {batch} x {length} tokens"
        committed = range_of(f"speedup_int8_{title}_batch_{batch}")
        rows[case] = [*(f"{time:.1f}" for time in times), f"{faster[title, batch]:.2f}", committed]
print(f"here: {torch.get_num_threads()} thread(s); committed runs: {made.machine}, {made.threads}")
columns = ["float32 (ms)", "quantize_dynamic (ms)", "times faster", "in five committed runs"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Below 1 int8 is slower. Quantizing the inputs costs time at every call, and small layers give little back for it: see
# the pocket encoder with 16 tokens. In BERT's width int8 is faster in every committed run.
#
# The committed range is from five runs on one idle machine; its processor stands beside it. Where your figures lie
# outside, another processor (one with instructions for products of int8, say) or a busy machine are both possible.
#
# </details>
#
# Now the weight-only formats, on one matrix of 4,096 x 4,096. In float32 it takes 67 MB, more than most processors can
# cache. The kernels are torch's private functions (`_weight_int8pack_mm` and its like); at work you reach them through
# torchao. They take bfloat16 inputs, so plain bfloat16 is timed too. The batch is 1 (one token for one user) or 64 (64
# users, or a prompt of 64 tokens).
#
# **Predict 6.** At batch 64, will weight-only int4 be faster or slower than float32?

# %%
predict("10.6", choices=["faster", "slower"])
WIDTH = run.by_budget(quick=512, standard=4096)
big = torch.nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
int8_codes, int8_scale = symmetric(big.weight, 8, "channel")
int8_codes, int8_scale = int8_codes.to(torch.int8), int8_scale.flatten().bfloat16()
int4_codes, int4_scale, zero = quantize(big.weight, 4, 128)
packed = torch._convert_weight_to_int4pack_for_cpu(int4_codes.reshape(WIDTH, WIDTH).int(), 1)
# this kernel computes (code - 8) * scale + middle, so middle is (8 - zero) * scale
pairs = torch.stack([int4_scale, (8 - zero) * int4_scale], dim=2).reshape(WIDTH, WIDTH // 128, 2)
pairs = pairs.transpose(0, 1).contiguous().bfloat16()  # (blocks of a row, out, scale and the middle's value)
half, whole_numbers = copy.deepcopy(big).bfloat16(), int8_copy(torch.nn.Sequential(big))
CALLS = {  # title: bytes per weight, and the product of x (float32) or y (the same in bfloat16)
    "float32": (4, lambda x, y: big(x)),
    "bfloat16": (2, lambda x, y: half(y)),
    "weight-only int8": (1, lambda x, y: torch._weight_int8pack_mm(y, int8_codes, int8_scale)),
    "weight-only int4": (0.5, lambda x, y: torch._weight_int4pack_mm_for_cpu(y, packed, 128, pairs)),
    "int8 products": (1, lambda x, y: whole_numbers(x)),  # quantize_dynamic
}
flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
known = [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8") if f" {flag}" in flags]
print(f"torch uses {torch.backends.cpu.get_cpu_capability()}; int8 and bfloat16 instructions here: {known}")
print(f"quantize_dynamic: scales of the weights: {whole_numbers[0].weight().qscheme()}")


# %%
def product_error(found, right):
    """The mean error of a product, relative to the product."""
    return ((found.float() - right).abs().mean() / right.abs().mean()).item()


rows = {}
for batch, repeats in ((1, 30), (64, 4)):
    x = torch.randn(batch, WIDTH, generator=torch.Generator().manual_seed(seed))
    y, right = x.bfloat16(), big(x)
    for title, (size, call) in CALLS.items():
        seconds = fastest_seconds(partial(call, x, y), run.by_budget(quick=1, standard=repeats))
        if title == "float32":
            floats = seconds
        metric = f"speedup_{title.replace('-', '_').replace(' ', '_')}_matrix_batch_{batch}"
        values[metric] = floats / seconds
        shown = [f"{1000 * seconds:.2f}", f"{floats / seconds:.2f}", range_of(metric)]
        if batch == 1:
            shown += [f"{size * WIDTH**2 / seconds / 1e9:.1f}", f"{product_error(call(x, y), right):.1%}"]
        rows.setdefault(title, []).extend(shown)
by_seed = ["faster" if one > 1 else "slower" for one in recorded("10", "speedup_weight_only_int4_matrix_batch_64")]
reveal("10.6", "faster" if values["speedup_weight_only_int4_matrix_batch_64"] > 1 else "slower", reference=by_seed)
names = ["ms", "times faster", "committed runs"]
columns = pd.MultiIndex.from_tuples([("batch 1", one) for one in [*names, "GB/s read", "result off by"]]
                                    + [("batch 64", one) for one in names])  # fmt: skip
ours, _ = int8_product(x[:1], big.weight)  # the same int8, but with a scale per output
print(f"result off by, one scale per weight matrix: {product_error(whole_numbers(x[:1]), right[:1]):.1%}")
print(f"result off by, int8_product, a scale per output and per row of inputs: {product_error(ours, right[:1]):.1%}")
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# **Batch 1.** If reading weights were all that takes time, *GB/s read* would be the same in every row. It is far lower
# for the weight-only kernels than for float32. So on this processor reading from memory is not all that limits them. In
# the committed runs they are still faster than float32, but int4 gains nothing over int8.
#
# **Batch 64.** In the committed runs the weight-only kernels are slower than float32, and only the int8 products
# gain. A processor with other instructions (see the line above the table) can turn this order round. Compare the
# weight-only rows with plain bfloat16, in which they multiply: we did not find out why they differ from it. Measure on
# the machine that will serve your model.
#
# *Result off by* is the mean error of the product. The last two lines tell what one scale per matrix costs.
#
# </details>
#
# ## 12. When the activations have outliers
#
# From here on int8 has a scale per row of inputs and per output again, as in `int8_product`. In large language models,
# a few channels of the activations are many times as large as the rest, up to 20 times in the models that Dettmers et
# al. 2022 studied for *LLM.int8()*. These channels set the scale of a whole row of *inputs*, and few levels are left
# for the others. Section 16 looks for them in a published model.

# %% [markdown]
# The pocket decoder gets **planted** outliers: we multiply one channel of each norm by 20 or by 100, and divide the
# weights that read it by as much. The model computes the same function.
#
# **Calibration** runs the model on a few texts and watches what each linear layer reads. We note each input channel's
# largest value. (`linear_inputs` also returns a [Gram matrix](../docs/glossary.md#gram-matrix), which section 13
# explains.) The texts come from the training split; the perplexity is measured on the validation split.


# %%
def planted(model, factor, channel=7):
    """The same function, with one outlier channel in what attention and feed-forward layers read."""
    network = copy.deepcopy(model)
    for block in network.model.layers:
        for norm, owner, names in (
            (block.input_layernorm, block.self_attn, ("q_proj", "k_proj", "v_proj")),
            (block.post_attention_layernorm, block.mlp, ("gate_proj", "up_proj")),
        ):
            norm.weight.data[channel] *= factor
            for name in names:
                owner.get_submodule(name).weight.data[:, channel] /= factor
    return network


def round_rows(x, scale=None):  # int8 and back, with a scale per row, or a given one
    scale = x.abs().amax(dim=-1, keepdim=True).clamp(min=SMALLEST) / 127 if scale is None else scale / 127
    return torch.round(x / scale).clamp(-127, 127) * scale


# %%
def linear_inputs(network, rows):
    """Calibrate: for each linear layer of the blocks, its inputs' largest values (in,) and Gram matrix (in, in)."""
    largest, gram, hooks = {}, {}, []

    def watch(name, _layer, inputs):
        x = inputs[0].flatten(0, -2)  # (tokens, in)
        largest[name], gram[name] = x.abs().amax(dim=0), x.T @ x / len(x)

    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Linear) and "lm_head" not in name:
            hooks.append(layer.register_forward_pre_hook(partial(watch, name)))
    with torch.no_grad():
        network.base_model(input_ids=rows)  # all but the output head
    for hook in hooks:
        hook.remove()
    return largest, gram


def spikes(largest):
    """How many times the largest input channel of each layer is as large as its median channel."""
    return {name: (most.max() / most.median()).item() for name, most in largest.items()}


# %% [markdown]
# A **dynamic** scale is computed from each input while the model runs. A **static** one is fixed beforehand from
# calibration texts, which is faster. Two remedies: **mixed precision** (LLM.int8()) keeps channels beyond a threshold
# out of the int8 product and multiplies them in float. **SmoothQuant** (Xiao et al. 2023) divides each input channel by
# a factor and multiplies the weights by it, so that both are equally easy to round; the factor is the root of the
# channel's largest input over its largest weight (the paper's $\alpha = 0.5$).


# %%
class Int8Linear(torch.nn.Module):
    def __init__(self, layer, largest, static=False, threshold=torch.inf, smooth=False):
        super().__init__()
        root = (largest / layer.weight.abs().amax(dim=0)).sqrt()  # (in,)
        self.factor = root.clamp(min=1e-5) if smooth else torch.ones_like(largest)
        self.exact = layer.weight.detach() * self.factor  # (out, in)
        self.weight, self.threshold = round_rows(self.exact), threshold
        self.scale = (largest / self.factor).max() if static else None

    def forward(self, x):  # (..., in)
        x = x / self.factor
        outliers = x.abs().flatten(0, -2).amax(dim=0) > self.threshold  # (in,)
        self.in_float = outliers.float().mean().item()  # the share of channels that the float product takes
        in_int8 = torch.nn.functional.linear(round_rows(x * ~outliers, self.scale), self.weight)
        return in_int8 + x[..., outliers] @ self.exact[:, outliers].T


# %% [markdown]
# Two differences from what you install:
#
# - SmoothQuant usually folds the division into the *norm* before the layer, so it only smooths layers that read a
#   norm. Here each layer divides for itself, so all are smoothed. Section 16 has both.
#
# - `exact` keeps the outlier channels' weights in float, as the LLM.int8() paper does. bitsandbytes 0.50 restores those
#   columns from the rounded codes.
#
# **Predict 7.** With a channel 100 times as large, and int8 for weights and activations: what will the perplexity be
# with static scales?

# %%
REMEDIES = {  # ending of its metrics: its title, and the options of `Int8Linear`
    "dynamic": ("dynamic", {}),
    "static": ("static", {"static": True}),
    "mixed_precision": ("mixed precision", {"threshold": 6.0}),
    "smoothquant": ("SmoothQuant", {"smooth": True}),
    "smoothquant_static": ("SmoothQuant, static", {"smooth": True, "static": True}),
}
predict("10.7", factor=1.5, unit="perplexity", low=1)


def in_int8(network, largest, options, rows=text_rows, smoothed=""):
    """The perplexity with int8 products in the blocks, and the mean share of channels that a layer takes in float.

    smoothed: the endings of the layers that SmoothQuant may smooth; "" stands for all.
    """
    copied = copy.deepcopy(network)
    for name, most in largest.items():
        own = options | {"smooth": options.get("smooth", False) and name.endswith(smoothed)}
        copied.set_submodule(name, Int8Linear(copied.get_submodule(name), most, **own))
    after = measured_perplexity(copied, rows)
    shares = [layer.in_float for layer in copied.modules() if isinstance(layer, Int8Linear)]
    return after, sum(shares) / len(shares)


# %%
calibration = blocks_of_text(decoder_tokenizer, reviews["train"]["text"][:600], length=64, seed=seed, again=True)
calibration, decoder, rows = calibration[:text_count], decoder.cpu(), {}
networks = {"plain": decoder, "planted_20": planted(decoder, 20), "planted": planted(decoder, 100)}
for title, network in networks.items():
    largest, _ = linear_inputs(network, calibration)
    found = sorted(spikes(largest).values())
    print(f"{title}: the largest input channel over the median channel of the same layer: ", end="")
    print(f"{found[len(found) // 2]:.1f} in the median layer, {found[-1]:,.0f} in the most extreme layer")
    rows.setdefault("float32", []).append(f"{measured_perplexity(network):.3f}")
    for remedy, (name, options) in REMEDIES.items():
        after, share = in_int8(network, largest, options)
        rows.setdefault(name, []).append(f"{after:.3f}" + (f" ({share:.1%} in float)" if share else ""))
        values[f"perplexity_int8_{title}_{remedy}"] = after
reveal("10.7", values["perplexity_int8_planted_static"], reference="perplexity_int8_planted_static")
pd.DataFrame.from_dict(rows, orient="index", columns=["as it is", "outlier, 20 times", "outlier, 100 times"])

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Without outliers, int8 costs next to nothing with dynamic scales and little with static ones. The planted channel does
# not change the float model. It costs dynamic scales a little, and static ones everything at 100 times.
#
# **Mixed precision** repairs it. But the threshold of 6 is the paper's, for large models, where more than 99.9 % of the
# values stay in int8. Here a large share of the channels goes to the float product even without a planted outlier, so a
# higher threshold would fit better. **SmoothQuant** needs no float product and allows static scales.
#
# SmoothQuant's rows have to be nearly the same with and without the planted channel. Planting multiplies an input by
# some number and divides its weights by it, so SmoothQuant's factor grows by the same number and cancels both. The rows
# show that the code is right. Section 16 measures SmoothQuant on outliers that training made.
#
# </details>
#
# ### The same with the library
#
# `load_in_8bit=True` is LLM.int8() in bitsandbytes. Its threshold is `llm_int8_threshold` (6.0 by default; 0 switches
# the float product off). It rounds inputs to float16 first. We save the planted model and load it.

# %%
import logging

logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)  # "inputs will be cast", at each call
networks["planted"].save_pretrained(planted_folder := Path(scratch_folder.name) / "planted")
with torch.random.fork_rng():
    in_8_bits = AutoModelForCausalLM.from_pretrained(
        planted_folder,
        quantization_config=BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0),
        device_map={"": "cpu"},
        dtype=torch.float32,
    )
    values["perplexity_int8_planted_library"] = measured_perplexity(in_8_bits.eval())
by_us = values["perplexity_int8_planted_mixed_precision"]
print(f"outlier, 100 times: load_in_8bit {values['perplexity_int8_planted_library']:.3f}, by hand {by_us:.3f}", end="")
print(f", float32 {perplexity_whole:.3f}")

# %% [markdown]
# (Library and page differ in some details.)
#
#
# ## 13. The error that counts: GPTQ
#
# An error in the weights matters only through what the layer *outputs*. Take one output with two weights, 0.4 and 0.4,
# and levels at whole numbers. Plain rounding gives 0 and 0. The inputs have size 1, and the mean of $x_1 x_2$ is 0.9.
#
# [GPTQ](../docs/glossary.md#gptq) rounds $w_1$ first. Which $w_2$ makes up best for the lost $0.4\, x_1$? The
# least-squares answer is to add $0.4 \cdot 0.9$, because $x_2$ carries 0.9 of $x_1$.

# %%
both = torch.tensor([[1.0, 0.9], [0.9, 1.0]])  # the mean of x1 x1, x1 x2, x2 x1, x2 x2
wanted = torch.tensor([0.4, 0.4])
first = wanted[0].round()
second = wanted[1] + (wanted[0] - first) * both[0, 1] / both[1, 1]  # not rounded yet, so it can still change
print(f"after the first weight is rounded to {first:.0f}, the second one becomes {second:.2f}")
for title, rounded in (("plain rounding", wanted.round()), ("GPTQ", torch.stack([first, second.round()]))):
    lost = rounded - wanted
    print(f"{title}: {rounded.tolist()}, squared error of the weights {lost @ lost:.2f}, of the output ", end="")
    print(f"{lost @ both @ lost:.3f}")

# %% [markdown]
# GPTQ's weights are farther away, and its output is nearer. The table `both` is a small [Gram
# matrix](../docs/glossary.md#gram-matrix): the mean products of all pairs of input channels, $G$. It is all we need
# to know about the inputs:
#
# $$\text{mean of } \lVert (W - Q)\,x \rVert^2 = \text{trace}\left((W - Q)\, G\, (W - Q)^\top\right)$$
#
# The *trace* adds up the diagonal, one entry per output: each is `lost @ G @ lost` as above.

# %% [markdown]
# **GPTQ** (Frantar et al. 2022) does this for whole matrices, one column (input channel) at a time. After column $j$
# is rounded, *all* later columns change to make up for the loss. One triangular matrix $U$ with $U^\top U = G^{-1}$,
# computed once per layer, holds every least-squares answer: column $k$ has to *lose* the share $U_{jk} / U_{jj}$ of
# what column $j$ lost. In the example $U_{12} / U_{11}$ is -0.9.

# %% [markdown]
# A little *damping* on the diagonal of $G$ keeps the inverse stable. In the code, `spread` corrects the later columns
# of the same block at once. The columns beyond the block get all of its corrections in one product, which is faster.


# %%
def relative_error(weights, rounded, gram):
    """The root of the outputs' mean squared error over that of the outputs; for the unit matrix: of the weights."""
    off = rounded - weights
    return (((off @ gram) * off).sum() / ((weights @ gram) * weights).sum()).sqrt().item()


def judged(network, grams, rows, round_layer):
    """Mean error of the weights, of the outputs for each of `grams`, and the perplexity, with all layers rounded."""
    copied, off = copy.deepcopy(network), []
    for name in grams[0]:
        layer = copied.get_submodule(name).weight.data
        rounded = round_layer(layer, name)
        inputs = [torch.eye(layer.shape[1]), *(gram[name] for gram in grams)]
        off.append([relative_error(layer, rounded, one) for one in inputs])
        layer.copy_(rounded)
    return [*torch.tensor(off).mean(dim=0).tolist(), measured_perplexity(copied, rows)]


# %%
def gptq(weights, gram, bits, spread, block_size=64):
    damped = gram.double() + 0.01 * gram.diagonal().mean() * torch.eye(len(gram))
    upper = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True).float()  # upper.T @ upper is the inverse
    rest, done = weights.clone(), []
    for first in range(0, weights.shape[1], block_size):
        end = first + block_size
        block, inside, errors = rest[:, first:end], upper[first:end, first:end], []
        _, scale, zero = quantize(blocks(block, "channel"), bits, block.shape[1])  # of the weights as they are by now
        for at in range(block.shape[1]):
            codes = (torch.round(block[:, at] / scale[:, 0]) + zero[:, 0]).clamp(0, 2**bits - 1)
            done.append((codes - zero[:, 0]) * scale[:, 0])
            block, error = spread(block, done[-1], inside, at)
            errors.append(error)
        rest[:, end:] -= torch.stack(errors, dim=1) @ upper[first:end, end:]
    return torch.stack(done, dim=1)


# %% [markdown]
# ### Exercise 10.3: one column of GPTQ
#
# Write `spread(block, rounded, upper, at)`: column `at` of `block` (out, columns) became `rounded` (out,). `upper` is
# this block's part of $U$. Return the block with all columns after `at` corrected, and what column `at` lost divided
# by `upper[at, at]` (out,); `gptq` multiplies that by the rest of $U$'s row. Do not change `block` in place.
#
# The check rounds a whole layer with your function and compares it with a reference that solves the least-squares
# problem anew after every column.


# %% tags=["exercise"]
def spread(block, rounded, upper, at):
    return ...


check("10.3", spread)
# hint("10.3")


# %% tags=["solution"]
def spread(block, rounded, upper, at):
    error = (block[:, at] - rounded) / upper[at, at]
    block = block.clone()
    block[:, at + 1 :] -= torch.outer(error, upper[at, at + 1 :])
    return block, error


check("10.3", spread)

# %% [markdown]
# ## 14. AWQ: finer steps for weights that meet large inputs
#
# **AWQ** (Lin et al. 2024) needs no inverse. Before rounding it multiplies each column by a factor, larger where the
# inputs are larger, so these columns get finer steps. A real model divides the *inputs* by it, in the layer
# before; we divide the rounded weights instead.
#
# The factor is the size of the channel's inputs (here the RMS) to a power $\alpha$ from 0 (plain rounding) to 1. Each
# layer keeps the $\alpha$ with the lowest output error.

# %% [markdown]
# The table has four columns: the relative error of the weights, that of the outputs on all calibration texts and on the
# first one alone (each averaged over the layers), and the perplexity on *validation* texts. We round the decoder's
# linear layers in blocks of 64; the embeddings stay.
#
# **Predict 8.** How far are GPTQ's *weights* at 3 bits from the originals, as a multiple of the distance after rounding
# to nearest?


# %%
def awq(weights, gram, bits, alpha):
    """Rounded to nearest after each column was multiplied by its input's RMS size to the power alpha."""
    scale = gram.diagonal().sqrt() ** alpha
    scale = scale / (scale.max() * scale.min()).sqrt()  # around 1: its largest and smallest are inverse
    return restored(weights * scale, bits, 64) / scale


def best_awq(weights, gram, bits, alphas=(0, 0.25, 0.5, 0.75, 1)):
    tried = {alpha: awq(weights, gram, bits, alpha) for alpha in alphas}
    return min(tried.values(), key=lambda rounded: relative_error(weights, rounded, gram))


predict("10.8", factor=1.15, unit="times", low=0)


# %%
spread = go_on_with("10.3", spread, experiment.spread_error)
(_, gram), (_, gram_of_one) = linear_inputs(decoder, calibration), linear_inputs(decoder, calibration[:1])
METHODS = {  # name in the records: the title, and a function of a layer's weights and its name
    "nearest_linear_3": ("rounding to nearest", lambda w, name: restored(w, 3, 64)),
    "nf4_linear_4": ("for comparison: NF4, 4 bits", lambda w, name: in_book(w, nf4_code(), 64)),
    "awq_linear_3": ("AWQ, best alpha", lambda w, name: best_awq(w, gram[name], 3)),
    "awq_linear_3_alpha_1": ("AWQ, alpha 1", lambda w, name: awq(w, gram[name], 3, 1)),
    "gptq_linear_3": ("GPTQ", lambda w, name: gptq(w, gram[name], 3, spread)),
    "gptq_linear_3_one_text": ("GPTQ, one text", lambda w, name: gptq(w, gram_of_one[name], 3, spread)),
}
rows = {}
for kind, (title, method) in METHODS.items():
    *off, after = judged(decoder, [gram, gram_of_one], text_rows, method)
    rows[title] = [*(f"{one:.3f}" for one in off), f"{after:.3f}", f"{after - perplexity_whole:+.3f}"]
    values |= {f"weight_error_{kind}": off[0], f"output_error_{kind}": off[1], f"perplexity_{kind}": after}
gptq_off, nearest_off = "weight_error_gptq_linear_3", "weight_error_nearest_linear_3"
reveal("10.8", values[gptq_off] / values[nearest_off], reference=experiment.ratios(gptq_off, nearest_off))
columns = ["error of the weights", "of the outputs", "on the first text", "perplexity", "minus float32"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# GPTQ's weights are farther away than those of plain rounding, its outputs are nearer, and its perplexity is lower. So
# the output error predicts the perplexity better here than the weight error does. With $\alpha = 1$ AWQ scales too much
# and is worse than plain rounding. GPTQ calibrated on a single text of 64 tokens has the largest error on all texts.
# Compare its column for the first text alone: it fitted that text. Calibration needs many tokens.
#
# Section 18 has the same over five seeds, for this one decoder. There GPTQ is ahead of rounding to nearest, and AWQ's
# small gain may be nothing. The published methods do more. GPTQ calibrates each block on the inputs that the already
# rounded blocks give, and can round the columns with the largest inputs first. AWQ tries 20 values of $\alpha$ and also
# clips the largest weights.
#
# </details>
#
# ## 15. Train for two bits
#
# **[Quantization-aware training](../docs/glossary.md#quantization-aware-training)** (QAT) rounds the weights in every
# forward pass, so the loss sees the rounding. Its gradient is zero almost everywhere. The **straight-through
# estimator** (Bengio et al. 2013) lets the gradient of the rounded weight go to the full-precision weight behind it.
#
# The control `dense` (section 9) gets the same extra pass, in full precision, and is then rounded.
#
# **Predict 9.** What is the accuracy at 2 bits after one pass of QAT?

# %%
from torch.nn.utils import parametrize


class Rounded(torch.nn.Module):
    """A weight that is rounded in the forward pass, and passes its gradient straight through."""

    def forward(self, weight):
        return weight + (restored(weight.detach(), 2, block_size) - weight).detach()


def aware_of_rounding(network):
    """The same network, whose matrices are rounded to 2 bits whenever they are used."""
    network = copy.deepcopy(network)
    for module in list(network.body.modules()):
        fits = isinstance(module, torch.nn.Linear | torch.nn.Embedding) and module.weight.numel() % block_size == 0
        if fits:  # a matrix that whole blocks do not fill is rounded at the end only
            parametrize.register_parametrization(module, "weight", Rounded())
    return network


predict("10.9", within=0.03, unit="accuracy", low=0, high=1)


# %%
def at_two_bits(network):
    return scored(through_a_file(network, my_affine(2))[0])[0].value


trained = aware_of_rounding(classifier)
fine_tune(trained, 1, full_rate / 2, "aware of the rounding")
for module in list(trained.body.modules()):
    if parametrize.is_parametrized(module):
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)  # the rounded weights stay
two_bits = {
    "float32": accuracy.value,
    "rounded at once": at_two_bits(classifier),
    "float32, extra pass": control.value,
    "extra pass, then rounded": at_two_bits(dense),
    "QAT": at_two_bits(trained),
}
print("\n".join(f"{title:25} accuracy {value:.3f}" for title, value in two_bits.items()))
print(f"{'QAT, before the file':25} accuracy {scored(trained)[0].value:.3f}")
reveal("10.9", two_bits["QAT"], reference="accuracy_qat_2")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# "QAT" and "extra pass, then rounded" had the same start, the same reviews, the same number of updates and the same
# rate. The only difference is whether the loss saw the rounding. "float32, extra pass" is the same pass without any
# rounding. The rate was chosen for training in float32, not for QAT. Section 18 has the difference over five seeds.
# "QAT, before the file" tells whether storing QAT's weights, which are rounded already, rounds them once more.
#
# </details>
#
# ## 16. Real text: SmolLM2
#
# The same functions on a published model and real sentences. Two limits:
#
# - The model's weights come from the **Q4_1 file** of section 6, not from the original. Every loss here comes on top of
#   the file's own, which we cannot measure. So do not quote these figures as the cost of a format: they tell what a
#   *second* rounding costs.
# - The perplexity is measured on 16 texts of 128 tokens. Calibration reads 64 others.

# %%
if live:
    from transformers import AutoTokenizer

    folder, corpus = real.model_folder("decoder"), real.dataset("corpus")
    smol = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    split_into = partial(blocks_of_text, AutoTokenizer.from_pretrained(folder), length=128, seed=seed)
    texts = split_into(corpus["validation"]["text"][:2000])[: run.by_budget(quick=2, standard=16)]
    read = split_into(corpus["train"]["text"])[: run.by_budget(quick=2, standard=64)]  # 64 x 128 tokens calibrate
    biggest, smol_gram = linear_inputs(smol, read)
    spiky = spikes(biggest)
    spot = max(spiky, key=spiky.get)  # such as model.layers.11.mlp.down_proj
    inside["outlier_largest"], inside["outlier_median"] = spiky[spot], sorted(spiky.values())[len(spiky) // 2]
    seen, layer = [], smol.get_submodule(spot)
    hook = layer.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].abs().amax(dim=-1)))
    mean_next_token_loss(smol, read[:1])
    hook.remove()
    inside["outlier_position"] = seen[0].argmax().item()
    inside |= {
        "outlier_block": int(spot.split(".")[2]),
        "outlier_in_down_projection": float(spot.endswith("down_proj")),
    }


# %%
def shown_real(titles, whole):
    """Perplexities on real text, and their change within a draw of texts; `titles`: metric -> title."""
    rows = {}
    for metric, title in titles.items():
        if live:
            rows[title] = [f"{inside[metric]:.1f}", f"{100 * (inside[metric] / inside[whole] - 1):+.1f} %"]
        elif published and metric in published.metrics and whole in published.metrics:
            pairs = zip(published.metrics[metric], published.metrics[whole], strict=True)
            changes = [100 * (one / other - 1) for one, other in pairs]
            few_draws = f"{min(changes):+.1f} to {max(changes):+.1f} %"  # two draws make no useful interval
            rows[title] = [f"{inside[metric]:.1f}", f"{mean_t(changes):+.1f} %" if len(changes) > 2 else few_draws]
    if whole in inside:
        rows[titles[whole]][1] = ""
        draws = "measured now" if live else f"reference, {len(published.metrics[whole])} draws of texts"
        print(f"SmolLM2-135M-Instruct, weights from its Q4_1 file; {draws}")
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["perplexity", "change [95 % over draws], or lowest to highest"]
    )


REAL = {
    "nf4": ("Q4_1, then NF4", lambda w, name: in_book(w, nf4_code(), 64)),
    "nearest_3": ("Q4_1, then rounding to nearest, 3 bits", lambda w, name: restored(w, 3, 64)),
    "gptq_3": ("Q4_1, then GPTQ, 3 bits", lambda w, name: gptq(w, smol_gram[name], 3, spread)),
}
if live:
    inside["perplexity_file"] = measured_perplexity(smol, texts)
    inside |= {f"perplexity_{kind}": judged(smol, [smol_gram], texts, way)[-1] for kind, (_, way) in REAL.items()}
titles = {f"perplexity_{kind}": title for kind, (title, _) in REAL.items()}
shown_real({"perplexity_file": "the file's own weights (Q4_1)"} | titles, "perplexity_file")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# At 3 bits GPTQ has the lower perplexity for the same bytes, as on the pocket decoder (section 14). NF4 costs more
# than on the pocket decoder. We do not know how much of that is the earlier rounding to Q4_1; the original weights
# would tell. All perplexities are high, as the texts are unrelated single sentences about films.
#
# </details>
#
# Now the int8 products of section 12, with outliers that training made. Half of the texts are enough for the
# comparison.

# %%
AFTER_NORMS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")  # the layers that read a norm's output
REAL_REMEDIES = {kind: (title, options, "") for kind, (title, options) in REMEDIES.items()}
after_norms = ("SmoothQuant after norms only, static", {"smooth": True, "static": True}, AFTER_NORMS)
REAL_REMEDIES["smoothquant_norms_static"] = after_norms
if live:
    few = texts[: run.by_budget(quick=2, standard=8)]
    inside["perplexity_int8_float32"] = measured_perplexity(smol, few)
    for kind, (_, options, where) in REAL_REMEDIES.items():
        inside[f"perplexity_int8_{kind}"], share = in_int8(smol, biggest, options, few, where)
        if kind == "mixed_precision":
            inside["in_float_mixed_precision"] = share


print("largest input channel over the median channel of the same layer: ", end="")
print(f"{inside['outlier_median']:,.1f} in the median layer, {inside['outlier_largest']:,.0f} in the most extreme one")
if "outlier_block" in inside:
    what = "its down projection" if inside["outlier_in_down_projection"] else "another layer"
    print(f"the most extreme one: block {inside['outlier_block']:.0f}, what {what} reads, ", end="")
    print(f"at token {inside['outlier_position']:.0f} of a text (the first is 0)")
    print(f"mixed precision takes {inside['in_float_mixed_precision']:.1%} of the channels in float")
titles = {f"perplexity_int8_{kind}": f"Q4_1, then int8, {title}" for kind, (title, *_) in REAL_REMEDIES.items()}
shown_real({"perplexity_int8_float32": "the file's own weights (Q4_1)"} | titles, "perplexity_int8_float32")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# The largest value is what a down projection reads, at the first token of a text. A few huge values in such places are
# known from many language models as [massive activations](../docs/glossary.md#massive-activation) (Sun et al. 2024). We
# planted ours elsewhere, in the outputs of norms.
#
# With dynamic scales an outlier at one token spoils the scale of that token only. A static scale is one number for all
# tokens, and the outlier sets it: compare "static" with "dynamic". Then look at what SmoothQuant gives back. "After
# norms only" is the usual recipe. It leaves the down projections, where the largest outlier sits, with a plain static
# scale. Differences of one or two percent, in both directions, are within the spread of the draws.
#
# </details>
#
# ## 17. Which file do I download?
#
# | you have | take | because |
# |---|---|---|
# | a laptop, CPU or Apple chip | GGUF, `Q4_K_M`; `Q6_K`, `Q8_0` if they fit | the digit counts bits; for llama.cpp |
# | one NVIDIA GPU, few users | AWQ or GPTQ, 4 bits, blocks (*groups*) of 128 | weight-only int4 kernels (vLLM) |
# | a GPU server, many users | FP8 (NVIDIA from 2022 on), or int8 | products in 8 bits (*W8A8*): bound by arithmetic |
# | an NVIDIA GPU of 2024 or later (Blackwell) | NVFP4 or MXFP4 | E2M1 products in hardware |
# | to fine-tune it | the bfloat16 original, and `BitsAndBytesConfig` | NF4 is made while loading (lesson 11) |
# | two candidates that fit | your own test rows | the loss depends on model and task |
#
# vLLM is a server for language models. To make such models yourself (not run here):
#
# ```python
# from transformers import AutoModelForCausalLM, AutoTokenizer, GPTQConfig, TorchAoConfig
# from torchao.quantization import Int8DynamicActivationInt8WeightConfig  # pip install torchao
#
# name = "HuggingFaceTB/SmolLM2-135M"  # the bfloat16 original; its layers are multiples of 64 wide, not of 128
# calibration_texts = [...]  # some hundreds of texts like yours
# gptq = GPTQConfig(  # pip install gptqmodel optimum
#     bits=4, group_size=64, dataset=calibration_texts, tokenizer=AutoTokenizer.from_pretrained(name)
# )
# AutoModelForCausalLM.from_pretrained(name, quantization_config=gptq).save_pretrained("smol-gptq")
#
# int8 = TorchAoConfig(Int8DynamicActivationInt8WeightConfig())  # calls torchao's quantize_: a scale per row and output
# AutoModelForCausalLM.from_pretrained(name, quantization_config=int8)
# ```
#
# transformers reads AWQ models and does not make them; llm-compressor does.
#
# What this lesson leaves out:
#
# | method | idea | where |
# |---|---|---|
# | k-quants (`Q4_K_M`) | groups of 256 with quantized scales; more bits for some layers | llama.cpp, `gguf` |
# | importance matrix | llama.cpp's calibration: weights by mean squared input | llama.cpp |
# | HQQ | optimizes the zero point for a fixed scale, without calibration data | `hqq` |
# | QuaRot, SpinQuant | rotate the activations, so that no channel is an outlier | papers |
# | QuIP#, AQLM | code books for groups of weights, for 2 bits | papers |
# | KV-cache quantization | rounds the stored keys and values, which grow with the text | vLLM |
# | Wanda, SparseGPT, 2:4 | pruning with calibration data; GPUs multiply two of four weights faster | papers |
# | MXFP4 | E2M1 codes; for 32 weights a scale that is a power of two, in 8 bits (E8M0) | OCP specification |
# | NVFP4 | E2M1 codes; for 16 weights a scale in E4M3, and one float32 for the tensor | NVIDIA's documentation |
# | torchao, llm-compressor | libraries for all of this (the second runs GPTQ, AWQ, SmoothQuant) | their documentation |

# %% [markdown]
# ## 18. Recap: how few bits?
#
# On the two pocket models **8 bits** cost next to nothing. **4 bits** in blocks cost a little; the formats are close.
# **3 bits** cost more; GPTQ brings back part of what the linear layers lose. **2 bits** are too few for plain rounding;
# learned levels keep the perplexity lower. (SmolLM2: *section 16*.)
#
# Now in figures: differences from float32, with 95 % intervals over five seeds. Accuracy (the classifier's) is better
# when higher, perplexity (the decoder's) when lower.


# %%
def loses(technique):
    """One line for each model: what a technique costs, and the share of the bytes of float32 that its file takes."""
    lines = []
    for network, quantity, end in (("classifier", "accuracy", ""), ("decoder", "perplexity", "_decoder")):
        size, whole = five[f"bytes_{technique}{end}"].mean(), five[f"bytes_float32_{network}"].mean()
        lines.append(f"\n  {network}: {change(technique, quantity)}, in {size / whole:.0%} of the bytes")
    return "".join(lines)


print("8 bits, a scale per channel:", loses("uniform_channel_8"))
print("8 bits, weights and inputs, `Int8Linear`, dynamic:", change("int8_plain_dynamic", "perplexity"))
print("4 bits, NF4:", loses("nf4_4"))
print("4 bits, affine blocks:", loses("affine_block_4"))
print("3 bits, affine blocks:", loses("affine_block_3"))
print("3 bits, GPTQ minus rounding to nearest:", change("gptq_linear_3", "perplexity", "nearest_linear_3"))
print("2 bits, affine blocks:", loses("affine_block_2"))
print("2 bits, k-means:", loses("clusters_2"))
print("2 bits, QAT minus the same pass and then rounding:", change("qat_2", "accuracy", "dense_then_2"))
ahead = (five["accuracy_qat_2"] > five["accuracy_dense_then_2"]).sum()
print(f"  QAT is ahead in {ahead} of {len(five)} seeds")
print("speed on one matrix, times that of float32, lowest and highest of five runs on the processor of section 11:")
for title, key in (("quantize_dynamic", "int8_products"), ("weight-only int8", None), ("weight-only int4", None)):
    name = key or title.replace("-", "_").replace(" ", "_")
    one, many = (range_of(f"speedup_{name}_matrix_batch_{batch}") for batch in (1, 64))
    print(f"  {title}: {one} at batch 1, {many} at batch 64")

# %% [markdown]
# The perplexity of `Int8Linear` and the speed of `quantize_dynamic` belong to two kinds of int8 (section 11): no model
# here has both. For 3 or 2 bits no kernel here exists; such weights become float32 first, so no time is saved.
#
# Each line below compares two ways; the difference is the first minus the second. Where both were trained, they had the
# same reviews and the same number of updates. A difference can be clear and still too small to matter, such as 0.001.

# %%
from IPython.display import display

from helpers.lessons.lesson_10.experiment import DIFFERENCES
from helpers.record import record

rows = {}
for quantity, some in DIFFERENCES.items():
    for title, one, other in some:
        gap = over_seeds(f"{quantity}_{one}", f"{quantity}_{other}")
        better = (gap.value > 0) == (quantity == "accuracy")  # perplexity is better when lower
        seeds_say = "no clear difference" if 0 in gap else "first is better" if better else "first is worse"
        rows[title] = [quantity, f"{gap:+.3f}", seeds_say]
print(f"{len(rows)} intervals at 95 %: expect about {0.05 * len(rows):.0f} that misses its true value by luck.")
display(pd.DataFrame.from_dict(rows, orient="index", columns=["quantity", "first minus second [95 %]", "seeds say"]))

values |= {f"error_{kind}_block_64": error for kind, error in errors[64].items()}
values |= {"code_mismatches_double": different["table"], "code_mismatches_double_exact": different["exact"]}
values |= {f"code_mismatches_{kind}": count for kind, count in mismatches.items()}
values |= {"accuracy_float32": accuracy.value, "accuracy_dense": control.value, "perplexity_float32": perplexity_whole}
values |= {f"bytes_float32_{title}": size for title, size in whole_bytes.items()}
values |= {f"speedup_int8_{title}_batch_{batch}": ratio for (title, batch), ratio in faster.items()}
values |= {"perplexity_nf4_library": by_library, "accuracy_dense_then_2": two_bits["extra pass, then rounded"]}
values |= {"accuracy_qat_2": two_bits["QAT"]}
values |= {f"real_{name}": value for name, value in inside.items()} if live else {}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data}
saved = record("10_quantization", parameters | {"labels": labels, "bits": bits, "block_size": block_size}, **values)
scratch_folder.cleanup()
print(f"saved: {saved.name}")
solved("10")

# %% [markdown]
# ## Next
#
# - Other blocks: `workbook run 10 -p block_size 16`. What do the scales cost, and what do they bring?
# - With an encoder of your own: `workbook run 10 -p model my_encoder`.
# - Lesson 11 asks whether a 4-bit model can still learn.
#
# ## References
#
# | work | year |
# |---|---|
# | Bengio et al., *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation* | 2013 |
# | Han et al., *Deep Compression* (pruning, trained quantization and Huffman coding) | 2016 |
# | Dettmers et al., *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale* | 2022 |
# | Frantar et al., *GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers* | 2022 |
# | Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs* | 2023 |
# | Sun et al., *Massive Activations in Large Language Models* | 2024 |
# | Xiao et al., *SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models* | 2023 |
# | Yoshida, *NF4 Isn't Information Theoretically Optimal (and that's Good)* | 2023 |
# | Lin et al., *AWQ: Activation-aware Weight Quantization for On-Device LLM Compression and Acceleration* | 2024 |
# | Open Compute Project, *OCP Microscaling Formats (MX) Specification* | 2023 |
# | bitsandbytes, its tests, `test_functional.py` | repository |
