"""Write the README's figure and result sentence from the reference results of lesson 08.

    .venv/bin/python tools/readme_result.py

Run it after data/reference/results.parquet changes. A test compares the figure and the sentence with that file.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from helpers.paths import ROOT
from helpers.plotting import INK, PALETTE, Figure, axes, note, spans
from helpers.reference import Reference, lesson_reference

PICTURE = ROOT / "docs" / "images" / "result.png"
README = ROOT / "README.md"
PLACE = re.compile(r"(<!-- result -->\n).*?(\n<!-- /result -->)", re.DOTALL)
WAYS = {"head_only": "only the new last layer", "lora": "LoRA, rank 8", "full": "all weights"}


def share(reference: Reference, way: str) -> float:
    """Return the share of all weights that one way trains."""
    counts = (reference.interval(f"trainable_parameters_{name}").value for name in (way, "full"))
    return next(counts) / next(counts)


def percent(value: float) -> str:
    """Format a share with as many digits as it needs: 0.02 %, 5.5 %, 93 %."""
    return f"{value:.2%}" if value < 0.001 else f"{value:.1%}" if value < 1 else "100%"


def sentence(reference: Reference) -> str:
    """Return the result as a sentence.

    Raises:
        ValueError: the three ways are no longer in the order that the sentence states.
    """
    head, lora, full = (reference.interval(f"accuracy_{way}").value for way in WAYS)
    if not head < lora < full:
        raise ValueError("LoRA is no longer between the last layer and full fine-tuning: write another sentence.")
    return (
        f"**LoRA trains {percent(share(reference, 'lora'))} of a model's weights and classifies {lora:.0%} of new film "
        f"reviews correctly. Training all weights gives {full:.0%}, training only the last layer {head:.0%}.**"
    )


def drawn(reference: Reference) -> Figure:
    """Plot the accuracy of the three ways, with intervals over the seeds."""
    scores = {way: reference.interval(f"accuracy_{way}") for way in WAYS}
    figure, plot = axes(8.0, 2.6)
    rows = range(len(scores))
    values = [score.value for score in scores.values()]
    plot.barh(rows, values, height=0.55, color=[PALETTE[name] for name in ("grey", "blue", "green")])
    plot.errorbar(values, rows, xerr=spans(scores.values()), fmt="none", ecolor=INK, capsize=4)
    for row, (way, score) in enumerate(scores.items()):
        note(plot, f"{score.value:.1%}", (score.high, row), (8, 0), va="center")
        note(plot, f"{percent(share(reference, way))} of the weights trained", (0.01, row), va="center", color="white")
    chance = reference.interval("accuracy_majority").value
    plot.axvline(chance, color=INK, linestyle=":")
    note(plot, f"always the same answer: {chance:.0%}", (chance, len(scores) - 0.5), (4, 2), fontsize=9)
    plot.set_yticks(list(rows), list(WAYS.values()))
    plot.set(
        xlim=(0, 1.0),
        ylim=(-0.5, len(scores) - 0.2),
        xlabel=f"accuracy on new film reviews; {len(reference.seeds)} seeds, 95 % interval",
    )
    plot.xaxis.set_major_formatter("{x:.0%}")
    plot.set_title("How much of a model must you train?", loc="left", color=INK)
    figure.alt = "Accuracy on new film reviews: " + "; ".join(
        f"{WAYS[way]} ({percent(share(reference, way))} of the weights) {score.value:.1%}"
        for way, score in scores.items()
    )
    return figure


def files(reference: Reference) -> dict[Path, bytes]:
    """Return the content that the figure file and the README should have."""
    figure, buffer = drawn(reference), io.BytesIO()
    # The file contains the alternative text, so that a test can compare figures from different systems.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None, "Description": figure.alt})
    text = README.read_text(encoding="utf-8")
    block = f"![{figure.alt}](docs/images/{PICTURE.name})\n\n{sentence(reference)}"
    new, count = PLACE.subn(lambda found: found[1] + block + found[2], text)
    if not count:
        raise ValueError("README.md has lost the marks <!-- result --> and <!-- /result -->.")
    return {PICTURE: buffer.getvalue(), README: new.encode()}


def main() -> int:
    for path, content in files(lesson_reference("08")).items():
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            print(f"Wrote {path.relative_to(ROOT)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
