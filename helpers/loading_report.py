"""Checks the loading report of `from_pretrained`, and decides whether a lesson can use the model.

`from_pretrained(..., output_loading_info=True)` returns the model and the names of missing weights, unexpected weights
and weights with another shape. Weights that are not loaded stay random, so without this check a lesson would train a
random model unnoticed. The file may hold heads that a lesson does not use; all other weights have to fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from helpers.runtime import UserError
from helpers.weight_files import Header, listed

BLOCK = re.compile(r"\.?(?:layer|layers|h|block|blocks)\.(\d+)\.")
# Buffers that older versions of `transformers` saved and newer ones compute.
COMPUTED = re.compile(r"(position_ids|inv_freq|masked_bias|\battn\.bias|\battention\.bias|rotary_emb\.\w+)$")
Shape = tuple[int, ...]


def check_loading(model: Any, info: Mapping[str, Any], tensors: Header, folder: str, new_head: bool = False) -> None:
    """Refuse a model if some of its weights were not loaded, or if its file holds unexpected weights.

    Args:
        model: what `from_pretrained` returned.
        info: its loading info: `missing_keys`, `unexpected_keys` and `mismatched_keys`.
        tensors: the names and shapes of the file's tensors.
        new_head: whether the weights outside the body may be missing, as for a new classification head.

    Raises:
        UserError: names and counts the weights that are missing, unexpected or of another shape.
    """
    body = model.base_model
    missing = {name for name in info["missing_keys"] if not _is_pooler(name)}
    head = set() if body is model else {name for name in missing if not name.startswith(f"{model.base_model_prefix}.")}
    if new_head:
        missing -= head
    unexpected = {name for name in info["unexpected_keys"] if _has_place(model, name)}
    mismatched = {name: (tuple(held), tuple(wanted)) for name, held, wanted in info["mismatched_keys"]}
    if not (missing or unexpected or mismatched):
        return
    if missing and missing == head and not (unexpected or mismatched):
        raise UserError(
            f"model: {folder} has no word head: {len(head)} of its weights are missing from the file ({listed(head)}), "
            f"so its predictions would be random; give a model that was saved with {type(model).__name__}."
        )
    total = len(model.state_dict())
    said = [f"{len(missing)} of {total} are missing from the file ({listed(missing)})"] if missing else []
    foreign = unexpected or (set(info["unexpected_keys"]) if missing else set())
    if foreign:
        said.append(f"{len(foreign)} are not expected ({listed(foreign)})")
    if mismatched:
        name, (held, wanted) = min(mismatched.items())
        more = f" and {len(mismatched) - 1:,} more" if len(mismatched) > 1 else ""
        said.append(f"{len(mismatched)} of another shape ({name} is {held}, where config.json says {wanted}{more})")
    raise UserError(
        f"model: the weights in {folder} do not fit its config.json: {', '.join(said)}; "
        f"{_fix(model, tensors, missing, unexpected, mismatched)}."
    )


def check_finite(model: Any, folder: str) -> None:
    """Refuse NaN or infinite weights, which would make every output NaN, and word embeddings that are all zero.

    Raises:
        UserError: names the first such weights.
    """
    import torch

    values = dict(model.named_parameters())
    wrong = [name for name, value in values.items() if not torch.isfinite(value).all()]
    if wrong:
        raise UserError(
            f"model: {len(wrong)} of {len(values)} weights in {folder} hold numbers that are not finite "
            f"({listed(wrong)}): its training diverged, or the file is damaged; give an earlier checkpoint."
        )
    words = getattr(model.get_input_embeddings(), "weight", None)  # a model of images has no words
    if words is not None and not words.any():
        raise UserError(
            f"model: the word embeddings in {folder} are all zero, so every word looks the same to the model; the file "
            "was written before its weights were gathered or loaded: save the model again with save_pretrained(folder)."
        )


def _is_pooler(name: str) -> bool:
    """Whether the weight belongs to BERT's pooler, which no lesson uses."""
    return "pooler" in name.split(".")


def _has_place(model: Any, name: str) -> bool:
    """Whether an unexpected weight of the file belongs to the model's body or to one of its modules."""
    if COMPUTED.search(name) or _is_pooler(name):
        return False
    body, own = model.base_model, name.removeprefix(f"{model.base_model_prefix}.")
    if own.partition(".")[0] in dict(body.named_children()):
        return True
    parent = name.rpartition(".")[0]
    return any(parent == path for path, _ in model.named_modules() if path)


def _depth(names: Iterable[str]) -> int:
    return max((int(number) + 1 for name in names for number in BLOCK.findall(name)[:1]), default=0)


def _fix(
    model: Any, tensors: Header, missing: set[str], unexpected: set[str], mismatched: Mapping[str, tuple[Shape, Shape]]
) -> str:
    """Return the end of the error message: how to fix the folder."""
    again = "save the model again with save_pretrained(folder), which writes both"
    config, held = model.config, _depth(tensors)
    depth = getattr(config, "num_hidden_layers", None)
    if held and depth != held and not mismatched:
        changed = missing or unexpected
        if all(BLOCK.search(name) for name in changed):
            return f"set num_hidden_layers in config.json to {held} (it says {depth}), or {again}"
    if any(0 in have for have, _ in mismatched.values()):
        return (
            "the file holds empty tensors, as DeepSpeed ZeRO-3 and FSDP leave them: gather the weights, "
            "then save with save_pretrained(folder)"
        )
    rows = {have[0] for have, _ in mismatched.values() if have}
    vocabulary = getattr(config, "vocab_size", None)
    if len(rows) == 1 and not (missing or unexpected):
        (size,) = rows
        if all(want and want[0] == vocabulary and have[1:] == want[1:] for have, want in mismatched.values()):
            return f"set vocab_size in config.json to {size} (it says {vocabulary}), or {again}"
    if len(missing) > len(model.state_dict()) // 2:
        return "these are the weights of another architecture: copy the config.json that belongs to them"
    return again
