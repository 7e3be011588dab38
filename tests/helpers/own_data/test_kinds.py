"""Files as others write them: class names in Parquet, chats, Alpaca's columns, odd separators, stray quotes."""

from __future__ import annotations

import json
import unicodedata

import pandas
import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from pyarrow import parquet

from helpers.own_data import load_columns, load_labelled, notes
from helpers.own_data.request import Request
from helpers.own_data.table import normalized, read
from helpers.runtime import UserError

TEXTS = [f"Remark number {row} about a kettle." for row in range(40)]
LABELS = ["good" if row % 2 else "bad" for row in range(40)]
QUESTION, ANSWER = "Where is the kettle?", "On the shelf."
PAIR = ("prompt", "completion")


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(function, *arguments) -> str:
    with pytest.raises(UserError) as problem:
        function(*arguments)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def names(data) -> list[str]:
    return load_labelled(data, 0)["train"].features["label"].names


def test_class_names_that_a_parquet_file_holds(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    rows = {"text": [*TEXTS, "no label"], "label": [row % 2 for row in range(40)] + [-1]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "mine.parquet")
    assert "1 of 41 rows has no label (the first: row 41)" in refused(load_labelled, tmp_path / "mine.parquet", 0)
    assert names(f"{tmp_path / 'mine.parquet'}?bad=skip") == ["negative", "positive"]


def test_a_categorical_column(tmp_path):
    pandas.DataFrame({"text": TEXTS, "label": pandas.Categorical(LABELS)}).to_parquet(tmp_path / "mine.parquet")
    assert names(tmp_path / "mine.parquet") == ["bad", "good"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1.1", "1.10"], ["1.1", "1.10"]),
        (["01", "1"], ["01", "1"]),
        ([10.0, 2.0], ["2", "10"]),
        ([True, False], ["False", "True"]),
        (["1e3", "nan"], ["1e3", "nan"]),
    ],
)
def test_labels_are_text_unless_their_type_is_a_number(tmp_path, labels, expected):
    rows = [{"text": text, "label": labels[place % 2]} for place, text in enumerate(TEXTS)]
    assert names(lines(tmp_path / "mine.jsonl", *rows)) == expected


@pytest.mark.parametrize(
    ("header", "row", "options"),
    [
        ("text;label (0=bad, 1=good, 2=unsure)", "{};{}", ""),
        ("text|label;label 2", "{}|{}", "?sep=|&label=label;label 2"),
        ("text\tlabel, label", "{}\t{}", "?sep=tab&label=label, label"),
    ],
)
def test_separators_that_the_header_holds_too(tmp_path, header, row, options):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([header, *(row.format(*pair) for pair in zip(TEXTS, LABELS, strict=True))]))
    assert names(f"{path}{options}") == ["bad", "good"]


def test_tab_separated_values(tmp_path):
    rows = ("\t".join(pair) for pair in zip(TEXTS, LABELS, strict=True))
    (tmp_path / "mine.tsv").write_text("\n".join(["text, long\tlabel", *rows]))
    assert names(f"{tmp_path / 'mine.tsv'}?text=text, long") == ["bad", "good"]
    assert 'sep is "x"' in refused(load_labelled, f"{tmp_path / 'mine.tsv'}?sep=x", 0)


def test_utf_16_without_its_mark(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes("\n".join(["text,label", *map(",".join, zip(TEXTS, LABELS, strict=False))]).encode("utf-16-le"))
    assert f'data="{path}?encoding=utf-16-le"' in refused(load_labelled, path, 0)
    assert names(f"{path}?encoding=utf-16-le") == ["bad", "good"]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]}, QUESTION),
        ({"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]}, QUESTION),
        ({"instruction": "Answer.", "input": QUESTION, "output": ANSWER}, f"Answer.\n{QUESTION}"),
        ({"instruction": QUESTION, "input": "", "output": ANSWER}, QUESTION),
    ],
)
def test_conversations_and_alpaca(tmp_path, row, prompt):
    found = load_columns(lines(tmp_path / "mine.jsonl", row), PAIR)
    assert found[0] == {"prompt": prompt, "completion": ANSWER}


def test_what_the_system_says_comes_before_the_question(tmp_path):
    turns = [("system", "Be short."), ("user", QUESTION), ("assistant", ANSWER)]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    found = load_columns(lines(tmp_path / "mine.jsonl", row), PAIR)
    assert found["prompt"][0] == f"Be short.\n{QUESTION}"
    assert 'prompt from "messages: question" (guessed), completion from "messages" (guessed)' in notes(found)


