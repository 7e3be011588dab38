"""The figures of lesson 12: claims as tiles, sorted p-values, and each method's gain against its trained share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.ticker import PercentFormatter

from helpers import plotting
from helpers.intervals import Interval
from helpers.plotting import INK, PALETTE, Figure, axes
from workbook.claims.inference import believed
from workbook.claims.leaderboard import Row
from workbook.claims.verdict import WORDS, Verdict

# Word -> fill, colour of the letters, sign. The sign distinguishes the words without colour.
LOOKS = {
    "holds": (PALETTE["green"], "white", "✓"),
    "holds with a condition": (PALETTE["sky"], "black", "◐"),
    "contradicted": (PALETTE["red"], "white", "✗"),
    "cannot tell": (PALETTE["yellow"], "black", "?"),
    "true by construction": ("#C9D6DF", INK, "="),
    "not measured yet": ("white", INK, "–"),
    "not measurable": ("#E6E6E6", INK, "·"),
}
PER_LINE = 5
FAMILIES = {
    "baseline": ("grey", "^"), "selective": ("blue", "o"),
    "additive": ("orange", "s"), "reparameterised": ("green", "D"),
}  # fmt: skip
LINES = ("head_only", "full", "bag_of_words")  # drawn as lines, because the first two are 0 and 1 of the scale
Shares = Sequence[tuple[Row, Interval]]


def tiles(verdicts: Sequence[Verdict], title: str = "") -> Figure:
    """Draw one tile for each claim, by group; its colour and sign show the verdict."""
    lines = _lines(verdicts)
    figure, plot = axes(11.0, 0.62 * len(lines) + 1.3)
    for row, (group, part) in enumerate(lines):
        plot.text(-0.06, row + 0.5, fill(group, 14), ha="right", va="center", color=INK, fontsize=10, weight="bold")
        for column, found in enumerate(part):
            colour, letters, sign = LOOKS[found.word]
            box = FancyBboxPatch(
                (column + 0.04, row + 0.09), 0.92, 0.82, boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=colour, edgecolor=PALETTE["grey"] if colour == "white" else colour, mutation_aspect=0.35,
            )  # fmt: skip
            plot.add_patch(box)
            label = fill(f"{sign} {found.claim.short}".replace(" %", "\N{NO-BREAK SPACE}%"), 20)
            plot.text(column + 0.5, row + 0.5, label, ha="center", va="center", color=letters, fontsize=9)
    plot.set(xlim=(-0.95, PER_LINE), ylim=(len(lines), 0))
    plot.axis("off")
    plot.set_title(title, loc="left", color=INK, fontsize=13, weight="bold")
    by_word = {word: [one.claim.short for one in verdicts if one.word == word] for word in WORDS}
    keys = [
        Patch(facecolor=LOOKS[word][0], edgecolor=PALETTE["grey"], label=f"{LOOKS[word][2]} {word}: {len(names)}")
        for word, names in by_word.items()
        if names
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    said = ". ".join(f"{word} ({len(names)}): {'; '.join(names)}" for word, names in by_word.items() if names)
    figure.alt = f"{len(verdicts)} claims by verdict. {said}."
    return figure


def _lines(verdicts: Sequence[Verdict]) -> list[tuple[str, Sequence[Verdict]]]:
    """Return lines of (group, verdicts); a long group continues on the next line, without its name."""
    parts: dict[str, list[Verdict]] = {}
    for found in verdicts:
        parts.setdefault(found.claim.group, []).append(found)
    return [
        (group if start == 0 else "", part[start : start + PER_LINE])
        for group, part in parts.items()
        for start in range(0, len(part), PER_LINE)
    ]


def p_values(ordered: Sequence[float], rate: float) -> Figure:
    """Plot sorted p-values by rank, with the line of Benjamini and Hochberg; p-values that count are filled.

    ordered: p-values, the smallest first; rate: the share of wrong answers that is accepted.
    """
    figure, plot = axes(7.2, 3.6)
    limit, count = believed(ordered, rate), len(ordered)
    places = range(1, count + 1)
    counting = [p <= limit for p in ordered]
    floor = 1e-6  # smaller p-values are drawn at this height
    drawn = [max(p, floor) for p in ordered]
    for wanted, fill_colour, label in ((True, PALETTE["blue"], "counts"), (False, "white", "stays open")):
        points = [(place, p) for place, p, one in zip(places, drawn, counting, strict=True) if one == wanted]
        plot.plot(*zip(*points, strict=True) if points else ((), ()), "o", markersize=5, markerfacecolor=fill_colour,
                  markeredgecolor=PALETTE["blue"], label=f"{label}: {len(points)}")  # fmt: skip
    plot.plot(places, [place / count * rate for place in places], color=PALETTE["red"], label=f"k / m times {rate:g}")
    plot.set(yscale="log", ylim=(floor / 2, 1.5), xlabel="place k of the p-value", ylabel="p (at least 0.000001)")
    plot.legend(frameon=False, fontsize=9, loc="lower right")
    figure.alt = (
        f"{count} p-values in order. {sum(counting)} lie at or below {limit:.3g}, the limit of Benjamini and Hochberg, "
        f"and count as answers; {count - sum(counting)} stay open."
    )
    return figure


def share_for_numbers(points: Mapping[str, Shares], own: Mapping[str, Shares] | None = None) -> Figure:
    """Plot how far each method gets from the head's accuracy to full fine-tuning's, by the share that it trains.

    points: setting -> (row, share of the way). Each setting has its own panel, because it has its own 0 and 1, and
    needs a row of the method "full". The bag of words is a line. own: the learner's own runs, drawn hollow.
    """
    figure, panels = plotting.panels(4.9 * len(points), 4.7, columns=len(points))
    for panel, (setting, part) in zip(panels, points.items(), strict=True):
        _panel(panel, part, (own or {}).get(setting, ()))
        panel.set_title(fill(setting, 44), fontsize=9.5, color=INK)
        panel.set(xscale="log", xlabel="share of the model that is trained (logarithmic)")
    low, high = min(panel.get_ylim()[0] for panel in panels), max(panel.get_ylim()[1] for panel in panels) + 0.08
    for panel in panels:
        panel.set(xlim=(2e-4, 6), ylim=(low, high), xticks=[1e-3, 1e-2, 1e-1, 1])
        panel.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    panels[0].set_ylabel("share of the way, 95 % interval")
    for family, (colour, mark) in FAMILIES.items():
        panels[0].plot([], [], mark, color=PALETTE[colour], label=family)
    if any((own or {}).values()):
        panels[0].plot([], [], "o", markersize=13, markerfacecolor="none", color=INK, label="your own runs")
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    said = ". ".join(f"{setting}: {', '.join(_in_words(part))}" for setting, part in points.items())
    figure.alt = f"Share of the way from the head alone to all parameters. {said}."
    return figure


def _in_words(part: Shares) -> list[str]:
    whole = _whole(part)
    return [f"{row.title} {share.value:.0%} with {row.parameters / whole:.2%} trained" for row, share in part]


def _panel(panel: Axes, part: Shares, own: Shares) -> None:
    whole = _whole(part)
    heights = {"head_only": "the head alone", "full": "all parameters", "bag_of_words": "bag of words"}
    for name, height in ((heights[row.method], share.value) for row, share in part if row.method in heights):
        panel.axhline(height, color=PALETTE["grey"], linestyle=":", zorder=0)
        panel.annotate(name, (1, height), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                       ha="right", color=PALETTE["grey"], fontsize=8.5)  # fmt: skip
    drawn = sorted(
        ((row.parameters / whole, row, share) for row, share in part if row.method not in LINES),
        key=lambda one: one[0],
    )
    taken = [_spot(place, share.value) for place, _, share in drawn]
    for place, row, share in drawn:
        colour, mark = FAMILIES[row.family]
        panel.plot([place] * 2, [share.low, share.high], color=PALETTE[colour], linewidth=1.8, alpha=0.7)
        panel.plot(place, share.value, mark, color=PALETTE[colour], markersize=8)
        # A name is above its interval, or below if it would be too close to a mark or another name.
        sides = ((share.high, 4, "bottom"), (share.low, -5, "top"))
        spots = [_spot(place, end + offset / 100) for end, offset, _ in sides]
        room = [min(math.dist(spot, other) for other in taken) for spot in spots]
        best = 0 if room[0] > 36 else room.index(max(room))
        end, offset, side = sides[best]
        taken.append(spots[best])
        panel.annotate(row.title.split(",")[0], (place, end), (0, offset), textcoords="offset points",
                       ha="center", va=side, fontsize=9, color=INK)  # fmt: skip
    for row, share in own:
        if row.method not in LINES:
            place = row.parameters / whole
            panel.plot(place, share.value, "o", markersize=13, markerfacecolor="none", color=INK)


def _spot(place: float, height: float) -> tuple[float, float]:
    """Convert a point to rough pixels, in which a decade of x is as long as a third of a unit of y."""
    return 100 * math.log10(place), 300 * height


def _whole(part: Shares) -> float:
    """Return the model's number of parameters, which is what the row "full" trains."""
    return next(row.parameters for row, _ in part if row.method == "full")
