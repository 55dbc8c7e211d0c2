"""What earlier runs left where a recipe would put something else: looked up before any work starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bangbench.attacks.run import plan_attacks
from bangbench.attacks.spec import AttackSpec
from bangbench.auditing.run import make_plan as plan_audit
from bangbench.auditing.spec import AuditSpec
from bangbench.core.errors import BenchError
from bangbench.core.spec import Spec
from bangbench.noise.plan import make_plan as plan_noise
from bangbench.noise.run import RECORD
from bangbench.noise.spec import NoiseSpec
from bangbench.recipes.tasks import Task
from bangbench.store.audits import AuditRecord
from bangbench.store.layout import AUDIT, CARD, model_folder, results_folder, versus_name
from bangbench.store.records import AttackRecord, ModelCard, NoiseRecord, Record, find_record
from bangbench.store.reuse import differences
from bangbench.training.run import finished_model, make_plan
from bangbench.training.spec import TrainSpec

#: Settings that a record keeps in another form than they are asked for.
_CONVERTED = {"budget"}


class Obstacle(NamedTuple):
    """A record in the way: how it differs from what is wanted, and whether it is that of finished work."""

    path: Path
    reason: str
    finished: bool


class _Place(NamedTuple):
    """What is where a model belongs: the finished model as planned, or an obstacle, or nothing finished."""

    card: ModelCard | None = None
    obstacle: Obstacle | None = None


class _Planned(Protocol):
    """What a measurement is to be: its key, and the settings that its record is to keep."""

    @property
    def key(self) -> str: ...

    @property
    def settings(self) -> dict[str, Any]: ...


def in_the_way(tasks: Sequence[Task], noise: NoiseSpec | None, audits: Sequence[AuditSpec]) -> list[Obstacle]:
    """Return the records of other settings where these tasks, noise evolution and audits belong.

    What is measured on a model that is still to be trained can only be compared by what was asked for: should the
    weights be others, the measurement itself will protect what is there.
    """
    places = {task.name: _place(task.train) for task in tasks}
    found = [place.obstacle for place in places.values() if place.obstacle is not None]
    for task in tasks:
        for attack in task.attacks:
            found += _of_attacks(attack, places[task.name])
    if noise is not None:
        path = results_folder(noise.root, versus_name(noise.models)) / RECORD
        models = [places[name] for name in noise.models]
        found += _look(path, NoiseRecord, noise, models, partial(plan_noise, noise))
    for spec in audits:
        models = [places[name] for name in (spec.model, spec.against) if name is not None]
        path = results_folder(spec.root, spec.model) / f"{AUDIT}.json"
        found += _look(path, AuditRecord, spec, models, partial(plan_audit, spec))
    return found


def _place(spec: TrainSpec) -> _Place:
    path = model_folder(spec.root, spec.name) / CARD
    if not path.exists():
        return _Place()
    plan = make_plan(spec)
    try:
        card = find_record(path, ModelCard)
        if card is not None and card.key != plan.key:
            reason = differences(card.spec, plan.settings)
            return _Place(obstacle=Obstacle(path, reason, card.status == "done"))
        return _Place(finished_model(plan))
    except BenchError as error:
        return _Place(obstacle=Obstacle(path, str(error), finished=True))


def _of_attacks(spec: AttackSpec, place: _Place) -> list[Obstacle]:
    found = []
    runs = cache(lambda: {run.name: run for run in plan_attacks(spec)})  # opened once, and only where it is needed
    for name in dict.fromkeys(spec.attack):
        path = results_folder(spec.root, spec.model) / f"{name}.json"
        found += _look(path, AttackRecord, spec, [place], partial(_named, runs, name))
    return found


def _named(runs: Callable[[], Mapping[str, _Planned]], name: str) -> _Planned:
    return runs()[name]


def _look(
    path: Path, kind: type[Record], spec: Spec, places: Sequence[_Place], plan: Callable[[], _Planned]
) -> list[Obstacle]:
    """Return the record at `path` if it is an obstacle to what `spec` asks for, measured on the models of `places`."""
    try:
        record = find_record(path, kind)
    except BenchError as error:
        return [Obstacle(path, str(error), finished=True)]
    reason = _reason(record, spec, places, plan) if record is not None else ""
    return [Obstacle(path, reason, record.status == "done")] if record is not None and reason else []


def _reason(record: Record, spec: Spec, places: Sequence[_Place], plan: Callable[[], _Planned]) -> str:
    """Say how a measurement differs from what `spec` asks for; nothing where, as far as is known, it does not."""
    if any(place.obstacle is not None and place.obstacle.finished for place in places):
        return "measured on a model in the way"
    if any(place.card is None for place in places):
        return _asked_otherwise(record, spec)
    planned = plan()
    return differences(record.spec, planned.settings) if planned.key != record.key else ""


def _asked_otherwise(record: Record, spec: Spec) -> str:
    """Say how the settings that were asked for differ; what is left at None is the measurement's own, but the limit."""
    asked = {name: value for name, value in spec.settings().items() if name in record.spec and name not in _CONVERTED}
    asked = {name: value for name, value in asked.items() if value is not None or name == "limit"}
    before = {name: record.spec[name] for name in asked}
    return differences(before, asked) if before != asked else ""
