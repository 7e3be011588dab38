"""Checks the files of a model folder without torch: file contents fit their names, and weights are not quantized.

A safetensors file begins with 8 bytes, the length n of its header. Then come n bytes of JSON: the dtype, shape and file
position of each tensor. Reading only the header is fast for a model of any size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from helpers.paths import unreachable
from helpers.runtime import UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
TEXT_FILES = (
    "config.json", INDEX, "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model",
    "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format
PLAIN = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
# Prefixes that training tools add to parameter names: torch.compile, DataParallel and DDP, FSDP, DeepSpeed.
PREFIXES = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_forward_module.")
QUANTIZED = (
    ".qweight", ".qzeros", ".SCB", ".absmax", ".quant_map", ".weight_packed", ".weight_scale", ".weight_scale_inv",
    ".bitsandbytes__nf4", ".bitsandbytes__fp4",
)  # fmt: skip
OPTIMIZER = ("exp_avg", "exp_avg_sq", "momentum_buffer", "optimizer.", "state.")
Header = dict[str, dict]


def wrong_content(path: Path) -> str:
    """Return the rest of a sentence, with the fix, if a file's content does not fit its name; else "".

    Recognizes these by their first bytes: an empty file, a Git LFS pointer, a web page, a pickle, a GGUF file.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if not start.strip():
        return "is empty; copy or download it again."
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return (
            'is a Git LFS pointer and not the file itself; run "git lfs pull" where you cloned it, and copy it again.'
        )
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page and not the file itself; download the file again, from its download link."
    foreign = path.suffix == ".safetensors" and start[8:9] != b"{"  # the 8 bytes before it can be anything
    if foreign and start.startswith((b"\x80", b"PK\x03\x04")):
        return (
            "is a pickle with another name, which can run code when it is opened; convert it where you trust it: "
            "from_pretrained(folder), then save_pretrained(folder)."
        )
    if foreign and start.startswith(b"GGUF"):
        return "is a GGUF file with another name; save the model with save_pretrained(folder)."
    return ""


def is_adapter(folder: Path) -> bool:
    """Whether a folder contains an adapter, with or without a model."""
    return any((folder / name).is_file() for name in (ADAPTER_CONFIG, *ADAPTER_WEIGHTS))


def check_adapter(folder: Path) -> None:
    """Refuse a folder with an adapter: alone it is not a model, and beside a model `transformers` would load it too.

    Raises:
        UserError: names the adapter's base model, if known, and the fix.
    """
    path = folder / ADAPTER_CONFIG
    if not is_adapter(folder):
        return
    kind, base = "adapter", ""
    if path.is_file():
        config = _read_json(path)
        if not isinstance(config, dict):
            raise UserError(f"model: {path} holds no settings of an adapter; save the adapter again.")
        kind = {"LORA": "LoRA adapter"}.get(str(config.get("peft_type")), f"{config.get('peft_type', '')} adapter")
        base = str(config.get("base_model_name_or_path") or "")
    article = "an" if kind.strip()[0] in "aeioAEIO" else "a"
    if (folder / "config.json").is_file() and any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        raise UserError(
            f"model: {folder} holds a whole model and {article} {kind.strip()} ({ADAPTER_CONFIG}), which would be "
            "added to it; move the adapter's files to a folder of their own."
        )
    merge = "PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(new_folder)"
    if base:
        raise UserError(
            f"model: {folder} is {article} {kind.strip()} for {base} and no whole model; give its base, {base}, "
            f"or merge it: {merge}."
        )
    raise UserError(
        f"model: {folder} is {article} {kind.strip()} and no whole model, and does not say for which base model; "
        f"give the model that it was trained on, or merge it: {merge}."
    )


def check_files(folder: Path) -> Path:
    """Return `folder` if each file's content fits its name and the weights are unquantized, with unwrapped names.

    Raises:
        UserError: names the file, the problem and how to fix it.
    """
    try:
        for path in (folder / name for name in TEXT_FILES):
            if path.is_file():
                _check_content(path)
                if path.suffix == ".json":
                    _read_json(path)
        tensors = tensor_headers(folder)
    except OSError as error:
        raise unreachable(folder, error) from None
    _check_names(folder, tensors)
    for name, entry in tensors.items():
        if name.endswith(".weight") and entry["dtype"] not in PLAIN:
            raise UserError(
                f"model: the weights in {folder} are quantized ({name} is stored as {entry['dtype']}), and what they "
                "mean is known only to the tool that wrote them; give the model in float32, float16 or bfloat16."
            )
    return folder


