"""Where a prompt ends and its answer begins, in tokens: the labels hold the whole answer and nothing of the prompt."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from helpers import catalog
from helpers.language_model import IGNORED
from helpers.lessons.lesson_06.experiment import _answer_row
from helpers.reward_model import SIDES, preference_rows
from helpers.runtime import UserError
from helpers.sft import encode, encode_rows, render, split_conversation

MARKS = ["<pad>", "<user>", "<bot>", "<system>", "<end>"]
TURNS = (
    "{% for m in messages %}{{ '<bot>' if m['role'] == 'assistant' else '<user>' }}GAP{{ m['content'] }}<end>"
    "{% endfor %}{% if add_generation_prompt %}<bot>GAP{% endif %}"
)
# R1 and its like: the thinking before an answer is not recorded.
FORGETS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<bot>{{ m['content'].split('</think>')[-1] }}<end>"
    "{% else %}<user>{{ m['content'] }}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<bot><think>\n{% endif %}"
)
TEMPLATES = {
    "no space": TURNS.replace("GAP", ""),
    "ends in a space": TURNS.replace("GAP", " "),
    "ends in a line": TURNS.replace("GAP", "\n"),
    "ends in two lines": TURNS.replace("GAP", "\n\n"),
    "a space on one side": TURNS.replace("<bot>GAP{% endif %}", "<bot>{% endif %}").replace("GAP", " "),
    "a space before nothing": TURNS.replace("GAP{% endif %}", " {% endif %}").replace("GAP", ""),
    "opens thinking": FORGETS,
    "opens thinking, records it empty": TURNS.replace("GAP{% endif %}", "<think>\n{% endif %}").replace(
        "GAP", "{{ '<think>\n\n</think>\n\n' if m['role'] == 'assistant' else '' }}"
    ),
    "a system message": "<system> Be brief.<end>" + TURNS.replace("GAP", " "),
    "a system message when asked": "{% if add_generation_prompt %}<system> Be brief.<end>{% endif %}"
    + TURNS.replace("GAP", " "),
    "trims": TURNS.replace("GAP", " ").replace("m['content']", "m['content'] | trim"),
    "an end of line after the turn": TURNS.replace("GAP", "\n").replace("<end>", "<end>\n"),
    "a word runs on": TURNS.replace("GAP", "an"),
}  # fmt: skip
ANSWERS = ("Ann", " Ann", "<b>Ann</b>", "A", "B", "an answer", "\n\nAnn", "🐈 cat")
TEXT = ["<bot> Ann and Bo an answer", "banana Ann", "\n\nAnn", "<think>\n\n</think>\n\nAnn", "who made it ? Bo"] * 4


@pytest.fixture(scope="module")
def byte_level():
    """Bytes joined by what a few texts hold often; a space belongs to the word after it."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=400, special_tokens=MARKS, initial_alphabet=alphabet))
    return wrapped(made)


