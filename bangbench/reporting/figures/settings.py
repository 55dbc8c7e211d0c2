"""Figures 2 and 4: what BANG's beta and epsilon do to accuracy, the FGS rate and the PASS score of HC1."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation

from bangbench.core.statistics import wilson_interval
from bangbench.reporting.figures.style import COLUMN, PAGE, SEQUENTIAL, new_figure
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.per_image import Numbers, Whole
from bangbench.reporting.plot import Plot
from bangbench.reporting.table import number
from bangbench.reporting.verdicts import verdicts_in_words

Ends = tuple[float, float]

_BANG, _REGULAR = "bang", "regular"
_CLAIMS = ("fgs", "hc1")
_AXES = ("beta", "epsilon")
#: Second singular value of the settings, each axis scaled to 0 to 1, below which they lie on one line.
_FLAT = 1e-3
_CONTOURS = 16
_FAINT = 0.35
#: A regular level at the end of a colour bar is drawn this part of the values' range away from the end.
_ROOM = 0.05
#: Values fit beside the markers of this many settings; with more, only their names; with many more, neither.
_MOST_VALUES, _MOST_NAMES = 8, 30
_NAME: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
_LEGEND_COLOUR = "#21918c"


class Point(NamedTuple):
    """One setting: the names of its models and the mean of their values."""

    names: tuple[str, ...]
    beta: float
    epsilon: float
    value: float

    @property
    def label(self) -> str:
        """Return the names as they stand in the figure."""
        return ", ".join(self.names)


class Panel(NamedTuple):
    """One quantity over the settings.

    label: its name with the unit; meaning: what a caption says of it; places: decimals to print; regular: the mean
    of the regular models, None where none was measured.
    """

    title: str
    label: str
    meaning: str
    places: int
    points: tuple[Point, ...]
    regular: float | None


class _Quantity(NamedTuple):
    """What a panel shows, and where a model has it."""

    title: str
    label: str
    meaning: str
    places: int
    value: Callable[[ModelResults], float | None]


def settings_plots(group: Group) -> list[Plot]:
    """Return accuracy, FGS rate and HC1 PASS over beta and epsilon; nothing for fewer than two settings of BANG.

    The models shown were trained alike but for beta and epsilon: of several such lists the one with most settings.
    """
    models = max(_trained_alike(group), key=_count_settings, default=[])
    if _count_settings(models) < 2:
        return []
    panels = tuple(panel for quantity in _QUANTITIES if (panel := _panel(group, models, quantity)).points)
    return [
        Plot(
            name=f"{group.name}-settings",
            section="settings",
            title="BANG's β and ε",
            caption=" ".join(
                (_caption(group, models, panels), *_left_out(group, models), *verdicts_in_words(models, _CLAIMS))
            ),
            alternative=_in_words(panels),
            draw=partial(draw_settings, panels, *_axis_ends(models)),
        )
    ]


def _setting(model: ModelResults) -> tuple[float, float] | None:
    """Return beta and epsilon of a BANG model."""
    beta, epsilon = (model.model.method_number(name) for name in _AXES)
    return (beta, epsilon) if model.model.method == _BANG and beta is not None and epsilon is not None else None


def _training(model: ModelResults) -> tuple[object, ...]:
    """Return what a regular model has to share with BANG models: net, iterations, data of training."""
    return model.model.net, model.model.iterations, model.model.data


def _trained_alike(group: Group) -> list[list[ModelResults]]:
    """Return the BANG models in lists that differ in beta and epsilon (and the seed) only."""
    alike: dict[tuple[object, ...], list[ModelResults]] = defaultdict(list)
    for model in group.attacked:
        if _setting(model) is not None:
            others = [item for item in model.model.method_identity() if item[0] not in _AXES]
            alike[*_training(model), *others].append(model)
    return list(alike.values())


def _count_settings(models: Sequence[ModelResults]) -> int:
    return len({_setting(model) for model in models})


def _left_out(group: Group, models: Sequence[ModelResults]) -> tuple[str, ...]:
    """Return a sentence that names the BANG models that were trained in another way than those shown."""
    shown = {model.name for model in models}
    names = [short_name(each.name) for each in group.attacked if _setting(each) and each.name not in shown]
    if not names:
        return ()
    return (f"Not shown, since net, iterations, ratio or training data differ: {', '.join(names)}.",)


def _accuracy(model: ModelResults) -> float | None:
    return model.accuracy


def _fgs_rate(model: ModelResults) -> float | None:
    summary = model.summary("fgs")
    return None if summary is None else summary.rate


def _hc1_pass(model: ModelResults) -> float | None:
    summary = model.summary("hc1")
    return None if summary is None else summary.pass_paper.mean


_QUANTITIES = (
    _Quantity("accuracy", "accuracy (%)", "Accuracy in percent of all images", 2, _accuracy),
    _Quantity("FGS rate", "FGS rate (%)", "FGS rate in percent of the correctly classified images", 2, _fgs_rate),
    _Quantity("HC1 PASS", "HC1 PASS (mean)", "HC1 PASS: mean of pass_paper over the flipped images", 3, _hc1_pass),
)


def _panel(group: Group, models: Sequence[ModelResults], quantity: _Quantity) -> Panel:
    """Return one quantity: the models that share a setting are one point, at their mean."""
    measured: dict[tuple[float, float], dict[str, float]] = defaultdict(dict)
    for model in models:
        setting, value = _setting(model), quantity.value(model)
        if setting is not None and value is not None:
            measured[setting][short_name(model.name)] = value
    points = tuple(
        Point(tuple(values), *setting, float(np.mean(list(values.values())))) for setting, values in measured.items()
    )
    regular = [value for model in _regular_models(group, models) if (value := quantity.value(model)) is not None]
    level = float(np.mean(regular)) if regular else None
    return Panel(quantity.title, quantity.label, quantity.meaning, quantity.places, points, level)


def _regular_models(group: Group, models: Sequence[ModelResults]) -> list[ModelResults]:
    """Return the regular models of the net, the iterations and the training data of BANG models trained alike."""
    training = _training(models[0])
    return [model for model in group.attacked if model.model.method == _REGULAR and _training(model) == training]


def _axis_ends(models: Sequence[ModelResults]) -> tuple[Ends, Ends]:
    """Return the ends of the beta and of the epsilon axis: the same for all panels, with room for the names."""
    settings = np.array([_setting(model) for model in models])
    low, high = settings.min(axis=0), settings.max(axis=0)
    room = np.where(high > low, 0.2 * (high - low), 0.1)
    beta, epsilon = zip((low - room).tolist(), (high + room).tolist(), strict=True)
    return beta, epsilon


def _caption(group: Group, models: Sequence[ModelResults], panels: Sequence[Panel]) -> str:
    given = {model.model.method_number("ratio") for model in models}
    ratios = " or ".join(f"{ratio:g}" for ratio in sorted(ratio for ratio in given if ratio is not None))
    shared = any(len(point.names) > 1 for panel in panels for point in panel.points)
    sentences = [
        f"{len(models)} BANG models on {group.data.name} (n = {group.data.images:,} test images) over β and ε"
        + (f", ratio {ratios}." if ratios else "."),
        *(_meaning(panel, len(models)) for panel in panels),
        f"The 95 % Wilson intervals of the accuracies reach at most {_accuracy_margin(models):.2f} points beyond them.",
        "Labelled markers are measured"
        + (", models with the same settings at their mean" if shared else "")
        + ("; the faint areas are linearly interpolated between them." if _have_area(panels) else "."),
    ]
    if regular := [short_name(model.name) for model in _regular_models(group, models)]:
        sentences.append(f"Regular: {'the mean of ' if len(regular) > 1 else ''}{', '.join(regular)}.")
    return " ".join(sentences)


def _meaning(panel: Panel, models: int) -> str:
    """Say what a quantity is, and for how many models it was measured where not for all."""
    count = sum(len(point.names) for point in panel.points)
    return f"{panel.meaning}, measured for {count} of the models." if count < models else f"{panel.meaning}."


def _accuracy_margin(models: Sequence[ModelResults]) -> float:
    """Return by how many percentage points the interval of an accuracy reaches beyond it, at most."""
    margins = []
    for model in models:
        summary = next(iter(model.attacks.values())).summary
        low, high = wilson_interval(summary.correct, summary.images) or (0.0, 100.0)
        margins.append(max(summary.accuracy - low, high - summary.accuracy))
    return max(margins)


def _in_words(panels: Sequence[Panel]) -> str:
    sentences = []
    for panel in panels:
        numbers = ", ".join(f"{point.label} {number(point.value, panel.places)}" for point in panel.points)
        regular = "" if panel.regular is None else f"; regular {number(panel.regular, panel.places)}"
        sentences.append(f"{panel.label}: {numbers}{regular}.")
    return f"Points over β and ε, coloured by value. {' '.join(sentences)}"


def draw_settings(panels: Sequence[Panel], beta: Ends, epsilon: Ends) -> Figure:
    """Draw one panel per quantity over beta and epsilon, each with its colour bar and the regular level on it."""
    figure = new_figure(PAGE if len(panels) > 1 else COLUMN, 3.6)
    row = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, panel in zip(row, panels, strict=True):
        _draw_panel(figure, axes, panel)
        axes.set_xlabel("β")
        axes.tick_params(left=axes is row[0])
    row[0].set_xlim(*beta)
    row[0].set_ylim(*epsilon)
    row[0].xaxis.set_major_locator(MaxNLocator(5))
    row[0].set_ylabel("ε")
    _legend(figure, panels)
    return figure


def _draw_panel(figure: Figure, axes: Axes, panel: Panel) -> None:
    settings, values = _settings_of(panel), _values_of(panel)
    beta, epsilon = settings.T
    ends = colour_ends(values, panel.regular)
    norm = Normalize(*ends)
    triangles = delaunay(settings)
    if triangles is not None:
        mesh, levels = Triangulation(beta, epsilon, triangles), np.linspace(*ends, _CONTOURS)
        axes.tricontourf(mesh, values, levels, cmap=_faint(SEQUENTIAL), norm=norm, zorder=0).set_rasterized(True)
    shown = axes.scatter(
        beta, epsilon, s=70, c=values, cmap=SEQUENTIAL, norm=norm, edgecolors="black", linewidths=0.8, zorder=3
    )
    _name_points(axes, panel)
    beyond = _beyond(panel)
    bar = figure.colorbar(shown, ax=axes, label=panel.label, extend=beyond, aspect=22)
    if panel.regular is not None and beyond == "neither":
        white = [Stroke(linewidth=4.0, foreground="white"), Normal()]
        bar.ax.axhline(panel.regular, color="black", linewidth=1.8, path_effects=white)
    axes.set_title(_title(panel))


def _faint(name: str) -> ListedColormap:
    """Return a map's colours mixed with white: where translucent areas meet, seams would show."""
    opaque = colormaps[name](np.linspace(0.0, 1.0, 256))
    return ListedColormap(1.0 - _FAINT * (1.0 - opaque[:, :3]))


