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
# A weight is stored in 32 bits. Most of them can go: a weight of 4 bits is one of 16 levels and nothing else. Where
# should these levels lie, what do they cost in accuracy, and how small does the file really become?
#
# *About 50 minutes to read (an estimate), two to run (measured on two processor cores); no network.*

# %% [markdown]
# **You will be able to**
#
# - quantize a matrix by hand: equal levels, the code books NF4 and FP4, clusters; and show that your codes are those
#   of bitsandbytes, to the bit;
# - say what a scale per tensor, per channel or per block costs and saves;
# - prune weights and whole neurons, and train what is left again;
# - weigh all of them by accuracy, perplexity and bytes on disk.

# %%
import copy
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from helpers import catalog, plotting
from helpers.checks import check, hint, solved  # noqa: F401 - hint("10.1") helps when you are stuck
from helpers.intervals import paired_bootstrap, wilson
from helpers.lessons.lesson_10 import figures
from helpers.quantization.quantizers import SMALLEST, blocks, check_bits, check_weights, never_zero
from helpers.runtime import check_number, start

# %% tags=["parameters"]
track = "pocket"  # "pocket": small models and data that are on this disk; "hub": real ones, with a network
budget = "standard"  # "quick": does it run at all; "standard": real results; "full": more test rows and text
seed = 0  # draws the training reviews and the order of the batches
model = ""  # an encoder of your own: a folder, or with track "hub" a name there; "" takes the track's
data = ""  # a file of your own with the columns `text` and `label`; "" takes the film reviews
labels = 1000  # training reviews of the classifier that is going to be quantized
bits = 4  # of the examples with equal levels and clusters; the figures go through several
block_size = 64  # weights that share one scale where a scale belongs to a block

# %%
run = start(track=track, budget=budget, seed=seed)
check_number("labels", labels, 2, 1_000_000, integer=True)
check_bits(bits)
check_number("block_size", block_size, 2, 4096, integer=True)
scratch_folder = tempfile.TemporaryDirectory()
path = Path(scratch_folder.name) / "model.safetensors"

# %% [markdown]
# ## 1. Range and levels
#
# Lay a ruler over the weights. **Symmetric** [quantization](../docs/glossary.md#quantization) puts zero in the middle
# and the largest weight, with or without its sign, at the end. With $b$ bits there are $2^b$ codes; one stays unused,
# so that both sides are alike. The **scale** is the distance of two levels.
#
# `blocks` cuts a tensor into rows that share a scale (for now: one row), and refuses what has no levels: empty
# tensors, NaN, infinity.


# %%
def symmetric(weights, bits, block_size=None):
    """The nearest of 2^bits - 1 levels on both sides of zero: codes and scales; `codes * scale` comes back."""
    rows = blocks(weights, block_size)
    top = 2 ** (check_bits(bits) - 1) - 1
    scale = never_zero(rows.abs().amax(dim=1, keepdim=True) / top)
    return torch.round(rows * (1 / scale)), scale


# %% tags=["nbval-check-output"]
few = torch.tensor([-0.30, -0.04, 0.02, 0.11, 0.26])
codes, scale = symmetric(few, bits=3)
print("codes      ", codes.int().tolist()[0], f"  scale {scale.item():.2f}")
print("come back  ", [round(value, 2) for value in (codes * scale)[0].tolist()])
error = (codes * scale - few).abs()
print(f"largest error: {error.max() / scale.item():.2f} of a level")

# %% [markdown]
# Two weights became zero, and nothing is farther away than half a level: rounding to the nearest cannot do worse.
#
# What if all numbers are positive, such as what comes out of a ReLU? Half of the codes would be wasted. **Affine**
# quantization lays the ruler from the smallest number to the largest; the code of 0 is called the **zero point**.
# Zero itself stays exact, because [padding](../docs/glossary.md#padding) and pruned weights should stay zero.


# %%
def affine(weights, bits, block_size=None):
    """The nearest of 2^bits levels from smallest to largest: `(codes - zero) * scale` comes back."""
    rows = blocks(weights, block_size)
    top = 2 ** check_bits(bits) - 1
    low = rows.amin(dim=1, keepdim=True).clamp(max=0)
    high = rows.amax(dim=1, keepdim=True).clamp(min=0)
    scale = never_zero((high - low) / top)
    zero = torch.round(-low / scale)
    codes = (torch.round(rows * (1 / scale)) + zero).clamp(0, top)
    return codes, scale, zero


# %% [markdown]
# **Predict 1.** The same 3 bits for weights (a bell around zero) and for what is left of them after a ReLU (the
# positive half). Where will affine beat symmetric, and by how much?

# %%
from helpers.quantization.storage import example_matrix, matrices

encoder = catalog.body("encoder", track, model).to(run.device)
name, weights = example_matrix(encoder, block_size)
print(f"{name}: {tuple(weights.shape)}")


def affine_error(numbers, bits):
    codes, scale, zero = affine(numbers, bits)
    return ((codes - zero) * scale - blocks(numbers)).abs().mean().item()


def symmetric_error(numbers, bits, block_size=None):
    codes, scale = symmetric(numbers, bits, block_size)
    return (codes * scale - blocks(numbers, block_size)).abs().mean().item()


