"""One look for all figures: colours that colour-blind readers can tell apart, sizes, and how a figure is saved."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bangbench.reporting.plot import Plot
from bangbench.store.files import write_atomically

FigureFormat = Literal["svg", "pdf", "png"]

#: Okabe and Ito's palette, darkest contrasts first; black stays for references.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B", "#7F7F7F")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

#: Maps that stay ordered in grey and for colour-blind readers: of one quantity, and of a difference around zero.
SEQUENTIAL = "viridis"
DIVERGING = "PuOr"

#: Inches. A column of a paper is about 3.4 inches wide, a page of text about 7.
COLUMN, PAGE = 4.6, 9.6

_SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.grid": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    # glyphs are drawn in SVG, since a reader's machine may lack the font; the same figure gives the same bytes
    "svg.fonttype": "path",
    "svg.hashsalt": "bangbench",
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
}

#: Dots per inch of PNG files, and of what is too heavy for the vector formats.
_DPI = 200

FORMATS: tuple[FigureFormat, ...] = get_args(FigureFormat)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw(plot: Plot) -> Figure:
    """Draw a figure in the style of the report."""
    with mpl.rc_context(_SETTINGS):
        return plot.draw()


def fix_layout(figure: Figure) -> None:
    """Find the places of everything once and keep them; each format would find the same ones again."""
    with mpl.rc_context(_SETTINGS):
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
    figure.set_layout_engine("none")


def colour(number: int) -> str:
    """Return the colour of the series with this number, counted from 0."""
    return COLOURS[number % len(COLOURS)]


def save_figure(figure: Figure, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Save a figure in the format of the path's suffix, without the time of day: same records, same bytes.

    notes: texts kept in a PNG, by name. The canvas prints directly: `Figure.savefig` would draw everything once more
    to find a layout that is found.
    """
    figure.set_dpi(_DPI)  # the vector formats leave it at 72
    with mpl.rc_context(_SETTINGS):
        match path.suffix:
            case ".pdf":
                write_atomically(path, partial(FigureCanvasPdf(figure).print_pdf, metadata={"CreationDate": None}))
            case ".svg":
                write_atomically(path, partial(FigureCanvasSVG(figure).print_svg, metadata={"Date": None}))
            case _:
                write_atomically(path, partial(FigureCanvasAgg(figure).print_png, metadata=dict(notes or {})))
