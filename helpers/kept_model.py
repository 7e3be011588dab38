"""Saves the model that a lesson trained to the run's folder, for `workbook export`.

A model can take half a gigabyte and most runs need only their results, so a run saves it only with --keep-model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from helpers.files import write_json
from helpers.intervals import Interval
from helpers.models import MeanPoolClassifier, config_of, device_of
from helpers.record import KEEP_MODEL, MODEL_FOLDER, run_folder
from helpers.runtime import UserError
from helpers.sft import answer

FACTS, WEIGHTS = "kept.json", "model.safetensors"
EXAMPLES = 20
MAX_NEW_TOKENS = 24


def keep_model(
    notebook: str,
    model: Any,
    tokenizer: Any,
    *,
    examples: Sequence[str],
    figures: Mapping[str, Interval],
    label_names: Sequence[str] = (),
    max_length: int = 256,
    folder: Path | None = None,
) -> Path | None:
    """Write a trained model to the run's folder if the run has --keep-model; return its folder, or None.

    Args:
        notebook: the lesson's name, such as "09_lora_hugging_face".
        model: a `MeanPoolClassifier`, or a decoder of `transformers`; an adapter has to be merged first.
        examples: texts or prompts. The outputs for the first twenty are saved, and an export must reproduce them.
        figures: for the model card, a description of each held-out measurement -> its value with the interval.
        label_names: a classifier's classes, in the order of its outputs.
        max_length: the number of tokens to which a classifier truncates a text.
        folder: write here, with or without --keep-model; None takes the run's folder if the run has --keep-model.

    Raises:
        UserError: the model still has an adapter, is of another type, or cannot be written.
    """
    if folder is None:
        if not os.environ.get(KEEP_MODEL):
            return None
        folder = run_folder(notebook) / MODEL_FOLDER
    is_classifier = isinstance(model, MeanPoolClassifier)
    _check(model, is_classifier, label_names)
    examples, max_length = list(examples)[:EXAMPLES], min(max_length, tokenizer.model_max_length)
    facts: dict[str, object] = {
        "kind": "classifier" if is_classifier else "decoder",
        "figures": [[what, found.value, found.low, found.high] for what, found in figures.items()],
        "examples": examples,
    }
    if is_classifier:
        facts |= {"label_names": list(label_names), "max_length": max_length}
        facts["said"] = _logits(model, tokenizer, examples, max_length)
    else:
        # One prompt at a time, as a user of the export will do, because padding changes the rounding.
        facts |= {"max_new_tokens": MAX_NEW_TOKENS}
        facts["said"] = answer(model, tokenizer, examples, MAX_NEW_TOKENS, batch_size=1)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if is_classifier:
            config_of(model).save_pretrained(folder)
            weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
            save_file(weights, folder / WEIGHTS)
        else:
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The model could not be kept in {folder.parent.name}/{folder.name} ({error}).") from None
    write_json(folder / FACTS, facts)
    return folder


def _check(model: Any, is_classifier: bool, label_names: Sequence[str]) -> None:
    if any("lora_" in name for name in model.state_dict()):
        raise UserError("keep_model: this model still has an adapter; merge it first, with merge_and_unload().")
    if is_classifier and len(label_names) != model.head.out_features:
        raise UserError(
            f"keep_model: {len(label_names)} label_names for {model.head.out_features} outputs; give a name for each."
        )
    if not is_classifier and not getattr(model, "can_generate", bool)():
        raise UserError(
            f"keep_model: a {type(model).__name__} is neither a MeanPoolClassifier nor a decoder of transformers."
        )


@torch.no_grad()
def _logits(model: MeanPoolClassifier, tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[float]]:
    """Return a list of logits per text; the texts are read one at a time."""
    model.eval()
    found = []
    for text in texts:
        read = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt").to(device_of(model))
        found.append(model(read["input_ids"], read["attention_mask"]).logits[0].float().tolist())
    return found
