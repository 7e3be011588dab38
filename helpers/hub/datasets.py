"""The hub's datasets in our columns, small enough for a lesson: the seed decides which rows.

Where a lesson needs an exact judge, the micro-world's rows are there as well: nobody knows the one right answer to an
open question. They keep their `film`; rows from the hub have none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets, load_dataset

from helpers.hub.download import fetch
from helpers.runtime import UserError

HELD_OUT = 2000  # rows for validation, and as many for the test, at most
LEARNED = 4000  # pairs, and instructions, to learn from at most; labelled rows are drawn by the lessons
PIECES = 180  # of text in one conversation: more would not fit a context of 256 tokens
PIECE = re.compile(r"\d|[^\W\d]{1,4}|[^\w\s]")  # about as fine as any tokenizer cuts
BREAK = re.compile(r"<br\s*/?>")
TABLES = ("*.parquet", "*.jsonl", "*.csv")
# Facts that everybody agrees on, for the question what a hub model knows.
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Austria": "Vienna", "Poland": "Warsaw", "Hungary": "Budapest", "Greece": "Athens", "Sweden": "Stockholm",
    "Norway": "Oslo", "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin", "Belgium": "Brussels",
    "Russia": "Moscow", "Japan": "Tokyo", "China": "Beijing", "Thailand": "Bangkok", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago", "Canada": "Ottawa",
    "Romania": "Bucharest", "Bulgaria": "Sofia", "Iran": "Tehran", "Iraq": "Baghdad", "Turkey": "Ankara",
}  # fmt: skip
SYMBOLS = {
    "hydrogen": "H", "helium": "He", "carbon": "C", "nitrogen": "N", "oxygen": "O", "sodium": "Na", "iron": "Fe",
    "copper": "Cu", "silver": "Ag", "gold": "Au", "lead": "Pb", "calcium": "Ca", "zinc": "Zn", "tin": "Sn",
}  # fmt: skip


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the hub. files: patterns of what is downloaded; columns: as they are called there."""

    name: str
    licence: str
    rows: str
    megabytes: int
    columns: tuple[str, ...]
    files: tuple[str, ...]
    classes: tuple[str, ...] = ()
    revision: str | None = None


def labelled_texts(about: HubDataset, seed: int) -> DatasetDict:
    """Reviews or topics: `text` and `label`, in train, validation and test."""
    found = load(about)
    cut = found["train"].train_test_split(test_size=0.1, seed=seed)
    splits = {"train": cut["train"], "validation": cut["test"], "test": found["test"]}
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(about.classes))})

    def ours(rows: Dataset) -> Dataset:
        return rows.map(lambda row: {"text": BREAK.sub(" ", row["text"])}).select_columns(list(features)).cast(features)

    return DatasetDict({
        split: ours(rows if split == "train" else sample(rows, HELD_OUT, seed)) for split, rows in splits.items()
    })  # fmt: skip


def instructions(about: HubDataset, seed: int, world: DatasetDict) -> DatasetDict:
    """Dolly's questions, `known` "open" because no exact check of an answer exists, among the micro-world's."""

    def ours(row: Mapping) -> dict[str, str]:
        prompt = f"{row['instruction']}\n{row['context']}".strip()
        text = {"prompt": prompt, "completion": row["response"].strip(), "kind": row["category"]}
        return text | {"film": "", "known": "open"}

    return join_world(load(about)["train"].map(ours), world, seed)


def preferences(about: HubDataset, seed: int, world: DatasetDict) -> DatasetDict:
    """UltraFeedback's pairs, `reason` "rated", among the micro-world's."""

    def ours(row: Mapping) -> dict[str, str]:
        turns = {"prompt": row["chosen"][0]["content"].strip()}
        turns |= {side: row[side][-1]["content"].strip() for side in ("chosen", "rejected")}
        return turns | {"reason": "rated", "film": ""}

    found = load(about)
    rows = concatenate_datasets([found["train"], found["test"]])
    rows = rows.filter(lambda row: len(row["chosen"]) == len(row["rejected"]) == 2)  # one question, one answer
    rows = rows.map(ours, remove_columns=rows.column_names)
    return join_world(rows.filter(lambda row: row["chosen"] != row["rejected"]), world, seed)


def join_world(rows: Dataset, world: DatasetDict, seed: int) -> DatasetDict:
    """Rows of the hub that fit a context, among the micro-world's: see `deal_out`."""
    texts = [name for name in world["train"].column_names if name in ("prompt", "completion", "chosen", "rejected")]
    sides = [name for name in texts if name != "prompt"]
    fitting = rows.filter(lambda row: all(row[name] for name in texts) and max(
        pieces(f"{row['prompt']} {row[side]}") for side in sides) <= PIECES)  # fmt: skip
    if len(fitting) < 10:
        raise UserError(f"data: only {len(fitting)} of {len(rows)} rows are short enough; at least 10 are needed.")
    print(f"{len(rows) - len(fitting):,} of {len(rows):,} rows are too long and are left out.")
    return deal_out(fitting, world, seed)


