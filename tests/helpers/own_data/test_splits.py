"""Folders with train, validation and test; the splits that are cut where one is missing."""

from __future__ import annotations

import pytest

from helpers.own_data import load_columns, load_labelled, notes
from helpers.runtime import UserError


def write(path, count, start=0):
    lines = [f"text number {row},{row % 2}" for row in range(start, start + count)]
    path.write_text("review,sentiment\n" + "\n".join(lines) + "\n")


def sizes(folder):
    return {part: len(rows) for part, rows in load_labelled(folder, seed=0).items()}


def test_every_part_is_taken_as_it_is(tmp_path):
    for name, count in (("train.csv", 40), ("my-dev.csv", 10), ("test_2024.csv", 12)):
        write(tmp_path / name, count)
    assert sizes(tmp_path) == {"train": 40, "validation": 10, "test": 12}
    found = load_labelled(tmp_path, 0)
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
    found = {part: set(rows["text"]) for part, rows in load_labelled(tmp_path / "mine.csv", seed=0).items()}
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]
    assert sum(sizes(tmp_path / "mine.csv").values()) == 90


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "holds no file"),
        (["a.csv", "train.csv"], "not clear what a.csv is for"),
        (["a.csv", "b.csv"], "not clear what a.csv is for"),
        (["test.csv", "dev.csv"], "none of the files is for training"),
        (["train.csv", "train-2.csv"], "would both be for train"),
    ],
)
def test_names_that_leave_a_doubt(tmp_path, names, words):
    for name in names:
        write(tmp_path / name, 10)
    with pytest.raises(UserError, match=words):
        load_labelled(tmp_path, 0)


def test_a_folder_as_the_hub_has_it(tmp_path):
    """Parts in folders, a part in pieces, and a file for neither, which is said and not read."""
    (tmp_path / "data").mkdir()
    for number in range(2):
        write(tmp_path / "data" / f"train-0000{number}-of-00002.csv", 20, start=20 * number)
    write(tmp_path / "data" / "test-00000-of-00001.csv", 10, start=40)
    write(tmp_path / "data" / "unsupervised-00000-of-00001.csv", 10)
    found = load_labelled(tmp_path, 0)
    assert {part: len(rows) for part, rows in found.items()} == {"train": 36, "validation": 4, "test": 10}
    texts = {text for rows in found.values() for text in rows["text"]}
    assert texts == {f"text number {row}" for row in range(50)}
    assert notes(found).endswith("Not read: unsupervised-00000-of-00001.csv.")


def test_unusable_rows_of_every_piece_are_counted(tmp_path):
    write(tmp_path / "train-0-of-2.csv", 20)
    write(tmp_path / "test.csv", 4)
    (tmp_path / "train-1-of-2.csv").write_text("review,sentiment\n,1\nlast,0\na,b,c\n")
    with pytest.raises(UserError, match="1 of 23 rows has no text .* 1 cannot be read"):
        load_labelled(tmp_path, 0)
    assert sum(map(len, load_labelled(f"{tmp_path}?bad=skip", 0).values())) == 21 + 4


def test_where_one_split_is_enough_the_others_may_be_anything(tmp_path):
    write(tmp_path / "train.csv", 20)
    (tmp_path / "test.csv").write_text("other\ncolumns\n")
    assert len(load_columns(tmp_path, ("text",))) == 20


def test_what_a_program_keeps_beside_the_files_is_no_data(tmp_path):
    write(tmp_path / "reviews.csv", 40)
    for hidden in (".ipynb_checkpoints", ".cache"):
        (tmp_path / hidden).mkdir()
        write(tmp_path / hidden / "reviews-checkpoint.csv", 5)
    (tmp_path / "a folder.csv").mkdir()
    assert sum(sizes(tmp_path).values()) == 40


def test_pieces_of_different_sets_are_not_one_file(tmp_path):
    for language in ("de", "en"):
        (tmp_path / language).mkdir()
        write(tmp_path / language / "train-00000-of-00001.csv", 20)
    with pytest.raises(UserError, match="would both be for train"):
        load_labelled(tmp_path, 0)
