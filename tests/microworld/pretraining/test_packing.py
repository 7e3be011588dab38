"""Packing documents and choosing tokens to mask."""

import torch

from helpers.language_model import pack
from microworld.pretraining.loop import mask_blocks


def test_blocks_begin_with_a_document_and_have_one_length():
    documents = [[10 + n] * (3 + n % 5) for n in range(50)]
    blocks = pack(documents, length=16, start=1, end=2, seed=0)
    assert blocks.shape[1] == 16 and (blocks[:, 0] == 1).all()
    assert not (blocks[:, 1:] == 1).any()
    for block in blocks:
        first = block[1].item()
        run = 3 + (first - 10) % 5
        assert (block[1 : 1 + run] == first).all() and block[1 + run] == 2


def test_same_seed_same_blocks():
    documents = [[n, n + 1, n + 2] for n in range(3, 60)]
    assert torch.equal(pack(documents, 8, 1, 2, seed=4), pack(documents, 8, 1, 2, seed=4))
    assert not torch.equal(pack(documents, 8, 1, 2, seed=4), pack(documents, 8, 1, 2, seed=5))


def test_masking_spares_special_tokens_and_keeps_the_rest():
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(5, 500, (64, 40), generator=generator)
    blocks[:, 0], blocks[:, 20] = 1, 2
    special = torch.zeros(500, dtype=torch.bool)
    special[:5] = True
    inputs, positions, targets = mask_blocks(blocks, 12, special, 4, 500, generator)
    assert torch.equal(blocks.gather(1, positions), targets) and (targets >= 5).all()
    untouched = torch.ones_like(blocks, dtype=torch.bool).scatter(1, positions, False)
    assert torch.equal(inputs[untouched], blocks[untouched])
    shown = inputs.gather(1, positions)
    assert 0.75 < (shown == 4).float().mean() < 0.85
    assert 0.07 < (shown == targets).float().mean() < 0.14
