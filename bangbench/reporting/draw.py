"""Draw figures with Matplotlib, and write them: PNG with a palette, SVG and PDF where asked; what is there stays."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from scipy.spatial import cKDTree

from bangbench.core.device import available_cores
from bangbench.core.executor import Job, messages_of
from bangbench.core.executor_local import LocalExecutor
from bangbench.core.progress import Progress
from bangbench.core.registry import load_object
from bangbench.reporting.figure import COLUMN, PAGE, Chart, Figure, Panel, Series
from bangbench.store.files import write_atomically, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: Dots per inch of PNG files, and of what is too heavy for the vector formats.
_DPI, _VECTOR_DPI = 144, 200
#: Colours of a palette, and how many of them are kept as they are.
_COLOURS, _AS_THEY_ARE = 256, 96
#: Fewer figures are drawn sooner than worker processes, which take seconds, are started.
_IN_PROCESS = 6
#: The text chunk of a PNG file that says what it was drawn from.
_KEY = "bangbench"
_PACKAGES = ("bangbench.reporting", "bangbench.paper")
#: Modules whose code decides how a figure looks, by the beginning of their names.
_DRAWING = ("defences", "draw", "figure", "figures", "grid_figures", "pictures", "robustness", "seeds")

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


class _Share(NamedTuple):
    """Figures for one process, the folder to write to, and the formats."""

    figures: tuple[Figure, ...]
    folder: Path
    formats: tuple[str, ...]


@contextmanager
def _settings() -> Iterator[None]:
    """Draw in the bench's style; a letter that the font lacks, as those of Chinese class names, is an empty box."""
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def new_drawing(width: float, height: float) -> Drawing:
    """Return an empty figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def draw(figure: Figure) -> Drawing:
    """Draw a figure in the style of the report."""
    with _settings():
        drawn: Drawing = load_object(figure.draw, f"the figure {figure.name}")(figure.content)
    return drawn


def write_figures(
    figures: Sequence[Figure], folder: Path, formats: Iterable[str], progress: Progress
) -> list[tuple[Path, ...]]:
    """Write every figure to `folder` as PNG and in other formats; returns the paths of each. `progress` counts them.

    A figure that lies there, drawn from the same numbers by the same code and version of Matplotlib, is kept.
    """
    wanted = (*dict.fromkeys(name for name in formats if name in ("svg", "pdf")), "png")
    pending = [figure for figure in figures if not _is_drawn(figure, folder, wanted)]
    progress.advance(len(figures) - len(pending))
    workers = min(available_cores(), len(pending))
    if workers < 2 or len(pending) <= _IN_PROCESS:
        _write_share(_Share(tuple(pending), folder, wanted), progress)
    else:
        shares = [_Share(tuple(pending[first::workers]), folder, wanted) for first in range(workers)]
        for message in messages_of(
            [Job("the figures", _write_share, share) for share in shares], LocalExecutor(workers)
        ):
            progress.advance(len(shares[message.job].figures) if message.ended else 0)
    return [_paths(figure, folder, wanted) for figure in figures]


def _write_share(share: _Share, progress: Progress) -> None:
    for figure in share.figures:
        drawing = draw(figure)
        _fix_layout(drawing)
        for path in _paths(figure, share.folder, share.formats):  # the PNG, which vouches for the others, last
            save(drawing, path, {_KEY: _fingerprint(figure)})
        progress.advance()


def _fix_layout(drawing: Drawing) -> None:
    """Find the places of everything once and keep them; each format would find the same ones again."""
    engine = drawing.get_layout_engine()
    if engine is not None:
        with _settings():
            engine.execute(drawing)
    drawing.set_layout_engine("none")


def save(drawing: Drawing, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Save a figure in the format of the path's suffix, without the time of day: same records, same bytes.

    notes: texts kept in a PNG, by name. The canvas prints directly: `savefig` would draw everything once more.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    drawing.set_dpi(_DPI if path.suffix == ".png" else _VECTOR_DPI)
    with _settings():
        match path.suffix:
            case ".pdf":
                write_atomically(path, partial(FigureCanvasPdf(drawing).print_pdf, metadata={"CreationDate": None}))
            case ".svg":
                write_atomically(path, partial(FigureCanvasSVG(drawing).print_svg, metadata={"Date": None}))
            case _:
                canvas: Any = FigureCanvasAgg(drawing)
                canvas.draw()
                write_bytes(path, palette_png(Image.fromarray(np.asarray(canvas.buffer_rgba())), notes or {}))


def palette_png(picture: Image.Image, notes: Mapping[str, str]) -> bytes:
    """Return a picture as a PNG with a palette: less than half the bytes, and the eye sees no difference.

    The palette is made of the colours that occur most often, as they are, and of a choice from the others, in which
    each counts once: a rare one on a scale matters as much as the ground.
    """
    texts, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, text in notes.items():
        texts.add_text(name, text)
    packed = np.asarray(picture.convert("RGB")) @ np.array([1 << 16, 1 << 8, 1])
    distinct, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], axis=-1).astype(np.uint8)
    often, others = np.split(np.argsort(-counts, kind="stable"), [_AS_THEY_ARE])
    palette = colours[often]
    if others.size:
        rest = Image.fromarray(colours[np.newaxis, others]).quantize(_COLOURS - _AS_THEY_ARE, Image.Quantize.MEDIANCUT)
        palette = np.concatenate([palette, np.reshape(rest.getpalette() or [], (-1, 3))[: _COLOURS - _AS_THEY_ARE]])
    nearest = cKDTree(palette).query(colours)[1]
    reduced = Image.fromarray(nearest[places].reshape(packed.shape).astype(np.uint8))
    reduced.putpalette(palette.astype(np.uint8).tobytes())
    reduced.save(stream, "PNG", optimize=True, dpi=(_DPI, _DPI), pnginfo=texts)
    return stream.getvalue()


def _paths(figure: Figure, folder: Path, formats: Sequence[str]) -> tuple[Path, ...]:
    return tuple(folder / f"{figure.name}.{suffix}" for suffix in formats)


def _is_drawn(figure: Figure, folder: Path, formats: Sequence[str]) -> bool:
    paths = _paths(figure, folder, formats)
    if not all(path.is_file() for path in paths):
        return False
    try:
        with Image.open(paths[-1]) as picture:
            return picture.info.get(_KEY) == _fingerprint(figure)
    except (OSError, UnidentifiedImageError):
        return False


def _fingerprint(figure: Figure) -> str:
    """Return a hash of everything that decides how a figure looks."""
    return hashlib.sha256(_drawing_code() + figure.draw.encode() + pickle.dumps(figure.content)).hexdigest()


@cache
def _drawing_code() -> bytes:
    """Return a hash of the code that draws, the version of Matplotlib among it."""
    digest = hashlib.sha256(version("matplotlib").encode())
    for package in _PACKAGES:
        modules = (path for path in files(package).iterdir() if path.name.removesuffix(".py") in _DRAWING)
        for path in sorted(modules, key=lambda path: path.name):
            digest.update(path.read_bytes())
    return digest.digest()


def draw_chart(chart: Chart) -> Drawing:
    """Draw the panels of a chart."""
    rows = -(-len(chart.panels) // chart.columns)
    own = any(panel.legend for panel in chart.panels)
    entries = len({series.label for panel in chart.panels for series in panel.series})
    lines = max(len(panel.series) + (panel.rule is not None) for panel in chart.panels)
    beneath = lines if own else -(-entries // chart.legend_columns)
    drawing = new_drawing(COLUMN if chart.columns == 1 else PAGE, 0.3 + chart.height * rows + 0.2 * beneath)
    grid = drawing.subplots(rows, chart.columns, sharex=chart.shared, sharey=chart.shared, squeeze=False)
    handles: dict[str, Any] = {}
    for place, (axes, panel) in enumerate(zip(grid.flat, chart.panels, strict=False)):
        handles |= {series.label: _draw_series(axes, series) for series in panel.series}
        edges = place % chart.columns == 0 or not chart.shared, place >= len(chart.panels) - chart.columns
        _finish(axes, panel, *edges)
    for axes in grid.flat[len(chart.panels) :]:
        axes.set_axis_off()
    if not own and (len(handles) > 1 or len(chart.panels) > 1):
        _legend(drawing, handles, chart.legend_columns)
    return drawing


def _legend(drawing: Drawing, handles: dict[str, Any], columns: int) -> None:
    """Set one legend beneath all panels, the black reference last."""
    order = sorted(handles, key=lambda name: handles[name].get_color() == "#000000")
    drawing.legend(
        [handles[name] for name in order],
        order,
        loc="outside lower center",
        ncols=min(columns, len(order)),
        handlelength=3.2,
    )


def _draw_series(axes: Axes, series: Series) -> Any:
    """Draw one line with its intervals, and return its handle for a legend."""
    look = series.look
    if series.kind == "outline":
        # step() wants one value per edge, and the last one again
        axes.stairs(series.y, series.x, color=look["color"], alpha=0.15, fill=True)
        handle = axes.step(series.x, [*series.y, series.y[-1]], where="post", label=series.label, **look)[0]
        axes.vlines(series.x[:: len(series.x) - 1], 0, [series.y[0], series.y[-1]], color=look["color"], linewidth=1)
        return handle
    if series.kind == "dots":
        faint = min(0.8, max(0.15, 100 / len(series.x)))
        dots: dict[str, Any] = {"markersize": 2, "markeredgewidth": 0, "alpha": faint, "rasterized": True}
        return axes.plot(series.x, series.y, "o", label=series.label, color=look["color"], **dots)[0]
    if series.kind == "steps":
        (handle,) = axes.step(series.x, series.y, where="post", label=series.label, **look)
    else:
        (handle,) = axes.plot(series.x, series.y, label=series.label, clip_on=not series.marked, **look)
    if len(series.low) and series.marked:
        below = [max(0.0, value - low) for value, low in zip(series.y, series.low, strict=True)]
        above = [max(0.0, high - value) for value, high in zip(series.y, series.high, strict=True)]
        axes.errorbar(
            series.x,
            series.y,
            [below, above],
            fmt="none",
            ecolor=look["color"],
            elinewidth=1.2,
            capsize=3,
            clip_on=False,
        )
    elif len(series.low):
        step: Any = "post" if series.kind == "steps" else None
        axes.fill_between(series.x, series.low, series.high, step=step, color=look["color"], alpha=0.18, linewidth=0)
    return handle


def _finish(axes: Axes, panel: Panel, left: bool, bottom: bool) -> None:
    """Set titles, labels, scales and what else belongs to a panel."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    axes.set_title(panel.title)
    if bottom:
        axes.set_xlabel(panel.x_label)
    if left:
        axes.set_ylabel(panel.y_label)
    if panel.y_logarithmic:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        subs = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if panel.x_ends is not None:
        axes.set_xlim(*panel.x_ends)
    if panel.y_ends is not None:
        axes.set_ylim(*panel.y_ends)
    if panel.x_ticks:
        axes.set_xticks([place for place, _ in panel.x_ticks], [label for _, label in panel.x_ticks])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    if panel.rule is not None:
        axes.axvline(panel.rule[0], color="black", linewidth=1.2, label=panel.rule[1])
    if panel.legend:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), handlelength=2.6)
