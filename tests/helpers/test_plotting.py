"""What several lessons draw shows every value it is given, says it in words too, and reaches the page with them."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from helpers import plotting
from helpers.intervals import Interval, wilson
from helpers.lessons.lesson_02.figures import learning_rates
from helpers.plotting import PALETTE, png, spans

SCORES = {"head only": wilson(70, 100), "all": wilson(95, 100)}


def texts(figure: Figure) -> str:
    figure.canvas.draw()
    axes = figure.axes[0]
    labels = [label.get_text() for label in [*axes.get_yticklabels(), *axes.texts]]
    legend = [text.get_text() for box in [*figure.legends, axes.get_legend()] if box for text in box.get_texts()]
    return " ".join([*labels, *legend])


def test_every_method_its_accuracy_and_its_note_are_drawn():
    figure = plotting.dot_plot(SCORES, {"all": "9 trained"}, floor=0.5)
    for word in ("head only", "all", "70.0%", "95.0%", "9 trained", "majority class"):
        assert word in texts(figure)
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert points == [0.7, 0.95]
    assert png(figure).startswith(b"\x89PNG")


def test_the_floor_is_never_off_the_axis():
    figure = plotting.dot_plot({"all": wilson(99, 100)}, floor=0.1)
    assert figure.axes[0].get_xlim()[0] <= 0.1


def test_the_dot_plot_in_words_goes_from_low_to_high():
    said = plotting.dot_plot({"all": Interval(0.95, 0.9, 0.98), "head": Interval(0.7, 0.6, 0.8)}).alt
    assert said.startswith("Accuracy on the test rows with 95 % interval, lowest first: head 70.0% (60.0% to 80.0%)")
    assert said.index("head 70.0%") < said.index("all 95.0%")


def test_every_slice_and_method_is_drawn():
    series = {"words": {"plain": wilson(8, 10), "negated": wilson(5, 10)}}
    series["model"] = {"plain": wilson(9, 10), "negated": wilson(10, 10)}
    figure = plotting.by_slice(series, {"plain": 10, "negated": 1234})
    for word in ("plain  (10 rows)", "negated  (1,234 rows)", "words", "model"):
        assert word in texts(figure)
    assert figure.alt == "Accuracy by kind of row. plain: words 80%, model 90%; negated: words 50%, model 100%."
    assert plotting.by_slice(series, {"plain": 1, "negated": 2}, "share right").alt.startswith("Share right by kind")


def test_a_learning_rate_per_step_is_drawn():
    figure = learning_rates({"used": [0.1, 0.1], "described": [0.1, 0.05]})
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[0.1, 0.1], [0.1, 0.05]]
    assert "described" in texts(figure)


@pytest.mark.parametrize("count", [1, 5])
def test_figures_are_drawn_for_any_number_of_methods(count):
    scores = {f"method {number}": wilson(50 + number, 100) for number in range(count)}
    assert png(plotting.dot_plot(scores)).startswith(b"\x89PNG")


@pytest.mark.parametrize(("given", "wanted"), [("", plotting.dot_plot(SCORES).alt), ("Two rows.", "Two rows.")])
def test_show_puts_the_alternative_text_on_the_page(monkeypatch, given, wanted):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **more: shown.append((bundle, more["metadata"])))
    plotting.show(plotting.dot_plot(SCORES), alt=given)
    ((bundle, metadata),) = shown
    assert bundle["text/plain"] == wanted and bundle["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == wanted


@pytest.mark.parametrize("way", [plotting.show, plotting.picture])
def test_a_figure_without_words_is_refused(way):
    figure, _ = plotting.axes()
    with pytest.raises(ValueError, match="alternative text"):
        way(figure)
    with pytest.raises(ValueError, match="alternative text"):
        way(figure, alt="  ")


def test_the_palette_differs_in_lightness_or_hue():
    assert len(set(PALETTE.values())) == len(PALETTE) == 8


def test_spans_are_never_negative():
    assert spans([Interval(0.5, 0.4, 0.75), Interval(1.0, 0.9, 1.0 - 1e-12)]) == [
        [pytest.approx(0.1), pytest.approx(0.1)],
        [pytest.approx(0.25), 0.0],
    ]
