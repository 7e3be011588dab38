"""helpers.quantization against bitsandbytes and torch: to the bit."""

from __future__ import annotations

import pytest
import torch
from gguf.quants import MXFP4

from helpers.quantization.four_bit import quiet_bitsandbytes
from helpers.quantization.packing import pack, unpack
from helpers.quantization.quantizers import (
    affine,
    double_dequantize,
    double_quantize,
    dynamic_code,
    e2m1_code,
    fp4_code,
    nf4_code,
    small_float,
    symmetric,
    through_table,
    to_code_book,
)
from helpers.quantization.storage import code_book

quiet_bitsandbytes()
import bitsandbytes.functional as bnb  # noqa: E402

CODES = {"nf4": nf4_code(), "fp4": fp4_code()}
PUBLISHED = {"nf4": {64: 0.072792, 128: 0.076835, 256: 0.080326}, "fp4": {64: 0.096545, 128: 0.102947, 256: 0.108685}}


def samples():
    draws = torch.Generator().manual_seed(0)
    normal = torch.randn(2048, 192, generator=draws)
    return {
        "weights": normal * 0.05,
        "ties": (normal[:96, :64] * 10).round() / 10,
        "zeros": torch.zeros(2, 64),
        "half zeros": normal[:64, :64] * (torch.arange(64) % 2).unsqueeze(1),
        "float16": normal[:33, :64].half(),
        "bfloat16": normal[:33, :64].bfloat16(),
        "few scales": normal[:2, :64],
    }


SAMPLES = samples()


@pytest.mark.parametrize("kind", CODES)
def test_code_books_are_bitsandbytes_own(kind):
    assert torch.equal(CODES[kind], bnb.get_4bit_type(kind, device="cpu"))


@pytest.mark.parametrize(
    ("exponent", "fraction", "theirs"), [(4, 3, torch.float8_e4m3fn), (5, 2, torch.float8_e5m2)], ids=["E4M3", "E5M2"]
)
def test_small_floats_are_torchs_wherever_those_are_finite(exponent, fraction, theirs):
    wanted = torch.arange(256).to(torch.uint8).view(theirs).float()
    finite = wanted.isfinite()
    assert finite.sum() >= 248 and torch.equal(small_float(exponent, fraction)[finite], wanted[finite])


def test_e2m1_is_the_book_of_mxfp4():
    assert torch.equal(small_float(2, 1), torch.tensor(MXFP4.kvalues) / 2)
    assert torch.equal(e2m1_code() * 6, small_float(2, 1))


def test_the_dynamic_code_is_bitsandbytes_own():
    assert torch.equal(dynamic_code(), bnb.create_dynamic_map())


@pytest.mark.parametrize("block_size", [32, 64])
@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("name", SAMPLES)
def test_four_bit_codes_and_scales_are_bitsandbytes_own(name, kind, block_size):
    packed, state = bnb.quantize_4bit(SAMPLES[name], blocksize=block_size, quant_type=kind)
    codes, scale = to_code_book(SAMPLES[name], CODES[kind], block_size)
    assert torch.equal(pack(codes, 4), packed.flatten())
    assert torch.equal(scale.flatten(), state.absmax)
    restored = code_book(kind, block_size)(SAMPLES[name]).restore()
    theirs = bnb.dequantize_4bit(packed, state).float()
    assert torch.equal(restored.to(SAMPLES[name].dtype).float(), theirs)


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("name", SAMPLES)
def test_double_quantized_scales_are_bitsandbytes_own(name, kind):
    _, state = bnb.quantize_4bit(SAMPLES[name], blocksize=64, quant_type=kind, compress_statistics=True)
    codes, outer, mean = double_quantize(to_code_book(SAMPLES[name], CODES[kind])[1])
    assert torch.equal(codes, state.absmax.long())
    assert torch.equal(outer.flatten(), state.state2.absmax)
    assert torch.equal(mean, state.offset)
    theirs = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    assert torch.equal(double_dequantize(codes, outer, mean).flatten(), theirs)


def test_without_the_table_a_few_codes_differ():
    """The reason for `through_table`: the exact nearest level is not always the one that bitsandbytes takes."""
    shares = torch.randn(256 * 400, generator=torch.Generator().manual_seed(1)).reshape(-1, 256)
    codes, state = bnb.quantize_blockwise(shares, blocksize=256)
    scaled = shares * (1 / state.absmax.unsqueeze(1))
    middles = (dynamic_code()[1:] + dynamic_code()[:-1]) / 2
    wrong = int((torch.bucketize(scaled, middles) != codes).sum())
    assert 0 < wrong < 0.01 * shares.numel()
    assert torch.equal(torch.bucketize(through_table(scaled), middles), codes.long())


@pytest.mark.parametrize("kind", CODES)
def test_the_published_errors_come_again(kind):
    """Mean absolute errors on N(0, 1), from bitsandbytes' own tests (test_functional.py)."""
    normal = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
    for block_size, wanted in PUBLISHED[kind].items():
        error = (code_book(kind, block_size)(normal).restore() - normal).abs().mean().item()
        assert error == pytest.approx(wanted, rel=0.005)


@pytest.mark.parametrize("bits", [4, 8])
def test_uniform_levels_are_torchs_fake_quantization(bits):
    """torch knows levels with a zero point for a whole tensor or per channel."""
    weights = torch.randn(16, 64, generator=torch.Generator().manual_seed(0)) + 0.3
    top = 2 ** (bits - 1) - 1
    codes, scale = symmetric(weights, bits, "channel")
    theirs = torch.fake_quantize_per_channel_affine(
        weights, scale.flatten(), torch.zeros(16, dtype=torch.int32), 0, -top, top
    )
    assert torch.equal(codes * scale, theirs)
    codes, scale, zero = affine(weights, bits)
    theirs = torch.fake_quantize_per_tensor_affine(weights, scale.item(), int(zero), 0, 2**bits - 1)
    assert torch.equal(((codes - zero) * scale).reshape(16, 64), theirs)


def test_int8_rows_are_bitsandbytes_own():
    weights = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    codes, largest, _ = bnb.int8_vectorwise_quant(weights)
    ours, scale = symmetric(weights, 8, "channel")
    assert torch.equal(ours.to(torch.int8), codes)
    assert torch.allclose(scale.flatten() * 127, largest, rtol=1e-6)


def test_bitsandbytes_packs_as_we_do():
    packed, _ = bnb.quantize_4bit(SAMPLES["weights"], quant_type="nf4")
    codes, _ = to_code_book(SAMPLES["weights"], CODES["nf4"])
    assert torch.equal(unpack(packed.flatten(), 4, codes.numel()), codes.flatten())
