"""Draw the figures of a report and write each as SVG, PDF and PNG, on all cores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

from bangbench.core.device import available_cores
from bangbench.core.progress import Progress
from bangbench.core.workers import run_tasks, start_workers
from bangbench.report.figures.style import FORMATS, draw, fix_layout, save_figure
from bangbench.report.plot import Plot

#: Fewer figures are drawn sooner than worker processes, which take a second or two, are started.
_IN_PROCESS = 3


def write_figures(plots: Sequence[Plot], folder: Path, progress: Progress) -> list[tuple[Path, ...]]:
    """Write every figure to `folder`, each in all formats; returns the paths of each. `progress` counts figures."""
    workers = min(available_cores(), len(plots))
    if workers < 2 or len(plots) <= _IN_PROCESS:
        written = []
        for plot in plots:
            written.append(write_figure(plot, folder))
            progress.advance()
        return written
    with start_workers(workers) as pool:
        return run_tasks(pool, write_figure, plots, repeat(folder), done=progress.advance)


def write_figure(plot: Plot, folder: Path) -> tuple[Path, ...]:
    """Draw one figure and write it in all formats."""
    figure = draw(plot)
    fix_layout(figure)
    paths = tuple(folder / f"{plot.name}.{suffix}" for suffix in FORMATS)
    for path in paths:
        save_figure(figure, path)
    return paths