def _name_points(axes: Axes, panel: Panel) -> None:
    """Write the models above each marker and, where there is room for it, the value below."""
    if len(panel.points) > _MOST_NAMES:
        return
    for point in panel.points:
        place = point.beta, point.epsilon
        axes.annotate(point.label, place, xytext=(0, 6), va="bottom", **_NAME)
        if len(panel.points) <= _MOST_VALUES:
            axes.annotate(number(point.value, panel.places), place, xytext=(0, -6), va="top", **_NAME)


def colour_ends(values: Numbers, regular: float | None) -> Ends:
    """Return the range of the colours: that of the values, and the regular level where it is not far from them."""
    low, high = float(values.min()), float(values.max())
    span = high - low
    if regular is not None and low - span <= regular <= high + span:
        # a little beyond, so that the line of a level at the end is seen whole
        low, high = min(low, regular - _ROOM * span), max(high, regular + _ROOM * span)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        room = 0.01 * max(abs(low), 0.01)
        low, high = low - room, high + room
    return low, high


def _beyond(panel: Panel) -> Literal["neither", "min", "max"]:
    """Return at which end of the colour bar the regular level lies outside, in the words of matplotlib."""
    low, high = colour_ends(_values_of(panel), panel.regular)
    if panel.regular is None or low <= panel.regular <= high:
        return "neither"
    return "min" if panel.regular < low else "max"