for title, numbers in (("weights", weights), ("after a ReLU", weights.relu())):
    both = symmetric_error(numbers, 3), affine_error(numbers, 3)
    print(f"{title:14} mean error: symmetric {both[0]:.4f}, affine {both[1]:.4f}, {both[0] / both[1]:.2f} times")

# %% [markdown]
# <details><summary>What to look at</summary>
#
# For weights the two are close: a bell is symmetric already, and affine has eight levels where symmetric has seven.
# For one-sided numbers affine has twice as many levels in use, that is one bit more. So weights are usually stored
# symmetric, and activations affine.
#
# </details>
#
# Is this the field's definition? PyTorch has its own, used to imitate quantization in training. With our scales and
# zero points, it gives the same numbers to the bit:

# %% tags=["nbval-check-output"]
codes, scale = symmetric(weights, bits=8, block_size="channel")
ours = (codes * scale).reshape(weights.shape)
zeros = torch.zeros(len(weights), dtype=torch.int32)
theirs = torch.fake_quantize_per_channel_affine(weights, scale.flatten(), zeros, 0, -127, 127)
same_symmetric = torch.equal(ours, theirs)

codes, scale, zero = affine(weights, bits=8)
ours = ((codes - zero) * scale).reshape(weights.shape)
theirs = torch.fake_quantize_per_tensor_affine(weights, scale.item(), int(zero), 0, 255)
same_affine = torch.equal(ours, theirs)
print("symmetric per channel, affine per tensor, equal to torch's:", same_symmetric, same_affine)
assert same_symmetric and same_affine

# %% [markdown]
# ## 2. Where does a scale belong?
#
# The largest weight decides the scale, and the scale decides everyone's error. One scale can serve the whole tensor,
# one **channel** (a row: all weights into one output), or a **block** of neighbours.
#
# **Predict 2.** We make a single weight 30 times as large as the largest. What does that do to the mean error of the
# *other* weights, with one scale, with a scale per channel, and with one per block?

# %%
spoilt = weights.clone()
spoilt[0, 0] = 30 * weights.abs().max()
rows = {}
for title, size in (("one scale", None), ("a scale per channel", "channel"), (f"blocks of {block_size}", block_size)):
    errors = []
    for tensor in (weights, spoilt):
        codes, scale = symmetric(tensor, bits, size)
        apart = (codes * scale).flatten() - tensor.flatten()
        errors.append(apart[1:].abs().mean().item())  # all but the outlier
    extra = 32 * len(scale) / weights.numel()
    rows[title] = [
        f"{len(scale):,}",
        f"{extra:.3f}",
        *(f"{error:.4f}" for error in errors),
        f"{errors[1] / errors[0]:.1f}",
    ]
columns = ["scales", "their bits per weight", "mean error", "with an outlier", "times"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# With one scale a single weight ruins all others: nearly every one of them becomes zero. In blocks it ruins its own
# block. That is bought with scales: each takes 32 bits, shared by its block. Large language models do have such
# [outliers](../docs/glossary.md#outlier) (Dettmers et al. 2022), which is why block-wise scales are the rule there.
#
# </details>
#
# ## 3. Levels where the weights are
#
# Equal distances suit numbers that are spread evenly. Weights are not: most lie near zero.
# **[NF4](../docs/glossary.md#nf4)** puts its 16 levels at quantiles of the normal distribution: they stand close
# together where weights are many.


# %%
from statistics import NormalDist


def nf4_code(tail=0.9677083):
    """16 quantiles of the normal distribution, 8 above zero and 7 below, scaled to -1 ... 1."""
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in torch.linspace(tail, 0.5, 9)[:-1].tolist()]
    below = [-quantile(p) for p in torch.linspace(tail, 0.5, 8)[:-1].tolist()]
    levels = torch.tensor(sorted([*below, 0.0, *above]))
    return levels / levels.max()


# %% [markdown]
# **FP4** is a number with a point, as small as it gets: one bit for the sign, two for the exponent, one for the
# fraction. Its levels double from exponent to exponent, with one step in between.


# %% tags=["nbval-check-output"]
def fp4_code():
    """The 16 levels in the order of their codes: a sign bit, two exponent bits, one fraction bit."""
    sizes = [0.0, 0.0625]  # exponent 0
    for exponent in (1, 2, 3):
        sizes += [2.0 ** (4 - exponent) * (1 + fraction / 2) for fraction in (0, 1)]
    return torch.tensor(sizes + [-size for size in sizes]) / max(sizes)


print("NF4:", " ".join(f"{level:.2f}" for level in nf4_code().tolist()))
print("FP4:", " ".join(f"{level:.3g}" for level in fp4_code()[:8].tolist()), "and the same below zero")

# %% [markdown]
# With any [code book](../docs/glossary.md#code-book) the rest is the same: scale each block to -1 ... 1 and take the
# nearest level. The scale of a block is now its largest size.


# %%
def to_code_book(weights, code, block_size=64):
    """Each weight's nearest level: codes (places in `code`) and scales; `code[codes] * scale` comes back."""
    rows = blocks(weights, block_size)
    scale = rows.abs().amax(dim=1, keepdim=True)
    order = code.argsort()  # FP4's codes are not in order of their levels
    middles = (code[order[:-1]] + code[order[1:]]) / 2
    nearest = torch.bucketize(rows * (1 / scale.clamp(min=SMALLEST)), middles)
    return order[nearest], scale


