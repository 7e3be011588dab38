"""Make a pocket model from the corpus: `python -m microworld.pretraining.train encoder` (or decoder)."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from datasets import Dataset

from microworld.pretraining import probes
from microworld.pretraining.cards import write_pretraining_card
from microworld.pretraining.loop import Recipe, run
from microworld.pretraining.making import BLOCK, ROOT, PocketModel, environment, rows, write_sums

MODELS = ROOT / "data" / "models"
# The models learn positive and negative words from the blurbs, because a blurb uses several words of one polarity in a
# row. So both models read the blurbs more often than the rest. The encoder is not asked for facts, so it reads fewer
# pages of facts. Its later stages come from measurements. After the first stage, it could distinguish frequent positive
# words from frequent negative ones, but not rare ones. After the second, it knew the words but misjudged whole reviews.
STAGES = {
    "encoder": (
        Recipe(tokens=14_000_000, learning_rate=2e-3, passes={"blurbs": 3.0, "films": 0.3, "talk": 0.5, "news": 0.7}),
        Recipe(
            tokens=7_000_000,
            learning_rate=1.5e-3,
            passes={"blurbs": 3.0, "reviews": 0.75, "films": 0.1, "talk": 0.2, "news": 0.2},
        ),
        Recipe(
            tokens=8_000_000,
            learning_rate=1.5e-3,
            passes={"blurbs": 0.5, "films": 0.05, "talk": 0.1, "news": 0.2},
        ),
        Recipe(
            tokens=24_000_000,
            learning_rate=1.5e-3,
            passes={"blurbs": 0.5, "films": 0.1, "talk": 0.2, "news": 0.2},
            bfloat16=True,
        ),
    ),
    "decoder": (
        Recipe(tokens=10_000_000, learning_rate=3e-3, passes={"blurbs": 3.0, "news": 0.7}),
        Recipe(
            tokens=8_000_000,
            learning_rate=2e-3,
            passes={
                "reviews": 0.4,
                "blurbs": 0.4,
                "films": 0.25,
                "talk": 0.5,
                "news": 0.2,
                "pages": 2.0,
                "questions": 2.0,
                "readings": 1.0,
            },
            bfloat16=True,
        ),
        Recipe(
            tokens=8_000_000,
            learning_rate=1.5e-3,
            passes={
                "blurbs": 2.0,
                "films": 0.2,
                "talk": 0.3,
                "news": 0.2,
                "pages": 0.6,
                "questions": 0.5,
                "readings": 0.2,
            },
            bfloat16=True,
        ),
    ),
}


def reading_list(documents: Dataset, passes: dict[str, float], otherwise: float = 1.0) -> list[str]:
    """Return the texts, those of each domain as often as `passes` says (`otherwise` times if `passes` has no entry)."""
    texts: dict[str, list[str]] = {}
    for domain, text in zip(documents["domain"], documents["text"], strict=True):
        texts.setdefault(domain, []).append(text)
    chosen: list[str] = []
    for domain, some in texts.items():
        whole, part = divmod(passes.get(domain, otherwise), 1)
        chosen += some * int(whole) + some[: round(part * len(some))]
    return chosen


def train(kind: str, stages: tuple[Recipe, ...], out: Path) -> None:
    """Pretrain stage by stage. Skip the stages that `out` already contains, made with the same recipes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    corpus, library, held_out = rows("corpus", "train"), rows("library", "train"), rows("corpus", "validation")
    done = finished(out, stages)
    if done:
        made = PocketModel.resume(kind, out, device)
    else:
        made = PocketModel.start(kind, list(corpus["text"]), stages[0].seed, device)
        done = {"figures": {"kind": kind, "recipes": [], "seconds_training": 0, "seconds_all": 0}, "log": []}
        done["figures"]["loss_random_start"] = made.loss_by_domain(held_out)
    print(
        f"{kind}: {made.model.num_parameters():,} parameters, {len(done['figures']['recipes'])} stages done", flush=True
    )
    for recipe in stages[len(done["figures"]["recipes"]) :]:
        texts = reading_list(corpus, recipe.passes) + reading_list(library, recipe.passes, otherwise=0.0)
        one_stage(made, recipe, made.blocks(texts, recipe.seed), done, out)
        done["figures"] |= figures(made, held_out)
        (out / "pretraining.json").write_text(json.dumps(done, indent=1) + "\n")
        write_pretraining_card(out)
        write_sums(out)


def finished(out: Path, stages: tuple[Recipe, ...]) -> dict | None:
    """Return the record in `out` if it has the first stages of `stages`, but not all of them; else None."""
    path = out / "pretraining.json"
    if not path.exists():
        return None
    done = json.loads(path.read_text())
    recipes = [asdict(recipe) for recipe in stages]
    count = len(done["figures"]["recipes"])
    return done if count < len(stages) and done["figures"]["recipes"] == recipes[:count] else None


def one_stage(made: PocketModel, recipe: Recipe, blocks: torch.Tensor, done: dict, out: Path) -> None:
    """Train one stage, and add its log lines, seconds and recipe to `done`."""
    before = sum(earlier["tokens"] for earlier in done["figures"]["recipes"])
    (out / "pretraining.json").unlink(missing_ok=True)  # the folder's model is unfinished from now on
    started = time.perf_counter()

    def note(line: dict) -> None:
        line |= made.probe() | {"tokens": before + line["tokens"]}
        done["log"].append(line)
        left = line["seconds"] / line["step"] * (line["steps"] - line["step"]) / 60
        print(json.dumps(line), f"about {left:.0f} minutes left", flush=True)
        save(made, out)

    seconds = run(made.model, made.loss(recipe), blocks, recipe, note)
    done["figures"]["seconds_training"] += round(seconds)
    done["figures"]["seconds_all"] += round(time.perf_counter() - started)
    done["figures"]["recipes"].append(asdict(recipe))


def figures(made: PocketModel, held_out: Dataset) -> dict:
    """Return the model's current figures and the machine, for the model card."""
    found = {
        "parameters": made.model.num_parameters(),
        "block": BLOCK,
        "device": made.model.device.type,
        **environment(),
        "loss_pretrained": made.loss_by_domain(held_out),
    }
    if made.kind == "decoder":
        found["facts_recalled"] = probes.facts_recalled(made.model, made.tokenizer, rows("facts", "test")[:])
    return found


def save(made: PocketModel, out: Path) -> None:
    """Save the model and the tokenizer as a model folder like those on the Hugging Face Hub."""
    made.model.save_pretrained(out)
    made.tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pretrain a pocket model on the micro-world's corpus.")
    parser.add_argument("kind", choices=sorted(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="share of the recipes' tokens to train on")
    parser.add_argument("--out", type=Path, help="folder to write (default: data/models/pocket-KIND)")
    asked = parser.parse_args()
    stages = [
        replace(recipe, seed=asked.seed + index, tokens=int(asked.share * recipe.tokens))
        for index, recipe in enumerate(STAGES[asked.kind])
    ]
    train(asked.kind, tuple(stages), asked.out or MODELS / f"pocket-{asked.kind}")


if __name__ == "__main__":
    main()