def test_a_longer_conversation_is_counted_not_cut(tmp_path):
    turn = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    path = lines(tmp_path / "mine.jsonl", {"messages": turn}, {"messages": turn * 2})
    assert "1 cannot be read (the first: line 2, its prompt has 4 messages" in refused(load_columns, path, PAIR)
    assert len(load_columns(f"{path}?bad=skip", PAIR)) == 1
    beside = lines(tmp_path / "more.jsonl", {"prompt": QUESTION, "completion": ANSWER, "messages": turn * 2})
    assert load_columns(beside, PAIR)[0] == {"prompt": QUESTION, "completion": ANSWER}


@pytest.mark.parametrize("prompt", [{"prompt": QUESTION}, {}])
@pytest.mark.parametrize("transcript", [False, True])
def test_pairs_as_conversations(tmp_path, prompt, transcript):
    def side(answer):
        if transcript:
            return f"\n\nHuman: {QUESTION}\n\nAssistant: {answer}"
        return [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}]

    path = lines(tmp_path / "mine.jsonl", {**prompt, "chosen": side(ANSWER), "rejected": side("No.")})
    assert load_columns(path, ("prompt", "chosen", "rejected"))[0] == {
        "prompt": QUESTION, "chosen": ANSWER, "rejected": "No.",
    }  # fmt: skip


def csv(path, *rows):
    path.write_text("\n".join(["text,label", *map(",".join, zip(TEXTS, LABELS, strict=True)), *rows]) + "\n")
    return path


def test_a_quote_that_runs_into_later_rows_is_refused_even_with_bad_skip(tmp_path):
    path = csv(tmp_path / "mine.csv", '"tis a pity,bad', *["more,bad"] * 20, 'it was so "cool" today,good')
    assert "line 42 opens a quote that runs on into line 63" in refused(load_labelled, f"{path}?bad=skip", 0)


def test_rows_that_a_quote_joins_into_one_are_mentioned(tmp_path):
    path = csv(tmp_path / "mine.csv", '"tis a pity,bad', *["more,bad"] * 20, 'it was "cool",good', '"cool",good')
    assert "line 42 opens" in refused(load_labelled, path, 0)
    path = csv(tmp_path / "mine.csv", '"tis a pity,bad', *["more,bad"] * 20, 'it was cool",good')
    assert "line 42 runs over 22 lines; is a quote missing?" in notes(load_labelled(path, 0))


@pytest.mark.parametrize(("rows", "lost"), [(8, False), (20, True)])
def test_a_glued_row_with_other_fields_is_refused_where_it_takes_many_lines(tmp_path, rows, lost):
    path = csv(tmp_path / "mine.csv", '"tis a pity,bad', *["more,bad"] * rows, 'it was ",good,good')
    if lost:
        assert "line 42 opens a quote that runs on into line 63, so 21 lines would be lost" in refused(
            load_labelled, f"{path}?bad=skip", 0
        )
    else:
        assert "; 1 row takes 10 lines of the file" in notes(load_labelled(f"{path}?bad=skip", 0))


def test_rows_and_lines_of_the_file_are_compared(tmp_path):
    path = csv(tmp_path / "mine.csv", '"two\nlines",good', '"three\n\nlines",bad')
    assert "; 2 rows take 5 lines of the file." in notes(load_labelled(path, 0))
    assert "lines" not in notes(load_labelled(csv(tmp_path / "mine.csv"), 0))
    path.write_text(
        'text,label,note\na text,good,"one\ntwo"\n' + "".join(f"t {n},bad,x\nu {n},good,y\n" for n in range(9))
    )
    assert "; 1 row takes 2 lines of the file." in notes(load_labelled(path, 0))  # of a column that nobody reads


def test_a_text_with_two_labels_never_stands_on_two_sides(tmp_path):
    path = csv(
        tmp_path / "mine.csv", *(f"{text},{'bad' if place % 2 else 'good'}" for place, text in enumerate(TEXTS[:9]))
    )
    found = load_labelled(path, 0)
    train, *others = (set(rows["text"]) for rows in found.values())
    assert set(TEXTS[:9]) <= train and not any(train & other for other in others)
    assert sum(map(len, found.values())) == 49 and "9 texts have several labels" in notes(found)


