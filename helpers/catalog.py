"""The only module that knows the name, path, revision and columns of each model and dataset.

Sizes are rounded, as their authors state them. A revision is a commit that several public projects also pin. If no
revision is given, the first download takes the newest commit of `main`, and that copy is used until you delete it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict, config, load_dataset
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from helpers import own_data, real
from helpers.files import SUMS, sha256
from helpers.hub import datasets as hub_datasets
from helpers.hub.datasets import HubDataset
from helpers.hub.models import HubModel, fits, is_hub_name, model_folder
from helpers.linear_layers import plain_linear
from helpers.merged_adapters import base_of, merged_folder
from helpers.models import MeanPoolClassifier
from helpers.own_data.formats import FORMATS
from helpers.paths import ROOT, check_cache, exists, local_path
from helpers.pretrained import (
    add_chat_template,
    check_chat_template,
    check_kind,
    check_model_folder,
    load_config,
    load_model,
    load_tokenizer,
)
from helpers.recipes import origin_of
from helpers.runtime import TRACKS, UserError, choose
from helpers.weight_files import check_files, tensor_headers

MODELS = ("encoder", "decoder", "instruct")
DATASETS = ("corpus", "topics", "reviews", "instructions", "preferences", "facts")
OWN_COLUMNS = {
    "topics": ("text", "label"),
    "reviews": ("text", "label"),
    "corpus": ("text",),
    "preferences": ("prompt", "chosen", "rejected"),
}

FOLDERS = {"encoder": "pocket-encoder", "decoder": "pocket-decoder", "instruct": "pocket-decoder-instruct"}
POCKET_MODELS = {role: ROOT / "data" / "models" / FOLDERS[role] for role in MODELS}
MICROWORLD = ROOT / "data" / "microworld"

# If the free memory is too small to train one of these models, the lesson uses the pocket model instead.
HUB_MODELS = {
    "encoder": HubModel(
        "distilbert/distilbert-base-uncased", "Apache-2.0", 67, 270, "12040accade4e8a0f71eabdb258fecc2e7e948be"
    ),
    "decoder": HubModel(
        "HuggingFaceTB/SmolLM2-135M", "Apache-2.0", 135, 270, "93efa2f097d58c2a74874c7e644dbc9b0cee75a2"
    ),
    "instruct": HubModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0", 135, 270, "12fd25f77366fa6b3b4b768ec3050bf629380bac"
    ),
}
PARQUET = ("*train*.parquet", "*test*.parquet", "README.md")
HUB_DATASETS = {
    "reviews": HubDataset(
        "stanfordnlp/imdb", "as its authors give it, for research", "25,000 and 25,000 for the test", 42,
        ("text", "label"), PARQUET, ("negative", "positive"), "e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    ),
    "topics": HubDataset(
        "fancyzhx/ag_news", "as its authors give it, not for commerce", "120,000 and 7,600 for the test", 20,
        ("text", "label"), PARQUET, ("World", "Sports", "Business", "Sci/Tech"),
        "eb185aade064a813bc0b7f42de02595523103ca4",
    ),
    "instructions": HubDataset(
        "databricks/databricks-dolly-15k", "CC-BY-SA-3.0", "15,000", 13,
        ("instruction", "context", "response", "category"), ("*.jsonl", "README.md"), (),
        "bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a",
    ),
    "preferences": HubDataset(
        "trl-lib/ultrafeedback_binarized", "MIT", "62,000 and 1,000 for the test", 160,
        ("chosen", "rejected", "score_chosen", "score_rejected"), PARQUET,
    ),
}  # fmt: skip


def model_source(role: str, track: str, model: str = "") -> str:
    """Return the model's checked folder for `from_pretrained`; the hub track downloads its files once.

    Args:
        model: the learner's own model folder, or on the hub track a model name; "" takes the track's model.

    Raises:
        UserError: when the folder is missing, incomplete, damaged or has only pickled weights, or a download fails.
    """
    choose("role", role, MODELS)
    choose("track", track, TRACKS)
    if model:
        folder = local_path(model)
        if track == "hub" and not exists(folder) and is_hub_name(model):
            known = {entry.name: entry.revision for entry in HUB_MODELS.values()}
            return str(check_files(model_folder(model, known.get(model))))
        base = base_of(folder)
        if base and not (folder / "config.json").is_file():
            say_merged(str(folder), str(base))
            return str(check_files(merged_folder(folder, check_files(check_model_folder(base)))))
        return str(check_files(check_model_folder(folder)))
    if track == "real":
        return str(real.model_folder(role))
    if track == "hub" and fits(HUB_MODELS[role]):
        return str(check_files(model_folder(HUB_MODELS[role].name, HUB_MODELS[role].revision)))
    if not POCKET_MODELS[role].is_dir():
        raise UserError(f"The {role} is not in data/models; make it with: make models")
    return str(check_model_folder(POCKET_MODELS[role]))


def encoder_source(track: str, model: str = "") -> str:
    """Like `model_source` for the role "encoder", but raises a UserError if the model is not an encoder."""
    source = model_source("encoder", track, model)
    check_kind(AutoModelForMaskedLM, load_config(source))
    return source


def origin(role: str, track: str, model: str = "") -> str:
    """Return "pocket" or "published": which recipes of `helpers.recipes` fit the model of this track and `model`."""
    return origin_of(load_config(model_source(role, track, model)))


def tokenizer(role: str, track: str, model: str = "") -> Any:
    """Return the tokenizer of this role's model; a decoder's tokenizer has a chat template that was checked."""
    source = model_source(role, track, model)
    found = load_tokenizer(source)
    if role == "encoder":
        return found
    if track == "hub" or model:
        found = add_chat_template(found)
    return check_chat_template(found, source)


def body(role: str, track: str, model: str = "", pretrained: bool = True) -> nn.Module:
    """Return the transformer without a head; the first item of its output is (batch, seq, hidden)."""
    return plain_linear(_model(AutoModel, role, track, model, pretrained))


def has_word_head(track: str, model: str = "") -> bool:
    """Whether the encoder's folder holds a masked-word head. Sentence-embedding encoders have none."""
    source = model_source("encoder", track, model)
    with torch.device("meta"):  # only the parameter names are needed
        whole = AutoModelForMaskedLM.from_config(load_config(source))
    own = {name for name, _ in whole.named_parameters() if not name.startswith(f"{whole.base_model_prefix}.")}
    return bool(own & set(tensor_headers(Path(source))))