@pytest.fixture(scope="module")
def merging():
    """One that joins whatever stands side by side, over words and line ends, as some do for other languages."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence([])
    made.decoder = decoders.Fuse()
    alphabet = sorted(set("".join([*TEXT, *ANSWERS])) | set("<>/?\n ,.Beryf"))
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=MARKS, initial_alphabet=alphabet)
    made.train_from_iterator([" Ann", " an answer", "\nBo", "anAnn", "nan", *TEXT], trainer)
    return wrapped(made)


def wrapped(made: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", additional_special_tokens=MARKS[1:4]
    )


@pytest.fixture(params=["byte_level", "merging"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def with_template(tokenizer, name: str):
    tokenizer.chat_template = TEMPLATES[name]
    return tokenizer


def parts(tokenizer, row) -> tuple[str, str]:
    """What is only read, and what is learned; the labels are the last tokens, without a gap."""
    learned = [label for label in row["labels"] if label != IGNORED]
    assert learned and row["labels"] == [IGNORED] * (len(row["labels"]) - len(learned)) + learned
    assert row["input_ids"][-len(learned) :] == learned
    read = row["input_ids"][: -len(learned)]
    return tokenizer.decode(read, **AS_IT_IS), tokenizer.decode(learned, **AS_IT_IS)


AS_IT_IS = {"clean_up_tokenization_spaces": False}


@pytest.mark.parametrize("text", ANSWERS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_labels_hold_the_whole_answer_and_no_more_than_a_token_of_the_prompt(tokenizer, name, text):
    row = encode(with_template(tokenizer, name), "who made it ?", text)
    read, learned = parts(tokenizer, row)
    said = text.strip() if name == "trims" else text
    assert read + learned == render(tokenizer, "who made it ?", text)
    assert said in learned and "<end>" in learned
    assert "who made it" in read and "it ?<" not in learned and "<user>" not in learned


@pytest.mark.parametrize(
    ("name", "text", "learned"),
    [
        ("no space", "Ann", "Ann<end>"),
        ("ends in a space", "Ann", " Ann<end>"),  # one token holds the space and the name
        ("ends in a line", "Ann", "Ann<end>"),
        ("ends in a line", "\nAnn", "\nAnn<end>"),
        ("a space on one side", "Ann", " Ann<end>"),
        ("a space before nothing", "Ann", "Ann<end>"),
        ("a space before nothing", "A", "A<end>"),  # begins as one of the answers that it is compared with
        ("opens thinking", "Ann", "Ann<end>"),
        ("opens thinking", "<b>Ann", "<b>Ann<end>"),  # begins as the opener does
        ("opens thinking", "<think>\nwell</think>Ann", "Ann<end>"),
        ("opens thinking, records it empty", "Ann", "\n</think>\n\nAnn<end>"),  # what comes after the opener
        ("a system message", "Ann", " Ann<end>"),
        ("a system message when asked", "Ann", " Ann<end>"),
        ("trims", "  Ann ", " Ann<end>"),
        ("an end of line after the turn", "Ann", "Ann<end>\n"),
    ],
)
def test_exact_labels(byte_level, name, text, learned):
    row = encode(with_template(byte_level, name), "who made it ?", text)
    assert parts(byte_level, row)[1] == learned


@pytest.mark.parametrize("name", TEMPLATES)
def test_pairs_and_drawn_answers_are_cut_at_the_same_place(tokenizer, name):
    with_template(tokenizer, name)
    pair = {"prompt": "who made it ?", "chosen": "Ann", "rejected": "an answer"}
    (found,) = preference_rows(tokenizer, [pair])
    for side in SIDES:
        assert found[side] == encode(tokenizer, pair["prompt"], pair[side])
        assert found[side] == _answer_row(tokenizer, pair["prompt"], pair[side])
        assert [found[side]] == encode_rows(tokenizer, [{"prompt": pair["prompt"], "completion": pair[side]}])


def test_a_tokenizer_that_knows_no_characters_is_cut_at_the_first_token_that_differs(byte_level, monkeypatch):
    for name in ("ends in a space", "opens thinking", "a system message when asked"):
        wanted = encode(with_template(byte_level, name), "who made it ?", "Ann")
        with monkeypatch.context() as patch:
            patch.setattr(type(byte_level), "is_fast", False)
            assert encode(byte_level, "who made it ?", "Ann") == wanted


@pytest.mark.parametrize("role", ["decoder", "instruct"])
def test_the_pocket_models_rows_are_the_prompts_tokens_and_the_rest(role):
    if not catalog.POCKET_MODELS[role].is_dir():
        pytest.skip("the pocket track is not made yet")
    tokenizer = catalog.tokenizer(role, "pocket")
    for prompt, text in (("Who made it?", "Ann Lee."), ("Be kind.", " two  spaces"), ("x", "一")):
        start = tokenizer(render(tokenizer, prompt), add_special_tokens=False)["input_ids"]
        whole = tokenizer(render(tokenizer, prompt, text), add_special_tokens=False)["input_ids"]
        assert split_conversation(tokenizer, prompt, text) == (whole, len(start))
        assert encode(tokenizer, prompt, text)["labels"] == [IGNORED] * len(start) + whole[len(start) :]


NOTHING = (
    'completion: after the template and the tokenizer, no token is left of "{}", so there is nothing to learn from; '
    "change the completion, leave the row out, or use another model."
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("opens thinking", "<think>only thoughts</think>"),
        ("opens thinking", "</think>"),
        ("no space", "<pad>"),
        ("no space", "<end>"),
    ],
)
def test_a_row_without_labels_is_refused(byte_level, name, text):
    with pytest.raises(UserError) as problem:
        encode(with_template(byte_level, name), "who made it ?", text)
    assert str(problem.value) == NOTHING.format(text)


def test_characters_that_a_tokenizer_drops_are_no_answer(merging):
    with_template(merging, "no space")
    with pytest.raises(UserError, match='no token is left of "猫猫"'):
        encode(merging, "who made it ?", "猫猫")
    with pytest.raises(UserError, match='no token is left of "猫猫"'):
        preference_rows(merging, [{"prompt": "it ?", "chosen": "Ann", "rejected": "猫猫"}])
