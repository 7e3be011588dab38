"""The model card: what a pocket model is, what it saw, what it cost, and how its knowledge arrived."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CURVES = {
    "linear_probe": ("linear probe on 600 labelled reviews", "#0072b2", "-"),
    "polarity_cloze": ("polarity cloze, untrained", "#d55e00", "--"),
    "facts_recalled": ("facts completed to the letter", "#009e73", ":"),
}
TEXTS = {
    "encoder": ("BERT", "masked language modelling", "AutoModelForMaskedLM", "fill-mask"),
    "decoder": ("Llama", "next-token prediction", "AutoModelForCausalLM", "text-generation"),
}


def draw_log(log: list[dict], path: Path) -> None:
    """Loss above, probes below, against tokens seen."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 5.5), sharex=True, layout="constrained")
    tokens = [line["tokens"] / 1e6 for line in log]
    upper.plot(tokens, [line["loss"] for line in log], color="#444444")
    upper.set_ylabel("training loss (nats per guessed token)")
    for name, (label, colour, dash) in CURVES.items():
        if name in log[-1]:
            lower.plot(tokens, [line[name] for line in log], dash, color=colour, label=label)
    lower.axhline(0.5, color="#999999", linewidth=0.8)
    lower.set(xlabel="tokens seen (millions)", ylabel="share right", ylim=(0, 1.02))
    lower.legend(loc="best", fontsize=8)
    # No creation date in the file: the same log gives the same picture.
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write_card(folder: Path) -> None:
    """README.md and pretraining.svg from the folder's pretraining.json."""
    with plt.rc_context({"svg.hashsalt": "workbook"}):
        made = json.loads((folder / "pretraining.json").read_text())
        figures, log = made["figures"], made["log"]
        draw_log(log, folder / "pretraining.svg")
    family, objective, loader, task = TEXTS[figures["kind"]]
    losses = "\n".join(
        f"| {domain} | {figures['loss_random_start'][domain]:.2f} | {figures['loss_pretrained'][domain]:.2f} |"
        for domain in figures["loss_pretrained"]
    )
    stages = "\n".join(_stage(number, recipe) for number, recipe in enumerate(figures["recipes"], 1))
    probes = ", ".join(f"{CURVES[name][0]} {log[-1][name]:.2f}" for name in CURVES if name in log[-1])
    recalled = (
        f"Of the facts that the corpus tells (`facts` in data/microworld), greedy decoding completes "
        f"{figures['facts_recalled']:.1%} to the letter.\n"
        if "facts_recalled" in figures
        else ""
    )
    (folder / "README.md").write_text(
        TEMPLATE.format(
            family=family, objective=objective, loader=loader, task=task, losses=losses, probes=probes,
            recalled=recalled, stages=stages, **figures,
            packages=", ".join(f"{name} {number}" for name, number in figures["versions"].items()),
        )
    )  # fmt: skip


def _stage(number: int, recipe: dict) -> str:
    passes = ", ".join(f"{domain} x {times}" for domain, times in recipe["passes"].items())
    precision = "bfloat16" if recipe["bfloat16"] else "float32"
    return (
        f"| {number} | {recipe['tokens']:,} | {recipe['batch_size']} | {recipe['learning_rate']} "
        f"| {recipe['weight_decay']} | {precision} | {recipe['seed']} | {passes} |"
    )


TEMPLATE = """---
license: mit
language: en
library_name: transformers
pipeline_tag: {task}
---

# pocket-{kind}

A small {family}-family transformer ({parameters:,} parameters), pretrained from random weights by {objective} on the
micro-world's corpus: texts about films that do not exist. It knows nothing of the real world and is made for teaching.

`{loader}.from_pretrained("data/models/pocket-{kind}")`

| | |
|---|---|
| training seconds | {seconds_training:,} (with probes and set-up {seconds_all:,}) |
| device | {device}, {threads} thread(s), {machine} |
| versions | {packages} |
| date | {date} |
| made by | `python -m microworld.pretraining.train {kind}` |

Stages of pretraining, with AdamW, warm-up and cosine decay. Domains of `corpus` are read once, or as often as said;
those of `library` (pages, questions, readings) only where said:

| stage | tokens | batch | learning rate | weight decay | products in | seed | domains |
|---|---|---|---|---|---|---|---|
{stages}

## What it learned, and when

![Loss falls and the probes rise with the tokens seen; the numbers are in pretraining.json](pretraining.svg)

At the end: {probes}. The probes read validation rows only.
{recalled}
Loss on held-out text of each domain, in nats per guessed token:

| domain | random start | pretrained |
|---|---|---|
{losses}
"""
