"""The same recipe trained with several seeds: how far the numbers move when nothing but the seed changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bangbench.core.spec import fingerprint_of
from bangbench.core.statistics import t_interval
from bangbench.reporting.bench_rows import ATTACK_ORDER
from bangbench.reporting.groups import Group, ModelResults, natural_key, short_name
from bangbench.reporting.rows import group_title, unfinished_note
from bangbench.reporting.table import Cell, Column, Row, Show, Table, csv_column, mean_and_std, number, text
from bangbench.reporting.verdicts import audit_notes, verdict_on
from bangbench.store.records import AttackSummary, ModelCard

_FEWEST = 2
_NO_NUMBERS: Cell = (None, None, None, None)

#: Settings in which trainings of one recipe may differ: the seed, and what changes no step.
_FREE_SETTINGS = {"seed", "stages", "threads"}
#: Settings as they were asked for; a card says as well what came of them.
_AS_ASKED = {"data", "input_scale", "mean", "std"}
#: What each model of a recipe has for itself.
_OWN = {"name", "seed", "weights_sha256", "behaviour"}


class _Seeds(NamedTuple):
    """Models of one recipe, each with a seed and weights of its own, that have results of `attack`."""

    models: tuple[ModelResults, ...]
    attack: str


def seed_table(group: Group) -> Table | None:
    """Return mean, standard deviation and t interval over seeds, per recipe and attack; None without two seeds."""
    compared = [seeds for alike in recipes(group.models) for seeds in _attacks(independent(alike))]
    if not compared:
        return None
    return Table(
        name=f"{group.name}-seeds",
        title=f"{group_title(group)}; the same recipe with several seeds",
        columns=_columns(group),
        rows=tuple(Row("measured", _cells(group, seeds)) for seeds in compared),
        notes=(
            *_NOTES,
            *_two_seeds_note(compared),
            *audit_notes(
                group,
                (seeds.attack for seeds in compared),
                (model.name for seeds in compared for model in seeds.models),
            ),
            *unfinished_note(group),
        ),
    )


_NOTES = (
    "Mean ± standard deviation (n - 1) over seeds, n as in the column Seeds, and the mean's 95 % t interval in "
    "brackets. Each seed gives one number: its accuracy, its rate (percent of its correct images), its mean L∞ (grey "
    "levels) and mean PASS (paper) over its flipped images; empty where some seed has none, and without an interval "
    "where all seeds give the same number.",
    "One recipe: the same net, training images, method and settings of the training, as the model.json of each says, "
    "with different seeds and different weights; models without one are left out.",
    "The spread covers training with another seed on the same test images; an interval is not cut off at 0 or 100 %.",
)


def recipes(models: Iterable[ModelResults]) -> list[list[ModelResults]]:
    """Return the models trained alike but for their seed, recipe by recipe; those of which that is known."""
    found: dict[str, list[ModelResults]] = defaultdict(list)
    for model in models:
        if model.card is not None:
            found[_recipe(model.card)].append(model)
    return list(found.values())


def independent(alike: Iterable[ModelResults]) -> list[ModelResults]:
    """Return those of one recipe that tell something new: the first of every seed and of every set of weights."""
    found: list[ModelResults] = []
    for model in alike:
        if all(_independent(model, other) for other in found):
            found.append(model)
    return found


def is_training_known(model: ModelResults) -> bool:
    """Tell whether there is a card that says with which settings the weights were trained."""
    return model.card is not None


def _recipe(card: ModelCard) -> str:
    """Return what models trained alike have in common: all that their cards say but what is left to them."""
    settings = {name: value for name, value in card.spec.items() if name not in _FREE_SETTINGS | _AS_ASKED}
    model = card.model.model_dump(mode="json", exclude=_OWN)
    return fingerprint_of([settings, model, card.train_data.fingerprint])


def _independent(model: ModelResults, other: ModelResults) -> bool:
    """Tell whether two models differ in their seed and are not known to be copies of the same weights."""
    first, second = model.model, other.model
    same_weights = first.weights_sha256 is not None and first.weights_sha256 == second.weights_sha256
    return first.seed != second.seed and not same_weights


def _attacks(models: Sequence[ModelResults]) -> Iterator[_Seeds]:
    """Yield each attack that at least two of the models have, the bench's own first."""
    names = {attack for model in models for attack in model.attacks}
    strangers = sorted(names - set(ATTACK_ORDER), key=natural_key)
    for attack in (*ATTACK_ORDER, *strangers):
        having = tuple(model for model in models if attack in model.attacks)
        if len(having) >= _FEWEST:
            yield _Seeds(having, attack)


