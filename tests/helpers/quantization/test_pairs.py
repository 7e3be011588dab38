"""The quick ways for four bits equal the general ones, to the bit."""

from __future__ import annotations

import pytest
import torch

from helpers.quantization.packing import level_pairs, look_up_pairs, pack, pack_pairs, unpack
from helpers.quantization.quantizers import fp4_code, nf4_code
from helpers.runtime import UserError


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64, 1001])
def test_pairs_are_packed_as_bit_by_bit(count):
    codes = torch.randint(16, (count,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(pack_pairs(codes), pack(codes, 4))


@pytest.mark.parametrize("code", [nf4_code(), fp4_code()], ids=["nf4", "fp4"])
@pytest.mark.parametrize("count", [1, 2, 255, 512])
def test_levels_are_those_of_the_unpacked_codes(code, count):
    packed = torch.arange(256, dtype=torch.uint8)
    found, wanted = look_up_pairs(packed, level_pairs(code), count), code[unpack(packed, 4, count)]
    assert torch.equal(found.view(torch.int32), wanted.view(torch.int32))  # FP4 has a zero with a minus


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="4 bits hold 0 to 15"):
        pack_pairs(torch.tensor([3, 16]))


def test_more_levels_than_there_are_codes_are_refused():
    with pytest.raises(UserError, match="hold 4 codes"):
        look_up_pairs(torch.zeros(2, dtype=torch.uint8), level_pairs(nf4_code()), 5)
