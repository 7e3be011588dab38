"""Documents to blocks of one length, so that no token of a training batch is padding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pack(documents: list[list[int]], length: int, start: int, end: int, seed: int) -> Tensor:
    """Shuffle documents and lay them end to end in blocks; every block begins where a document begins.

    documents: token ids without special tokens; start, end: the ids put before a block's first document and
    after every document. Returns (blocks, length); what hangs over a block's end is left out.
    """
    order = np.random.default_rng(seed).permutation(len(documents))
    blocks, block = [], [start]
    for index in order:
        block.extend(documents[index])
        block.append(end)
        if len(block) >= length:
            blocks.append(block[:length])
            block = [start]
    return torch.tensor(np.array(blocks, dtype=np.int64))


def mask_blocks(
    blocks: Tensor, count: int, special: Tensor, mask_id: int, vocabulary: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose `count` tokens of each block to be guessed; 80 % become the mask, 10 % a random token, 10 % stay.

    blocks: (batch, length); special: (vocabulary,) True for ids that are never chosen.
    Returns inputs (batch, length), chosen positions (batch, count) and their true ids (batch, count).
    The same count in every block keeps shapes fixed, which a compiled model likes.
    """
    score = torch.rand(blocks.shape, generator=generator).masked_fill_(special[blocks], -1.0)
    positions = score.topk(count, dim=1).indices  # (batch, count)
    targets = blocks.gather(1, positions)
    draw = torch.rand(positions.shape, generator=generator)
    random_ids = torch.randint(vocabulary, positions.shape, generator=generator)
    shown = torch.where(draw < 0.8, mask_id, torch.where(draw < 0.9, random_ids, targets))
    return blocks.scatter(1, positions, shown), positions, targets
