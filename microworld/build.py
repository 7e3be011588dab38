"""Generate the whole micro-world: `python -m microworld.build [folder]`. The same code writes the same bytes."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, List, Value

from microworld.corpus import Splits, corpus, library
from microworld.films import Film
from microworld.grammar import Speaker
from microworld.instructions import CARELESS, SKILLS, all_facts, ask_line, ask_skill, preference
from microworld.reviews import Reviewer, Style, speaker
from microworld.texts import TOPICS, clozes, item
from microworld.world import World, generator, shuffled

LABEL_NOISE = 0.02
# The labelled reviews are about films that the corpus never names. They are longer than the corpus's reviews, and their
# sentences that do not count contradict the verdict more often.
REVIEW_STYLE = Style(
    counted=(9, 1, 1, 0.4, 0.4, 0.4),
    own=(0, 0.1, 0.35, 0.4, 0.15),
    aside=(0.65, 0.28, 0.07),
    against=0.7,
    mixed=0.1,
    verdict=0.5,
    noise=LABEL_NOISE,
)
REVIEW_ROWS = {"train": 8_000, "validation": 1_500, "test": 2_000}
TOPIC_ROWS = {"train": 8_000, "validation": 1_000, "test": 2_000}


def reviews(world: World) -> Splits:
    """Return labelled reviews. The splits share no film."""
    rng = generator("reviews")
    critic = Reviewer(REVIEW_STYLE, rng, world.fresh)
    films = {"train": world.fresh[:200], "validation": world.fresh[200:240], "test": world.fresh[240:300]}
    return {
        split: [_labelled(critic, critic.voice.pick(films[split])) for _ in range(count)]
        for split, count in REVIEW_ROWS.items()
    }


def _labelled(critic: Reviewer, film: Film) -> dict:
    review = critic.write(film)
    clean = int(review.polarity > 0)
    wrong = critic.voice.chance(critic.style.noise)
    return {
        "text": review.text,
        "label": clean ^ wrong,
        "film": film.title,
        "phenomena": list(review.phenomena),
        "misleading": list(review.misleading),
        "clean_label": clean,
    }


def topics(world: World) -> Splits:
    """Return news items in AG News's four classes."""
    rng = generator("topics")
    voice = speaker(rng)
    splits: Splits = {}
    for split, count in TOPIC_ROWS.items():
        labels = [int(rng.random() * 4) for _ in range(count)]
        splits[split] = [{"text": item(voice, label), "label": label} for label in labels]
    return splits


def instructions(world: World) -> Splits:
    """Return questions about facts, small tasks and requests for a line.

    The column `known` says whether training asks for a fact (`trained`), only tells it (`told`) or neither (`untold`).
    """
    rng = generator("instructions")
    voice = speaker(rng)
    half = len(world.silent) // 2
    asked = {
        "train": [(world.asked + world.talked + world.shelved[:300], "trained", 1)],
        "validation": [(world.silent[:half], "told", 1)],
        "test": [(world.silent[half:], "told", 1), (world.fresh[300:], "untold", 1)],
    }
    skills = {"train": 3_000, "validation": 300, "test": 600}
    lines = {"train": (world.told[:180], 1_500, CARELESS), "validation": (world.told[180:210], 100, {})}
    lines["test"] = (world.told[210:], 200, {})
    splits: Splits = {}
    for split, groups in asked.items():
        rows = [dict(row, known=known) for films, known, times in groups for row in all_facts(voice, films, times)]
        pool = world.passing if split == "train" else world.fresh
        rows += [
            dict(ask_skill(voice, voice.pick(pool), voice.pick(SKILLS)), known="skill") for _ in range(skills[split])
        ]
        wished, count, careless = lines[split]
        rows += [
            dict(ask_line(voice, *_two(voice, wished), careless), known="careless" if careless else "open")
            for _ in range(count)
        ]
        splits[split] = shuffled(rows, rng)
    return splits


def preferences(world: World) -> Splits:
    """Return pairs of answers to a request. The splits share no film."""
    rng = generator("preferences")
    voice = speaker(rng)
    parts = {
        "train": (world.told[:180], 4_000),
        "validation": (world.told[180:210], 400),
        "test": (world.told[210:], 800),
    }
    return {
        split: [preference(voice, *_two(voice, films)) for _ in range(count)] for split, (films, count) in parts.items()
    }


def _two(voice: Speaker, films: list[Film]) -> tuple[Film, Film]:
    """Draw two different films."""
    film, other = voice.pick(films), voice.pick(films)
    while other == film:
        other = voice.pick(films)
    return film, other


def facts(world: World) -> Splits:
    """Return every fact of the corpus's films as a text to complete."""
    return {"test": [row for film in world.told for row in clozes(film)]}


CONFIGS: dict[str, Callable[[World], Splits]] = {
    "corpus": corpus,
    "library": library,
    "topics": topics,
    "reviews": reviews,
    "instructions": instructions,
    "preferences": preferences,
    "facts": facts,
}
TEXT = Value("string")
FEATURES = {
    "corpus": Features({"text": TEXT, "domain": TEXT}),
    "library": Features({"text": TEXT, "domain": TEXT}),
    "topics": Features({"text": TEXT, "label": ClassLabel(names=list(TOPICS))}),
    "reviews": Features(
        {
            "text": TEXT,
            "label": ClassLabel(names=["negative", "positive"]),
            "film": TEXT,
            "phenomena": List(TEXT),
            "misleading": List(TEXT),
            "clean_label": Value("int64"),
        }
    ),
    "instructions": Features(dict.fromkeys(("prompt", "completion", "kind", "film", "known"), TEXT)),
    "preferences": Features(dict.fromkeys(("prompt", "chosen", "rejected", "reason", "film"), TEXT)),
    "facts": Features(dict.fromkeys(("prompt", "answer", "film", "kind"), TEXT)),
}


def write(folder: Path) -> dict[str, str]:
    """Write every split as compressed Parquet, and SHA256SUMS. Return the sums by path relative to the folder."""
    world, sums = World(), {}
    for config, make in CONFIGS.items():
        for split, rows in make(world).items():
            path = folder / config / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pylist(rows, schema=FEATURES[config].arrow_schema)
            pq.write_table(table, path, compression="zstd", compression_level=19)
            sums[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
            print(f"{config}/{split}: {len(rows):,} rows, {path.stat().st_size:,} bytes", flush=True)
    (folder / "SHA256SUMS").write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
    return sums


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "data/microworld"))
