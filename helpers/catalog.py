"""The one place that knows a model's or a dataset's name, path and columns."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from helpers.hub import track as hub
from helpers.hub.names import DATASETS as HUB_DATASETS
from helpers.hub.names import MODELS as HUB_MODELS
from helpers.loading import load, load_model
from helpers.model_folder import check_model_folder
from helpers.own_tokenizer import ready
from helpers.paths import ROOT
from helpers.reach import exists, local_path
from helpers.runtime import TRACKS, UserError, choose

MODELS = ("encoder", "decoder", "instruct")
DATASETS = ("corpus", "topics", "reviews", "instructions", "preferences", "facts")
ROLES = MODELS + DATASETS
LABELLED = ("topics", "reviews")
JUDGED = ("instructions", "preferences", "facts")  # the micro-world's own rows stay beside the hub's
OWN_COLUMNS = {"corpus": ("text",), "preferences": ("prompt", "chosen", "rejected")}

FOLDERS = {"encoder": "pocket-encoder", "decoder": "pocket-decoder", "instruct": "pocket-decoder-instruct"}
POCKET_MODELS = {role: ROOT / "data" / "models" / FOLDERS[role] for role in MODELS}
MICROWORLD = ROOT / "data" / "microworld"


def model_source(role: str, track: str, model: str = "") -> str:
    """What `from_pretrained` takes: a checked folder; on the hub track its files are fetched once.

    Args:
        model: a folder of the learner's own, on the hub track also a name there, or "" for the track's model.

    Raises:
        UserError: when the folder is missing, incomplete, only a pickle, or damaged, or the hub refuses.
    """
    choose("role", role, MODELS)
    choose("track", track, TRACKS)
    if model:
        folder = local_path(model)
        if track == "hub" and not exists(folder) and hub.is_hub_name(model):
            return str(hub.model_folder(role, model))
        return str(check_model_folder(folder))
    fetched = hub.model_folder(role) if track == "hub" else None
    if fetched:
        return str(fetched)
    if not POCKET_MODELS[role].is_dir():
        raise UserError(f"The {role} is not in data/models; make it with: make models")
    return str(check_model_folder(POCKET_MODELS[role]))


def tokenizer(role: str, track: str, model: str = ""):
    """The tokenizer that belongs to the model of this role."""
    from transformers import AutoConfig, AutoTokenizer

    source = model_source(role, track, model)
    found = ready(load(AutoTokenizer.from_pretrained, source), load(AutoConfig.from_pretrained, source), source)
    return hub.complete(found) if track == "hub" and role != "encoder" else found


def body(role: str, track: str, model: str = "", pretrained: bool = True):
    """The transformer without a head: its output's first item is (batch, seq, hidden)."""
    from transformers import AutoModel

    from helpers.linear_layers import plain_linear

    return plain_linear(_model(AutoModel, role, track, model, pretrained))


def masked_language_model(track: str, model: str = ""):
    """The encoder with its masked-word head."""
    from transformers import AutoModelForMaskedLM

    return _model(AutoModelForMaskedLM, "encoder", track, model)


def causal_language_model(track: str, model: str = "", role: str = "decoder"):
    """A decoder with its next-token head: as pretrained, or (role "instruct") fine-tuned to follow instructions."""
    from transformers import AutoModelForCausalLM

    return _model(AutoModelForCausalLM, role, track, model)


def random_like(role: str, track: str, model: str = ""):
    """The same architecture and language-model head, with random weights (torch's seed)."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    kind = AutoModelForMaskedLM if role == "encoder" else AutoModelForCausalLM
    return _model(kind, role, track, model, pretrained=False)


def classifier(track: str, model: str = "", num_labels: int = 2, pretrained: bool = True):
    """The encoder with a linear head on its mean-pooled last hidden layer."""
    from helpers.models import MeanPoolClassifier

    return MeanPoolClassifier(body("encoder", track, model, pretrained), num_labels)


def dataset(role: str, track: str, data: str = "", seed: int = 0):
    """The dataset of this role as a `DatasetDict`.

    Args:
        data: a file or folder of the learner's own (CSV, JSON Lines, JSON, Parquet), on the hub track also a name
            there, or "". For `reviews` and `topics` it needs text and label; for `corpus` text, and takes the place
            of the `newcomer` split; for `preferences` prompt, chosen and rejected, and joins the micro-world's pairs.

    Raises:
        UserError: when there is no such role, file or column, or the hub cannot be reached.
    """
    choose("role", role, DATASETS)
    choose("track", track, TRACKS)
    if not data:
        return _microworld(role) if track == "pocket" else _from_hub(role, seed)
    if role in LABELLED:
        from helpers.local_data import labelled, told

        return told(labelled(own_data(data, track), seed))
    if role not in OWN_COLUMNS:
        known = ", ".join((*LABELLED, *OWN_COLUMNS))
        raise UserError(f"data: a file of your own can stand in for {known}, not {role}.")
    from helpers.local_data import rows_of, told

    own = told(rows_of(own_data(data, track), OWN_COLUMNS[role]))
    if role == "preferences":
        from helpers.hub.rows import joined

        return joined(own.map(lambda row: {"reason": "yours", "film": ""}), _microworld(role), seed)
    found = _microworld(role) if track == "pocket" else _from_hub(role, seed)
    found["newcomer"] = own.add_column("domain", ["yours"] * len(own))
    return found


def about(role: str):
    """What the hub track takes for a role, with licence and size: its `HubDataset`, or its `HubModel`s, best first.

    Raises:
        UserError: when nothing of the hub plays this role.
    """
    return {**HUB_MODELS, **HUB_DATASETS}[choose("role", role, (*HUB_MODELS, *HUB_DATASETS))]


def with_films(reviews):
    """`reviews` if its rows say which film they are about, else the micro-world's, whose rows do."""
    if "film" in reviews["train"].column_names:
        return reviews
    print("These reviews do not say which film they are about; the micro-world's, which do, take their place here.")
    return _microworld("reviews")


def own_data(data: str, track: str):
    """What a lesson's `data` says, as `helpers.local_data` takes it: found from here, from the project, or fetched."""
    from helpers.local_data import Request
    from helpers.local_data.formats import FORMATS

    request = Request.of(data)
    name, path = request.path.as_posix(), local_path(str(request.path))
    if not exists(path) and hub.is_hub_name(name) and path.suffix.lower() not in FORMATS:
        if track != "hub":
            raise UserError(f'data: there is no file {request.path}; if it is a name on the hub, set track = "hub".')
        path = hub.dataset_folder(name)
    return replace(request, path=path)


def _microworld(role: str):
    from datasets import load_dataset

    if not (MICROWORLD / "README.md").is_file():
        raise UserError("The datasets are not in data/microworld; make them with: make data")
    return load_dataset(str(MICROWORLD), role, cache_dir=_cache_folder())


def _cache_folder() -> str:
    """A cache of its own for each state of the data: `datasets` does not notice that a local file was made anew."""
    from datasets import config

    state = hashlib.sha256((MICROWORLD / "SHA256SUMS").read_bytes()).hexdigest()[:16]
    return str(Path(config.HF_DATASETS_CACHE) / f"microworld-{state}")


def _from_hub(role: str, seed: int):
    return hub.dataset(role, seed, _microworld(role) if role in JUDGED else None)


def _model(kind, role: str, track: str, model: str, pretrained: bool = True):
    return load_model(kind, model_source(role, track, model), pretrained)
