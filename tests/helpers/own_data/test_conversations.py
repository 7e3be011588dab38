"""Rows of which no token is left to learn from: counted beforehand, as `helpers.sft.encode` refuses them."""

from __future__ import annotations

import json

import pytest

from helpers import catalog, sft
from helpers.own_data import load_columns
from helpers.own_data.columns import KINDS
from helpers.runtime import UserError

TURNS = (
    "{% for m in messages %}{{ 'A: ' if m['role'] == 'assistant' else 'Q: ' }}"
    "{{ m['content'].split('</think>')[-1] }}<|stop|>{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
)


@pytest.fixture
def tokenizer():
    if not catalog.POCKET_MODELS["instruct"].is_dir():
        pytest.skip("the pocket track is not made yet")
    found = catalog.tokenizer("instruct", "pocket")
    found.chat_template = TURNS
    return found


@pytest.mark.parametrize("kind", ["instructions", "preferences"])
@pytest.mark.parametrize("answer", ["<|stop|>", "<think>only thoughts</think>", "<|start|><|pad|>"])
def test_an_answer_of_which_nothing_is_left(tmp_path, tokenizer, kind, answer):
    roles = KINDS[kind]
    good = dict.fromkeys(roles, "A good film.") | ({"rejected": "No."} if "rejected" in roles else {})
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, good | {roles[-1]: answer})))
    with pytest.raises(UserError, match="nothing to learn from"):
        sft.encode(tokenizer, "A good film.", answer)
    with pytest.raises(UserError) as problem:
        load_columns(path, roles, tokenizer)
    assert str(problem.value) == (
        f"data: in mine.jsonl 1 cannot be read (the first: line 2, no token of its {roles[-1]} is left after the chat "
        f'template and the tokenizer); correct or remove them, or leave them out: data="{path}?bad=skip".'
    )
    assert len(load_columns(f"{path}?bad=skip", roles, tokenizer)) == 1