def deal_out(rows: Dataset, world: DatasetDict, seed: int) -> DatasetDict:
    """Rows drawn and dealt out to the splits of the micro-world, then shuffled among its rows.

    There are never more of them in a split than of the micro-world's, so that both kinds are learned.
    """
    drawn, tenth = rows.select_columns(world["train"].column_names).shuffle(seed=seed), len(rows) // 10
    dealt = {"test": range(tenth), "validation": range(tenth, 2 * tenth), "train": range(2 * tenth, len(rows))}
    result, joined = {}, []
    for split, own in world.items():
        most = min(len(own), LEARNED, len(dealt[split]))
        taken = drawn.select(dealt[split][:most]).cast(own.features)
        result[split] = concatenate_datasets([taken, own]).shuffle(seed=seed)
        joined.append(f"{most:,} in {split}")
    print(
        f"{len(rows):,} rows join the micro-world's: {', '.join(joined)} (never more than the micro-world has there)."
    )
    print("Nobody knows the one right answer to them, so what is judged exactly are the micro-world's rows alone.")
    return DatasetDict(result)


def corpus(reviews: HubDataset, topics: HubDataset, answers: HubDataset, seed: int) -> DatasetDict:
    """Texts with their domain: reviews and news, and answers to instructions as the new domain."""
    found = {"reviews": labelled_texts(reviews, seed), "news": labelled_texts(topics, seed)}

    def texts(split: str, most: int) -> Dataset:
        found_texts = {domain: sample(rows[split], most, seed)["text"] for domain, rows in found.items()}
        pairs = [(text, domain) for domain, part in found_texts.items() for text in part]
        return Dataset.from_dict({"text": [text for text, _ in pairs], "domain": [domain for _, domain in pairs]})

    responses = list(sample(load(answers)["train"], HELD_OUT, seed)["response"])
    return DatasetDict({
        "train": texts("train", 5 * HELD_OUT),
        "validation": texts("validation", HELD_OUT // 4),
        "newcomer": Dataset.from_dict({"text": responses, "domain": ["answers"] * len(responses)}),
    })  # fmt: skip


def facts(world: DatasetDict) -> DatasetDict:
    """General facts as `world`, with the micro-world's columns: prompt, answer, film (empty), kind; then its own."""
    found = [(f"The capital of {land} is", city, "capital") for land, city in CAPITALS.items()]
    found += [(f"The chemical symbol for {name} is", symbol, "symbol") for name, symbol in SYMBOLS.items()]
    rows = [{"prompt": prompt, "answer": answer, "film": "", "kind": kind} for prompt, answer, kind in found]
    return DatasetDict({"world": Dataset.from_list(rows), **world})


def pieces(text: str) -> int:
    """An upper estimate of the tokens that a text takes, whatever the tokenizer."""
    return sum(1 for _ in PIECE.finditer(text))


def sample(rows: Dataset, most: int, seed: int) -> Dataset:
    """All rows, or as many as `most` of them, drawn by the seed."""
    return rows if len(rows) <= most else rows.shuffle(seed=seed).select(range(most))


def load(about: HubDataset) -> DatasetDict:
    """The dataset as it lies on the hub, its columns checked.

    Raises:
        UserError: it cannot be downloaded, or its columns are others than known here.
    """
    found = from_folder(fetch(about.name, "dataset", about.files, about.revision), about.files)
    missing = [name for name in about.columns if name not in found["train"].column_names]
    if missing:
        raise UserError(
            f"data: {about.name} has no column {missing[0]} any more, only {', '.join(found['train'].column_names)}; "
            'use track = "pocket", or a file of your own.'
        )
    return found


def from_folder(folder: Path, patterns: Sequence[str] = ("*",)) -> DatasetDict:
    """A folder's Parquet or JSON Lines files that match; a file's name says its split, else it is for training.

    The folder may hold more than was downloaded for us: the cache is shared with whoever else loaded this dataset.
    """
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [path for path in found if any(fnmatch(path.relative_to(folder).as_posix(), wanted) for wanted in patterns)]
    for builder, ending in (("parquet", ".parquet"), ("json", ".jsonl")):
        paths = [path for path in found if path.suffix == ending]
        if paths:
            files = {
                "train": [str(path) for path in paths if "test" not in path.name],
                "test": [str(path) for path in paths if "test" in path.name],
            }
            return load_dataset(builder, data_files={split: names for split, names in files.items() if names})
    raise UserError(f"data: {folder.name} holds no Parquet or JSON Lines file; choose another dataset.")


def table_folder(name: str) -> Path:
    """A dataset of the learner's choice as a folder of table files.

    Raises:
        UserError: it cannot be downloaded, or holds several sets in folders of their own.
    """
    folder = fetch(name, "dataset", TABLES)
    folders = sorted({path.parent for pattern in TABLES for path in folder.rglob(pattern)})
    if len(folders) > 1:
        named = ", ".join(str(found.relative_to(folder)) for found in folders[:5])
        raise UserError(f"data: {name} holds several sets ({named}); download one of them and give its folder.")
    return folders[0]
