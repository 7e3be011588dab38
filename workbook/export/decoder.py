"""Writes a decoder to a folder: weights for the family's class, a chat template, and the stop tokens of `generate`."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import AutoTokenizer, GenerationConfig

from helpers.kept_model import FACTS
from helpers.sft import end_of_turn
from workbook.export.kept import Kept


def write_decoder(kept: Kept, folder: Path) -> None:
    """Copy the kept files to `folder`, and let `generate` stop where the chat template ends a turn."""
    for path in kept.folder.iterdir():
        if path.name != FACTS:
            shutil.copyfile(path, folder / path.name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = dict.fromkeys([end_of_turn(tokenizer), tokenizer.eos_token_id])  # without duplicates, in this order
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    stops = [token for token in ends if token is not None]
    # The default is greedy decoding, because the lesson measured greedy answers.
    GenerationConfig(eos_token_id=stops, pad_token_id=pad, bos_token_id=tokenizer.bos_token_id).save_pretrained(folder)
