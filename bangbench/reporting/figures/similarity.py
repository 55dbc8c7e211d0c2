"""How similar a flipped image still looks (PASS) against how far it was changed (L_inf), image by image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bangbench.reporting.bench_rows import ATTACK_ORDER, not_shown
from bangbench.reporting.figures.margins import split_by_images
from bangbench.reporting.figures.style import COLUMN, PAGE, SEQUENTIAL, colour, new_figure
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.per_image import AttackRows, Numbers
from bangbench.reporting.plot import Plot
from bangbench.reporting.robustness_rows import attacks_with_rows, varied_models

_FIRST = ("fgs", "hc1")
_MOST_ATTACKS, _MOST_MODELS = 2, 3
#: With fewer images than this a density shows less than the images themselves.
_FEWEST_FOR_DENSITY = 50
#: Cells across a panel, at most.
_MOST_CELLS = 64
#: Height of a panel by its width, over the square root of 3: makes the hexagons nearly regular.
_CELL_RATIO = 0.43


class _Cloud(NamedTuple):
    """The flipped images of one attack on one model: L_inf (grey levels) and PASS of those that have one, (n,) each."""

    model: str
    attack: str
    flipped: int
    linf: Numbers
    similarity: Numbers


class _Lattice(NamedTuple):
    """One grid of hexagons for all panels, so that cells are equally large: ends of the axes and numbers of cells."""

    extent: tuple[float, float, float, float]
    cells: tuple[int, int]


def similarity_plots(group: Group) -> list[Plot]:
    """Return PASS (written definition) against L_inf of the flipped images, at most 2 attacks x 3 models.

    Nothing is returned where nothing was flipped or PASS is not defined for any image.
    """
    clouds = _clouds(group)
    if not clouds:
        return []
    return [
        Plot(
            name=f"{group.name}-similarity",
            section="robustness",
            title="Similarity against the size of the perturbation",
            caption=" ".join((_caption(clouds), *_left_out(group, clouds))),
            alternative=f"Clouds of flipped images, medians: {'; '.join(map(_in_words, clouds))}.",
            draw=partial(_draw, clouds),
        )
    ]


def _clouds(group: Group) -> tuple[_Cloud, ...]:
    """Return the panels, attack by attack, each of them model by model."""
    usable = {model.name: clouds for model in group.models if (clouds := _clouds_of(model, attacks_with_rows(model)))}
    models = varied_models((model for model in group.models if model.name in usable), _MOST_MODELS)
    found = {attack for model in models for attack in usable[model.name]}
    known = [attack for attack in dict.fromkeys((*_FIRST, *ATTACK_ORDER)) if attack in found]
    attacks = [*known, *sorted(found.difference(known))][:_MOST_ATTACKS]
    return tuple(usable[model.name][attack] for attack in attacks for model in models if attack in usable[model.name])


def _left_out(group: Group, clouds: Sequence[_Cloud]) -> tuple[str, ...]:
    """Return a sentence that names what has no panel: models, attacks, and else an attack on one of the models."""
    models, attacks = {cloud.model for cloud in clouds}, dict.fromkeys(cloud.attack for cloud in clouds)
    omitted, empty = split_by_images([model for model in group.models if short_name(model.name) not in models])
    found = dict.fromkeys(attack for model in group.models for attack in attacks_with_rows(model))
    omitted += [attack for attack in found if attack not in attacks]
    panels = {(cloud.model, cloud.attack) for cloud in clouds}
    for model in group.models:
        name = short_name(model.name)
        for attack in (each for each in attacks if name in models and (name, each) not in panels):
            if attack in model.attacks:
                (omitted if attack in attacks_with_rows(model) else empty).append(f"{name} {attack}")
    return not_shown(omitted, empty)


def _clouds_of(model: ModelResults, attacks: dict[str, AttackRows]) -> dict[str, _Cloud]:
    """Return what can be drawn of each attack: flipped images for which PASS is defined."""
    found = {}
    for name, rows in attacks.items():
        shown = rows.flipped & np.isfinite(rows.pass_definition) & np.isfinite(rows.linf)
        if shown.any():
            found[name] = _Cloud(
                short_name(model.name), name, int(rows.flipped.sum()), rows.linf[shown], rows.pass_definition[shown]
            )
    return found


def _caption(clouds: Sequence[_Cloud]) -> str:
    images = ", ".join(f"{cloud.model} {cloud.attack} {cloud.flipped:,}" for cloud in clouds)
    undefined = [
        f"{cloud.model} {cloud.attack} {cloud.flipped - len(cloud.linf):,}"
        for cloud in clouds
        if cloud.flipped > len(cloud.linf)
    ]
    density = [cloud for cloud in clouds if _is_dense(cloud)]
    sentences = [
        "PASS by its written definition (1: looks the same) against L∞ in grey levels, of every flipped image "
        f"(n: {images}). Cross: medians. The panels hold different images: those that the attack flipped.",
    ]
    if density:
        sentences.append("Shade: flipped images per cell, one logarithmic scale and equal cells in all panels.")
    if len(density) < len(clouds):
        sentences.append(f"Panels with fewer than {_FEWEST_FOR_DENSITY} images show each image as a dot.")
    if undefined:
        sentences.append(f"Left out, since PASS is not defined for them: {', '.join(undefined)}.")
    return " ".join(sentences)


def _in_words(cloud: _Cloud) -> str:
    return f"{cloud.model} {cloud.attack} (n = {cloud.flipped:,}) {_medians(cloud)}"


def _medians(cloud: _Cloud) -> str:
    return f"L∞ {np.median(cloud.linf):g}, PASS {np.median(cloud.similarity):.2f}"


def _is_dense(cloud: _Cloud) -> bool:
    return len(cloud.linf) >= _FEWEST_FOR_DENSITY


def _draw(clouds: tuple[_Cloud, ...]) -> Figure:
    columns = len(clouds) if len(clouds) <= 3 else 2 if len(clouds) == 4 else 3
    rows = -(-len(clouds) // columns)
    figure = new_figure(COLUMN if columns == 1 else PAGE, 0.3 + 3.0 * rows)
    lattice = _lattice(clouds)
    panels: list[Axes] = []
    meshes: list[PolyCollection] = []
    for place, cloud in enumerate(clouds):
        axes = figure.add_subplot(rows, columns, place + 1)
        if _is_dense(cloud):
            meshes.append(_draw_density(axes, cloud, lattice))
        else:
            axes.scatter(cloud.linf, cloud.similarity, s=14, color=colour(0), alpha=0.7, linewidths=0, rasterized=True)
        _finish(axes, cloud, lattice)
        if place % columns == 0:
            axes.set_ylabel("PASS")
        if place + columns >= len(clouds):
            axes.set_xlabel("L∞ (grey levels)")
        panels.append(axes)
    if meshes:
        _share_scale(meshes)
        figure.colorbar(meshes[0], ax=panels, label="flipped images per cell")
    return figure


def _lattice(clouds: Sequence[_Cloud]) -> _Lattice:
    """Return cells of 2, 4, 8 ... grey levels that start half a level below 0.

    L_inf is mostly whole: so each cell holds equally many whole numbers and none lies on the border of two cells.
    """
    highest = max(float(cloud.linf.max()) for cloud in clouds)
    width = 2
    while highest > width * _MOST_CELLS:
        width *= 2
    across = max(1, int(np.ceil((highest + 1.0) / width)))
    lowest = min(0.0, *(float(cloud.similarity.min()) for cloud in clouds))
    return _Lattice((-0.5, across * width - 0.5, lowest, 1.0), (across, max(16, round(_CELL_RATIO * across))))


def _draw_density(axes: Axes, cloud: _Cloud, lattice: _Lattice) -> PolyCollection:
    return axes.hexbin(
        cloud.linf,
        cloud.similarity,
        gridsize=lattice.cells,
        extent=lattice.extent,
        mincnt=1,
        cmap=SEQUENTIAL,
        linewidths=0.2,
        rasterized=True,
    )


def _share_scale(meshes: Sequence[PolyCollection]) -> None:
    """Give all panels one logarithmic scale of counts."""
    most = max(float(np.max(np.asarray(mesh.get_array()))) for mesh in meshes)
    norm = LogNorm(1.0, max(most, 2.0))
    for mesh in meshes:
        mesh.set_norm(norm)


def _finish(axes: Axes, cloud: _Cloud, lattice: _Lattice) -> None:
    """Mark the medians and name the panel."""
    axes.plot(
        [np.median(cloud.linf)],
        [np.median(cloud.similarity)],
        "X",
        color="#D55E00",
        markeredgecolor="white",
        markeredgewidth=1.2,
        markersize=11,
    )
    axes.set_title(f"{cloud.model} {cloud.attack}: {cloud.flipped:,} flipped\nmedians: {_medians(cloud)}")
    right = lattice.extent[1]
    axes.set_xlim(-0.01 * right, 1.01 * right)
    axes.set_ylim(lattice.extent[2] - 0.02, 1.02)