# %% [markdown]
# ### With the library
#
# bitsandbytes is where NF4 comes from. It packs two codes into a byte; for the comparison we take them apart: the
# upper half of a byte is its first code.

# %% tags=["nbval-check-output"]
from helpers.quantization.four_bit import quiet_bitsandbytes

quiet_bitsandbytes()  # leaves out one line: that a faster kernel from the hub is not installed. It is not needed
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
# To the bit: no tolerance anywhere.
#
# **Predict 3.** A million random numbers from the normal distribution, 4 bits, blocks of 64. Put in order of their
# mean error: equal levels, NF4, FP4.

# %%
normal = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(seed))
PUBLISHED = {  # bitsandbytes' own tests (test_functional.py); theirs, not ours
    "nf4": {64: 0.072792, 128: 0.076835, 256: 0.080326},
    "fp4": {64: 0.096545, 128: 0.102947, 256: 0.108685},
}


def code_book_error(numbers, code, block_size):
    codes, scale = to_code_book(numbers, code, block_size)
    return (code[codes] * scale - blocks(numbers, block_size)).abs().mean().item()


rows, errors = {}, {}
for size in (64, 128, 256):
    errors[size] = {
        kind: code_book_error(normal, code, size) for kind, code in (("nf4", nf4_code()), ("fp4", fp4_code()))
    }
    shown = [f"{errors[size][kind]:.6f} ({PUBLISHED[kind][size]:.6f})" for kind in ("nf4", "fp4")]
    rows[f"blocks of {size}"] = [f"{symmetric_error(normal, 4, size):.6f}", *shown]
pd.DataFrame.from_dict(rows, orient="index", columns=["equal levels", "NF4 (published)", "FP4 (published)"])

# %% tags=["nbval-check-output"]
for kind in ("nf4", "fp4"):
    apart = abs(errors[64][kind] / PUBLISHED[kind][64] - 1)
    print(f"{kind}, blocks of 64: within 0.5 % of the published error:", apart < 0.005)
    assert apart < 0.005

# %% [markdown]
# <details><summary>What to look at</summary>
#
# NF4 wins on the distribution that it was made for. FP4 loses even to equal levels: between 0.005 and 0.17 it has no
# level at all, and a third of all numbers lie there. Larger blocks have larger largest numbers, so all errors grow. But
# a mean error is not yet a model's quality: section 10 measures that.
#
# </details>
#
# ## 4. The scales cost bits too
#
# 32 bits per 64 weights are half a bit per weight. **[Double quantization](../docs/glossary.md#double-quantization)**
# stores the scales themselves in 8 bits: take off their mean, cut them into blocks of 256, and code each block with a
# book of 256 levels.

# %%
from helpers.quantization.quantizers import SCALES_PER_BLOCK, dynamic_code, through_table

levels = dynamic_code()  # 256 levels in decades: fine near zero, coarse far away
print(f"{len(levels)} levels; the smallest above zero {levels[levels > 0].min():.1e}, the largest {levels.max():.0f}")
largest = {name: w.cpu() for name, w in matrices(encoder).items() if w.numel() % 64 == 0}
all_scales = torch.cat([to_code_book(w, nf4_code())[1] for w in largest.values()])
print(f"{len(all_scales):,} scales of this encoder, from {all_scales.min():.3f} to {all_scales.max():.3f}")


# %%
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


# %% [markdown]
# What is `through_table`? Without it nearly all codes equal bitsandbytes', and a few do not. The cause is not
# floating-point rounding. Its CPU kernel does not search for the nearest level: it looks the answer up in a table of
# 65,536 cells over -1 ... 1. A number close to the middle between two levels can share its cell with numbers on the
# other side, and then gets the farther level. We round to the same cells first.

# %% tags=["nbval-check-output"]
different = {"exact": 0, "table": 0}
for tensor in largest.values():
    _, state = bnb.quantize_4bit(tensor, blocksize=64, quant_type="nf4", compress_statistics=True)
    scale = to_code_book(tensor, nf4_code())[1]
    codes, outer, mean = double_quantize(scale)
    different["table"] += int((codes != state.absmax.long()).sum())
    repeated = outer.repeat_interleave(SCALES_PER_BLOCK)[: len(scale)]
    exact = torch.bucketize((scale.flatten() - mean) / repeated, (levels[1:] + levels[:-1]) / 2)
    different["exact"] += int((exact != state.absmax.long()).sum())
    assert torch.equal(outer.flatten(), state.state2.absmax) and torch.equal(mean, state.offset)
print(f"{len(all_scales):,} scales; nearest level without the table: {different['exact']} codes differ")
print("rounded to the table's cells:", different["table"])
assert different["table"] == 0

# %% [markdown]
# A table costs one look in place of a search, and the price is small: a scale is off by at most one cell more than it
# had to be. On a GPU another kernel runs, and may decide otherwise.
#
# ### Exercise 10.1: bits per weight
#
# How many bits does a weight take when $b$ bits hold its code and every block has a scale of 32 bits? And with double
# quantization: a scale of 8 bits per block, and 32 bits more for every 256 scales?


