"""The figures of lesson 10 show every value that they are given, and say it in words too."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from helpers.intervals import wilson
from helpers.lessons.lesson_10 import figures
from helpers.lessons.lesson_10.figures import Point
from helpers.plotting import png

WEIGHTS = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
WHOLE = {"accuracy": Point(4_000_000, 0.9), "perplexity": Point(8_000_000, 4.0)}
PANELS = {
    "accuracy": {"equal": [Point(2_000_000, 0.88, "8"), Point(1_000_000, 0.5, "4")], "pruned": [Point(3_000_000, 0.9)]},
    "perplexity": {"equal": [Point(4_000_000, 4.1, "8"), Point(2_000_000, 900.0, "4")]},
}
LIMITS = {"accuracy": (0.7, 0.95), "perplexity": (3.9, 6.0)}


def texts(figure: Figure) -> str:
    figure.canvas.draw()
    said = []
    for axes in figure.axes:
        said += [label.get_text() for label in [*axes.get_yticklabels(), *axes.texts]]
        said += [axes.get_xlabel(), axes.get_ylabel()]
        said += [text.get_text() for text in (axes.get_legend().get_texts() if axes.get_legend() else [])]
    said += [text.get_text() for box in figure.legends for text in box.get_texts()]
    return " ".join(said)


def test_every_code_book_has_its_line_of_levels():
    codes = {"equal": torch.linspace(-1, 1, 5), "k-means": torch.tensor([-0.5, 0.5])}
    figure = figures.levels(WEIGHTS, codes)
    assert "equal" in texts(figure) and "k-means" in texts(figure)
    assert [len(lines.get_segments()) for lines in figure.axes[1].collections] == [5, 2]
    assert "k-means has 2 of its 2 levels within one" in figure.alt
    twice = figures.levels(WEIGHTS, {"E2M1": torch.tensor([0.0, 0.5, -0.0, -0.5])})
    assert "E2M1 has 3 of its 3 levels" in twice.alt, "+0 and -0 are one level"


def test_every_bit_of_a_format_is_drawn_and_its_value_is_said():
    figure = figures.bit_fields({"half": ("0011010011001101", 5, 0.300048828125, 65504.0)}, 0.3)
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert (
        "".join(drawn[:16]) == "0011010011001101" and len({bar.get_facecolor() for bar in figure.axes[0].patches}) == 3
    )
    assert "half: 0 01101 0011001101 is 0.300049 (off by 0.02%); largest 6.55e+04" in figure.alt
    assert png(figure).startswith(b"\x89PNG")


def test_every_file_is_a_point_and_labels_that_coincide_are_written_once():
    figure = figures.against_bytes(PANELS, WHOLE, LIMITS)
    for word in ("equal", "pruned", "float32", "accuracy", "perplexity", "file (MB)", "8", "4"):
        assert word in texts(figure)
    assert [axes.get_ylim() for axes in figure.axes] == [LIMITS["accuracy"], LIMITS["perplexity"]]
    assert all("4" not in [text.get_text() for text in axes.texts] for axes in figure.axes), "those lie off the scale"
    apart, together = [Point(1e6, 0.8, "4"), Point(3e6, 0.9, "4")], [Point(1e6, 0.8, "4"), Point(1.01e6, 0.8, "4")]
    for points, count in ((apart, 2), (together, 1)):
        one = figures.against_bytes({"accuracy": {"equal": points}}, WHOLE, LIMITS)
        assert [text.get_text() for text in one.axes[0].texts] == ["4"] * count
    assert png(figures.against_bytes({"accuracy": PANELS["accuracy"]}, WHOLE, LIMITS)).startswith(b"\x89PNG")


def test_the_bytes_in_words_name_every_point():
    said = figures.against_bytes(PANELS, WHOLE, LIMITS).alt
    for part in ("accuracy, 0.9 in 4.00 MB at full size", "equal: 0.88 in 2.00 MB, 0.5 in 1.00 MB", "900 in 2.00 MB"):
        assert part in said


def test_sparsity_curves_have_a_line_and_words_for_each():
    curves = {"smallest": {0.5: wilson(80, 100), 0.3: wilson(90, 100)}, "trained again": {0.5: wilson(88, 100)}}
    figure = figures.against_sparsity(curves, 0.91, 0.92)
    assert all(name in texts(figure) for name in (*curves, "all weights", "all weights, trained again"))
    assert "smallest: 90.0% at 30%, 80.0% at 50%" in figure.alt
    assert "with all of them 91.0%, trained again 92.0%" in figure.alt
