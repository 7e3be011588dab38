"""The one place that knows a model's or a dataset's name, path and columns."""

from __future__ import annotations

import hashlib
from pathlib import Path

from helpers.model_folder import check_model_folder
from helpers.runtime import TRACKS, UserError, choose

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("encoder", "decoder", "instruct")
DATASETS = ("corpus", "topics", "reviews", "instructions", "preferences", "facts")
ROLES = MODELS + DATASETS
LABELLED = ("topics", "reviews")

FOLDERS = {"encoder": "pocket-encoder", "decoder": "pocket-decoder", "instruct": "pocket-decoder-instruct"}
POCKET_MODELS = {role: ROOT / "data" / "models" / FOLDERS[role] for role in MODELS}
MICROWORLD = ROOT / "data" / "microworld"
HUB = {
    "encoder": "distilbert/distilbert-base-uncased",
    "decoder": "HuggingFaceTB/SmolLM2-135M",
    "instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "topics": "fancyzhx/ag_news",
    "reviews": "stanfordnlp/imdb",
    "instructions": "timdettmers/openassistant-guanaco",
    "preferences": "trl-lib/ultrafeedback_binarized",
}


def model_source(role: str, track: str, model: str = "") -> str:
    """What `from_pretrained` takes: a checked folder, or on the hub track a name.

    Args:
        model: a folder of the learner's own, or "" for the track's model.

    Raises:
        UserError: when the folder is missing, incomplete, only a pickle, or damaged.
    """
    choose("role", role, MODELS)
    choose("track", track, TRACKS)
    if model:
        folder = local_path(model)
        if track == "hub" and not folder.exists():
            return model
        return str(check_model_folder(folder))
    if track == "hub":
        return HUB[role]
    if not POCKET_MODELS[role].is_dir():
        raise UserError(f"The {role} is not in data/models; make it with: make models")
    return str(check_model_folder(POCKET_MODELS[role]))


def local_path(name: str) -> Path:
    """`name` as a path: from here if it exists, else from the project's folder."""
    path = Path(name).expanduser()
    return path if path.is_absolute() or path.exists() else ROOT / path


def tokenizer(role: str, track: str, model: str = ""):
    """The tokenizer that belongs to the model of this role."""
    from transformers import AutoTokenizer

    return _load(AutoTokenizer.from_pretrained, model_source(role, track, model))


def body(role: str, track: str, model: str = "", pretrained: bool = True):
    """The transformer without a head: its output's first item is (batch, seq, hidden)."""
    from transformers import AutoModel

    return _model(AutoModel, role, track, model, pretrained)


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
        data: a file of the learner's own (CSV, JSON Lines, JSON, Parquet), or "". For `reviews`
            and `topics` it needs text and label, and is split 80/10/10 by `seed`; for `corpus`
            it needs text, and takes the place of the `newcomer` split.

    Raises:
        UserError: when there is no such role, file or column, or the hub cannot be reached.
    """
    choose("role", role, DATASETS)
    choose("track", track, TRACKS)
    if data and role in LABELLED:
        from helpers.local_data import labelled

        return labelled(local_path(data), seed)
    if data and role != "corpus":
        raise UserError(f"data: a file of your own can stand in for reviews, topics or corpus, not {role}.")
    found = _microworld(role) if track == "pocket" else _from_hub(role, seed)
    if data:
        from helpers.local_data import rows_of

        own = rows_of(local_path(data), ("text",))
        found["newcomer"] = own.add_column("domain", ["yours"] * len(own))
    return found


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
    from datasets import load_dataset

    if role not in HUB:
        raise UserError(f'The hub track has no {role} yet; use track = "pocket" here.')
    found = _load(load_dataset, HUB[role])
    if "validation" not in found:
        parts = found["train"].train_test_split(test_size=0.1, seed=seed)
        found["train"], found["validation"] = parts["train"], parts["test"]
    return found


def _model(kind, role: str, track: str, model: str, pretrained: bool = True):
    from transformers import AutoConfig

    source = model_source(role, track, model)
    config = _load(AutoConfig.from_pretrained, source)
    # BERT's pooler would come with random weights that no lesson uses.
    options = {"add_pooling_layer": False} if _has_pooler(kind, config) else {}
    if pretrained:
        return _load(kind.from_pretrained, source, **options)
    return kind.from_config(config, **options)


def _has_pooler(kind, config) -> bool:
    return kind.__name__ == "AutoModel" and config.model_type in ("bert", "roberta")


def _load(loader, source: str, **options):
    """Call a library's loader; say in one sentence what stopped it."""
    from safetensors import SafetensorError

    try:
        return loader(source, **options)
    except SafetensorError as error:
        raise UserError(f"model: the weights in {source} are damaged ({error}); copy them again.") from None
    except (ConnectionError, OSError, ValueError) as error:
        if Path(source).is_dir():
            raise UserError(f"model: {source} cannot be loaded: {error}") from None
        raise UserError(
            f"{source} cannot be fetched from the hub (no network, or no such name); "
            f'use track = "pocket", which needs none. It said: {str(error).splitlines()[0]}'
        ) from None