def masked_language_model(track: str, model: str = "", new_head: bool = False) -> Any:
    """Return the encoder with its masked-word head.

    Args:
        new_head: give an encoder without such a head a random one, so that its body can be trained. Call
            `has_word_head` before you measure what the model knows about words.

    Raises:
        UserError: as for `model_source`, and when the tokenizer of the learner's own model has no mask token.
    """
    if not new_head or has_word_head(track, model):
        found = _model(AutoModelForMaskedLM, "encoder", track, model)
    else:
        found = random_like("encoder", track, model)
        setattr(found, found.base_model_prefix, body("encoder", track, model))
        found.tie_weights()
    if model and tokenizer("encoder", track, model).mask_token is None:
        raise UserError(
            f"model: the tokenizer in {model} has no mask token, so there is no blank to fill; set "
            "tokenizer.mask_token to the one that the model was trained with, and save it with save_pretrained(folder)."
        )
    return found


def causal_language_model(track: str, model: str = "", role: str = "decoder") -> Any:
    """Return a decoder with its next-token head: pretrained, or fine-tuned on instructions (role "instruct")."""
    return _model(AutoModelForCausalLM, role, track, model)


def random_like(role: str, track: str, model: str = "") -> Any:
    """Return the same architecture and language-model head with random weights, from torch's global seed."""
    kind = AutoModelForMaskedLM if role == "encoder" else AutoModelForCausalLM
    return _model(kind, role, track, model, pretrained=False)


def classifier(track: str, model: str = "", num_labels: int = 2, pretrained: bool = True) -> MeanPoolClassifier:
    """Return the encoder with a new linear head on its mean-pooled last hidden state."""
    if model:
        say_new_head(model)
    return MeanPoolClassifier(body("encoder", track, model, pretrained), num_labels)


@cache
def say_new_head(model: str) -> None:
    """Print, once per model, that its classification head is new."""
    print(f"model: the classification head on {model} is new; its weights are random until you train them.")