# %% tags=["exercise"]
def bits_per_weight(bits, block_size, double):
    return ...


check("10.1", bits_per_weight)
# hint("10.1")


# %% tags=["solution"]
def bits_per_weight(bits, block_size, double):
    if not double:
        return bits + 32 / block_size
    return bits + 8 / block_size + 32 / (block_size * 256)


check("10.1", bits_per_weight)

# %% [markdown]
# The [QLoRA](../docs/glossary.md#qlora) paper gives 0.5 and 0.127 bits for the scales; so does your function.
#
# ## 5. Levels that are learned
#
# Why guess a distribution? **Weight clustering** finds the levels with k-means: put each weight to its nearest
# centre, move each centre to the mean of its weights, again and again. The centres are the tensor's own code book;
# there are no scales. They start at normal quantiles, spread by the square root of 3: the best places for a bell.


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


# %%
codes, centres = k_means(weights, bits)
top = weights.abs().max()
books = {f"equal, {bits} bits": torch.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1)) * top / (2 ** (bits - 1) - 1)}
books |= {"FP4": fp4_code() * top, "NF4": nf4_code() * top, f"k-means, {bits} bits": centres}
plotting.show(figures.levels(weights, books))
clustered_error = (centres[codes] - weights.flatten()).abs().mean().item()
print(f"mean error with one code book for {name}: k-means {clustered_error:.4f}, ", end="")
print(f"equal levels {symmetric_error(weights, bits):.4f}")

# %% [markdown]
# The figure above draws all code books with one scale. In blocks, each block stretches its book to its own largest
# weight.
#
# ## 6. Move it yourself
#
# Bits and block size against the histogram and the error, for the matrix of section 1.


# %%
from helpers.quantization.storage import uniform


def with_levels(bits, size):
    """The figure for one choice."""
    restored = uniform(bits, size)(weights).restore()
    scales = len(blocks(weights, size))
    error = (restored - weights).abs().mean().item()
    where = {None: "one scale", "channel": "a scale per channel"}.get(size, f"blocks of {size}")
    said = f"{bits} bits, {where}: {bits + 32 * scales / weights.numel():.2f} bits per weight, mean error {error:.4f}"
    return figures.weights_and_errors(weights, restored, said)


plotting.show(with_levels(3, block_size))

# %%
from ipywidgets import HTML, HBox, IntSlider, SelectionSlider, VBox

sizes = [("one", None), ("channel", "channel"), *((str(n), n) for n in (256, 64, 16) if weights.numel() % n == 0)]
choose_bits = IntSlider(value=3, min=2, max=8, description="bits", continuous_update=False)
choose_size = SelectionSlider(options=sizes, value=sizes[-1][1], description="block", continuous_update=False)
page = HTML()


def redraw(_change=None):
    page.value = plotting.picture(with_levels(choose_bits.value, choose_size.value))


for control in (choose_bits, choose_size):
    control.observe(redraw, names="value")
redraw()
VBox([HBox([choose_bits, choose_size]), page])

# %% [markdown]
# (The figure above the sliders is one of their positions, for readers without a running kernel.)
#
# ## 7. Bytes that are really saved
#
# A 3-bit code in a PyTorch tensor still takes a byte or more. To save bytes, codes are laid end to end, over the
# borders of bytes. These two functions are each other's inverse for any number of bits from 1 to 8.


# %%
from helpers.quantization.packing import enough, fits


def pack(codes, bits):
    """Whole numbers from 0 to 2^bits - 1 as a row of bytes, the highest bit first."""
    codes = fits(codes.flatten().long(), check_bits(bits, low=1))
    places = torch.arange(bits - 1, -1, -1)
    stream = (codes.unsqueeze(1) >> places & 1).flatten()  # (codes * bits,) of 0 and 1
    stream = torch.nn.functional.pad(stream, (0, -len(stream) % 8))
    powers = 2 ** torch.arange(7, -1, -1)
    return (stream.reshape(-1, 8) * powers).sum(dim=1).to(torch.uint8)


def unpack(packed, bits, count):
    """The first `count` codes back out of the bytes."""
    places = torch.arange(7, -1, -1)
    stream = (packed.long().unsqueeze(1) >> places & 1).flatten()[: enough(packed, bits, count)]
    powers = 2 ** torch.arange(bits - 1, -1, -1)
    return (stream.reshape(-1, bits) * powers).sum(dim=1)


# %% tags=["nbval-check-output"]
codes = torch.tensor([1, 2, 3, 4, 5, 6, 7])
packed = pack(codes, bits=3)
print("as bits:", " ".join(f"{byte:08b}" for byte in packed.tolist()))
print("back:   ", unpack(packed, bits=3, count=7).tolist())
nf4_codes, _ = to_code_book(weights, nf4_code())
theirs, _ = bnb.quantize_4bit(weights, blocksize=64, quant_type="nf4")
print("NF4 codes packed by us are bitsandbytes' bytes:", torch.equal(pack(nf4_codes, 4), theirs.flatten()))
assert torch.equal(pack(nf4_codes, 4), theirs.flatten())

# %% [markdown]
# ### Exercise 10.2: four bits at a time
#
# For 4 bits, [packing](../docs/glossary.md#packing) is one line of arithmetic. Write it: codes 0 to 15 in, an even
# number of them; bytes out, the first code of each pair in the upper half.