def _show(places: int) -> Show:
    """Return a function that shows (mean, standard deviation, low, high) as ``92.1 ± 0.8 [85.2, 99.0]``."""

    def show(cell: Cell) -> str:
        mean, std, low, high = cell
        shown = mean_and_std(places)((mean, std))
        return shown if low is None or high is None else f"{shown} [{number(low, places)}, {number(high, places)}]"

    return show


def _column(header: str, short: str | None, field: str, unit: str, places: int) -> Column:
    spread = "_points" if unit == "_percent" else unit
    fields = (f"{field}_mean{unit}", f"{field}_sd{spread}", f"{field}_low{unit}", f"{field}_high{unit}")
    return Column(header, short, fields, _show(places))


def _columns(group: Group) -> tuple[Column, ...]:
    return (
        Column("Models", "Models", ("models",), text, "left"),
        csv_column("data"),
        Column("Attack", "Attack", ("attack",), text, "left"),
        Column("Audit", "Audit", ("audit_verdict",), text if group.audits else None, "left"),
        Column("Seeds", "Seeds", ("seeds",), text),
        _column("Accuracy (%)", "Acc.\n%", "accuracy", "_percent", 2),
        _column("Rate (%)", "Rate %", "rate", "_percent", 2),
        _column("L∞", "L∞", "linf", "_grey_levels", 2),
        _column("PASS (paper)", None, "pass_paper", "", 4),
    )


def _verdict(seeds: _Seeds) -> str:
    """Return the verdict on an attack where all models have the same, or else which model has which."""
    verdicts = {short_name(model.name): verdict_on(model.audit, seeds.attack) for model in seeds.models}
    alike = set(verdicts.values())
    return alike.pop() if len(alike) == 1 else ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items())


def _cells(group: Group, seeds: _Seeds) -> tuple[Cell, ...]:
    return (
        (", ".join(short_name(model.name) for model in seeds.models),),
        (group.data.name,),
        (seeds.attack,),
        (_verdict(seeds),),
        (len(seeds.models),),
        _over_seeds(seeds, lambda summary: summary.accuracy),
        _over_seeds(seeds, lambda summary: summary.rate),
        _over_seeds(seeds, lambda summary: summary.linf.mean),
        _over_seeds(seeds, lambda summary: summary.pass_paper.mean),
    )


def _over_seeds(seeds: _Seeds, number_of: Callable[[AttackSummary], float | None]) -> Cell:
    """Return mean, standard deviation, low and high of one number; nothing where it is missing for some seed."""
    values = [number_of(model.attacks[seeds.attack].summary) for model in seeds.models]
    present = np.array([value for value in values if value is not None], dtype=np.float64)
    estimate = t_interval(present) if len(present) == len(values) else None
    return _NO_NUMBERS if estimate is None else tuple(estimate)


def _two_seeds_note(compared: Sequence[_Seeds]) -> tuple[str, ...]:
    if min(len(seeds.models) for seeds in compared) > _FEWEST:
        return ()
    return (
        "With two seeds the t interval reaches 12.7 standard errors, which are 9 standard deviations, to both sides: "
        "it says little more than that two seeds are too few.",
    )
