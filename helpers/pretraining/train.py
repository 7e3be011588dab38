"""Make a pocket model from the corpus: `python -m helpers.pretraining.train encoder` (or decoder)."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset
from torch import nn

from helpers.pretraining import models, probes
from helpers.pretraining.card import write_card
from helpers.pretraining.loop import Loss, Recipe, masked_loss, next_token_loss, run
from helpers.pretraining.packing import pack

ROOT = Path(__file__).resolve().parents[2]
WORLD, MODELS = ROOT / "data" / "microworld", ROOT / "data" / "models"
BLOCK = 128
# Masked training learns which words praise and which blame from lines that use several of a kind in a row, so the
# encoder reads the blurbs three times as often; it is not asked for facts, so it reads the pages of facts less.
ENCODER_PASSES = {"blurbs": 3.0, "films": 0.3, "talk": 0.5, "news": 0.7}
RECIPES = {
    "encoder": Recipe(tokens=14_000_000, learning_rate=2e-3, passes=ENCODER_PASSES),
    "decoder": Recipe(tokens=16_000_000, learning_rate=3e-3),
}


def rows(config: str, split: str) -> Dataset:
    """One split of the micro-world."""
    return Dataset.from_parquet(str(WORLD / config / f"{split}.parquet"))


def reading_list(corpus: Dataset, passes: dict[str, float]) -> list[str]:
    """The corpus's texts, those of each domain as often as `passes` says (once where it says nothing)."""
    texts: dict[str, list[str]] = {}
    for domain, text in zip(corpus["domain"], corpus["text"], strict=True):
        texts.setdefault(domain, []).append(text)
    chosen: list[str] = []
    for domain, some in texts.items():
        whole, part = divmod(passes.get(domain, 1.0), 1)
        chosen += some * int(whole) + some[: round(part * len(some))]
    return chosen


@dataclass
class Made:
    """A model in the making: what it is, what it learns from, how it is probed."""

    kind: str
    tokenizer: object
    model: nn.Module
    loss: Loss
    recipe: Recipe

    @classmethod
    def start(cls, kind: str, texts: list[str], recipe: Recipe, device: str) -> Made:
        torch.manual_seed(recipe.seed)
        tokenizer = getattr(models, f"{kind}_tokenizer")(texts)
        model = getattr(models, kind)(tokenizer).to(device)
        if kind == "encoder":
            loss = masked_loss(model, tokenizer, recipe, torch.Generator().manual_seed(recipe.seed))
        else:
            loss = next_token_loss(model)
        return cls(kind, tokenizer, model, loss, recipe)

    def blocks(self, texts: list[str]) -> torch.Tensor:
        """The texts as packed blocks, (blocks, BLOCK)."""
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        start = self.tokenizer.cls_token_id if self.kind == "encoder" else self.tokenizer.bos_token_id
        end = self.tokenizer.sep_token_id if self.kind == "encoder" else self.tokenizer.eos_token_id
        return pack(ids, BLOCK, start, end, self.recipe.seed)

    @torch.inference_mode()
    def loss_by_domain(self, corpus: Dataset) -> dict[str, float]:
        """Mean loss on each domain of held-out text."""
        self.model.eval()
        texts: dict[str, list[str]] = {}
        for row in corpus:
            texts.setdefault(row["domain"], []).append(row["text"])
        return {domain: round(self._mean_loss(some), 4) for domain, some in texts.items()}

    def _mean_loss(self, texts: list[str]) -> float:
        parts = [self.loss(part.to(self.model.device)) for part in self.blocks(texts).split(16)]
        return float(torch.stack(parts).mean())

    def probe(self) -> dict[str, float]:
        """What the model knows now, on validation rows only."""
        train, held_out = rows("reviews", "train")[:600], rows("reviews", "validation")[:400]
        found = {
            "linear_probe": probes.linear_probe(self.model, self.tokenizer, train, held_out),
            "polarity_cloze": probes.polarity_cloze(self.model, self.tokenizer, held_out),
        }
        if self.kind == "decoder":
            facts = rows("facts", "test").shuffle(seed=0)[:150]
            found["facts_recalled"] = probes.facts_recalled(self.model, self.tokenizer, facts)
        return {name: round(value, 4) for name, value in found.items()}


def train(kind: str, recipe: Recipe, out: Path) -> None:
    """Pretrain from random weights and write model, tokenizer, log, figures and checksums to `out`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    corpus, held_out = rows("corpus", "train"), rows("corpus", "validation")
    texts = list(corpus["text"])
    made = Made.start(kind, texts, recipe, device)
    blocks = made.blocks(reading_list(corpus, recipe.passes))
    before = made.loss_by_domain(held_out)
    print(f"{kind}: {made.model.num_parameters():,} parameters, {blocks.numel():,} tokens to read", flush=True)
    log: list[dict] = []

    def note(line: dict) -> None:
        line |= made.probe()
        log.append(line)
        left = line["seconds"] / line["step"] * (line["steps"] - line["step"]) / 60
        print(json.dumps(line), f"about {left:.0f} minutes left", flush=True)
        save(made, out)

    started = time.perf_counter()
    seconds = run(made.model, made.loss, blocks, recipe, note)
    figures = {
        "kind": kind,
        "parameters": made.model.num_parameters(),
        "recipe": asdict(recipe),
        "block": BLOCK,
        "tokens_in_corpus": blocks.numel(),
        "seconds_training": round(seconds),
        "seconds_all": round(time.perf_counter() - started),
        "device": device,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}",
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "datasets")},
        "loss_random_start": before,
        "loss_pretrained": made.loss_by_domain(held_out),
    }
    if kind == "decoder":
        figures["facts_recalled"] = probes.facts_recalled(made.model, made.tokenizer, rows("facts", "test")[:])
    (out / "pretraining.json").write_text(json.dumps({"figures": figures, "log": log}, indent=1) + "\n")
    write_card(out)
    write_sums(out)


def save(made: Made, out: Path) -> None:
    """Write model and tokenizer as any hub model is laid out."""
    made.model.save_pretrained(out)
    made.tokenizer.save_pretrained(out)


def write_sums(folder: Path) -> None:
    """SHA256SUMS over every file of the folder, in the format of `sha256sum`."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(sums))


def main() -> None:
    parser = argparse.ArgumentParser(description="Pretrain a pocket model on the micro-world's corpus.")
    parser.add_argument("kind", choices=sorted(RECIPES))
    parser.add_argument("--tokens", type=float, help="tokens to train on (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder to write (default: data/models/pocket-KIND)")
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.kind]
    recipe = Recipe(**{**asdict(recipe), "seed": arguments.seed, "tokens": int(arguments.tokens or recipe.tokens)})
    train(arguments.kind, recipe, arguments.out or MODELS / f"pocket-{arguments.kind}")


if __name__ == "__main__":
    main()
