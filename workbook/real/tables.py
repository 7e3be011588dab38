"""Writes the datasets of the real track as Parquet files, in the form of `data/microworld`."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from statistics import mean

from datasets import ClassLabel, Dataset, Features, Value
from pyarrow import parquet

from helpers.real import DATASETS
from helpers.runtime import UserError
from workbook.real.sources import RATED_ARCHIVE, RATED_FILES, RATINGS_FILES
from workbook.real.texts import (
    CLASSES,
    SOURCES,
    Sentence,
    Sizes,
    Tables,
    read_sentences,
    tables,
    without_near_duplicates,
)

COUNTS = "counts.json"


def write_texts(members: Mapping[str, bytes], folder: Path, parts: Path) -> None:
    """Build the part `texts` from the source distribution's members.

    Raises:
        UserError: the archive inside the distribution does not have the expected content.
    """
    by_name = {PurePosixPath(name).name: content for name, content in members.items()}
    archive = by_name.pop(RATED_ARCHIVE)
    sentences, ratings = read_rated(archive, RATED_FILES), read_rated(archive, RATINGS_FILES)
    for name, content in by_name.items():
        (folder / name).write_bytes(content)
    every = [one for source in SOURCES for one in read_sentences(source, sentences[source])]
    kept, dropped = without_near_duplicates(every)
    counts: dict[str, dict[str, int]] = {}
    for source in SOURCES:
        counts[source] = {"rated": sum(one.source == source for one in every)}
        counts[source] |= raters(ratings[source], [one for one in every if one.source == source])
        counts[source] |= {reason: count for (of, reason), count in sorted(dropped.items()) if of == source}
        counts[source]["kept"] = sum(one.source == source for one in kept)
    write_tables(tables(kept, Sizes()), folder)
    (folder / COUNTS).write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


def read_rated(content: bytes, names: Mapping[str, str]) -> dict[str, bytes]:
    """Source -> the bytes of its file in the archive.

    Raises:
        UserError: a file is missing, or the archive is damaged.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            files = {source: archive.extractfile(name) for source, name in names.items()}
            return {source: file.read() for source, file in files.items() if file}
    except (KeyError, tarfile.TarError, EOFError) as error:
        raise UserError(f"{RATED_ARCHIVE} does not hold the rated sentences: {error}.") from None


def raters(content: bytes, sentences: Sequence[Sentence]) -> dict[str, int]:
    """The fewest and most raters of a sentence, and how many published means differ from the mean of the ratings."""
    means, numbers = {one.number: one.rating for one in sentences}, []
    other = 0
    for line in content.decode("utf-8-sig").removesuffix("\n").split("\n"):
        number, _, _, single = line.split("\t")
        given = json.loads(single)
        numbers.append(len(given))
        other += abs(mean(given) - means[number]) > 0.01
    return {"fewest raters": min(numbers), "most raters": max(numbers), "other means": other}


def write_tables(found: Tables, folder: Path) -> None:
    """Write one Parquet file per role and split, and the README that `datasets.load_dataset(folder, role)` reads."""
    lines = ["---", "configs:"]
    for role, splits in DATASETS.items():
        lines += [f"- config_name: {role}", "  data_files:"]
        (folder / role).mkdir()
        for split in splits:
            rows = found[role][split]
            columns = {name: [row[name] for row in rows] for name in features(role)}
            made = Dataset.from_dict(columns, features=features(role))
            parquet.write_table(made.data.table, folder / role / f"{split}.parquet")
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
