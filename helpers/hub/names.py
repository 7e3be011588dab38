"""What the hub track takes: for each role the model or dataset, its licence, its size, and what to take in its place.

Sizes are rounded, as their authors state them. A revision is a commit that several public projects pin for the same
name; where none is known, what `main` was at the first fetch is kept until you delete it.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_PARAMETER = 16  # of training everything with Adam: weight, gradient, two states, four bytes each
ROOM = 1.5  # how much more than that has to be free: activations, and what else the machine does


@dataclass(frozen=True)
class HubModel:
    """A model on the hub. millions: of parameters; megabytes: to download."""

    name: str
    licence: str
    millions: float
    megabytes: int
    revision: str | None = None

    @property
    def bytes_to_train(self) -> int:
        """Memory that training every parameter takes, roughly: the exact formula is `helpers.memory`'s."""
        return int(self.millions * 1e6 * BYTES_PER_PARAMETER * ROOM)


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the hub. files: patterns of what is fetched; columns: as they are called there."""

    name: str
    licence: str
    rows: str
    megabytes: int
    columns: tuple[str, ...]
    files: tuple[str, ...]
    classes: tuple[str, ...] = ()
    revision: str | None = None


# From the first choice to what a smaller machine can train; where none can be, the pocket model takes the place.
MODELS = {
    "encoder": (
        HubModel(
            "distilbert/distilbert-base-uncased", "Apache-2.0", 67, 270, "12040accade4e8a0f71eabdb258fecc2e7e948be"
        ),
    ),
    "decoder": (
        HubModel("HuggingFaceTB/SmolLM2-135M", "Apache-2.0", 135, 270, "93efa2f097d58c2a74874c7e644dbc9b0cee75a2"),
    ),
    "instruct": (
        HubModel(
            "HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0", 135, 270, "12fd25f77366fa6b3b4b768ec3050bf629380bac"
        ),
    ),
}
PARQUET = ("*train*.parquet", "*test*.parquet", "README.md")
DATASETS = {
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


def revision_of(name: str) -> str | None:
    """The commit that is known of a model by this name."""
    return next((model.revision for models in MODELS.values() for model in models if model.name == name), None)


def fitting(role: str, free_bytes: int) -> HubModel | None:
    """The first model of a role that can be trained in so much memory."""
    return next((model for model in MODELS[role] if model.bytes_to_train <= free_bytes), None)
