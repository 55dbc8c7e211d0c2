"""What a recipe comes to: the specs of all its commands, every one made and checked before the first job begins."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from bangbench.attacks.asked import check_attacks
from bangbench.attacks.budgets import parse_budget
from bangbench.attacks.spec import AttackSpec
from bangbench.auditing.spec import AuditSpec
from bangbench.core.errors import BenchError, UsageError, unknown_name
from bangbench.core.spec import Spec
from bangbench.core.validation import first_problem
from bangbench.data.sources import open_source
from bangbench.nets.catalogue import net_definition
from bangbench.nets.definition import SolverSettings
from bangbench.noise.spec import NoiseSpec
from bangbench.recipes.cells import Cell
from bangbench.recipes.grid import axes_of
from bangbench.recipes.recipe import Entry, Recipe
from bangbench.recipes.spec import ReproduceSpec
from bangbench.recipes.tasks import Task
from bangbench.store.cells import GridCell, GridRecord
from bangbench.store.layout import versus_name
from bangbench.store.plans import WantedModel
from bangbench.training.methods.base import make_method
from bangbench.training.rates import rate_policy
from bangbench.training.registry import SOLVERS
from bangbench.training.spec import TrainSpec

AnySpec = TypeVar("AnySpec", bound=Spec)


class Planned(NamedTuple):
    """A recipe with what was asked of it: tasks or, where summaries alone are kept, cells; noise; audits."""

    recipe: Recipe
    tasks: list[Task]
    cells: list[Cell]
    noise: NoiseSpec | None
    audits: list[AuditSpec]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the models, in the order in which they are worked on."""
        return tuple(one.name for one in self.models)

    @property
    def models(self) -> list[Task | Cell]:
        """Return all that is to be trained and measured."""
        return [*self.tasks, *self.cells]

    def wanted(self) -> tuple[WantedModel, ...]:
        """Return what is wanted of each model, for those who look at how far it is."""
        audited = {spec.model for spec in self.audits}
        return tuple(
            WantedModel(
                name=one.name,
                iterations=one.train.iterations,
                attacks=tuple(one.attack_names),
                audit=one.name in audited,
                cell=isinstance(one, Cell),
            )
            for one in self.models
        )

    @property
    def noise_name(self) -> str | None:
        """Return the name of the noise evolution's results."""
        return versus_name(self.noise.models) if self.noise is not None else None


def plan_recipe(recipe: Recipe, spec: ReproduceSpec, workers: int | None) -> Planned:
    """Make and check every spec; `workers`: threads of attacks, see `_train_spec`.

    Raises `UsageError` for an unknown model, method or attack, `BenchError` for settings that no command takes.
    """
    chosen = _chosen(recipe, spec)
    tasks, cells = [], []
    for entry in chosen:
        train, attacks = _train_spec(recipe, entry, spec), _attack_specs(recipe, entry, spec, workers)
        _check_names(train, attacks)
        if recipe.keeps_summaries:
            cells.append(Cell(train, attacks, recipe.noise_at if spec.noise else None, entry.place, spec.keep_weights))
        else:
            tasks.append(Task(train, attacks))
    return Planned(recipe, tasks, cells, _noise_spec(recipe, spec, chosen), _audit_specs(recipe, spec, chosen))


def grid_record(recipe: Recipe) -> GridRecord:
    """Return the whole grid of a recipe, whatever part of it was asked for."""
    axes = {axis.name: axis.values for axis in axes_of(recipe.grid)} if recipe.grid is not None else {}
    seed = recipe.train.get("seed", 0)
    cells = tuple(
        GridCell(
            name=recipe.model_name(entry.id),
            place=entry.place,
            seed=entry.settings.get("seed", seed),
            level=entry.level,
        )
        for entry in recipe.entries()
    )
    return GridRecord(title=recipe.title, axes=axes, cells=cells)


def _chosen(recipe: Recipe, spec: ReproduceSpec) -> list[Entry]:
    if spec.level is not None and recipe.grid is None:
        raise UsageError(f"--level goes with a recipe that has a grid, such as figure2; {recipe.name} has none")
    entries = recipe.entries()
    known = {name for entry in entries for name in (entry.id, entry.asked)}
    for identifier in spec.only:
        if identifier not in known:
            raise unknown_name(f"model of {recipe.name}", identifier, known)
    kept = [entry for entry in entries if not spec.only or {entry.id, entry.asked} & {*spec.only}]
    kept = [entry for entry in kept if spec.level is None or entry.level <= spec.level]
    return kept if spec.seeds is None else _first_seeds(kept, spec.seeds)


