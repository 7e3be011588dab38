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


FOREIGN = (
    'data="PATH?encoding=NAME", such as cp1251 or koi8-r (Cyrillic), gb18030 or big5 (Chinese), shift_jis (Japanese).'
)
WESTERN = 'data="PATH?encoding=NAME", such as cp1250 (Central Europe), cp437 (DOS) or mac_roman.'


@pytest.mark.parametrize(
    ("word", "encoding", "fix"),
    [
        ("Ужасный фильм", "cp1251", FOREIGN),
        ("电影很好看", "gb18030", FOREIGN),
        ("とても良い映画", "shift_jis", FOREIGN),
        ("這部電影很好看", "big5", FOREIGN),
        ("Ужасный fridge and nothing but trouble with it", "koi8-r", FOREIGN),  # mostly Latin letters
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


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5494400\n"
LIST = "and a lesson reads a list of rows, [{...}, {...}]; save that list alone; in pandas: to_json(path, orient="


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("mine.csv.gz", table(), "", "ends in .gz; use one of .csv, .tsv, .jsonl, .json, .parquet: unpack it"),
        ("mine.xlsx", b"PK\x03\x04", "", "save the sheet as CSV (UTF-8) in your spreadsheet program."),
        ("mine.txt", table(), "", "rename it if it is one of them."),
        ("mine.csv", b"\x1f\x8b\x08\0", "", "it is packed: unpack it, or save it as CSV, UTF-8."),
        ("mine.csv", LFS, "", "mine.csv is a Git LFS pointer and not the file itself; run"),
        ("mine.parquet", LFS, "", "mine.parquet is a Git LFS pointer and not the file itself; run"),
        ("mine.csv", "<!DOCTYPE html><html>Sign in</html>", "", "mine.csv is a web page and not the file itself;"),
        ("mine.csv", table("A film,good"), "", "If these are a row and not names, write a first line with"),
        ("mine.csv", "text^label\na^b\n" * 3, "", "separate them by a comma, semicolon, tab or vertical bar."),
        ("mine.csv", table("Q&A,label"), "?text=Q&A", '"A" (in the name of a column, write "&" as %26)'),
        ("mine.csv", "text,label\nHello, you,good\n", "", 'a text that holds "," has to stand in quotes)'),
        ("mine.json", json.dumps({"text": ["a"], "label": ["b"]}), "", f"is one object (text, label) {LIST}"),
        ("mine.json", json.dumps({"text": {"0": "a"}, "label": {"0": "b"}}), "", f"is one object (text, label) {LIST}"),
        ("mine.json", json.dumps({"version": 1, "data": [{"text": "a"}]}, indent=1), "", f"(version, data) {LIST}"),
    ],
)  # fmt: skip
def test_each_refusal_says_what_to_do(tmp_path, name, content, options, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert words in sentence(f"{path}{options}")


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("Did you like it?,Stars", "?text=Did you like it?&label=Stars"),
        ("Why?,How good?", "?text=Why?&label=How good?"),
        ("Why?,label", "?text=Why?"),
    ],
)
def test_names_that_are_questions(tmp_path, header, options):
    path = tmp_path / "mine.csv"
    path.write_text(table(header, extra=[("", "good")]))
    assert sum(map(len, load_labelled(advised(sentence(f"{path}{options}")), 0).values())) == 40


def test_the_byte_order_mark_is_right_whatever_was_said(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(table(), encoding="utf-8-sig")
    assert sum(map(len, load_labelled(f"{path}?encoding=cp1252", 0).values())) == 40


def test_chinese_in_utf_16_without_its_mark(tmp_path):
    path = tmp_path / "mine.csv"
    rows = [(f"这是一部很好的电影，我喜欢它{row}", "good" if row % 2 else "bad") for row in range(40)]
    path.write_bytes("\n".join(["text,label", *map(",".join, rows)]).encode("utf-16-be"))
    assert sum(map(len, load_labelled(advised(sentence(path)), 0).values())) == 40
