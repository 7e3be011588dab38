"""Model folders that are missing, incomplete, unsafe or damaged, each in one sentence."""

from pathlib import Path

import pytest

from helpers.files import SUMS, sha256
from helpers.pretrained import check_model_folder
from helpers.runtime import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def said(folder):
    with pytest.raises(UserError) as problem:
        check_model_folder(folder)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def with_sums(folder):
    lines = [f"{sha256(folder / name)}  {name}\n" for name in ("config.json", "model.safetensors")]
    (folder / SUMS).write_text("".join(lines))


def test_a_whole_folder_passes(folder):
    assert check_model_folder(folder) == folder
    with_sums(folder)
    assert check_model_folder(folder) == folder


def test_no_folder(tmp_path):
    assert "there is no folder" in said(tmp_path / "nowhere")


def test_no_config(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in said(folder) and "save_pretrained" in said(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_broken_config(folder, text):
    (folder / "config.json").write_text(text)
    assert "config.json" in said(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "no *.safetensors" in said(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_only_a_pickle(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"\x80\x04.")
    assert "pickle" in said(folder) and "save_pretrained" in said(folder)


def test_a_damaged_file(folder):
    with_sums(folder)
    (folder / "model.safetensors").write_bytes(b"weightz")
    assert "damaged" in said(folder) and "model.safetensors" in said(folder)


def test_a_missing_listed_file(folder):
    with_sums(folder)
    (folder / "model-2.safetensors").write_bytes(b"more")
    (folder / "model.safetensors").unlink()
    assert "missing" in said(folder)


def test_code_of_its_own_is_never_run(folder):
    (folder / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "mine.Model"}}')
    assert "trust_remote_code" in said(folder) and "never run here" in said(folder)
    (folder / "config.json").write_text('{"model_type": "mine"}')
    assert 'of the family "mine", which the installed transformers does not know' in said(folder)


@pytest.mark.parametrize("method", ["stat", "read_text"])
def test_a_folder_out_of_reach(folder, monkeypatch, method):
    """The tests may run as a user to whom nothing is forbidden, so the system's answer is played."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, method, refuse)
    assert "cannot be read (permission denied); copy it to a folder of your own" in said(folder)
