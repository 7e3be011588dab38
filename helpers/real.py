"""The files of the real track: finds them, checks that they are complete, and opens them for a lesson.

`workbook real` (`workbook.real`) downloads the files; this module does not write, download or repair any.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.files import SUMS, sha256
from helpers.paths import ROOT, expanded
from helpers.runtime import UserError, choose

if TYPE_CHECKING:
    from datasets import DatasetDict

VARIABLE = "WORKBOOK_REAL_DIR"
COMMAND = "workbook real"
# The files that each folder must contain. `workbook real` creates a folder only when it is complete, and lists all of
# its files in SHA256SUMS.
PARTS = {
    "encoder": ("config.json", "model.safetensors", "tokenizer.json"),
    "gguf": ("SmolLM2-135M-Instruct.Q4_1.gguf",),
    "decoder": ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"),
    "texts": ("README.md", "counts.json"),
}
FORMATS = dict.fromkeys(PARTS, 1)  # a higher number makes `workbook real` build that part again
FORMAT_FILE = "format.txt"
MODEL_PARTS = {"encoder": "encoder", "decoder": "decoder", "instruct": "decoder"}  # its decoder is an instruct model
DATASETS = {
    "reviews": ("train", "validation", "test"),
    "topics": ("train", "validation", "test"),
    "corpus": ("train", "validation", "newcomer"),
}
WHOLE, MISSING, DAMAGED, OLD = "complete", "missing", "damaged", "from another version of the workbook"


def real_folder() -> Path:
    """Return the folder of the downloaded files: `WORKBOOK_REAL_DIR` if set, else `data/real` in the project."""
    named = os.environ.get(VARIABLE, "").strip()
    return expanded(named) if named else ROOT / "data" / "real"


def state(part: str, folder: Path | None = None) -> str:
    """Return the state of a part (WHOLE, MISSING, DAMAGED or OLD), after checking the hashes of all its files.

    Args:
        part: a key of PARTS.
        folder: the folder that contains the parts; None takes `real_folder()`.
    """
    place = (folder or real_folder()) / choose("part", part, PARTS)
    try:
        if not place.is_dir():
            return MISSING
        return _state_of_files(place, part)
    except OSError:
        return DAMAGED


def _state_of_files(place: Path, part: str) -> str:
    listed = {}
    for line in (place / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    if not {*PARTS[part], FORMAT_FILE} <= set(listed):
        return DAMAGED
    if any(_digest(place / name) != digest for name, digest in listed.items()):
        return DAMAGED
    return WHOLE if (place / FORMAT_FILE).read_text(encoding="utf-8").strip() == str(FORMATS[part]) else OLD


def _digest(path: Path) -> str:
    found = path.stat()
    return _digest_of(path, found.st_size, found.st_mtime_ns)


@cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    """Return a file's SHA-256; cached until the file changes, because a lesson opens a model several times."""
    return sha256(path)


def trouble(parts: Iterable[str] = tuple(PARTS), folder: Path | None = None) -> str:
    """Return a sentence on what is wrong with these parts and how to fix it; "" if all are complete."""
    folder = folder or real_folder()
    states = {part: state(part, folder) for part in parts}
    wrong = {part: found for part, found in states.items() if found != WHOLE}
    if not wrong:
        return ""
    place = folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else folder
    if set(wrong.values()) == {MISSING}:
        return f"The real track's files ({', '.join(wrong)}) are not in {place}: fetch them with `{COMMAND}`."
    said = ", ".join(f"{part} is {found}" for part, found in wrong.items())
    return f"The real track's files in {place} cannot be used ({said}): `{COMMAND}` replaces what is wrong."


def require(part: str, folder: Path | None = None) -> Path:
    """Return the folder of a part.

    Raises:
        UserError: when the part is missing, damaged or from another version; names the command that downloads it.
    """
    folder = folder or real_folder()
    said = trouble([part], folder)
    if said:
        raise UserError(said)
    return folder / part


def model_folder(role: str, folder: Path | None = None) -> Path:
    """Return the folder of the model for a role, as `from_pretrained` takes it.

    Args:
        role: "encoder" (MiniLM), "decoder" or "instruct" (both are SmolLM2-135M-Instruct).

    Raises:
        UserError: when the files are missing or damaged.
    """
    return require(MODEL_PARTS[choose("role", role, MODEL_PARTS)], folder)


def gguf_file(folder: Path | None = None) -> Path:
    """Return the path of the decoder's published GGUF file with Q4_1 weights.

    Raises:
        UserError: when the file is missing or damaged.
    """
    return require("gguf", folder) / PARTS["gguf"][0]


def dataset(role: str, folder: Path | None = None) -> DatasetDict:
    """Return rated sentences with the columns of this role, in the splits that `data/real_card.md` describes.

    Args:
        role: "reviews" (text, label, rating, id), "topics" (same columns) or "corpus" (text, domain).

    Raises:
        UserError: when there is no such role, or the files are missing or damaged.
    """
    from datasets import Dataset, DatasetDict
    from pyarrow import parquet

    choose("role", role, DATASETS)
    place = require("texts", folder) / role
    # Read into memory, because `datasets` would cache a copy by file name and not notice when a file was rebuilt.
    return DatasetDict({split: Dataset(parquet.read_table(place / f"{split}.parquet")) for split in DATASETS[role]})
