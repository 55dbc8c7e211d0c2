"""The paper's figures 2 to 5: beta and epsilon, noise over the course of training; every seed beside its numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bangbench.core.statistics import Numbers, prediction_interval, wilson_interval
from bangbench.paper.claims import trainings
from bangbench.paper.published import PublishedRow, figure_of, is_published_data, published_label
from bangbench.reporting.collect import FoundNoise, short_name
from bangbench.reporting.experiments import Experiment, ModelResults
from bangbench.reporting.figure import COLUMN, DIVERGING, PAGE, SEQUENTIAL, Figure
from bangbench.reporting.frames import measured
from bangbench.reporting.noise import evolutions_to_draw, noise_counts, noise_definition, noise_in_words, noise_verdicts
from bangbench.reporting.seeds import Strip, Strips, strips_in_words
from bangbench.reporting.table import SIGMA, number, verdicts_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

_MODULE = "bangbench.paper.figures"
_CLAIMS = ("fgs", "hc1")
_AXES = ("beta", "epsilon")
#: Values fit beside the markers of this many settings.
_MOST_NAMES = 30
#: Labels that fit under a surface without touching, and beside it.
_MOST_STAGES, _MOST_SIGMAS = 4, 10


class Surfaces(NamedTuple):
    """Flipped copies (percent) of two models by name, (2, sigmas, stages), noise strengths ascending."""

    names: tuple[str, str]
    stages: tuple[int, ...]
    sigmas: tuple[float, ...]
    percent: Numbers


def noise_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield figures 3 and 5: the surfaces over iteration and sigma of the first two models, and their difference."""
    for found in evolutions_to_draw(experiment):
        if len(found.summary.stages) > 1 and len(found.record.models) > 1:
            yield _surfaces(experiment, found)


def _surfaces(experiment: Experiment, found: FoundNoise) -> Figure:
    order = np.argsort(found.summary.sigmas, kind="stable")
    names = short_name(found.record.models[0].name), short_name(found.record.models[1].name)
    reference, ends = figure_of(found, experiment), ""
    if reference is not None:
        figure, about = reference.figure, "about " if reference.figure.approximate else ""
        label = published_label(found.record.data, reference.dataset)
        ends = (
            f"{label[0].upper()}{label[1:]}, figure {reference.number} at {SIGMA} {figure.sigma:g}, last stage: "
            f"regular {about}{figure.regular_percent:g} %, BANG {about}{figure.bang_percent:g} %."
        )
    return Figure(
        name=f"{found.name.replace('/', '-')}-noise",
        section="noise",
        title=f"Gaussian noise during training: {found.title}",
        caption=(
            f"{noise_definition(found)} over the iterations of training and {SIGMA}: {names[0]}, {names[1]}, and "
            f"{names[0]} minus {names[1]} in percentage points, above 0 where {names[1]} is flipped less. "
            f"{noise_counts(found)} {ends} {noise_verdicts(experiment, found)}"
        ).strip(),
        alternative=f"Three heat maps over iteration and {SIGMA}. {noise_in_words(found)}",
        content=Surfaces(
            names,
            found.summary.stages,
            tuple(float(found.summary.sigmas[place]) for place in order),
            np.array(found.summary.flipped_percent[:2], dtype=np.float64)[:, :, order].transpose(0, 2, 1).copy(),
        ),
        draw=f"{_MODULE}:draw_surfaces",
    )


def draw_surfaces(content: Surfaces) -> Drawing:
    """Draw three heat maps: both models on one colour scale (percent), their difference around 0 (points)."""
    from bangbench.reporting.draw import new_drawing

    first, second = content.percent
    drawing = new_drawing(PAGE, 3.3)
    panels = drawing.subplots(1, 3, sharey=True)
    highest, largest = max(content.percent.max(), 1.0), max(float(np.abs(first - second).max()), 1.0)
    _draw_surface(panels[0], content, first, SEQUENTIAL, (0.0, highest))
    shared = _draw_surface(panels[1], content, second, SEQUENTIAL, (0.0, highest))
    difference = _draw_surface(panels[2], content, first - second, DIVERGING, (-largest, largest))
    titles = (*(name[:26] for name in content.names), f"{content.names[0][:12]} minus {content.names[1][:12]}")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title)
        axes.tick_params(left=axes is panels[0])
    panels[0].set_ylabel(f"noise {SIGMA} (grey levels)")
    drawing.colorbar(shared, ax=panels[:2], label="flipped copies (%)", aspect=25)
    drawing.colorbar(difference, ax=panels[2], label="difference (percentage points)", aspect=25)
    return drawing