# %% tags=["exercise"]
def pack_pairs(codes):
    return ...


check("10.2", pack_pairs)
# hint("10.2")


# %% tags=["solution"]
def pack_pairs(codes):
    pairs = codes.reshape(-1, 2)
    return (pairs[:, 0] * 16 + pairs[:, 1]).to(torch.uint8)


check("10.2", pack_pairs)

# %% [markdown]
# ## 8. What does a model lose?
#
# Two models will tell. A **classifier**: the encoder with a head, fine-tuned on film reviews with the recipe of
# lesson 02 (on a GPU, or a CPU with AVX512_BF16, in bfloat16: nearly twice as fast). And the **decoder** as it was
# pretrained, judged by its [perplexity](../docs/glossary.md#perplexity) on review texts.

# %%
from helpers.batches import TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.evaluation import predict
from helpers.lessons.lesson_02.experiment import STRATEGIES, Task
from helpers.runtime import seed_everything
from helpers.training import has_bfloat16, train_on_text

reviews = catalog.dataset("reviews", track, data, seed)
test_count = run.by_budget(quick=64, standard=1000, full=len(reviews["test"]))
chosen = {"train": sample_rows(reviews["train"], run.by_budget(quick=min(labels, 32), standard=labels), seed)}
chosen["test"] = reviews["test"].select(range(min(test_count, len(reviews["test"]))))
tokenizer = catalog.tokenizer("encoder", track, model)
tokenized = {split: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for split, part in chosen.items()}
num_labels = max(reviews["train"]["label"]) + 1
task = Task(
    new_model=lambda pretrained: catalog.classifier(track, model, num_labels, pretrained=pretrained),
    train_rows=tokenized["train"], test_rows=tokenized["test"], collate=pad(tokenizer), device=run.device,
)  # fmt: skip


# %%
def products_in_bfloat16():
    device = torch.device(run.device)
    # Without its cache: that would hold the weights as they were at the first step.
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device), cache_enabled=False)


def fit(network, epochs, rate, title):
    """Lesson 02's loop on the training reviews."""
    with products_in_bfloat16():
        options = {"epochs": epochs, "seed": seed, "progress": title}
        return train_on_text(network, task.train_rows, task.collate, rate, **options)


def answers(network):
    """1.0 for each test review that is labelled rightly, else 0.0."""
    with products_in_bfloat16():
        logits, true = predict(network, length_batches(task.test_rows, task.collate, 64, shuffle=False))
    return (logits.argmax(dim=-1) == true).double()


seed_everything(seed)
classifier = task.new_model(True).to(run.device)
full_rate = STRATEGIES["full"].learning_rate
history = fit(classifier, run.by_budget(quick=1, standard=3), full_rate, "the classifier")
right = {"float32": answers(classifier)}
accuracy = wilson(int(right["float32"].sum()), len(right["float32"]))
print(f"accuracy {accuracy:.3f} on {len(task.test_rows):,} reviews, trained in {history.seconds:.0f} s")

# %%
from helpers.language_model import blocks_of_text, mean_next_token_loss, perplexity

decoder = catalog.causal_language_model(track).to(run.device).eval()
decoder_tokenizer = catalog.tokenizer("decoder", track)
text_count = run.by_budget(quick=8, standard=64, full=512)
text_rows = blocks_of_text(decoder_tokenizer, reviews["validation"]["text"], length=64, seed=seed, again=True)[
    :text_count
]


def torn(network):
    """Perplexity on the review texts."""
    return perplexity(mean_next_token_loss(network, text_rows))


print(f"perplexity {torn(decoder):.2f} on {text_rows.numel():,} tokens")

# %% [markdown]
# Every figure from here on takes the long way: quantize all matrices (the head and the vectors stay whole), pack,
# write a file, count its bytes, **read the file back** into a fresh copy, judge that copy. The functions of this
# lesson are kept for it in `helpers.quantization.quantizers`, `helpers.quantization.pruning` and their neighbours.

# %%
from helpers.lessons.lesson_10.figures import Point
from helpers.quantization.storage import clustered, code_book, compress, load, pruned, write


def through_a_file(original, technique):
    """A copy of the model as it comes back from a file, and the file's bytes."""
    size = write(path, original, compress(original, technique) if technique else {})
    return load(path, copy.deepcopy(original)), size


whole_bytes = {}
for title, network in (("classifier", classifier), ("decoder", decoder)):
    _, whole_bytes[title] = through_a_file(network, None)
    _, small = through_a_file(network, code_book("nf4", 64, double=True))
    share = sum(w.numel() for w in matrices(network).values()) / sum(p.numel() for p in network.parameters())
    print(f"{title}: {whole_bytes[title] / 1e6:.2f} MB, in NF4 {small / 1e6:.2f} MB; {share:.1%} of it is in matrices")

# %% [markdown]
# ## 9. Weights that are not there
#
# **Magnitude [pruning](../docs/glossary.md#pruning)** sets the smallest weights to zero. A bit per weight says which
# stay, so the file shrinks; the matrices keep their shape.


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


