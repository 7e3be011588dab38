"""The committed data is what the generator makes, byte for byte, and holds what its card says."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from microworld import build

DATA = Path(__file__).resolve().parents[2] / "data" / "microworld"
SUMS = dict(reversed(line.split()) for line in (DATA / "SHA256SUMS").read_text().splitlines())


SPLITS = ("train", "validation", "test")


def rows(config: str, split: str) -> list[dict]:
    return pq.read_table(DATA / config / f"{split}.parquet").to_pylist()


@pytest.mark.slow
def test_generating_again_gives_the_same_bytes(tmp_path):
    assert build.write(tmp_path) == SUMS


def test_small_parts_generate_again_in_seconds():
    world = build.World()
    for config in ("preferences", "facts"):
        for split, made in build.CONFIGS[config](world).items():
            assert made == rows(config, split)


def test_checksums_hold_and_name_every_file():
    paths = {path.relative_to(DATA).as_posix(): path for path in DATA.rglob("*.parquet")}
    assert paths.keys() == SUMS.keys()
    for name, path in paths.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == SUMS[name], name
    assert sum(path.stat().st_size for path in paths.values()) < 20e6


@pytest.mark.parametrize("config", sorted(build.CONFIGS))
def test_load_dataset_reads_every_config(config, tmp_path):
    found = load_dataset(str(DATA), config, cache_dir=str(tmp_path))
    assert {f"{config}/{split}.parquet" for split in found} == {name for name in SUMS if name.startswith(config + "/")}
    assert all(len(split) for split in found.values())


def test_no_film_is_in_two_review_splits_nor_in_the_corpus():
    films = {split: {row["film"] for row in rows("reviews", split)} for split in ("train", "validation", "test")}
    assert not films["train"] & films["test"] and not films["train"] & films["validation"]
    told = {film.title for film in build.World().told}
    assert not told & set().union(*films.values())


def test_label_noise_is_near_what_the_card_says():
    data = rows("reviews", "train")
    wrong = sum(row["label"] != row["clean_label"] for row in data) / len(data)
    assert abs(wrong - build.LABEL_NOISE) < 0.006


def test_known_tells_whether_a_question_was_trained():
    trained = {(row["film"], row["kind"]) for row in rows("instructions", "train") if row["known"] == "trained"}
    for split in ("validation", "test"):
        asked = {
            (row["film"], row["kind"]) for row in rows("instructions", split) if row["known"] in ("told", "untold")
        }
        assert asked and not asked & trained


def test_demonstrations_of_wishes_are_careless_in_training_only():
    known = {split: {row["known"] for row in rows("instructions", split) if row["kind"] == "line"} for split in SPLITS}
    assert known == {"train": {"careless"}, "validation": {"open"}, "test": {"open"}}


def test_the_library_names_no_film_of_the_labelled_reviews():
    text = " ".join(row["text"] for row in rows("library", "train"))
    shelved, asked = build.World().shelved, {row["film"] for row in rows("reviews", "test")}
    assert all(film.title in text for film in shelved)
    assert not asked & {film.title for film in build.World().shelved + build.World().passing}


def test_preferences_differ_and_split_by_film():
    films = []
    for split in ("train", "validation", "test"):
        data = rows("preferences", split)
        assert all(row["chosen"] != row["rejected"] for row in data)
        films.append({row["film"] for row in data})
    assert not films[0] & films[2] and not films[0] & films[1]
