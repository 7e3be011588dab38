"""Converts the hub's datasets to the workbook's columns and samples them by seed to a lesson's size.

Open questions from the hub have no single right answer. For lessons that need an exact check, the datasets therefore
also contain the micro-world's rows. The micro-world's rows have a `film`; for rows from the hub it is empty.
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

HELD_OUT = 2000  # maximum rows of the validation split, and of the test split
LEARNED = 4000  # maximum training pairs or instructions; for labelled rows, the lessons choose the number
PIECES = 180  # maximum of `pieces` in one conversation, so that it fits a context of 256 tokens
PIECE = re.compile(r"\d|[^\W\d]{1,4}|[^\w\s]")  # about as short as the tokens of any tokenizer
BREAK = re.compile(r"<br\s*/?>")
TABLES = ("*.parquet", "*.jsonl", "*.csv")
# General knowledge, to test what a model from the hub knows.
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
    """A dataset on the hub. files: patterns of the files to download; columns: the column names on the hub."""

    name: str
    licence: str
    rows: str
    megabytes: int
    columns: tuple[str, ...]
    files: tuple[str, ...]
    classes: tuple[str, ...] = ()
    revision: str | None = None


def labelled_texts(about: HubDataset, seed: int) -> DatasetDict:
    """Return reviews or topics with the columns `text` and `label`, split into train, validation and test."""
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
    """Mix Dolly's questions with the micro-world's. Dolly's get `known` "open": their answers have no exact check."""

    def ours(row: Mapping) -> dict[str, str]:
        prompt = f"{row['instruction']}\n{row['context']}".strip()
        text = {"prompt": prompt, "completion": row["response"].strip(), "kind": row["category"]}
        return text | {"film": "", "known": "open"}

    return join_world(load(about)["train"].map(ours), world, seed)


def preferences(about: HubDataset, seed: int, world: DatasetDict) -> DatasetDict:
    """Mix UltraFeedback's pairs with the micro-world's; UltraFeedback's pairs get the `reason` "rated"."""

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
    """Keep the hub's rows that fit the context and mix them with the micro-world's, as in `deal_out`."""
    texts = [name for name in world["train"].column_names if name in ("prompt", "completion", "chosen", "rejected")]
    sides = [name for name in texts if name != "prompt"]
    fitting = rows.filter(lambda row: all(row[name] for name in texts) and max(
        pieces(f"{row['prompt']} {row[side]}") for side in sides) <= PIECES)  # fmt: skip
    if len(fitting) < 10:
        raise UserError(f"data: only {len(fitting)} of {len(rows)} rows are short enough; at least 10 are needed.")
    print(f"{len(rows) - len(fitting):,} of {len(rows):,} rows are too long and are left out.")
    return deal_out(fitting, world, seed)


def deal_out(rows: Dataset, world: DatasetDict, seed: int) -> DatasetDict:
    """Distribute random rows over the micro-world's splits and shuffle them among its rows.

    A split gets at most as many of them as it has micro-world rows, so that a model learns both kinds.
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
    """Return texts with their domain: reviews and news, and answers to instructions as the new domain."""
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
    """Return general facts as the split `world` (prompt, answer, empty film, kind), and the micro-world's splits."""
    found = [(f"The capital of {land} is", city, "capital") for land, city in CAPITALS.items()]
    found += [(f"The chemical symbol for {name} is", symbol, "symbol") for name, symbol in SYMBOLS.items()]
    rows = [{"prompt": prompt, "answer": answer, "film": "", "kind": kind} for prompt, answer, kind in found]
    return DatasetDict({"world": Dataset.from_list(rows), **world})


def pieces(text: str) -> int:
    """Return an upper estimate of a text's number of tokens, for any tokenizer."""
    return sum(1 for _ in PIECE.finditer(text))


def sample(rows: Dataset, most: int, seed: int) -> Dataset:
    """Return all rows, or a random sample of `most` rows if there are more."""
    return rows if len(rows) <= most else rows.shuffle(seed=seed).select(range(most))


def load(about: HubDataset) -> DatasetDict:
    """Return the dataset with its original columns, and check that the expected ones exist.

    Raises:
        UserError: the dataset cannot be downloaded, or lacks a column that `HubDataset.columns` names.
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
    """Load a folder's matching Parquet or JSON Lines files. Files with "test" in their name become the test split.

    The patterns matter because other programs share the cache and may have downloaded more files to this folder.
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
    """Download a dataset that the learner chose, and return the folder of its table files.

    Raises:
        UserError: the dataset cannot be downloaded, or has table files in more than one folder.
    """
    folder = fetch(name, "dataset", TABLES)
    folders = sorted({path.parent for pattern in TABLES for path in folder.rglob(pattern)})
    if len(folders) > 1:
        named = ", ".join(str(found.relative_to(folder)) for found in folders[:5])
        raise UserError(f"data: {name} holds several sets ({named}); download one of them and give its folder.")
    return folders[0]
