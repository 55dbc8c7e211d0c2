"""A figure before it is drawn: what it shows, in words and as plain data, and the shape that most of them have.

Nothing here imports Matplotlib: a report whose figures are all there draws nothing.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image

Section = Literal["audit", "claims", "examples", "grid", "robustness", "masking", "noise", "settings", "training"]

#: Inches. A column of a paper is about 3.4 inches wide, a page of text about 7.
COLUMN, PAGE = 4.6, 9.6

#: Okabe and Ito's palette, darkest contrasts first; black stays for references.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B", "#7F7F7F")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BLACK = "#000000"

#: Maps that stay ordered in grey and for colour-blind readers: of one quantity, and of a difference around zero.
SEQUENTIAL = "viridis"
DIVERGING = "PuOr"


_SCREEN_DPI = 96


class Embedded(NamedTuple):
    """A figure's picture in a page; source: a data URI; width, height: CSS pixels."""

    source: str
    width: int
    height: int


class Figure(NamedTuple):
    """One figure: ``draw(content)`` returns it as Matplotlib's, where draw is called ``package.module:function``.

    name: stem of its files; caption: what is shown, with units and the number of images; alternative: what a reader
    who cannot see it should know, with the main numbers; content: plain data that decides, with the code, how it looks.
    """

    name: str
    section: Section
    title: str
    caption: str
    alternative: str
    content: Any
    draw: str = "bangbench.reporting.draw:draw_chart"


class Series(NamedTuple):
    """One line: points (x, y), and the ends of their intervals, as a band or, where there are markers, as bars.

    number: decides colour, dashes and marker, None for the black reference; kind: a line between the points, steps that
    hold up to the next point, the outline of a histogram, whose x are one edge more than its y, or a dot a point.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    number: int | None = None
    kind: Literal["line", "steps", "outline", "dots"] = "line"
    marked: bool = False
    width: float = 1.6

    @property
    def look(self) -> dict[str, Any]:
        """Return colour, dashes and marker; where the colours start again, the others must not."""
        number = self.number or 0
        turn = number // len(COLOURS)
        black = self.number is None
        look: dict[str, Any] = {
            "color": BLACK if black else COLOURS[number % len(COLOURS)],
            "linestyle": "-" if black else LINES[(number + turn) % len(LINES)],
            "linewidth": self.width,
        }
        if self.marked:
            look |= {"marker": "o" if black else MARKERS[(number + 3 * turn) % len(MARKERS)], "markersize": 5}
        return look


class Panel(NamedTuple):
    """One pair of axes; ticks: (place, label) where the automatic ones will not do; rule: a vertical line, in words.

    legend: whether it has one of its own, beneath it.
    """

    series: tuple[Series, ...]
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None
    x_ticks: tuple[tuple[float, str], ...] = ()
    y_logarithmic: bool = False
    rule: tuple[float, str] | None = None
    legend: bool = False


class Chart(NamedTuple):
    """Panels side by side in so many columns; without legends of their own they share one beneath them.

    shared: whether all panels have the same scales.
    """

    panels: tuple[Panel, ...]
    columns: int = 1
    height: float = 3.0
    legend_columns: int = 5
    shared: bool = True


def in_words(chart: Chart) -> str:
    """Return the main numbers of a chart for a reader who cannot see it: of the black reference lines, or of all."""
    told = []
    for panel in chart.panels:
        references = [series for series in panel.series if series.number is None and series.kind != "dots"]
        for series in references or [series for series in panel.series if series.kind != "dots"]:
            last = len(series.y) - 1
            places = sorted({last * step // 4 for step in range(5)})
            points = ", ".join(f"{series.y[place]:.4g} at {series.x[place]:.5g}" for place in places)
            told.append(f"{' '.join(f'{panel.title} {series.label}'.split())}: {points}")
    axes = dict.fromkeys(f"{panel.y_label} against {panel.x_label}" for panel in chart.panels if panel.y_label)
    return f"{'; '.join(axes)}. {'; '.join(told)}."


def embedded(path: Path) -> Embedded:
    """Return a PNG file as a page holds it: lossless WebP, which is smaller by a fifth."""
    stream = io.BytesIO()
    with Image.open(path) as picture:
        dpi = float(picture.info.get("dpi", (_SCREEN_DPI, _SCREEN_DPI))[0])
        width, height = (round(size * _SCREEN_DPI / dpi) for size in picture.size)
        picture.convert("RGB").save(stream, "WEBP", lossless=True, method=2, quality=60)
    return Embedded(f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}", width, height)
