"""Make the model of lessons 05 and 06 with lesson 04's recipe: `python -m microworld.pretraining.instruct`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.sft import RECIPE, SFTRecipe, answer, encode_rows, end_of_turn, exact_match_rates, fine_tune
from helpers.training import History
from microworld.pretraining.cards import write_instruction_card
from microworld.pretraining.making import environment, rows, write_sums
from microworld.pretraining.train import MODELS

BASE = MODELS / "pocket-decoder"
OUT = MODELS / "pocket-decoder-instruct"
FOLD = 20  # steps whose mean is one point of the loss curve


def instruct(base: Path, out: Path, recipe: SFTRecipe = RECIPE, seed: int = 0, share: float = 1.0) -> None:
    """Fine-tune the decoder in `base` on the training instructions and write the whole model folder `out`.

    share: the share of the rows to train and measure on. Use less than 1.0 for a trial run.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    model.to(device)  # type: ignore[arg-type]  # wrapped by transformers
    train, test = (_part(split, share) for split in ("train", "test"))
    history = fine_tune(model, encode_rows(tokenizer, train), tokenizer.pad_token_id, recipe, seed=seed)
    # With these ids, `generate` and pipelines stop at the end of a turn by default.
    model.generation_config.eos_token_id = [end_of_turn(tokenizer), tokenizer.eos_token_id]
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    found = figures(history, recipe, seed, len(train)) | {"device": device, "parameters": model.num_parameters()}
    found["exact_answer_rate"] = measured(model, tokenizer, test)
    made = {"figures": found, "losses": folded(history.losses)}
    (out / "fine_tuning.json").write_text(json.dumps(made, indent=1) + "\n")
    write_instruction_card(out)
    write_sums(out)


def measured(model: nn.Module, tokenizer, test: list[dict]) -> dict[str, dict[str, float]]:
    """Return the exact-answer rate for each value of the columns `known` and `kind`: column -> value -> rate."""
    answers = answer(model, tokenizer, [row["prompt"] for row in test])
    return {
        column: {name: round(rate.value, 4) for name, rate in exact_match_rates(test, answers, column).items()}
        for column in ("known", "kind")
    }


def figures(history: History, recipe: SFTRecipe, seed: int, count: int) -> dict:
    """Return the run's recipe, seconds and machine, for the model card."""
    return {
        "recipe": asdict(recipe) | {"seed": seed, "rows": count, "steps": len(history.losses)},
        "seconds_training": round(history.seconds),
        **environment(),
    }


def folded(losses: Sequence[float], fold: int = FOLD) -> list[list[float]]:
    """Return the loss curve with fewer points: [step, mean loss of the steps since the last point]."""
    parts = [losses[start : start + fold] for start in range(0, len(losses), fold)]
    return [[min((place + 1) * fold, len(losses)), round(sum(part) / len(part), 4)] for place, part in enumerate(parts)]


def _part(split: str, share: float) -> list[dict]:
    whole = rows("instructions", split).shuffle(seed=0)
    return whole.select(range(max(1, round(share * len(whole))))).to_list()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune the pocket decoder on the micro-world's instructions.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="share of the rows to train on (default: all)")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    parser.add_argument("--base", type=Path, default=BASE, help="the pretrained decoder's folder")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write")
    asked = parser.parse_args()
    instruct(asked.base, asked.out, replace(RECIPE, epochs=asked.epochs), asked.seed, asked.share)


if __name__ == "__main__":
    main()
