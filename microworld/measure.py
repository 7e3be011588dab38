"""Measure the micro-world and write `data/README.md` and the dataset card: `python -m microworld.measure`."""

from __future__ import annotations

import hashlib
import lzma
import random
import re
from pathlib import Path

import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from helpers.paths import ROOT
from microworld.build import CONFIGS, LABEL_NOISE
from microworld.world import SEED

DATA = ROOT / "data"
CHARACTERS, LABELS = 300_000, 2_000
CARD_NOTES = {
    "corpus": "pretraining text by `domain`; `newcomer` holds a domain that pretraining never sees",
    "library": "more pretraining text, for the decoder: 600 more films, questions about them, and short readings",
    "topics": "news items in AG News's four classes",
    "reviews": "film reviews with IMDB's columns, and what the generator did",
    "instructions": "prompts with one right answer (`known`: whether training contains it), and requests for a line",
    "preferences": "a request, an answer that satisfies it, one that does not, and the reason",
    "facts": "every fact that the corpus tells of its films, as a text to complete",
}


def read(config: str, split: str) -> list[dict]:
    """The rows of one split."""
    return pq.read_table(DATA / "microworld" / config / f"{split}.parquet").to_pylist()


def text_figures(texts: list[str]) -> dict[str, float]:
    """Measure the variety of the first 300,000 characters, and the share of duplicates among all texts."""
    sample = "\n".join(texts)[:CHARACTERS]
    words = re.findall(r"[a-z']+", sample.lower())
    grams = [tuple(words[at : at + 4]) for at in range(len(words) - 3)]
    packed = lzma.compress(sample.encode(), preset=9 | lzma.PRESET_EXTREME)
    return {
        "word_types": len(set(words)),
        "distinct_4_grams": len(set(grams)) / len(grams),
        "xz_share": len(packed) / len(sample.encode()),
        "duplicates": 1 - len(set(texts)) / len(texts),
    }


def bag_of_words(train: list[dict], test: list[dict]) -> float:
    """Return the test accuracy of logistic regression on tf-idf features of words and word pairs."""
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
    )
    model.fit([row["text"] for row in train], [row["label"] for row in train])
    return float(model.score([row["text"] for row in test], [row["label"] for row in test]))


def figures() -> dict[str, float]:
    """Return every figure that the data page reports."""
    train, test = read("reviews", "train"), read("reviews", "test")
    wrong = sum(row["label"] != row["clean_label"] for row in train + test) / len(train + test)
    return text_figures([row["text"] for row in train]) | {
        "bag_of_words": bag_of_words(train[:LABELS], test),
        "label_noise": wrong,
        "positive": sum(row["label"] for row in test) / len(test),
    }


def data_page() -> str:
    """Return the text of `data/README.md`: the figures, samples drawn at random, and a table of all files."""
    found, rng = figures(), random.Random(0)

    def draw(rows: list[dict], count: int) -> list[dict]:
        return [rows[int(rng.random() * len(rows))] for _ in range(count)]

    reviews = "\n".join(
        f"{n}. ({('negative', 'positive')[row['label']]}) {row['text']}"
        for n, row in enumerate(draw(read("reviews", "train"), 30), 1)
    )
    pairs = "\n".join(
        f"- **{row['prompt']}** {row['completion']} *({row['kind']}, {row['known']})*"
        for row in draw(read("instructions", "train"), 10)
    )
    choices = "\n".join(
        f"- **{row['prompt']}** chosen: {row['chosen']} - rejected: {row['rejected']} *({row['reason']})*"
        for row in draw(read("preferences", "train"), 10)
    )
    return template("data.md").format(
        reviews=reviews, instructions=pairs, preferences=choices, files=file_table(), noise=LABEL_NOISE, **found
    )


def template(name: str) -> str:
    """Return a page template, whose fields `str.format` fills."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def file_table() -> str:
    """Return a Markdown table of all data files but the fetched ones (`data/real`): path, bytes, SHA-256."""
    pages, fetched = ("README.md", "SHA256SUMS"), DATA / "real"
    paths = sorted(path for path in DATA.rglob("*") if path.is_file() and path.name not in pages)
    paths = [path for path in paths if fetched not in path.parents]
    rows = []
    for path in paths:
        content = path.read_bytes()
        name, digest = path.relative_to(DATA).as_posix(), hashlib.sha256(content).hexdigest()
        rows.append(f"| `{name}` | {len(content):,} | `{digest}` |")
    return "\n".join(["| file | bytes | sha256 |", "|---|---|---|", *rows])


def card() -> str:
    """Return the dataset card, with the configs that `load_dataset` reads and a table of sizes."""
    configs, table = [], ["| config | split | rows | bytes | what it is |", "|---|---|---|---|---|"]
    for config in CONFIGS:
        splits = sorted((DATA / "microworld" / config).glob("*.parquet"), key=lambda path: ORDER.index(path.stem))
        lines = "".join(f"  - split: {path.stem}\n    path: {config}/{path.name}\n" for path in splits)
        configs.append(f"- config_name: {config}\n  data_files:\n{lines}")
        for path in splits:
            rows = pq.read_metadata(path).num_rows
            table.append(f"| {config} | {path.stem} | {rows:,} | {path.stat().st_size:,} | {CARD_NOTES[config]} |")
    sums = (DATA / "microworld" / "SHA256SUMS").read_text()
    return template("card.md").format(
        configs="".join(configs), table="\n".join(table), sums=sums, noise=LABEL_NOISE, seed=SEED
    )


ORDER = ("train", "validation", "test", "newcomer")


def main() -> None:
    (DATA / "microworld" / "README.md").write_text(card())
    (DATA / "README.md").write_text(data_page())
    print("\n".join(f"{name}: {value:.4f}" for name, value in figures().items()))


if __name__ == "__main__":
    main()
