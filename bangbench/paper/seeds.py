"""The figure of several seeds: each training as a point, beside the published number."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bangbench.core.statistics import prediction_interval
from bangbench.paper.agreement import trainings
from bangbench.paper.published import PublishedRow, is_published_data
from bangbench.reporting.experiments import Experiment, ModelResults
from bangbench.reporting.figure import Figure
from bangbench.reporting.seeds import Strip, Strips, strips_in_words


def _rate(model: ModelResults, attack: str) -> float | None:
    summary = model.summary(attack)
    return None if summary is None else summary.rate


def _score(model: ModelResults) -> float | None:
    summary = model.summary("hc1")
    return None if summary is None else summary.pass_paper.mean


_Ours = Callable[[ModelResults], float | None]
_QUANTITIES: tuple[tuple[str, int, _Ours, Callable[[PublishedRow], float]], ...] = (
    ("accuracy (points)", 2, lambda model: model.accuracy, lambda row: row.accuracy),
    ("FGS rate (points)", 2, lambda model: _rate(model, "fgs"), lambda row: row.fgs.rate),
    ("HC1 rate (points)", 2, lambda model: _rate(model, "hc1"), lambda row: row.hc1.rate),
    ("HC1 PASS", 4, _score, lambda row: row.hc1.pass_paper[0]),
)


def seed_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield every seed of every published row beside the published numbers, where some row has several."""
    listed = [each for each in trainings(experiment) if is_published_data(experiment.data, each[1].dataset)]
    if max((len(models) for models, _ in listed), default=0) < 2:
        return
    strips = []
    for title, _, ours, published in _QUANTITIES:
        values = tuple(
            tuple(value - published(reference.row) for model in models if (value := ours(model)) is not None)
            for models, reference in listed
        )
        strips.append(Strip(title, values, tuple(prediction_interval(np.array(each)) for each in values)))
    places = [decimals for _, decimals, *_ in _QUANTITIES]
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
