"""Writes the datasets of the real track as Parquet files, in the form of `data/microworld`."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from datasets import ClassLabel, Dataset, Features, Value

from helpers.real import DATASETS
from helpers.runtime import UserError
from workbook.real.sources import RATED_ARCHIVE, RATED_FILES
from workbook.real.texts import CLASSES, SOURCES, Sizes, Tables, read_sentences, tables, without_near_duplicates

COUNTS = "counts.json"


def write_texts(members: Mapping[str, bytes], folder: Path, parts: Path) -> None:
    """Build the part `texts` from the source distribution's members.

    Raises:
        UserError: the archive inside is not as expected.
    """
    by_name = {PurePosixPath(name).name: content for name, content in members.items()}
    sentences = read_rated(by_name.pop(RATED_ARCHIVE))
    for name, content in by_name.items():
        (folder / name).write_bytes(content)
    every = [one for source in SOURCES for one in read_sentences(source, sentences[source])]
    kept, dropped = without_near_duplicates(every)
    counts: dict[str, dict[str, int]] = {}
    for source in SOURCES:
        counts[source] = {"rated": sum(one.source == source for one in every)}
        counts[source] |= {reason: count for (of, reason), count in sorted(dropped.items()) if of == source}
        counts[source]["kept"] = sum(one.source == source for one in kept)
    write_tables(tables(kept, Sizes()), folder)
    (folder / COUNTS).write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


def read_rated(content: bytes) -> dict[str, bytes]:
    """Source -> the bytes of its file of rated sentences.

    Raises:
        UserError: a file is missing, or the archive is damaged.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            files = {source: archive.extractfile(name) for source, name in RATED_FILES.items()}
            return {source: file.read() for source, file in files.items() if file}
    except (KeyError, tarfile.TarError, EOFError) as error:
        raise UserError(f"{RATED_ARCHIVE} does not hold the rated sentences: {error}.") from None


def write_tables(found: Tables, folder: Path) -> None:
    """One Parquet file per role and split, and the README that `datasets.load_dataset(folder, role)` reads."""
    lines = ["---", "configs:"]
    for role, splits in DATASETS.items():
        lines += [f"- config_name: {role}", "  data_files:"]
        (folder / role).mkdir()
        for split in splits:
            rows = found[role][split]
            columns = {name: [row[name] for row in rows] for name in features(role)}
            Dataset.from_dict(columns, features=features(role)).to_parquet(folder / role / f"{split}.parquet")
            lines += [f"  - split: {split}", f"    path: {role}/{split}.parquet"]
    lines += ["---", "", "Rated sentences of Hutto and Gilbert (2014): see data/real_card.md of the workbook.", ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def features(role: str) -> Features:
    """The columns of a role."""
    text = {"text": Value("string")}
    if role == "corpus":
        return Features(text | {"domain": Value("string")})
    names = list(CLASSES if role == "reviews" else SOURCES)
    return Features(text | {"label": ClassLabel(names=names), "rating": Value("float64"), "id": Value("string")})
