"""`reproduce`: play a recipe, doing only what is not done yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from bangbench.attacks.base import ATTACKS
from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.auditing.run import audit
from bangbench.auditing.spec import AuditSpec
from bangbench.core.device import available_cores, choose_device
from bangbench.core.errors import BenchError, unknown_name
from bangbench.core.executor import Job, run_jobs
from bangbench.core.executor_local import LocalExecutor
from bangbench.core.progress import SILENT, Progress
from bangbench.core.spec import Spec
from bangbench.data.sources import open_source
from bangbench.nets.catalogue import net_definition
from bangbench.noise.run import evolve
from bangbench.noise.spec import NoiseSpec
from bangbench.recipes.obstacles import Obstacle, Task, in_the_way
from bangbench.recipes.recipe import Recipe, RecipeModel, load_recipe
from bangbench.recipes.spec import ReproduceSpec
from bangbench.reporting.run import ReportResult, report
from bangbench.reporting.spec import ReportSpec
from bangbench.store.audits import AuditRecord
from bangbench.store.records import AttackRecord, ModelCard, NoiseRecord
from bangbench.training.methods.base import make_method
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

AnySpec = TypeVar("AnySpec", bound=Spec)


class TaskResult(NamedTuple):
    """What became of a task."""

    card: ModelCard
    attacks: list[AttackRecord]


class Played(NamedTuple):
    """What a recipe left."""

    models: list[TaskResult]
    noise: NoiseRecord | None
    audits: list[AuditRecord]
    report: ReportResult


def reproduce(spec: ReproduceSpec, progress: Progress = SILENT) -> Played:
    """Train and attack the models of a recipe, run its noise evolution, audit them, and write its report.

    Whatever is on disk with the same settings and inputs is used as it is. Finished work that differs is replaced,
    together with what depends on it, where `overwrite` asks for it; otherwise it is refused before any work starts.
    Raises `UsageError` for an unknown recipe or model, `BenchError` as its parts do.
    """
    recipe = load_recipe(spec.recipe, spec.name)
    chosen = _choose(recipe, spec)
    on_cpu = choose_device(spec.device).type == "cpu"
    jobs = spec.jobs or (available_cores() if on_cpu else 1)
    tasks = [_task(recipe, model, spec, workers=1 if on_cpu or jobs > 1 else None) for model in chosen]
    for task in tasks:
        _check_names(task)
    evolution = _noise_spec(recipe, spec, {model.id for model in chosen})
    auditing = _audit_specs(recipe, spec, chosen)
    if not spec.overwrite:
        _refuse_to_replace(in_the_way(tasks, evolution, auditing), progress)
    results = _play_tasks(tasks, jobs, recipe.name, progress)
    noise = evolve(evolution.model_copy(update={"workers": jobs}), progress) if evolution is not None else None
    audits = _play_audits(auditing, jobs, recipe.name, progress)
    names = tuple(recipe.model_name(model.id) for model in chosen)
    return Played(results, noise, audits, report(ReportSpec(root=spec.root, models=names), progress))


def play_task(task: Task, progress: Progress) -> TaskResult:
    """Train and attack one model."""
    card = train(task.train, progress)
    progress.note(f"{card.model.name}: {card.accuracy:.2f} % after {card.model.iterations} iterations")
    return TaskResult(card, attack(task.attack, progress))


def _play_tasks(tasks: list[Task], jobs: int, label: str, progress: Progress) -> list[TaskResult]:
    if jobs == 1 or len(tasks) == 1:
        return [play_task(task, progress) for task in tasks]
    attacks = [len(task.attack.attack) for task in tasks]
    # training a model takes about as long as all attacks on it
    work = [
        Job(task.train.name, play_task, task, stretches=1 + count, first=float(count))
        for task, count in zip(tasks, attacks, strict=True)
    ]
    return run_jobs(work, LocalExecutor(jobs), label, progress)


def _play_audits(specs: list[AuditSpec], jobs: int, label: str, progress: Progress) -> list[AuditRecord]:
    """Audit as many models at once as there are jobs, each in one process, or one by one in as many."""
    if jobs == 1 or len(specs) < jobs:
        return [audit(spec.model_copy(update={"workers": jobs}), progress) for spec in specs]
    work = [Job(f"{spec.model} audit", audit, spec.model_copy(update={"workers": 1}), stretches=1) for spec in specs]
    return run_jobs(work, LocalExecutor(jobs), f"{label} audits", progress)


def _refuse_to_replace(found: list[Obstacle], progress: Progress) -> None:
    """Raise `BenchError` that lists the finished work in the way, folder by folder; note what never was finished."""
    finished: dict[tuple[Path, str], list[str]] = {}
    for obstacle in found:
        if obstacle.finished:
            finished.setdefault((obstacle.path.parent, obstacle.reason), []).append(obstacle.path.name)
        else:
            progress.note(f"{obstacle.path}: never finished, made with other settings ({obstacle.reason}); replaced")
    if finished:
        lines = [f"  {folder}: {', '.join(names)} ({reason})" for (folder, reason), names in finished.items()]
        raise BenchError(
            "\n".join(("finished work of other settings is in the way:", *lines))
            + "\npass --overwrite to replace it, or --name NAME to keep this run apart, in models/NAME and results/NAME"
        )


def _choose(recipe: Recipe, spec: ReproduceSpec) -> list[RecipeModel]:
    known = {model.id for model in recipe.model}
    for identifier in spec.only:
        if identifier not in known:
            raise unknown_name(f"model of {recipe.name}", identifier, known)
    return [model for model in recipe.model if not spec.only or model.id in spec.only]


def _task(recipe: Recipe, model: RecipeModel, spec: ReproduceSpec, workers: int | None) -> Task:
    """Return the specs of one model.

    On a CPU every model computes with one thread: more would change the last bits of its logits, and the results
    would depend on how many models are worked on at once.
    """
    name = recipe.model_name(model.id)
    changes = {"data": spec.data, "iterations": spec.iterations}
    settings = recipe.train | model.settings() | {key: value for key, value in changes.items() if value is not None}
    changed = spec.model_dump(include={"attack", "limit"}, exclude_defaults=True)
    training = _make(TrainSpec, recipe, spec, {**settings, "name": name})
    attacking = _make(AttackSpec, recipe, spec, {**recipe.attack, **changed, "model": name})
    return Task(training, attacking.model_copy(update={"workers": workers}))


def _check_names(task: Task) -> None:
    """Raise now what the last model of a recipe would otherwise be refused for after hours of work on the others."""
    training = task.train
    defaults = net_definition(training.net).method_defaults.get(training.method, {})
    make_method(training.method, {**defaults, **training.method_settings()})
    open_source(training.data, training.data_dir)
    for name in task.attack.attack:
        ATTACKS.check(name)


def _noise_spec(recipe: Recipe, spec: ReproduceSpec, chosen: set[str]) -> NoiseSpec | None:
    if recipe.noise is None or not spec.noise or not {*recipe.noise["models"]} <= chosen:
        return None
    settings: dict[str, Any] = dict(recipe.noise)
    settings["models"] = tuple(recipe.model_name(identifier) for identifier in recipe.noise["models"])
    if spec.draws is not None:
        settings["draws"] = spec.draws
    return _make(NoiseSpec, recipe, spec, settings)


def _audit_specs(recipe: Recipe, spec: ReproduceSpec, chosen: list[RecipeModel]) -> list[AuditSpec]:
    """Return the audits of the models chosen, against the regular one where that is among them."""
    if recipe.audit is None or not spec.audit:
        return []
    settings = dict(recipe.audit)
    against = settings.pop("against", None)
    if against in {model.id for model in chosen}:
        settings["against"] = recipe.model_name(against)
    if spec.limit is not None:
        settings["limit"] = spec.limit
    return [_make(AuditSpec, recipe, spec, {**settings, "model": recipe.model_name(model.id)}) for model in chosen]


def _make(kind: type[AnySpec], recipe: Recipe, spec: ReproduceSpec, settings: dict[str, Any]) -> AnySpec:
    """Return the spec of one command, which replaces other settings' unfinished work, or all where that is wanted."""
    circumstances = spec.model_dump(include={"root", "data_dir", "device", "wait"})
    circumstances["overwrite"] = "differing" if spec.overwrite else "unfinished"
    try:
        return kind(**{**settings, **circumstances})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise BenchError(f"recipe {recipe.name}: {unknown_name('setting', place, kind.model_fields)}") from error
        raise BenchError(f"recipe {recipe.name}: {place}: {first['msg']}") from error
