"""helpers.quantization for every shape, dtype and block size that it accepts."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.quantization.packing import pack, unpack
from helpers.quantization.pruning import magnitude_mask
from helpers.quantization.quantizers import affine, blocks, fp4_code, k_means, nf4_code, symmetric, to_code_book
from helpers.quantization.storage import clustered, code_book, pruned, uniform

DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32])
BITS = st.integers(2, 8)
ROUNDING = 1e-5  # of a block's largest weight: what float32 itself loses on the way
TINY = 1e-37  # below it a scale has no full precision any more
quickly = settings(deadline=None, max_examples=60)


@st.composite
def cut_weights(draw):
    """A tensor of any shape with up to four dimensions, and a way to cut it that fits."""
    shape = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    scale = draw(st.sampled_from([1e-6, 1e-2, 1.0, 1e3]))
    shift = draw(st.sampled_from([0.0, 0.5, -3.0]))
    draws = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    weights = ((torch.randn(shape, generator=draws) + shift) * scale).to(draw(DTYPES))
    if draw(st.booleans()):
        weights = weights * (torch.rand(shape, generator=draws) > 0.5)  # some zeros, perhaps whole rows
    count = weights.numel()
    sizes = [None, *(size for size in range(1, count + 1) if count % size == 0)]
    if weights.dim() > 1:
        sizes.append("channel")
    return weights, draw(st.sampled_from(sizes))


def within(restored, rows, allowed):
    slack = ROUNDING * rows.abs().amax(dim=1, keepdim=True) + TINY
    return bool(((restored - rows).abs() <= allowed + slack).all())


@quickly
@given(cut_weights(), BITS)
def test_symmetric_is_within_half_a_level(cut, bits):
    weights, block_size = cut
    codes, scale = symmetric(weights, bits, block_size)
    rows = blocks(weights, block_size)
    assert codes.abs().max() <= 2 ** (bits - 1) - 1
    assert within(codes * scale, rows, scale / 2)


@quickly
@given(cut_weights(), BITS)
def test_affine_is_within_half_a_level_and_keeps_zero(cut, bits):
    weights, block_size = cut
    codes, scale, zero = affine(weights, bits, block_size)
    rows = blocks(weights, block_size)
    assert codes.min() >= 0 and codes.max() <= 2**bits - 1 and zero.min() >= 0 and zero.max() <= 2**bits - 1
    assert within((codes - zero) * scale, rows, scale / 2)
    assert bool((((codes - zero) * scale)[rows == 0] == 0).all())


@quickly
@given(cut_weights(), st.sampled_from(["nf4", "fp4"]))
def test_a_code_book_gives_the_nearest_level(cut, kind):
    weights, block_size = cut
    code = {"nf4": nf4_code(), "fp4": fp4_code()}[kind]
    codes, scale = to_code_book(weights, code, block_size)
    rows = blocks(weights, block_size)
    nearest = (rows.unsqueeze(-1) - code * scale.unsqueeze(-1)).abs().amin(dim=-1)
    assert within(code[codes] * scale, rows, nearest)


@quickly
@given(cut_weights(), BITS)
def test_k_means_gives_the_nearest_centre(cut, bits):
    weights, _ = cut
    values = blocks(weights).flatten()
    if values.min() == values.max():
        return
    codes, centres = k_means(weights, bits, steps=3)
    assert bool((centres.diff() >= 0).all())
    nearest = (values.unsqueeze(1) - centres).abs().amin(dim=1)
    assert within(centres[codes].unsqueeze(0), values.unsqueeze(0), nearest.unsqueeze(0))


@quickly
@given(st.integers(1, 8), st.data())
def test_packing_and_unpacking_is_the_identity(bits, data):
    codes = torch.tensor(data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=0, max_size=40)), dtype=torch.long)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8 and len(packed) == -(-len(codes) * bits // 8)
    assert torch.equal(unpack(packed, bits, len(codes)), codes)


@quickly
@given(cut_weights(), BITS)
def test_what_is_stored_is_what_was_computed(cut, bits):
    weights, block_size = cut
    codes, scale = symmetric(weights, bits, block_size)
    stored = uniform(bits, block_size)(weights)
    assert torch.equal(stored.restore().flatten(), (codes * scale).flatten())
    codes, scale, zero = affine(weights, bits, block_size)
    stored = uniform(bits, block_size, zero_point=True)(weights)
    assert torch.equal(stored.restore().flatten(), ((codes - zero) * scale).flatten())
    for double in (False, True):
        stored = code_book("nf4", weights.numel(), double)(weights)
        assert stored.restore().shape == weights.shape
    if weights.min() != weights.max():
        codes, centres = k_means(weights, bits)
        assert torch.equal(clustered(bits)(weights).restore().flatten(), centres[codes])


@quickly
@given(cut_weights(), st.floats(0, 1))
def test_pruning_takes_the_smallest_and_stores_the_rest_whole(cut, sparsity):
    weights, _ = cut
    mask = magnitude_mask(weights, sparsity)
    assert int((~mask).sum()) == round(sparsity * weights.numel())
    sizes = weights.float().abs()
    if mask.any() and not mask.all():
        assert sizes[~mask].max() <= sizes[mask].min()
    assert torch.equal(pruned(sparsity)(weights).restore(), weights.float() * mask)