def tensor_headers(folder: Path) -> Header:
    """Return the dtype and shape of every tensor of a model, by name.

    Raises:
        UserError: when a file of weights is missing, cut short or not a safetensors file.
    """
    found: Header = {}
    for path in weight_paths(folder):
        found |= read_header(path)
    if not found:
        raise UserError(f"model: the weights in {folder} hold no tensor; save the model with save_pretrained(folder).")
    return found


def read_header(path: Path) -> Header:
    """Return the dtype and shape of every tensor of one safetensors file, by name.

    Raises:
        UserError: when the file is cut short or not a safetensors file.
    """
    _check_content(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise _damaged(path, f"its {size:,} bytes do not hold the header that they announce")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            shapes = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise _damaged(path, "its header is not that of a safetensors file") from None
    if size != 8 + length + end:
        raise _damaged(path, f"it has {size:,} bytes and should have {8 + length + end:,}")
    return {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in shapes.items()}


def listed(names: Iterable[str], shown: int = 3) -> str:
    """Format the first names in alphabetical order and the number of the others for a message."""
    ordered = sorted(names)
    rest = len(ordered) - shown
    return ", ".join(ordered[:shown]) + (f" and {rest:,} more" if rest > 0 else "")


def weight_paths(folder: Path) -> list[Path]:
    """Return the files that `from_pretrained` would read: a single one, or those that the index lists."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        for path in (folder / WEIGHTS, folder / INDEX):
            if path.is_symlink() or path.is_dir():
                state = f"a link to {path.readlink()}, which does not exist" if path.is_symlink() else "a folder"
                raise UserError(f"model: {path} is {state}; copy the file itself (cp -L follows links).")
        others = listed(path.name for path in folder.glob("*.safetensors"))
        raise UserError(
            f"model: {folder} has neither {WEIGHTS} nor {INDEX}, only {others}; "
            "save the model with save_pretrained(folder), which writes the one or the other."
        )
    index = _read_json(folder / INDEX)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not places or not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"model: {folder / INDEX} has no weight_map; copy it again, or save the model again.")
    outside = [name for name in places.values() if Path(name).name != name or not name.endswith(".safetensors")]
    if outside:
        raise UserError(
            f"model: {folder / INDEX} lists {outside[0]}, which is no safetensors file in this folder; "
            "save the model again with save_pretrained(folder)."
        )
    names = sorted(set(places.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"model: {len(missing)} of {len(names)} files of weights in {folder} are missing ({listed(missing)}); "
            "copy them too."
        )
    held = {(key, name) for name in names for key in read_header(folder / name)}
    gone = [key for key, name in places.items() if (key, name) not in held]
    if gone:
        raise UserError(
            f"model: {len(gone)} of {len(places)} weights that {folder / INDEX} lists are not in the files it names "
            f"({listed(gone)}); copy index and files again, from the same place."
        )
    spare = sorted({path.name for path in folder.glob("model-*-of-*.safetensors")} - set(names))
    if spare:
        raise UserError(
            f"model: {folder / INDEX} leaves out {listed(spare)}, so those weights would not be loaded; "
            "copy the index again, or remove the file if it is of another model."
        )
    return [folder / name for name in names]


def _check_names(folder: Path, tensors: Header) -> None:
    for prefix in PREFIXES:
        inside = f".{prefix}" if prefix.startswith("_") else prefix  # models also have submodules called "module"
        wrapped = [name for name in tensors if name.startswith(prefix) or (inside != prefix and inside in name)]
        if wrapped:
            raise UserError(
                f'model: {len(wrapped)} of {len(tensors)} weights in {folder} have "{prefix}" in their names '
                f"({listed(wrapped, 1)}): they were saved from a wrapped model, and none of them would be loaded; "
                f"save the model inside it: {_unwrapped(prefix)}.save_pretrained(folder)."
            )
    quantized = [name for name in tensors if name.endswith(QUANTIZED)]
    if quantized:
        raise UserError(
            f"model: the weights in {folder} are already quantized ({listed(quantized)}); the lessons train and "
            "quantize plain weights: give the model that it was made from."
        )
    if all(any(mark in name for mark in OPTIMIZER) for name in tensors):
        raise UserError(
            f"model: {folder} holds only the state of an optimizer ({listed(tensors)}) and no weights; "
            "copy the model's own file, or save it with save_pretrained(folder)."
        )


def _unwrapped(prefix: str) -> str:
    return {"_orig_mod.": "model._orig_mod", "module.": "model.module"}.get(prefix, "accelerator.unwrap_model(model)")


def _check_content(path: Path) -> None:
    wrong = wrong_content(path)
    if wrong:
        raise UserError(f"model: {path} {wrong}")


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise UserError(f"model: {path} is not valid JSON; fetch or save it again.") from None


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"model: {path} is damaged ({why}); copy it again.")