def _draw_surface(axes: Axes, content: Surfaces, surface: Numbers, colours: str, ends: tuple[float, float]) -> Any:
    """Draw one surface, (sigmas, stages); each measured point is one rectangle, whatever the distance to the next."""
    mesh = axes.pcolormesh(surface, cmap=colours, vmin=ends[0], vmax=ends[1], rasterized=True)
    axes.grid(visible=False)
    axes.set_xlabel("iteration")
    chosen = _ticks(len(content.stages), _MOST_STAGES if content.stages[-1] < 100_000 else _MOST_STAGES - 1)
    axes.set_xticks([place + 0.5 for place in chosen], [f"{content.stages[place]:,}" for place in chosen])
    chosen = _ticks(len(content.sigmas), _MOST_SIGMAS)
    axes.set_yticks([place + 0.5 for place in chosen], [f"{content.sigmas[place]:g}" for place in chosen])
    return mesh


def _ticks(count: int, most: int) -> list[int]:
    """Return at most so many indices to label: evenly spaced, the last one always among them."""
    step = -(-count // most)
    return list(range(count - 1, -1, -step))[::-1]


class Point(NamedTuple):
    """One setting: the names of its models and the mean of their values."""

    names: str
    beta: float
    epsilon: float
    value: float


class Quantity(NamedTuple):
    """One quantity over the settings; places: decimals; regular: mean of the regular models, None without any."""

    title: str
    label: str
    places: int
    points: tuple[Point, ...]
    regular: float | None


_Value = Callable[[ModelResults], float | None]


def _of(attack: str, field: str) -> _Value:
    return lambda model: measured(model, attack).get(field)


_ACCURACY: _Value = lambda model: model.accuracy  # noqa: E731
_QUANTITIES = (
    ("accuracy", "accuracy (%)", 2, _ACCURACY),
    ("FGS rate", "FGS rate (%)", 2, _of("fgs", "rate_percent")),
    ("HC1 PASS", "HC1 PASS (mean)", 3, _of("hc1", "pass_paper_mean")),
)
_Paper = Callable[[PublishedRow], float]
_DIFFERENCES: tuple[tuple[str, int, _Value, _Paper], ...] = (
    ("accuracy (points)", 2, _ACCURACY, lambda row: row.accuracy),
    ("FGS rate (points)", 2, _of("fgs", "rate_percent"), lambda row: row.fgs.rate),
    ("HC1 rate (points)", 2, _of("hc1", "rate_percent"), lambda row: row.hc1.rate),
    ("HC1 PASS", 4, _of("hc1", "pass_paper_mean"), lambda row: row.hc1.pass_paper[0]),
)


def settings_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield figures 2 and 4: accuracy, FGS rate and HC1 PASS over beta and epsilon, for two settings of BANG or more.

    The models shown were trained alike but for beta and epsilon: of several such lists the one with most settings.
    """
    models = max(_trained_alike(experiment), key=_count, default=[])
    if _count(models) < 2:
        return
    regular = [
        model
        for model in experiment.attacked
        if model.model.method == "regular" and _training(model) == _training(models[0])
    ]
    made = (_quantity(models, regular, *each) for each in _QUANTITIES)
    quantities = tuple(quantity for quantity in made if quantity.points)
    left_out = [model.id for model in experiment.attacked if _setting(model) and model not in models]
    yield Figure(
        name=f"{experiment.name}-settings",
        section="settings",
        title="BANG's β and ε",
        caption=" ".join(
            (
                f"{len(models)} BANG models on {experiment.data.name} (n = {experiment.data.images:,} test images) "
                "over β and ε. Accuracy in percent of all images; FGS rate in percent of the correctly classified "
                "images; HC1 PASS: mean of pass_paper over the flipped images. The 95 % Wilson intervals of the "
                f"accuracies reach at most {_margin(models):.2f} points beyond them. Models with the same settings "
                "stand at their mean.",
                *([f"Regular: the mean of {', '.join(model.id for model in regular)}."] * bool(regular)),
                *([f"Not shown, since net, iterations, ratio or data differ: {', '.join(left_out)}."] * bool(left_out)),
                *verdicts_in_words(models, _CLAIMS),
            )
        ),
        alternative=f"Points over β and ε, coloured by value. {' '.join(map(_in_words, quantities))}",
        content=quantities,
        draw=f"{_MODULE}:draw_settings",
    )


def _setting(model: ModelResults) -> tuple[float, float] | None:
    """Return beta and epsilon of a BANG model."""
    beta, epsilon = (model.model.method_number(name) for name in _AXES)
    return (beta, epsilon) if model.model.method == "bang" and beta is not None and epsilon is not None else None


def _training(model: ModelResults) -> tuple[object, ...]:
    """Return what a regular model has to share with BANG models: net, iterations, data of training."""
    return model.model.net, model.model.iterations, model.model.data


def _trained_alike(experiment: Experiment) -> list[list[ModelResults]]:
    """Return the BANG models in lists that differ in beta and epsilon (and the seed) only."""
    alike: dict[tuple[object, ...], list[ModelResults]] = defaultdict(list)
    for model in experiment.attacked:
        if _setting(model) is not None:
            others = [item for item in model.model.method_identity() if item[0] not in _AXES]
            alike[*_training(model), *others].append(model)
    return list(alike.values())


def _count(models: Sequence[ModelResults]) -> int:
    return len({_setting(model) for model in models})


def _quantity(
    models: Sequence[ModelResults], regular: Sequence[ModelResults], title: str, label: str, places: int, value: _Value
) -> Quantity:
    """Return one quantity: the models that share a setting are one point, at their mean."""
    measured: dict[tuple[float, float], dict[str, float]] = defaultdict(dict)
    for model in models:
        setting, found = _setting(model), value(model)
        if setting is not None and found is not None:
            measured[setting][model.id] = found
    points = tuple(
        Point(", ".join(each), *setting, float(np.mean(list(each.values())))) for setting, each in measured.items()
    )
    level = [found for model in regular if (found := value(model)) is not None]
    return Quantity(title, label, places, points, float(np.mean(level)) if level else None)


def _margin(models: Sequence[ModelResults]) -> float:
    """Return by how many percentage points the interval of an accuracy reaches beyond it, at most."""
    margins = []
    for model in models:
        summary = next(iter(model.attacks.values())).summary
        low, high = wilson_interval(summary.correct, summary.images) or (0.0, 100.0)
        margins.append(max(summary.accuracy - low, high - summary.accuracy))
    return max(margins)


def _in_words(quantity: Quantity) -> str:
    numbers = ", ".join(f"{point.names} {number(point.value, quantity.places)}" for point in quantity.points)
    regular = "" if quantity.regular is None else f"; regular {number(quantity.regular, quantity.places)}"
    return f"{quantity.label}: {numbers}{regular}."


def draw_settings(quantities: Sequence[Quantity]) -> Drawing:
    """Draw one panel per quantity over beta and epsilon, each with its colour bar; regular: its level in the title."""
    from matplotlib.ticker import MaxNLocator

    from bangbench.reporting.draw import new_drawing

    drawing = new_drawing(PAGE if len(quantities) > 1 else COLUMN, 3.4)
    row = drawing.subplots(1, len(quantities), sharex=True, sharey=True, squeeze=False)[0]
    for axes, quantity in zip(row, quantities, strict=True):
        beta, epsilon, values = (
            np.array([point[place] for point in quantity.points], dtype=np.float64) for place in (1, 2, 3)
        )
        shown = axes.scatter(
            beta, epsilon, s=70, c=values, cmap=SEQUENTIAL, edgecolors="black", linewidths=0.8, zorder=3
        )
        drawing.colorbar(shown, ax=axes, label=quantity.label, aspect=22)
        for point in quantity.points if len(quantity.points) <= _MOST_NAMES else ():
            place, look = (point.beta, point.epsilon), {"textcoords": "offset points", "ha": "center", "fontsize": 8}
            axes.annotate(point.names, place, xytext=(0, 6), va="bottom", **look)
            axes.annotate(number(point.value, quantity.places), place, xytext=(0, -6), va="top", **look)
        level = "" if quantity.regular is None else f"\n(regular {number(quantity.regular, quantity.places)})"
        axes.set_title(f"{quantity.title}{level}")
        axes.set_xlabel("β")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.margins(0.2)
    row[0].set_ylabel("ε")
    return drawing


def seed_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield every seed of every published row beside the published numbers, where some row has several."""
    listed = [each for each in trainings(experiment) if is_published_data(experiment.data, each[1].dataset)]
    if max((len(models) for models, _ in listed), default=0) < 2:
        return
    strips = []
    for title, _, ours, published in _DIFFERENCES:
        values = tuple(
            tuple(value - published(reference.row) for model in models if (value := ours(model)) is not None)
            for models, reference in listed
        )
        strips.append(Strip(title, values, tuple(prediction_interval(np.array(each)) for each in values)))
    places = [decimals for _, decimals, *_ in _DIFFERENCES]
    labels = tuple(f"{reference.row.id} (n = {len(models)})" for models, reference in listed)
    yield Figure(
        name=f"{experiment.name}-seeds",
        section="claims",
        title="Every seed beside the published numbers",
        caption=(
            f"Measured minus published, each training on {experiment.data.name} ({experiment.data.images:,} test "
            "images) as a point; n: seeds. Grey bars: the 95 % prediction interval of one more training, where there "
            "are several; they may leave the figure, and with two seeds nearly all do. A published number (the line at "
            "0) within its bar could be one more seed. Rows that are trained alike, as the regular ones, share their "
            "seeds. PASS: pass_paper."
        ),
        alternative=f"Points around a line at 0, the published number. {strips_in_words(labels, strips, places)}",
        content=Strips(labels, tuple(strips), "measured minus published", differences=True),
        draw="bangbench.reporting.seeds:draw_strips",
    )