# %% [markdown]
# **Structured pruning** takes whole neurons out: a row of the layer into a feed-forward block, and the column of the
# layer out of it. Nothing has to be marked, the matrices are smaller, and any processor multiplies them faster.
#
# **Predict 4.** What happens to the accuracy without 50 % of the weights? Without 90 %? And without half of the
# neurons?

# %%
from helpers.quantization.pruning import hold_at_zero, prune_neurons


def narrow_copy(share):
    """A copy without the smallest inner neurons of every block."""
    network = copy.deepcopy(classifier)
    prune_neurons(network.body, share)
    return network


def scored(network):
    found = answers(network)
    return wilson(int(found.sum()), len(found))


shares = run.by_budget(quick=(0.5,), standard=(0.3, 0.5, 0.7, 0.9))
neuron_shares = run.by_budget(quick=(0.5,), standard=(0.5, 0.75, 0.9))
curves = {
    "smallest weights": {share: scored(pruned_copy(share)[0]) for share in shares},
    "whole neurons": {share: scored(narrow_copy(share)) for share in neuron_shares},
}
for title, points in curves.items():
    print(f"{title}:", ", ".join(f"{points[share].value:.3f} without {share:.0%}" for share in points))

# %% [markdown]
# Pruned models are usually **trained again** for a while. The zeros have to stay zeros: we multiply each gradient by
# its mask, and AdamW leaves a weight alone that is zero and has no gradient. One pass over the same training reviews,
# at half the learning rate.

# %%
again = {"smallest weights, trained again": {}, "whole neurons, trained again": {}}
trained_again = {title: [] for title in again}


def keep(title, share, network, technique):
    """Note what comes back from the file: for this section's figure and for the next one's."""
    copied, size = through_a_file(network, technique)
    again[title][share] = scored(copied)
    trained_again[title].append(Point(size, again[title][share].value, f"{share:.0%}"))


for share in run.by_budget(quick=(0.5,), standard=(0.5, 0.7, 0.9)):
    network, masks = pruned_copy(share)
    handles = hold_at_zero(network, masks)
    fit(network, 1, full_rate / 2, f"without {share:.0%} of the weights")
    for handle in handles:
        handle.remove()
    assert all((network.get_parameter(name)[~mask] == 0).all() for name, mask in masks.items())
    keep("smallest weights, trained again", share, network, pruned(share))

# %%
for share in run.by_budget(quick=(0.5,), standard=(0.75, 0.9)):
    network = narrow_copy(share)
    fit(network, 1, full_rate / 2, f"without {share:.0%} of the neurons")
    keep("whole neurons, trained again", share, network, None)
curves |= again
plotting.show(figures.against_sparsity(curves, accuracy.value))

# %% [markdown]
# <details><summary>What to look at</summary>
#
# A third of the weights can go for nothing and half of them for a little, since most are near zero. Further on, the
# errors of all layers add up, and the accuracy falls towards chance. One more pass of training mends much, but not
# everything. Neurons can go in large numbers: this task needs few of them. They are a smaller part of the model,
# though: the embeddings and the attention stay.
#
# </details>
#
# ## 10. All techniques, by their bytes
#
# **Predict 5.** At about 4 bits per weight, which technique keeps most? At 2 bits? Will accuracy or perplexity suffer
# first?

# %%
all_bits = run.by_budget(quick=(4,), standard=(2, 3, 4, 8))
FAMILIES = {  # the ending of its metrics: its title, and its techniques by their label
    "uniform_tensor": ("equal, one scale", {str(b): uniform(b) for b in all_bits}),
    "uniform_channel": ("equal, per channel", {str(b): uniform(b, "channel") for b in all_bits}),
    "uniform_block": (f"equal, blocks of {block_size}", {str(b): uniform(b, block_size) for b in all_bits}),
    "affine_block": (f"affine, blocks of {block_size}", {str(b): uniform(b, block_size, True) for b in all_bits}),
    "clusters": ("k-means", {str(b): clustered(b) for b in all_bits}),
    "fp4": ("FP4", {"4": code_book("fp4", block_size)}),
    "nf4": ("NF4", {"4": code_book("nf4", block_size)}),
    "nf4_double": ("NF4, double", {"4": code_book("nf4", block_size, double=True)}),
    "pruned": ("pruned", {f"{share:.0%}": pruned(share) for share in shares}),
}


# %%
from tqdm import tqdm

found = {}
for family, (_, techniques) in tqdm(FAMILIES.items(), desc="techniques", leave=False):
    for label, technique in techniques.items():
        copied, size = through_a_file(classifier, technique)
        right[family, label] = answers(copied)
        found["accuracy", family, label] = Point(size, right[family, label].mean().item(), label)
        copied, size = through_a_file(decoder, technique)
        found["perplexity", family, label] = Point(size, torn(copied), label)


# %%
def lines(quantity):
    """Family title -> its points."""
    return {
        title: [found[quantity, family, one] for one in techniques] for family, (title, techniques) in FAMILIES.items()
    }


perplexity_whole = torn(decoder)
panels = {"accuracy": lines("accuracy") | trained_again, "perplexity": lines("perplexity")}
whole = {
    "accuracy": Point(whole_bytes["classifier"], accuracy.value),
    "perplexity": Point(whole_bytes["decoder"], perplexity_whole),
}
limits = {
    "accuracy": (accuracy.value - 0.2, accuracy.value + 0.03),
    "perplexity": (0.97 * perplexity_whole, 1.6 * perplexity_whole),
}
plotting.show(figures.against_bytes(panels, whole, limits))

