"""Advice that leads somewhere: what a sentence tells the learner to write is tried, and then the file is read."""

from __future__ import annotations

import ast
import json
import re

import pytest

from helpers.own_data import load_labelled
from helpers.own_data.request import Request, quoted
from helpers.runtime import UserError

ROWS = [(f"Remark number {row} about it", "good" if row % 2 else "bad") for row in range(40)]


def table(header="text,label", extra=()):
    return "\n".join([header, *map(",".join, [*ROWS, *extra])]) + "\n"


def sentence(data) -> str:
    with pytest.raises(UserError) as problem:
        load_labelled(data, 0)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def advised(said: str) -> str:
    """The value of `data=...` in a sentence, as Python reads it."""
    line = re.search(r"data=(\"[^\"]*\"|'[^']*')", said)
    assert line, said
    return ast.literal_eval(line[1])


@pytest.mark.parametrize(
    ("word", "encoding", "fix"),
    [
        ("It’s fine", "cp1252", "cp1252"),  # 0x92: latin-1 would make a control character of it
        ("“Fine”", "cp1252", "cp1252"),
        ("5 €", "cp1252", "cp1252"),
        ("café", "latin-1", "cp1252"),
    ],
)
def test_the_encoding_that_is_advised_reads_the_file(tmp_path, word, encoding, fix):
    path = tmp_path / "mine.csv"
    path.write_bytes(table(extra=[(word, "good")]).encode(encoding))
    said = sentence(path)
    byte = re.sub(rb"[\x00-\x7f]", b"", word.encode(encoding))[0]
    assert said == (
        f"data: mine.csv, line 42 is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8, or name its encoding: "
        f'data="{path}?encoding={fix}".'
    )
    assert word in {text for rows in load_labelled(advised(said), 0).values() for text in rows["text"]}


FOREIGN = 'data="PATH?encoding=NAME", such as cp1251 (Cyrillic), gb18030 (Chinese) or shift_jis (Japanese).'
WESTERN = 'data="PATH?encoding=NAME", such as cp1250 (Central Europe), cp437 (DOS) or mac_roman.'


@pytest.mark.parametrize(
    ("word", "encoding", "fix"),
    [
        ("Ужасный фильм", "cp1251", FOREIGN),
        ("电影很好看", "gb18030", FOREIGN),
        ("とても良い映画", "shift_jis", FOREIGN),
        ("Žluťoučký kůň is a horse", "cp1250", WESTERN),
        ("a müsli bar", "cp437", WESTERN),
    ],
)
def test_other_encodings_are_named(tmp_path, word, encoding, fix):
    path = tmp_path / "mine.csv"
    path.write_bytes(table(extra=[(word, "good")]).encode(encoding))
    assert sentence(path).endswith(f"save the file as UTF-8, or name its encoding, {fix.replace('PATH', str(path))}")
    assert word in {t for rows in load_labelled(f"{path}?encoding={encoding}", 0).values() for t in rows["text"]}


def test_utf_8_is_advised_where_another_encoding_was_said(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(table(extra=[("mit Œuvre“ ‘ und ’ Ý", "good")]), encoding="utf-8")
    said = sentence(f"{path}?encoding=ascii")
    assert said.endswith('or name its encoding: data="PATH?encoding=utf-8".'.replace("PATH", str(path)))
    load_labelled(advised(said), 0)


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_wide_characters_in_every_form(tmp_path, ending, encoding):
    path = tmp_path / f"mine{ending}"
    rows = [{"text": text, "label": label} for text, label in ROWS]
    forms = {".csv": table(), ".json": json.dumps(rows), ".jsonl": "\n".join(map(json.dumps, rows))}
    path.write_bytes(forms[ending].encode(encoding))
    data = str(path)
    if encoding[-2:] in ("le", "be"):  # no byte-order mark says which
        said = sentence(path)
        assert (
            said == f'data: mine{ending} looks like {encoding[:6].upper()}; say so: data="{path}?encoding={encoding}".'
        )
        data = advised(said)
    assert sum(map(len, load_labelled(data, 0).values())) == 40


@pytest.mark.parametrize("options", ["", "&encoding=utf-8", "&sep=,", "&encoding=utf-8&sep=,"])
def test_what_was_said_already_is_kept(tmp_path, options):
    path = tmp_path / "mine.csv"
    path.write_text(table("A+B&C=100%,Stars", extra=[("", "good")]))
    said = sentence(f"{path}?text=A%2BB%26C=100%25&label=Stars{options}")
    assert said.endswith(f'or leave them out: data="{path}?text=A%2BB%26C=100%25&label=Stars{options}&bad=skip".')
    assert sum(map(len, load_labelled(advised(said), 0).values())) == 40


@pytest.mark.parametrize("name", ['my "best".csv', "it's.csv", "back\\slash.csv", "a?b.csv", "tab\there.csv", "ü.csv"])
def test_the_line_to_paste_is_python(tmp_path, name):
    path = tmp_path / name
    path.write_text(table(extra=[("", "good")]))
    line = Request.of(f"{path}?bad=skip").suggestion()
    assert ast.literal_eval(line.removeprefix("data=")) == f"{path}?bad=skip"
    assert line.removeprefix("data=") in sentence(path)
    assert ast.literal_eval(quoted(str(path))) == str(path)


@pytest.mark.parametrize(("sign", "name"), [(";", ";"), ("|", "|"), ("\t", "tab")])
def test_a_separator_can_be_named(tmp_path, sign, name):
    path = tmp_path / "mine.csv"
    header = f"text, as it was said, by them{sign}label, one, of two"
    path.write_text("\n".join([header, *(sign.join(row) for row in ROWS)]))
    data = f"{path}?text=text, as it was said, by them&label=label, one, of two"
    assert sum(map(len, load_labelled(f"{data}&sep={name}", 0).values())) == 40
    assert sum(map(len, load_labelled(data, 0).values())) == 40  # and is found


def test_a_folder_is_advised_as_a_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text(table(extra=[("", "good")]))
    (tmp_path / "mine" / "test.csv").write_text(table())
    monkeypatch.chdir(tmp_path)
    said = sentence("mine")
    assert said.endswith('or leave them out: data="mine?bad=skip".')
    assert {split: len(rows) for split, rows in load_labelled(advised(said), 0).items()}["test"] == 40
