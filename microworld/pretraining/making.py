"""A pocket model during pretraining: how it is created or loaded, its objective, and its probes."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from helpers.language_model import pack
from helpers.paths import ROOT
from microworld.pretraining import models, probes
from microworld.pretraining.loop import Loss, Recipe, masked_loss, next_token_loss

WORLD = ROOT / "data" / "microworld"
BLOCK = 128


def rows(config: str, split: str) -> Dataset:
    """Load one split of the micro-world's dataset `config`."""
    return Dataset.from_parquet(str(WORLD / config / f"{split}.parquet"))


def environment() -> dict[str, object]:
    """Return the threads, machine, date and library versions of a training run, for the model card."""
    return {
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}",
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "datasets")},
    }


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS for every file of the folder, in the format of `sha256sum`."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(sums))


@dataclass
class PocketModel:
    """A model during pretraining, with its tokenizer, its objective and its probes."""

    kind: str
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel

    @classmethod
    def start(cls, kind: str, texts: list[str], seed: int, device: str) -> PocketModel:
        """Create a model with random weights, and train a tokenizer on the texts."""
        torch.manual_seed(seed)
        tokenizer = getattr(models, f"{kind}_tokenizer")(texts)
        return cls(kind, tokenizer, getattr(models, kind)(tokenizer).to(device))

    @classmethod
    def resume(cls, kind: str, folder: Path, device: str) -> PocketModel:
        """Load the model that an earlier stage saved in `folder`."""
        loader = AutoModelForMaskedLM if kind == "encoder" else AutoModelForCausalLM
        return cls(kind, AutoTokenizer.from_pretrained(folder), loader.from_pretrained(folder).to(device))  # type: ignore[arg-type]  # wrapped by transformers

    def loss(self, recipe: Recipe) -> Loss:
        """Return the objective: a function from blocks to their mean loss."""
        if isinstance(self.model, BertForMaskedLM):
            return masked_loss(self.model, self.tokenizer, recipe, torch.Generator().manual_seed(recipe.seed))
        return next_token_loss(self.model)

    def blocks(self, texts: list[str], seed: int = 0) -> torch.Tensor:
        """Tokenize the texts and pack them into blocks, (blocks, BLOCK)."""
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        start = self.tokenizer.cls_token_id if self.kind == "encoder" else self.tokenizer.bos_token_id
        end = self.tokenizer.sep_token_id if self.kind == "encoder" else self.tokenizer.eos_token_id
        return pack(ids, BLOCK, start, end, seed)

    @torch.inference_mode()
    def loss_by_domain(self, corpus: Dataset) -> dict[str, float]:
        """Return the mean loss on each domain of held-out text."""
        self.model.eval()
        texts: dict[str, list[str]] = {}
        for row in corpus:
            texts.setdefault(row["domain"], []).append(row["text"])
        loss, losses = self.loss(Recipe(tokens=0)), {}
        for domain, some in texts.items():
            parts = [loss(part.to(self.model.device)) for part in self.blocks(some).split(16)]
            losses[domain] = round(float(torch.stack(parts).mean()), 4)
        return losses

    def probe(self) -> dict[str, float]:
        """Run the probes on validation rows of the reviews and, for a decoder, on some of the facts."""
        train, held_out = rows("reviews", "train")[:600], rows("reviews", "validation")[:400]
        found = {
            "linear_probe": probes.linear_probe(self.model, self.tokenizer, train, held_out),
            "polarity_cloze": probes.polarity_cloze(self.model, self.tokenizer, held_out),
        }
        if self.kind == "decoder":
            facts = rows("facts", "test").shuffle(seed=0)[:150]
            found["facts_recalled"] = probes.facts_recalled(self.model, self.tokenizer, facts)
        return {name: round(value, 4) for name, value in found.items()}
