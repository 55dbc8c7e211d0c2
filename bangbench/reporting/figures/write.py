"""Draw the figures of a report and write each as SVG, PDF and PNG, on all cores; what is there already stays."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl
from PIL import Image, UnidentifiedImageError

from bangbench.core.device import available_cores
from bangbench.core.executor import Job, messages_of
from bangbench.core.executor_local import LocalExecutor
from bangbench.core.progress import Progress
from bangbench.reporting.figures.style import FORMATS, draw, fix_layout, save_figure
from bangbench.reporting.plot import Plot

#: Fewer figures are drawn sooner than worker processes, which take a second or two, are started.
_IN_PROCESS = 3

#: The text chunk of a PNG file that says what it was drawn from.
_KEY = "bangbench"


def write_figures(plots: Sequence[Plot], folder: Path, progress: Progress) -> list[tuple[Path, ...]]:
    """Write every figure to `folder`, each in all formats; returns the paths of each. `progress` counts figures.

    A figure that lies there, drawn from the same numbers by the same code and version of Matplotlib, is kept.
    """
    pending = [plot for plot in plots if not _is_drawn(plot, folder)]
    progress.advance(len(plots) - len(pending))
    workers = min(available_cores(), len(pending))
    if workers < 2 or len(pending) <= _IN_PROCESS:
        _write_some((pending, folder), progress)
    else:
        shares = [pending[first::workers] for first in range(workers)]
        jobs = [Job("the figures", _write_some, (share, folder)) for share in shares]
        for message in messages_of(jobs, LocalExecutor(workers)):
            progress.advance(len(shares[message.job]) if message.ended else 0)
    return [figure_files(plot, folder) for plot in plots]


def _write_some(some: tuple[Sequence[Plot], Path], progress: Progress) -> None:
    plots, folder = some
    for plot in plots:
        write_figure(plot, folder)
        progress.advance()


def write_figure(plot: Plot, folder: Path) -> None:
    """Draw one figure and write it in all formats; the PNG, which vouches for the others, last."""
    figure = draw(plot)
    fix_layout(figure)
    for path in figure_files(plot, folder):
        save_figure(figure, path, {_KEY: _key(plot)})


def figure_files(plot: Plot, folder: Path) -> tuple[Path, ...]:
    """Return the files of a figure, in the order in which they are written."""
    return tuple(folder / f"{plot.name}.{suffix}" for suffix in FORMATS)


def _is_drawn(plot: Plot, folder: Path) -> bool:
    paths = figure_files(plot, folder)
    if not all(path.is_file() for path in paths):
        return False
    try:
        with Image.open(paths[-1]) as picture:
            return picture.info.get(_KEY) == _key(plot)
    except (OSError, UnidentifiedImageError):
        return False


def _key(plot: Plot) -> str:
    """Return a hash of everything that decides how a figure looks."""
    return hashlib.sha256(_drawing_code() + pickle.dumps(plot.draw)).hexdigest()


@cache
def _drawing_code() -> bytes:
    """Return a hash of the code that draws."""
    digest = hashlib.sha256(mpl.__version__.encode())
    modules = (path for path in files("bangbench.reporting.figures").iterdir() if path.name.endswith(".py"))
    for path in sorted(modules, key=lambda path: path.name):
        digest.update(path.read_bytes())
    return digest.digest()