def _first_seeds(entries: list[Entry], count: int) -> list[Entry]:
    seen: dict[str, int] = {}
    kept = []
    for entry in entries:
        seen[entry.asked] = seen.get(entry.asked, 0) + 1
        if seen[entry.asked] <= count:
            kept.append(entry)
    return kept


def _train_spec(recipe: Recipe, entry: Entry, spec: ReproduceSpec) -> TrainSpec:
    changes = {"data": spec.data, "iterations": spec.iterations}
    changed = {key: value for key, value in changes.items() if value is not None}
    settings = recipe.train | entry.settings | changed
    if "option" in settings:
        settings["option"] = [str(item).replace("{recipe}", recipe.name) for item in settings["option"]]
    if recipe.keeps_summaries:
        settings.setdefault("stages", settings.get("iterations"))  # snapshots would be thrown away
    return _make(TrainSpec, recipe, spec, {**settings, "name": recipe.model_name(entry.id)})


def _attack_specs(recipe: Recipe, entry: Entry, spec: ReproduceSpec, workers: int | None) -> tuple[AttackSpec, ...]:
    """Return the specs of the attacks on one model; those asked for that the recipe lacks go with its first ones.

    On a CPU every model computes with one thread: more would change the last bits of its logits, and the results
    would depend on how many models are worked on at once.
    """
    specs = []
    model = recipe.model_name(entry.id)
    for settings in recipe.attack:
        changed = {} if spec.limit is None else {"limit": spec.limit}
        made = _make(AttackSpec, recipe, spec, {**settings, **changed, "model": model, "workers": workers})
        specs.append(made)
    if not spec.attack:
        return tuple(specs)
    named = {name for one in specs for name in one.attack}
    asked = [tuple(name for name in spec.attack if name in one.attack) for one in specs]
    asked[0] += tuple(name for name in spec.attack if name not in named)
    return tuple(one.model_copy(update={"attack": some}) for one, some in zip(specs, asked, strict=True) if some)


def _check_names(training: TrainSpec, attacks: tuple[AttackSpec, ...]) -> None:
    """Raise now what the last model of a recipe would otherwise be refused for after hours of work on the others."""
    defaults = net_definition(training.net).method_defaults.get(training.method, {})
    make_method(training.method, {**defaults, **training.method_settings()})
    given = training.model_dump(include=set(SolverSettings._fields), exclude_none=True)
    solver = net_definition(training.net).solver._replace(**given)
    rate_policy(solver.rate_policy, solver.learning_rate, solver.iterations)
    SOLVERS.check(training.solver)
    open_source(training.data, training.data_dir)
    for spec in attacks:
        check_attacks(spec)


def _noise_spec(recipe: Recipe, spec: ReproduceSpec, chosen: list[Entry]) -> NoiseSpec | None:
    ids = {entry.id for entry in chosen}
    if recipe.noise is None or not spec.noise or not {*recipe.noise["models"]} <= ids:
        return None
    settings: dict[str, Any] = dict(recipe.noise)
    settings["models"] = tuple(recipe.model_name(identifier) for identifier in recipe.noise["models"])
    if spec.draws is not None:
        settings["draws"] = spec.draws
    return _make(NoiseSpec, recipe, spec, settings)


def _audit_specs(recipe: Recipe, spec: ReproduceSpec, chosen: list[Entry]) -> list[AuditSpec]:
    """Return the audits of the models chosen, each with its first seed, against the regular one if that is there."""
    if recipe.audit is None or not spec.audit:
        return []
    settings = dict(recipe.audit)
    against = settings.pop("against", None)
    if against in {entry.id for entry in chosen}:
        settings["against"] = recipe.model_name(against)
    if spec.limit is not None:
        settings["limit"] = spec.limit
    audited = [entry.id for entry in chosen if entry.first]
    for budget in settings.get("budget") or ():
        parse_budget(str(budget))
    return [_make(AuditSpec, recipe, spec, {**settings, "model": recipe.model_name(name)}) for name in audited]


def _make(kind: type[AnySpec], recipe: Recipe, spec: ReproduceSpec, settings: dict[str, Any]) -> AnySpec:
    """Return the spec of one command, which replaces other settings' unfinished work, or all where that is wanted."""
    circumstances = spec.model_dump(include={"root", "data_dir", "device", "wait"})
    circumstances["overwrite"] = "differing" if spec.overwrite else "unfinished"
    try:
        return kind(**{**settings, **circumstances})
    except ValidationError as error:
        parts, problem = first_problem(error)
        place = ".".join(parts)
        if error.errors()[0]["type"] == "extra_forbidden":
            raise BenchError(f"recipe {recipe.name}: {unknown_name('setting', place, kind.model_fields)}") from error
        raise BenchError(f"recipe {recipe.name}: {place}: {problem}") from error
