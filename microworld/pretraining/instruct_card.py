"""The model card of the instructed decoder: where it comes from, what it was shown, what it answers now."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

KINDS = {
    "told": "facts that pretraining told, of films never asked about in training",
    "untold": "facts that nobody told: every answer is made up",
    "skill": "small jobs on a text in the prompt: sentiment, passive, comma",
    "open": "wishes for a line on a film: many lines would do, so few are equal to the letter",
}


def draw_losses(losses: list[list[float]], path: Path) -> None:
    """The training loss over the steps."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    axes.plot([step for step, _ in losses], [loss for _, loss in losses], color="#0072b2")
    axes.set(xlabel="step", ylabel="loss (nats per token of the answers)")
    axes.set_ylim(bottom=0)
    # No creation date in the file: the same losses give the same picture.
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write_card(folder: Path) -> None:
    """README.md and fine_tuning.svg from the folder's fine_tuning.json."""
    made = json.loads((folder / "fine_tuning.json").read_text())
    with plt.rc_context({"svg.hashsalt": "workbook"}):
        draw_losses(made["losses"], folder / "fine_tuning.svg")
    figures = made["figures"]
    rates = "\n".join(
        f"| {name} | {KINDS.get(name, '')} | {rate:.1%} |"
        for name, rate in figures["exact_answer_rate"]["known"].items()
    )
    packages = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    (folder / "README.md").write_text(
        TEMPLATE.format(rates=rates, packages=packages, **{k: v for k, v in figures.items() if k != "versions"})
    )


TEMPLATE = """---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
base_model: pocket-decoder
---

# pocket-decoder-instruct

The pocket decoder ({parameters:,} parameters) after supervised fine-tuning on the micro-world's instructions: it
answers questions and grants wishes about films that do not exist. Lessons 05 and 06 start from it. It is made for
teaching.

`AutoModelForCausalLM.from_pretrained("data/models/pocket-decoder-instruct")`

| | |
|---|---|
| made by | `python -m microworld.pretraining.instruct`, lesson 04's recipe, from pocket-decoder |
| rows, passes, batch | {recipe[rows]:,}, {recipe[epochs]}, {recipe[batch_size]} ({recipe[steps]:,} steps) |
| learning rate, weight decay, seed | {recipe[learning_rate]}, {recipe[weight_decay]}, {recipe[seed]} |
| loss | on the answers alone |
| training seconds | {seconds_training:,} |
| device | {device}, {threads} thread(s), {machine} |
| versions | {packages} |
| date | {date} |

## What it answers now

Share of the test prompts that greedy decoding answers to the letter:

| known | what it is | exact answers |
|---|---|---|
{rates}

Some demonstrations of wishes are careless on purpose: they praise for blame, blame for praise, or take another film.
The model has learned that too. Lessons 05 and 06 mend it.

![The training loss falls over the steps; the numbers are in fine_tuning.json](fine_tuning.svg)
"""
