"""One look for every figure, and the way in which a figure reaches the page."""

from __future__ import annotations

import io

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's eight colours, told apart with every common kind of colour blindness.
PALETTE = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "grey": "#7F7F7F",
}
INK = "#333333"
DOTS_PER_INCH = 110


def axes(width: float = 7.0, height: float = 3.6, rows: int = 1, columns: int = 1) -> tuple[Figure, Axes]:
    """A figure of `width` by `height` inches with plain axes; several come as an array.

    The figure is not registered with pyplot, so it is shown only by `show`, and once.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    made = figure.subplots(rows, columns)
    for one in [made] if isinstance(made, Axes) else made.ravel():
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(INK)
        one.tick_params(colors=INK)
    return figure, made


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    # Without the software's version the same figure gives the same bytes.
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Display `figure` with `alt`, the text for whoever cannot see it, then close it.

    Raises:
        ValueError: when `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("a figure needs alternative text: what would you tell someone by phone?")
    from IPython.display import display

    bundle = {"image/png": png(figure), "text/plain": alt}
    display(bundle, metadata={"image/png": {"alt": alt}}, raw=True)
    pyplot.close(figure)
