"""`reproduce`: play a recipe, doing only what is not done yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bangbench.auditing.run import audit
from bangbench.auditing.spec import AuditSpec
from bangbench.core.device import choose_device
from bangbench.core.errors import BenchError
from bangbench.core.executor import Job, chosen_executor, run_jobs, using
from bangbench.core.executor_choice import open_executor
from bangbench.core.progress import SILENT, Progress
from bangbench.noise.run import evolve
from bangbench.recipes.cells import Cell, finished_cell
from bangbench.recipes.obstacles import Obstacle, in_the_way
from bangbench.recipes.planned import Planned, grid_record, plan_recipe
from bangbench.recipes.recipe import load_recipe
from bangbench.recipes.spec import ReproduceSpec
from bangbench.recipes.tasks import Failure, Task, TaskResult, try_task
from bangbench.reporting import ReportSpec
from bangbench.reporting.run import ReportResult, report
from bangbench.store.audits import AuditRecord
from bangbench.store.cells import CellRecord, GridRecord, read_cells, write_grid
from bangbench.store.plans import keep_plan
from bangbench.store.records import NoiseRecord


class PlayedGrid(NamedTuple):
    """A grid, and those of its models that are done, whenever that was."""

    name: str
    grid: GridRecord
    cells: list[CellRecord]


class Played(NamedTuple):
    """What a recipe left; a grid has no report of its own."""

    models: list[TaskResult]
    noise: NoiseRecord | None
    audits: list[AuditRecord]
    report: ReportResult | None
    grid: PlayedGrid | None


def reproduce(spec: ReproduceSpec, progress: Progress = SILENT) -> Played:
    """Train and attack the models of a recipe, run its noise evolution, audit them, and write its report.

    Whatever is on disk with the same settings and inputs is used as it is. Finished work that differs is replaced,
    together with what depends on it, where `overwrite` asks for it; otherwise it is refused before any work starts.
    A model that fails stops none of the others. Raises `UsageError` for an unknown recipe or model, `BenchError` as
    its parts do.
    """
    # the cores of a machine, and of a cluster, are for as many models; a single one on a GPU has them for its scores
    alone = spec.executor == "local" and choose_device(spec.device).type != "cpu" and (spec.jobs or 1) == 1
    planned = plan_recipe(load_recipe(spec.recipe, spec.name), spec, workers=None if alone else 1)
    if not spec.overwrite:
        _refuse_to_replace(in_the_way(planned.tasks, planned.noise, planned.audits), progress)
    finished = {cell.name for cell in planned.cells if finished_cell(cell) is not None}
    keep_plan(spec.root, planned.recipe.name, planned.wanted(), planned.noise_name)
    if planned.cells:
        write_grid(spec.root, planned.recipe.name, grid_record(planned.recipe))
    with open_executor(spec.placement(spec.jobs), spec.root, progress) as executor, using(executor):
        return _play(planned, finished, spec, progress)


def _play(planned: Planned, finished: set[str], spec: ReproduceSpec, progress: Progress) -> Played:
    name = planned.recipe.name
    if planned.cells:
        _play_all([cell for cell in planned.cells if cell.name not in finished], label=name, progress=progress)
        grid = PlayedGrid(name, grid_record(planned.recipe), read_cells(spec.root, name))
        return Played([], None, [], None, grid)
    results = _play_all(*_in_rounds(planned.tasks), label=name, progress=progress)
    executor = chosen_executor()
    workers = {"workers": 1 if executor is None else executor.slots}
    noise = evolve(planned.noise.model_copy(update=workers), progress) if planned.noise is not None else None
    audits = _play_audits(planned.audits, name, progress)
    return Played(results, noise, audits, report(ReportSpec(root=spec.root, models=planned.names), progress), None)


def _in_rounds(tasks: list[Task]) -> tuple[list[Task], list[Task]]:
    """Return the tasks, and those that have to wait for the others: their methods read models of theirs."""
    names = {task.name for task in tasks}
    return [task for task in tasks if names.isdisjoint(task.reads)], [task for task in tasks if names & {*task.reads}]


def _play_all(*rounds: Sequence[Task | Cell], label: str, progress: Progress) -> list[Any]:
    """Play tasks or cells, round by round, and return what became of them; raises what failed when all are done."""
    executor, results = chosen_executor(), []
    for tasks in filter(len, rounds):
        if executor is None or (len(tasks) <= 1 and executor.local):
            results += [try_task(task, progress) for task in tasks]
        else:
            results += run_jobs([_job(task) for task in tasks], executor, label, progress)
    failed = [result for result in results if isinstance(result, Failure)]
    if len(failed) == 1:
        raise failed[0].error
    if failed:
        lines = [f"  {failure.name}: {failure.error}" for failure in failed]
        raise BenchError("\n".join((f"{len(failed)} of {len(results)} models failed, the others are done:", *lines)))
    return results


def _job(task: Task | Cell) -> Job:
    # training a model takes about as long as all attacks on it
    count = max(1, len(task.attack_names))
    return Job(task.name, try_task, task, stretches=1 + count, first=float(count))


def _play_audits(specs: list[AuditSpec], label: str, progress: Progress) -> list[AuditRecord]:
    """Audit as many models at once as there is room for, each in one process, or one by one in as many."""
    executor = chosen_executor()
    if executor is None or len(specs) < executor.slots:
        workers = 1 if executor is None else executor.slots
        return [audit(spec.model_copy(update={"workers": workers}), progress) for spec in specs]
    work = [Job(f"{spec.model} audit", audit, spec.model_copy(update={"workers": 1})) for spec in specs]
    return run_jobs(work, executor, f"{label} audits", progress)


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
