"""Writes `data/real_card.md`: what the real track's texts are, with counts that are computed from the fetched files.

Run it after `workbook real`: `python -m workbook.real.card`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from datasets import Dataset, DatasetDict

from helpers.evaluation import bag_of_words, majority
from helpers.files import write_text
from helpers.paths import ROOT
from helpers.real import DATASETS, dataset, require
from workbook.real.sources import DECODER, ENCODER, SENTENCES
from workbook.real.tables import COUNTS
from workbook.real.texts import CLASSES, CLEAR, PASSAGE, RUN, SOURCES

CARD = ROOT / "data" / "real_card.md"
LABELS = 2000  # training rows of the baseline, as in lesson 02

HEAD = """\
# The real track's data

Rated sentences in English, fetched by `workbook real` from the package {package} {version} and never committed.
`python -m workbook.real.card` writes this page; [docs/real.md](../docs/real.md) says how to use the data.

## Where the sentences come from

C. J. Hutto and E. Gilbert (2014), *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text*,
ICWSM: sentences of four sources, each rated by {fewest} people or more from -4 (very negative) to +4 (very positive).
The package contains their mean rating per sentence.

- **films**: review sentences that B. Pang and L. Lee collected (2005, *Seeing Stars*, ACL; the description in the
  package names their paper of 2004).
- **products**: sentences of customer reviews, collected by M. Hu and B. Liu (2004).
- **editorials**: sentences of newspaper opinion pages.
- **tweets**: short messages, 200 of them invented by the authors; user names and addresses are replaced.

Licence: MIT, as the package states (`LICENSE.txt` beside the fetched files). The sentences themselves were written by
reviewers, journalists and users who were not asked. Use them for learning and measuring, and do not publish them again.

## From rated sentences to rows

1. HTML entities are decoded and runs of white space become one space. Nothing else is changed.
2. Near-duplicates of an earlier sentence are removed, over all sources: the same set of words (lower case, without
   punctuation), or {run} consecutive words in common. So no near-duplicates are left, in one split or across two.
3. A hash decides the split: of the sentence's words for films and tweets, of the document for products and editorials.
   It holds for `reviews`, `topics`, and `train` and `validation` of `corpus`, so no role trains on another's test rows.
"""


def card() -> str:
    """The text of the data card.

    Raises:
        UserError: the real track's files are missing or damaged.
    """
    counts = json.loads((require("texts") / COUNTS).read_text(encoding="utf-8"))
    found = {role: dataset(role) for role in DATASETS}
    fewest = min(own["fewest raters"] for own in counts.values())
    head = HEAD.format(package=SENTENCES.package, version=SENTENCES.version, run=RUN, fewest=fewest)
    parts = [head, sources(counts), labelled("reviews", found["reviews"], CLASSES, ABOUT_REVIEWS)]
    parts += [labelled("topics", found["topics"], SOURCES, ABOUT_TOPICS), corpus(found["corpus"])]
    other_means = sum(own["other means"] for own in counts.values())
    parts += [baselines(found), LIMITS.format(other_means=other_means), pins()]
    return "\n".join(parts)


ABOUT_REVIEWS = (
    f"Film sentences with a mean rating of at least {CLEAR} or at most -{CLEAR}; the label is its sign. The columns "
    "are `text`, `label`, `rating` (the mean rating) and `id` (the source and the number in its file)."
)
ABOUT_TOPICS = (
    "Which source does a sentence come from? All have equally many rows, with neutral sentences. The columns are "
    "those of `reviews`."
)
LIMITS = """\
## Limits

- Which film a sentence is about is not known, so sentences about one film may stand on both sides of a split.
- The texts are older than the models. Whether MiniLM or SmolLM2 read some of them in pretraining is not known.
- Ratings are opinions of online raters on sentences without context; sentences near 0 are left out of `reviews`.
- For {other_means} sentences the published mean is not the mean of the single ratings. The published one is used.
- The editorials and tweets are about real people, and some are rude.
"""


def sources(counts: dict[str, dict[str, int]]) -> str:
    """A table with the numbers of rated, removed and kept sentences."""
    reasons = ("rated", "same words", "shared run", "no words", "kept")
    rows = []
    for source, own in counts.items():
        raters = f"{own['fewest raters']} to {own['most raters']}"
        rows.append([source, raters, *(f"{own.get(reason, 0):,}" for reason in reasons)])
    total = [f"{sum(own.get(reason, 0) for own in counts.values()):,}" for reason in reasons]
    return table(["source", "raters", *reasons], [*rows, ["all", "", *total]])


def labelled(role: str, splits: DatasetDict, names: Sequence[str], about: str) -> str:
    """The section of a role with labels: rows per split and class, length and rating."""
    rows = []
    for split, own in splits.items():
        by_class = Counter(own["label"])
        shares = [f"{by_class[label]:,}" for label in range(len(names))]
        rows.append([str(split), f"{len(own):,}", *shares, f"{length(own):.1f}", f"{mean(own['rating']):+.2f}"])
    head = ["split", "rows", *names, "words per row", "mean rating"]
    return f"## `{role}`\n\n{about}\n\n{table(head, rows)}"


def corpus(splits: DatasetDict) -> str:
    """The section of the running texts: rows per split and domain."""
    about = (
        f"Running text, with the columns `text` and `domain`. Up to {PASSAGE} sentences that follow each other in a "
        "document stand together. `validation` takes rows that no role trains on. The split `newcomer` has all tweets, "
        "for a model to meet a new domain; the tweets that `topics` tests on come first."
    )
    rows = []
    for split, own in splits.items():
        by_domain = Counter(own["domain"])
        rows.append([str(split), f"{len(own):,}", *(f"{by_domain[name]:,}" for name in SOURCES), f"{length(own):.1f}"])
    return f"## `corpus`\n\n{about}\n\n{table(['split', 'rows', *SOURCES, 'words per row'], rows)}"


def length(rows: Dataset) -> float:
    """The average number of words per row, separated by white space."""
    return mean(len(text.split()) for text in rows["text"])


def baselines(found: dict[str, DatasetDict]) -> str:
    """The section with the accuracy of a bag of words."""
    rows = []
    for role in ("reviews", "topics"):
        learned, tested = found[role]["train"].select(range(LABELS)), found[role]["test"]
        right = bag_of_words(learned["text"], learned["label"]).predict(tested["text"]) == tested["label"]
        most = majority(learned["label"])
        rows.append([f"`{role}`", f"{mean(label == most for label in tested['label']):.3f}", f"{right.mean():.3f}"])
    about = f"Accuracy on the test rows, from the first {LABELS:,} training rows:"
    return f"## What counting words reaches\n\n{about}\n\n{table(['role', 'majority class', 'bag of words'], rows)}"


def pins() -> str:
    """The section with the packages, versions and hashes."""
    rows = [
        [f"{archive.package} {archive.version}", str(archive.megabytes), f"`{archive.sha256}`"]
        for archive in (ENCODER, DECODER, SENTENCES)
    ]
    return f"## What is fetched\n\n{table(['package', 'MB', 'SHA-256'], rows)}"


def table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main(path: Path = CARD) -> None:
    """Write the card."""
    write_text(path, card())
    print(f"{path} is written.")


if __name__ == "__main__":
    main()
