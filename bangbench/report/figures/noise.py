"""Figures 3 and 5: how often noise flips the regular model, the BANG model, and by how much they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bangbench.report.collect import FoundNoise
from bangbench.report.groups import short_name
from bangbench.report.table import SIGMA
from bangbench.store.files import write_atomically

Surface = NDArray[np.float64]

#: Labels that fit under a panel without touching, even for iterations of six digits; beside it there is more room.
_MOST_STAGES, _MOST_SIGMAS = 4, 10


def noise_figure(found: FoundNoise) -> Figure:
    """Return three heat maps over iteration and sigma: regular, BANG (one colour scale), regular minus BANG.

    The numbers are percent of noisy copies not classified as the image's class; sigma is in grey levels.
    """
    summary = found.summary
    regular, bang = _surface(found, "regular"), _surface(found, "bang")
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, sharey=True)
    highest = max(regular.max(), bang.max(), 1.0)
    _draw(axes[0], found, regular, f"regular ({short_name(found.record.regular.name)})", "viridis", (0.0, highest))
    shared = _draw(axes[1], found, bang, f"BANG ({short_name(found.record.bang.name)})", "viridis", (0.0, highest))
    largest = max(float(np.abs(regular - bang).max()), 1.0)
    difference = _draw(axes[2], found, regular - bang, "regular minus BANG", "PuOr", (-largest, largest))
    axes[0].set_ylabel(f"noise {SIGMA} (grey levels)")
    figure.colorbar(shared, ax=axes[:2], label="flipped copies (%)")
    figure.colorbar(difference, ax=axes[2], label="difference (percentage points)")
    figure.suptitle(
        f"Gaussian noise on {found.record.data.name}: {summary.images:,} images correct at all stages, "
        f"{summary.draws:,} draws each"
    )
    return figure


def write_noise_figure(found: FoundNoise, folder: Path) -> list[Path]:
    """Write the noise figure of a pair as PNG (200 dpi) and PDF and return both paths."""
    figure = noise_figure(found)
    paths = [folder / f"{found.name.replace('/', '-')}-noise.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        _save(figure, path)
    return paths


def _save(figure: Figure, path: Path) -> None:
    """Save a figure without the time of day, so that the same records give the same bytes."""
    kind = path.suffix.removeprefix(".")
    metadata = {"CreationDate": None} if kind == "pdf" else None
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=kind, dpi=200, metadata=metadata))


def _surface(found: FoundNoise, kind: Literal["regular", "bang"]) -> Surface:
    """Return one model's percentages, (sigmas, stages)."""
    return np.array(found.summary.flipped_percent[kind], dtype=np.float64).T


def _draw(
    axes: Axes, found: FoundNoise, surface: Surface, title: str, colours: str, scale: tuple[float, float]
) -> QuadMesh:
    """Draw one surface; each measured point is one rectangle, whatever the distance to the next."""
    mesh = axes.pcolormesh(surface, cmap=colours, vmin=scale[0], vmax=scale[1], rasterized=True)
    axes.set_title(title)
    axes.set_xlabel("iteration")
    stages, sigmas = found.summary.stages, found.summary.sigmas
    chosen = _ticks(len(stages), _MOST_STAGES)
    axes.set_xticks([place + 0.5 for place in chosen], [f"{stages[place]:,}" for place in chosen])
    chosen = _ticks(len(sigmas), _MOST_SIGMAS)
    axes.set_yticks([place + 0.5 for place in chosen], [f"{sigmas[place]:g}" for place in chosen])
    return mesh


def _ticks(count: int, most: int) -> list[int]:
    """Return at most so many indices to label: evenly spaced, the last one always among them."""
    step = -(-count // most)
    return list(range(count - 1, -1, -step))[::-1]