def test_rows_that_two_given_splits_share_are_mentioned(tmp_path):
    csv(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text(f"text,label\n{TEXTS[0].upper()},bad\nnew,good\n")
    assert "1 rows of test are in train too" in notes(load_labelled(tmp_path, 0))


def test_a_column_that_stands_twice_in_a_parquet_file(tmp_path):
    columns = [TEXTS, LABELS, LABELS[::-1]]
    rows = pyarrow.Table.from_arrays(list(map(pyarrow.array, columns)), names=["text", "label", "label"])
    parquet.write_table(rows, tmp_path / "mine.parquet")
    assert 'the column "label" more than once' in refused(load_labelled, tmp_path / "mine.parquet", 0)


def test_text_that_parquet_holds_as_bytes(tmp_path):
    pandas.DataFrame({"text": [text.encode() for text in TEXTS], "label": LABELS}).to_parquet(tmp_path / "mine.parquet")
    assert set(load_labelled(tmp_path / "mine.parquet", 0)["train"]["text"]) <= set(TEXTS)


def test_a_key_that_stands_twice_in_a_row(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "one", "text": "two", "label": "good"}\n{"text": "a", "label": "bad"}\n')
    assert 'line 1, not valid JSON (the key "text" stands there twice)' in refused(load_labelled, path, 0)


def test_the_separator_that_excel_names(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("sep=;\ntext;label\n" + "".join(f"{one};{two}\n" for one, two in zip(TEXTS, LABELS, strict=True)))
    assert names(path) == ["bad", "good"]


def test_a_column_that_begins_late_is_named(tmp_path):
    path = lines(tmp_path / "mine.jsonl", *[{"text": "a"}] * 1100, {"text": "b", "label": "good"})
    assert read(Request.of(path)).columns == ["text", "label"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("café", unicodedata.normalize("NFD", "café")), ("a film", "a\u200b film\ufeff"), ("Film 1", "Ｆｉｌｍ １"),
        ("Straße", "STRASSE"), ("co\u00adop", "coop"), ("\u200b\u200c", " "),
    ],
)  # fmt: skip
def test_texts_that_look_the_same_are_the_same(one, other):
    assert normalized(one) == normalized(other)


def test_a_text_without_a_visible_character_is_none(tmp_path):
    path = lines(tmp_path / "mine.jsonl", {"text": "\u200b", "label": "good"}, {"text": "a", "label": "bad"})
    assert "1 of 2 rows has no text (the first: line 1)" in refused(load_labelled, path, 0)


TURNS = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]


def test_lists_of_messages_that_pandas_wrote_to_csv(tmp_path):
    path = tmp_path / "mine.csv"
    pandas.DataFrame({"messages": [TURNS]}).to_csv(path, index=False)
    assert load_columns(path, PAIR)[0] == {"prompt": QUESTION, "completion": ANSWER}
    no = [TURNS[0], {"role": "assistant", "content": "No."}]
    pandas.DataFrame({"prompt": [QUESTION], "chosen": [TURNS], "rejected": [no]}).to_csv(path, index=False)
    found = load_columns(path, ("prompt", "chosen", "rejected"))[0]
    assert found == {"prompt": QUESTION, "chosen": ANSWER, "rejected": "No."}
    path.write_text(path.read_text().replace("}, {", "}\n {"))  # as NumPy writes it: without the comma
    assert "its chosen has a list of messages that is not written as JSON (in Python: json.dumps)" in refused(
        load_columns, path, ("prompt", "chosen", "rejected")
    )


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "human", "content": QUESTION}, {"role": "ai", "content": ANSWER}]},
        {"messages": [{"type": "human", "content": QUESTION}, {"type": "ai", "content": ANSWER}]},
        {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}, {"role": "model", "parts": [{"text": ANSWER}]}]},
        {"turns": [{"speaker": "User", "text": QUESTION}, {"speaker": "Bot", "text": ANSWER}]},
    ],
)
def test_other_names_for_who_and_what(tmp_path, row):
    assert load_columns(lines(tmp_path / "mine.jsonl", row), PAIR)[0] == {"prompt": QUESTION, "completion": ANSWER}


def test_pairs_as_openai_writes_them(tmp_path):
    row = {"input": {"messages": TURNS[:1]}, "preferred_output": TURNS[1:]}
    path = lines(tmp_path / "mine.jsonl", row | {"non_preferred_output": [{"role": "assistant", "content": "No."}]})
    found = load_columns(path, ("prompt", "chosen", "rejected"))[0]
    assert found == {"prompt": QUESTION, "chosen": ANSWER, "rejected": "No."}
