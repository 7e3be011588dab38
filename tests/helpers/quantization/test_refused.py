"""Input that helpers.quantization does not take: one clear sentence each."""

from __future__ import annotations

import logging

import pytest
import torch

from helpers.quantization.four_bit import SPEAKER, quiet_bitsandbytes
from helpers.quantization.packing import pack, unpack
from helpers.quantization.pruning import magnitude_mask
from helpers.quantization.quantizers import affine, blocks, fp4_code, k_means, nf4_code, symmetric, to_code_book
from helpers.quantization.storage import clustered, code_book, uniform
from helpers.runtime import UserError

ONES = torch.ones(4, 6)


@pytest.mark.parametrize(
    ("weights", "block_size", "said"),
    [
        (torch.ones(0), None, r"weights are empty \(shape \(0,\)\)"),
        (torch.tensor([1.0, float("nan")]), None, "1 of 2 weights are NaN or infinite"),
        (torch.tensor([float("inf"), -float("inf"), 1.0]), None, "2 of 3 weights are NaN or infinite"),
        (torch.ones(4, dtype=torch.long), None, "weights are torch.int64; they have to be a tensor of float16"),
        (torch.ones(4, dtype=torch.float64), None, "weights are torch.float64"),
        ([1.0, 2.0], None, "weights are list"),
        (ONES, 5, "block_size is 5, which does not divide the 24 weights"),
        (ONES, 48, "block_size is 48, which does not divide the 24 weights"),
        (ONES, 0, "block_size is 0, but it has to lie from 1"),
        (ONES, -8, "block_size is -8"),
        (ONES, 2.0, "block_size is 2.0, but it has to be a whole number"),
        (ONES, "row", "block_size is 'row', but it has to be a whole number"),
        (torch.ones(4), "channel", 'block_size is "channel", but weights of shape .* have no channels'),
    ],
)
def test_weights_and_block_sizes(weights, block_size, said):
    for call in (
        lambda: blocks(weights, block_size),
        lambda: symmetric(weights, 4, block_size),
        lambda: affine(weights, 4, block_size),
        lambda: to_code_book(weights, nf4_code(), block_size),
        *([] if "does not divide" in said else [lambda: uniform(4, block_size)(weights)]),  # fills the last block
    ):
        with pytest.raises(UserError, match=said):
            call()


@pytest.mark.parametrize("bits", [1, 9, 0, -2, 4.0, True, "4"])
def test_bits_out_of_range(bits):
    for call in (
        lambda: symmetric(ONES, bits),
        lambda: affine(ONES, bits),
        lambda: k_means(torch.arange(4.0), bits),
    ):
        with pytest.raises(UserError, match="bits is .*, but it has to"):
            call()


def test_constant_rows_come_back_exactly():
    """Zero range is no fault for levels: a row of one number is stored without error, a row of zeros as zeros."""
    rows = torch.tensor([[0.0] * 6, [0.25] * 6, [-3.0] * 6])
    for codes, scale in (symmetric(rows, 4, "channel"), to_code_book(rows, nf4_code(), 6)):
        levels = nf4_code()[codes] if codes.dtype == torch.long else codes
        assert torch.equal(levels * scale, rows)
    codes, scale, zero = affine(rows, 4, "channel")
    assert torch.allclose((codes - zero) * scale, rows, rtol=1e-6)
    assert torch.equal(code_book("fp4", 6)(rows).restore(), rows) and fp4_code().max() == 1


def test_constant_weights_have_no_clusters():
    with pytest.raises(UserError, match="All 24 weights are 1: there is no range to cluster"):
        clustered(4)(ONES)


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan"), "half"])
def test_sparsity_out_of_range(sparsity):
    with pytest.raises(UserError, match="sparsity is"):
        magnitude_mask(ONES, sparsity)


def test_codes_that_do_not_fit():
    with pytest.raises(UserError, match="The codes run from 0 to 16; 4 bits hold 0 to 15"):
        pack(torch.tensor([0, 16]), 4)
    with pytest.raises(UserError, match="The codes run from -1 to 3"):
        pack(torch.tensor([-1, 3]), 4)
    with pytest.raises(UserError, match="2 bytes hold 4 codes of 4 bits, not 5"):
        unpack(torch.zeros(2, dtype=torch.uint8), 4, 5)
    with pytest.raises(UserError, match="bits is 9"):
        pack(torch.tensor([0]), 9)


def test_an_unknown_code_book_is_named():
    with pytest.raises(UserError, match='kind is "nf3", but it has to be one of "nf4", "fp4"'):
        code_book("nf3")


def test_only_the_line_about_kernels_is_left_out(caplog):
    speaker = logging.getLogger(SPEAKER)
    before = [
        one for one in speaker.filters if getattr(one, "__name__", "") != "_not_about_kernels"
    ]  # what other tests left
    quiet_bitsandbytes()
    quiet_bitsandbytes()
    assert len(speaker.filters) == len(before) + 1
    with caplog.at_level(logging.WARNING, logger=SPEAKER):
        speaker.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "No module named 'kernels'")
        speaker.warning("Something else")
    assert [entry.getMessage() for entry in caplog.records] == ["Something else"]
