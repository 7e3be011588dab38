"""Model cards of the pocket models: architecture, training data, cost and results.

Each card is made from a file that training saved beside the weights: pretraining.json or fine_tuning.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from microworld.measure import template

CURVES = {
    "linear_probe": ("linear probe on 600 labelled reviews", "#0072b2", "-"),
    "polarity_cloze": ("polarity cloze, untrained", "#d55e00", "--"),
    "facts_recalled": ("facts completed to the letter", "#009e73", ":"),
}
TEXTS = {
    "encoder": ("BERT", "masked language modelling", "AutoModelForMaskedLM", "fill-mask"),
    "decoder": ("Llama", "next-token prediction", "AutoModelForCausalLM", "text-generation"),
}
KNOWN = {
    "told": "facts from the pretraining text, about films that no training question asks about",
    "untold": "facts that no training text contains, so every answer is made up",
    "skill": "small tasks on a text in the prompt: sentiment, passive, comma",
    "open": "requests for a line about a film: many lines are right, so few equal the reference",
}


def write_pretraining_card(folder: Path) -> None:
    """Write README.md and pretraining.svg from the folder's pretraining.json."""
    made = json.loads((folder / "pretraining.json").read_text())
    figures, log = made["figures"], made["log"]
    with plt.rc_context({"svg.hashsalt": "workbook"}):
        _save(_probes(log), folder / "pretraining.svg")
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
    page = template("pretrained.md").format(
        family=family, objective=objective, loader=loader, task=task, losses=losses, probes=probes,
        recalled=recalled, stages=stages, packages=_packages(figures), **figures,
    )  # fmt: skip
    (folder / "README.md").write_text(page)


def write_instruction_card(folder: Path) -> None:
    """Write README.md and fine_tuning.svg from the folder's fine_tuning.json."""
    made = json.loads((folder / "fine_tuning.json").read_text())
    with plt.rc_context({"svg.hashsalt": "workbook"}):
        _save(_losses(made["losses"]), folder / "fine_tuning.svg")
    figures = made["figures"]
    rates = "\n".join(
        f"| {name} | {KNOWN.get(name, '')} | {rate:.1%} |"
        for name, rate in figures["exact_answer_rate"]["known"].items()
    )
    page = template("instructed.md").format(rates=rates, packages=_packages(figures), **figures)
    (folder / "README.md").write_text(page)


def _probes(log: list[dict]) -> Figure:
    """Plot the loss (top) and the probes (bottom) against the tokens seen."""
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
    return figure


def _losses(losses: list[list[float]]) -> Figure:
    """Plot the training loss over the steps."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    axes.plot([step for step, _ in losses], [loss for _, loss in losses], color="#0072b2")
    axes.set(xlabel="step", ylabel="loss (nats per token of the answers)")
    axes.set_ylim(bottom=0)
    return figure


def _save(figure: Figure, path: Path) -> None:
    # Without a creation date, the same numbers give the same file.
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _packages(figures: dict) -> str:
    return ", ".join(f"{name} {number}" for name, number in figures["versions"].items())


def _stage(number: int, recipe: dict) -> str:
    passes = ", ".join(f"{domain} x {times}" for domain, times in recipe["passes"].items())
    precision = "bfloat16" if recipe["bfloat16"] else "float32"
    return (
        f"| {number} | {recipe['tokens']:,} | {recipe['batch_size']} | {recipe['learning_rate']} "
        f"| {recipe['weight_decay']} | {precision} | {recipe['seed']} | {passes} |"
    )
