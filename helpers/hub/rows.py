"""The hub's datasets in our columns, small enough for a lesson: the seed decides which rows.

Where a lesson needs an exact judge, the micro-world's rows are there as well: nobody knows the one right answer to an
open question. They keep their `film`; rows from the hub have none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets, load_dataset

from helpers.hub.fetch import fetch
from helpers.hub.names import DATASETS, HubDataset
from helpers.runtime import UserError

HELD_OUT = 2000  # rows for validation, and as many for the test, at most
LEARNED = 4000  # pairs, and instructions, to learn from at most; labelled rows are drawn by the lessons
PIECES = 180  # of text in one conversation: more would not fit a context of 256 tokens
PIECE = re.compile(r"\d|[^\W\d]{1,4}|[^\w\s]")  # about as fine as any tokenizer cuts
BREAK = re.compile(r"<br\s*/?>")


def labelled(role: str, seed: int) -> DatasetDict:
    """Reviews or topics: `text` and `label`, in train, validation and test."""
    about = DATASETS[role]
    found = loaded(about)
    parts = found["train"].train_test_split(test_size=0.1, seed=seed)
    split = {"train": parts["train"], "validation": parts["test"], "test": found["test"]}
    names = ClassLabel(names=list(about.classes))

    def ours(rows: Dataset) -> Dataset:
        rows = rows.map(lambda row: {"text": BREAK.sub(" ", row["text"])})
        return rows.select_columns(["text", "label"]).cast(Features({"text": Value("string"), "label": names}))

    return DatasetDict({
        name: ours(rows if name == "train" else drawn(rows, HELD_OUT, seed)) for name, rows in split.items()
    })  # fmt: skip


def instructions(seed: int, world: DatasetDict) -> DatasetDict:
    """Dolly's questions, `known` "open" since nobody can check an answer to the letter, among the micro-world's."""

    def ours(row: Mapping) -> dict[str, str]:
        prompt = f"{row['instruction']}\n{row['context']}".strip()
        text = {"prompt": prompt, "completion": row["response"].strip(), "kind": row["category"]}
        return text | {"film": "", "known": "open"}

    return joined(loaded(DATASETS["instructions"])["train"].map(ours), world, seed)


def preferences(seed: int, world: DatasetDict) -> DatasetDict:
    """UltraFeedback's pairs, `reason` "rated", among the micro-world's."""

    def ours(row: Mapping) -> dict[str, str]:
        turns = {"prompt": row["chosen"][0]["content"].strip()}
        turns |= {side: row[side][-1]["content"].strip() for side in ("chosen", "rejected")}
        return turns | {"reason": "rated", "film": ""}

    found = loaded(DATASETS["preferences"])
    rows = concatenate_datasets([found["train"], found["test"]])
    rows = rows.filter(lambda row: len(row["chosen"]) == len(row["rejected"]) == 2)  # one question, one answer
    rows = rows.map(ours, remove_columns=rows.column_names)
    return joined(rows.filter(lambda row: row["chosen"] != row["rejected"]), world, seed)


def joined(rows: Dataset, world: DatasetDict, seed: int) -> DatasetDict:
    """Rows that fit a context, drawn and dealt out to the splits of the micro-world, then shuffled among its rows.

    There are never more of them in a split than of the micro-world's.
    """
    columns = world["train"].column_names
    texts = [name for name in columns if name in ("prompt", "completion", "chosen", "rejected")]
    sides = [name for name in texts if name != "prompt"]
    fitting = rows.filter(lambda row: all(row[name] for name in texts) and max(
        pieces(f"{row['prompt']} {row[side]}") for side in sides) <= PIECES)  # fmt: skip
    print(f"{len(rows):,} rows join the micro-world's, but for {len(rows) - len(fitting):,} that are too long.")
    print("Nobody knows the one right answer to them, so what is judged exactly are the micro-world's rows alone.")
    if len(fitting) < 10:
        raise UserError(f"data: only {len(fitting)} of {len(rows)} rows are short enough; at least 10 are needed.")
    fitting, tenth = fitting.select_columns(columns).shuffle(seed=seed), len(fitting) // 10
    dealt = {"test": range(tenth), "validation": range(tenth, 2 * tenth), "train": range(2 * tenth, len(fitting))}
    result = {}
    for split, own in world.items():
        most = min(len(own), LEARNED, len(dealt[split]))
        taken = fitting.select(dealt[split][:most]).cast(own.features)
        result[split] = concatenate_datasets([taken, own]).shuffle(seed=seed)
    return DatasetDict(result)


def corpus(seed: int) -> DatasetDict:
    """Texts with their domain: reviews and news, and answers to instructions as the newcomer."""
    found = {"reviews": labelled("reviews", seed), "news": labelled("topics", seed)}

    def texts(split: str, most: int) -> Dataset:
        parts = [(domain, drawn(rows[split], most, seed)["text"]) for domain, rows in found.items()]
        pairs = [(text, domain) for domain, part in parts for text in part]
        return Dataset.from_dict({"text": [text for text, _ in pairs], "domain": [domain for _, domain in pairs]})

    answers = drawn(loaded(DATASETS["instructions"])["train"], HELD_OUT, seed)["response"]
    newcomer = Dataset.from_dict({"text": list(answers), "domain": ["answers"] * len(answers)})
    return DatasetDict({
        "train": texts("train", 5 * HELD_OUT), "validation": texts("validation", HELD_OUT // 4), "newcomer": newcomer,
    })  # fmt: skip


def pieces(text: str) -> int:
    """An upper estimate of the tokens that a text takes, whatever the tokenizer."""
    return sum(1 for _ in PIECE.finditer(text))


def drawn(rows: Dataset, most: int, seed: int) -> Dataset:
    """All rows, or as many as `most` of them, drawn by the seed."""
    return rows if len(rows) <= most else rows.shuffle(seed=seed).select(range(most))


def loaded(about: HubDataset) -> DatasetDict:
    """The dataset as it lies on the hub, its columns checked.

    Raises:
        UserError: it cannot be fetched, or its columns are others than known here.
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

    The folder may hold more than was fetched for us: the cache is shared with whoever else loaded this dataset.
    """
    for kind, pattern in (("parquet", "*.parquet"), ("json", "*.jsonl")):
        paths = sorted(
            path
            for path in folder.rglob(pattern)
            if any(fnmatch(path.relative_to(folder).as_posix(), wanted) for wanted in patterns)
        )
        if paths:
            tests = [str(path) for path in paths if "test" in path.name]
            files = {"train": [str(path) for path in paths if "test" not in path.name], "test": tests}
            return load_dataset(kind, data_files={split: found for split, found in files.items() if found})
    raise UserError(f"data: {folder.name} holds no Parquet or JSON Lines file; choose another dataset.")
