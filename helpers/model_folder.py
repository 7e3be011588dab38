"""Is this folder a model that can be loaded safely? Said in words when it is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from helpers.reach import exists, unreachable
from helpers.runtime import UserError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
SUMS = "SHA256SUMS"


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_model_folder(folder: Path) -> Path:
    """Return `folder` if a model can be loaded from it.

    Raises:
        UserError: naming the folder or file, what is wrong with it and how to mend it.
    """
    if not exists(folder) or not folder.is_dir():
        raise UserError(f"model: there is no folder {folder}.")
    try:
        _check_config(folder)
        if not any(folder.glob("*.safetensors")):
            raise UserError(f"model: {folder} {_without_weights(folder)}")
        _check_sums(folder)
    except OSError as error:
        raise unreachable(folder, error) from None
    return folder


def check_kind(kind: type, config: object) -> None:
    """Refuse a decoder where blanks are to be filled, and an encoder where texts are to be continued.

    kind: an Auto class of `transformers`; config: the model's. What a family can do is read from the library's own
    tables.

    Raises:
        UserError: naming the family and what the lesson needs.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    fills = type(config) in AutoModelForMaskedLM._model_mapping
    if kind is AutoModelForMaskedLM and not fills:
        raise UserError(
            f"model: a {config.model_type} model is no encoder, and this needs one, as BERT: it fills blanks."
        )
    continues = type(config) in AutoModelForCausalLM._model_mapping and (not fills or config.is_decoder)
    if kind is AutoModelForCausalLM and not continues:
        raise UserError(
            f"model: a {config.model_type} model is no decoder, and this needs one, as Llama: it writes on."
        )


def _check_config(folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(
            f"model: {folder} has no config.json, so its architecture is unknown; "
            "save a model with save_pretrained(folder) to get one."
        )
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
        kind = found.get("model_type")
    except (ValueError, AttributeError):
        raise UserError(f"model: {config} is not valid JSON; fetch or save it again.") from None
    if not kind:
        raise UserError(f"model: {config} names no model_type; save the model again.")
    _check_family(folder, kind, found)


def _check_family(folder: Path, kind: str, config: dict) -> None:
    from transformers import CONFIG_MAPPING

    if kind in CONFIG_MAPPING:
        return
    if "auto_map" in config or any(folder.glob("*.py")):
        raise UserError(
            f"model: {folder} brings code of its own (trust_remote_code), which is never run here; choose a model "
            "of a family that transformers knows."
        )
    raise UserError(f'model: {folder} is of the family "{kind}", which the installed transformers does not know.')


def _without_weights(folder: Path) -> str:
    if any(any(folder.glob(pattern)) for pattern in PICKLES):
        return (
            "holds only a pickle, which can run code when it is opened; convert it where you "
            "trust it: from_pretrained(folder), then save_pretrained(folder), which writes "
            "safetensors."
        )
    return "has no *.safetensors file with weights; save the model with save_pretrained(folder)."


def _check_sums(folder: Path) -> None:
    sums = folder / SUMS
    if not sums.is_file():
        return
    for line in sums.read_text(encoding="utf-8").splitlines():
        wanted, _, name = line.strip().partition(" ")
        path = folder / name.strip().lstrip("*")
        if not name:
            continue
        if not path.is_file() or sha256(path) != wanted:
            state = "damaged or changed" if path.is_file() else "missing"
            raise UserError(
                f"model: {path} is {state} (its SHA-256 is not the one in {SUMS}); "
                "copy it again, or for the committed models: git checkout -- data/models"
            )