# %% [markdown]
# Numbers at the points are bits, or the share that was pruned. Points that coincide have one number. A line that leaves
# the panel goes on to a far worse point.
#
# The same as numbers, for four bits. The third column asks whether the accuracy is different from float32's at all:
# both answered the same reviews, so the paired bootstrap of lesson 02 can tell.

# %%
rows, gaps = {}, {}
for family, (title, techniques) in FAMILIES.items():
    if "4" in techniques:
        one, other = found["accuracy", family, "4"], found["perplexity", family, "4"]
        gaps[family] = paired_bootstrap(right[family, "4"], right["float32"], seed=seed)
        sizes = [f"{one.bytes / 1e6:.2f}", f"{one.value:.3f}", f"{gaps[family]:+.3f}"]
        rows[title] = [*sizes, f"{other.bytes / 1e6:.2f}", f"{other.value:.2f}"]
one, other = whole["accuracy"], whole["perplexity"]
rows["float32"] = [f"{one.bytes / 1e6:.2f}", f"{one.value:.3f}", "", f"{other.bytes / 1e6:.2f}", f"{other.value:.2f}"]
columns = ["classifier (MB)", "accuracy", "minus float32 [95 %]", "decoder (MB)", "perplexity"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# <details><summary>What to look at</summary>
#
# - **8 bits** lose nothing, whatever the scale belongs to.
# - **4 bits** lose a point of accuracy or a few with a scale per channel or block. One scale for a whole matrix is too
#   coarse: the perplexity shows it clearly.
# - **2 bits** leave three symmetric levels, and rounding sends nearly all weights to the middle one. Levels where the
#   weights are (k-means) keep the classifier alive.
# - **Which suffers first?** There is no one order. At 4 bits some accuracies lose points while perplexity hardly rises;
#   at 3 bits k-means keeps its accuracy while perplexity rises. They are two models, asked different things.
# - **NF4 against equal levels and FP4**: by perplexity NF4 is ahead of both, as in the paper, but the gaps are small,
#   and an affine scale does better for a few more bytes. The accuracy of one classifier need not follow: all its
#   answers are shifted by one and the same rounding, and the intervals speak about other reviews, not about other
#   roundings.
# - **Pruning** alone saves little: each weight that stays is stored in 32 bits. It can be combined with quantization.
#
# </details>
#
# The QLoRA paper's figures for large models, theirs and not ours: mean perplexity with 4-bit integers 34.34, FP4
# 31.07, NF4 with double quantization 27.41.
#
# ## 11. Is it faster?
#
# So far weights were small on disk, and were float32 again before any product. To gain speed the product itself has
# to run in whole numbers: int8 inputs times int8 weights, sums in 32 bits, and one multiplication by both scales at
# the end.


# %%
def int8_product(inputs, weights):
    """inputs (rows, in), weights (out, in): the product (rows, out), and its sums in whole numbers."""
    left, left_scale = symmetric(inputs, 8, "channel")  # a scale per row of inputs
    right, right_scale = symmetric(weights, 8, "channel")  # a scale per output
    sums = left.int() @ right.int().T  # (rows, out), exact
    return sums * left_scale * right_scale.T, sums


# %% tags=["nbval-check-output"]
inputs = torch.randn(32, weights.shape[1], generator=torch.Generator().manual_seed(0))
product, sums = int8_product(inputs, weights)
left, _, _ = bnb.int8_vectorwise_quant(inputs)
right, _, _ = bnb.int8_vectorwise_quant(weights)
print("our sums equal bitsandbytes':", torch.equal(sums, bnb.int8_linear_matmul(left, right)))
exact = inputs @ weights.T
relative = ((product - exact).abs().mean() / exact.abs().mean()).item()
print("relative error under 2 %:", relative < 0.02)
assert torch.equal(sums, bnb.int8_linear_matmul(left, right)) and relative < 0.02

# %% [markdown]
# How fast an int8 product is depends on the processor's instructions: AVX512_VNNI adds four products in one step,
# AVX2 needs three steps for it. So for timing we take PyTorch's dynamic quantization, which uses what is there. Two
# sizes: the pocket encoder, and two blocks as wide as BERT-base. The second has random weights, which is fine here:
# time does not depend on them.
#
# The table is about the processor of *this* run; another kind gives other ratios.
#
# **Predict 6.** Where will int8 be faster, and by how much?

# %%
from transformers import BertConfig, BertModel

from helpers.lessons.lesson_10.experiment import fastest_seconds, int8_copy

wide = BertModel(BertConfig(num_hidden_layers=2, vocab_size=1000), add_pooling_layer=False).eval()
networks = {"pocket": encoder.cpu().eval(), "wide": wide}
repeats = run.by_budget(quick=2, standard=12)


def timed(network, small, batch, length):
    """Milliseconds of a forward pass, float32 and int8, the fastest of several."""
    ids = torch.randint(5, 1000, (batch, length), generator=torch.Generator().manual_seed(seed))
    return [1000 * fastest_seconds(partial(one, input_ids=ids), repeats) for one in (network, small)]


rows, faster = {}, {}
for title, network in networks.items():
    small = int8_copy(network)
    for batch, length in ((1, 16), (4, 64)):
        with_float, with_int8 = timed(network, small, batch, length)
        faster[title, batch] = with_float / with_int8
        case = f"{title} ({network.config.hidden_size} wide), {batch} x {length} tokens"
        rows[case] = [f"{with_float:.1f}", f"{with_int8:.1f}", f"{faster[title, batch]:.2f}"]
pd.DataFrame.from_dict(rows, orient="index", columns=["float32 (ms)", "int8 (ms)", "times faster"])

# %% [markdown]
# <details><summary>What to look at</summary>
#
# Quantizing the inputs costs time at every call, and whole-number products save it. In a small layer with a few
# tokens the two even out, or int8 is slower. The larger the matrices, the more there is to save. (A share of it is
# memory: int8 weights are a quarter as large, and fit into the processor's cache where float32 does not.)
#
# </details>
#
# ## 12. Find the bug
#
# A colleague writes int8 quantization with a scale per row. The codes are int8, as they should be, nothing is raised,
# and the *mean* error of the matrix looks harmless. Look at the figure: what are the errors far from zero?


# %%
def to_int8(rows):
    scale = rows.amax(dim=1, keepdim=True) / 127
    return torch.round(rows / scale).to(torch.int8), scale


codes, scale = to_int8(weights)
restored = codes * scale
flipped = int((restored.sign() * weights.sign() < 0).sum())
said = (
    f"mean error {(restored - weights).abs().mean():.4f}; {flipped:,} of {weights.numel():,} weights changed their sign"
)
plotting.show(figures.weights_and_errors(weights, restored, said))

# %% [markdown]
# ### Exercise 10.3: mend the scale
#
# Write `to_int8` so that every weight comes back within half a level. `rows` is (rows, numbers).


# %% tags=["exercise"]
def mended(rows):
    return ...


check("10.3", mended)
# hint("10.3")


# %% tags=["solution"]
def mended(rows):
    scale = rows.abs().amax(dim=1, keepdim=True) / 127
    return torch.round(rows / scale).to(torch.int8), scale


check("10.3", mended)

# %% [markdown]
# A mean hides a few large errors, and a cast to int8 does not complain: a code of -140 wraps around to 116. The habit
# that finds it: look at the *largest* error, and assert that codes fit before they are cast.
#
# ## 13. Recap: what this run showed

# %%
from IPython.display import Markdown, display

point, other = found["accuracy", "nf4_double", "4"], found["perplexity", "nf4_double", "4"]
smaller = whole_bytes["decoder"] / other.bytes
four_bits = f"NF4, double, {point.value:.3f} and {other.value:.2f}, with a decoder file {smaller:.1f} times smaller"
pruning = "; ".join(
    f"{name}: {points[share].value:.3f} without {share:.0%}"
    for name, points in curves.items()
    for share in [max(points)]
)

display(
    Markdown(f"""
1. **By hand is the library's**: against bitsandbytes {mismatches["nf4"]} NF4 codes, {mismatches["fp4"]} FP4 codes and
   {different["table"]} of {len(all_scales):,} double-quantized scales differ (*sections 3 and 4*).
2. **Bits**: float32 has an accuracy of {accuracy.value:.3f} and a perplexity of {perplexity_whole:.2f}; {four_bits}
   (*section 10, the table*).
3. **Pruning**: {pruning} (*section 9, the figure*).
4. **Speed**: int8 runs {faster["pocket", 1]:.1f} times as fast as float32 on a short text in the pocket encoder, and
   {faster["wide", 4]:.1f} times on four longer ones in two blocks of BERT-base's width (*section 11, the table*).
""")
)

# %%
from helpers.record import record

values = {"error_nf4_block_64": errors[64]["nf4"], "error_fp4_block_64": errors[64]["fp4"]}
values |= {f"code_mismatches_{kind}": count for kind, count in mismatches.items()}
values |= {"code_mismatches_double": different["table"], "code_mismatches_double_exact": different["exact"]}
values |= {"accuracy_float32": accuracy.value, "perplexity_float32": perplexity_whole}
values |= {f"bytes_float32_{title}": size for title, size in whole_bytes.items()}
for (quantity, family, label), point in found.items():
    name = f"{family}_{label.removesuffix('%')}"
    where = "" if quantity == "accuracy" else "_decoder"
    values |= {f"{quantity}_{name}": point.value, f"bytes_{name}{where}": point.bytes}
for title, points_of in curves.items():
    name = title.replace(",", "").replace(" ", "_")
    values |= {f"accuracy_{name}_{round(100 * share)}": score.value for share, score in points_of.items()}
values |= {f"speedup_int8_{title}_batch_{batch}": ratio for (title, batch), ratio in faster.items()}
parameters = {"track": track, "budget": budget, "seed": seed, "model": model, "data": data}
parameters |= {"labels": labels, "bits": bits, "block_size": block_size}
saved = record("10_quantization", parameters, **values)
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
# | Dettmers et al., *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale* | 2022 |
# | Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs* | 2023 |
# | bitsandbytes, its tests, `test_functional.py` | repository |