def _title(panel: Panel) -> str:
    if panel.regular is None:
        return panel.title
    beyond = "" if _beyond(panel) == "neither" else ", off scale"
    return f"{panel.title}\n(regular {number(panel.regular, panel.places)}{beyond})"


def _settings_of(panel: Panel) -> Numbers:
    """Return beta and epsilon of the points, (points, 2)."""
    return np.array([(point.beta, point.epsilon) for point in panel.points])


def _values_of(panel: Panel) -> Numbers:
    return np.array([point.value for point in panel.points])


def delaunay(settings: Numbers) -> Whole | None:
    """Return the Delaunay triangles between settings, (N, 2), each axis scaled to its range: (triangles, 3) indices.

    None for fewer than three settings and for settings on one line: nothing can be interpolated between them.
    """
    span = np.ptp(settings, axis=0)
    if len(settings) < 3 or not span.all():
        return None
    scaled = (settings - settings.min(axis=0)) / span
    if np.linalg.svd(scaled - scaled.mean(axis=0), compute_uv=False)[1] < _FLAT:
        return None
    return Triangulation(scaled[:, 0], scaled[:, 1]).triangles.astype(np.int64)


def _have_area(panels: Sequence[Panel]) -> bool:
    return any(delaunay(_settings_of(panel)) is not None for panel in panels)


def _legend(figure: Figure, panels: Sequence[Panel]) -> None:
    marker: dict[str, Any] = {"marker": "o", "markersize": 8.0, "markeredgecolor": "black", "linestyle": "none"}
    handles: list[Line2D | Patch] = [Line2D([], [], color=_LEGEND_COLOUR, label="measured", **marker)]
    if _have_area(panels):
        handles.append(Patch(facecolor=_LEGEND_COLOUR, alpha=_FAINT, linewidth=0, label="interpolated (linear)"))
    if any(panel.regular is not None and _beyond(panel) == "neither" for panel in panels):
        handles.append(Line2D([], [], color="black", linewidth=1.8, label="regular (on the colour bar)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if len(panels) > 1 else 2)