@cache
def say_merged(folder: str, base: str) -> None:
    """Print, once per adapter, that the lesson uses it merged into its base model."""
    print(f"model: {folder} is a LoRA adapter for {base}; the lesson takes the two merged.")


def dataset(role: str, track: str, data: str = "", seed: int = 0, *, tokenizer: Any = None) -> DatasetDict:
    """Return the dataset of this role as a `DatasetDict`.

    Args:
        data: the learner's own file or folder (CSV, JSON Lines, JSON, Parquet), or on the hub track a dataset name;
            "" takes the track's dataset. `reviews` and `topics` need text and label. `corpus` needs text, which
            replaces the `newcomer` split. `preferences` need prompt, chosen and rejected; the pairs are added to the
            micro-world's.
        tokenizer: with it, the learner's own `preferences` that `sft.encode` would refuse count as unusable rows.

    Raises:
        UserError: when there is no such role, file or column, or the hub cannot be reached.
    """
    choose("role", role, DATASETS)
    choose("track", track, TRACKS)
    if not data:
        return _of_track(role, track, seed)
    if role not in OWN_COLUMNS:
        raise UserError(f"data: a file of your own can stand in for {', '.join(OWN_COLUMNS)}, not {role}.")
    source, columns = own_source(data, track), OWN_COLUMNS[role]
    if "label" in columns:
        return own_data.print_notes(own_data.load_labelled(source, seed))
    own = own_data.print_notes(own_data.load_columns(source, columns, tokenizer if role == "preferences" else None))
    if role == "preferences":
        return hub_datasets.deal_out(own.map(lambda row: {"reason": "yours", "film": ""}), _microworld(role), seed)
    found = _of_track(role, track, seed)
    found["newcomer"] = own.add_column("domain", ["yours"] * len(own))
    return found


def with_films(reviews: DatasetDict) -> DatasetDict:
    """Return `reviews` if each row names its film, else the micro-world's reviews, where each row does."""
    if "film" in reviews["train"].column_names:
        return reviews
    print("These reviews do not say which film they are about; the micro-world's, which do, take their place here.")
    return _microworld("reviews")


def own_source(data: str, track: str) -> own_data.Request:
    """Parse a lesson's `data` and find its file: in the current folder, in the project, or on the hub."""
    request = own_data.Request.of(data)
    name, path = request.path.as_posix(), local_path(str(request.path))
    if not exists(path) and is_hub_name(name) and path.suffix.lower() not in FORMATS:
        if track != "hub":
            raise UserError(f'data: there is no file {request.path}; if it is a name on the hub, set track = "hub".')
        path = hub_datasets.table_folder(name)
    return replace(request, path=path)


def _of_track(role: str, track: str, seed: int) -> DatasetDict:
    if track == "real" and role in real.DATASETS:
        return real.dataset(role)
    return _from_hub(role, seed) if track == "hub" else _microworld(role)


def _microworld(role: str) -> DatasetDict:
    if not (MICROWORLD / "README.md").is_file():
        raise UserError("The datasets are not in data/microworld; make them with: make data")
    check_cache()
    # One cache folder per version of the data, because `datasets` does not notice that a local file has changed.
    cache = Path(config.HF_DATASETS_CACHE) / f"microworld-{sha256(MICROWORLD / SUMS)[:16]}"
    return load_dataset(str(MICROWORLD), role, cache_dir=str(cache))


def _from_hub(role: str, seed: int) -> DatasetDict:
    if role in ("reviews", "topics"):
        return hub_datasets.labelled_texts(HUB_DATASETS[role], seed)
    if role == "corpus":
        entries = (HUB_DATASETS["reviews"], HUB_DATASETS["topics"], HUB_DATASETS["instructions"])
        return hub_datasets.corpus(*entries, seed=seed)
    # The micro-world's rows are kept next to the hub's, because only their answers can be checked exactly.
    if role == "facts":
        return hub_datasets.facts(_microworld(role))
    join = hub_datasets.instructions if role == "instructions" else hub_datasets.preferences
    return join(HUB_DATASETS[role], seed, _microworld(role))


def _model(kind: Any, role: str, track: str, model: str, pretrained: bool = True) -> Any:
    return load_model(kind, model_source(role, track, model), pretrained)
