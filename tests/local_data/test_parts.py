"""Folders with train, validation and test; the splits that are cut where one is missing."""

from __future__ import annotations

import pytest

from helpers.local_data import labelled, notes
from helpers.runtime import UserError


def write(path, count, start=0):
    lines = [f"text number {row},{row % 2}" for row in range(start, start + count)]
    path.write_text("review,sentiment\n" + "\n".join(lines) + "\n")


def sizes(folder):
    return {part: len(rows) for part, rows in labelled(folder, seed=0).items()}


def test_every_part_is_taken_as_it_is(tmp_path):
    for name, count in (("train.csv", 40), ("my-dev.csv", 10), ("test_2024.csv", 12)):
        write(tmp_path / name, count)
    assert sizes(tmp_path) == {"train": 40, "validation": 10, "test": 12}
    found = labelled(tmp_path, 0)
    assert found["test"]["text"][1] == "text number 1" and found["test"]["label"][1] == 1
    assert "train.csv and my-dev.csv and test_2024.csv" in notes(found)


@pytest.mark.parametrize(("given", "expected"), [("test", (36, 4, 10)), ("validation", (36, 10, 4))])
def test_a_missing_part_is_cut_from_train(tmp_path, given, expected):
    write(tmp_path / "train.csv", 40)
    write(tmp_path / f"{given}.csv", 10, start=40)
    assert tuple(sizes(tmp_path).values()) == expected


def test_one_file_alone_may_have_any_name(tmp_path):
    write(tmp_path / "reviews.csv", 40)
    assert sizes(tmp_path) == {"train": 32, "validation": 4, "test": 4}


def test_repeated_rows_stay_on_one_side(tmp_path):
    lines = [f"Text  number {row % 30},{row % 30 % 2}" for row in range(90)]
    (tmp_path / "mine.csv").write_text("text,label\n" + "\n".join(lines))
    found = {part: set(rows["text"]) for part, rows in labelled(tmp_path / "mine.csv", seed=0).items()}
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]
    assert sum(sizes(tmp_path / "mine.csv").values()) == 90


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "holds no file"),
        (["a.csv", "train.csv"], "not clear what a.csv is for"),
        (["test.csv", "dev.csv"], "none of the files is for training"),
        (["train.csv", "train-2.csv"], "would both be for train"),
    ],
)
def test_names_that_leave_a_doubt(tmp_path, names, words):
    for name in names:
        write(tmp_path / name, 10)
    with pytest.raises(UserError, match=words):
        labelled(tmp_path, 0)
