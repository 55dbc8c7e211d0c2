"""One model of a recipe: train it, then attack it. What fails is told, and kept, and does not stop the others."""

from __future__ import annotations

from typing import NamedTuple

from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import BenchError
from bangbench.core.progress import Progress
from bangbench.nets.catalogue import net_definition
from bangbench.recipes.cells import Cell, play_cell
from bangbench.store.cells import CellRecord
from bangbench.store.plans import forget_failure, keep_failure
from bangbench.store.records import AttackRecord, ModelCard
from bangbench.training.methods.base import make_method
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec


class Task(NamedTuple):
    """One model of a recipe: train it, then attack it, each spec with attacks of its own."""

    train: TrainSpec
    attacks: tuple[AttackSpec, ...]

    @property
    def name(self) -> str:
        """Return the model's name."""
        return self.train.name

    @property
    def attack_names(self) -> list[str]:
        """Return the attacks, in order."""
        return [name for spec in self.attacks for name in dict.fromkeys(spec.attack)]

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the names of the models that its method reads."""
        training = self.train
        defaults = net_definition(training.net).method_defaults.get(training.method, {})
        return make_method(training.method, {**defaults, **training.method_settings()}).models


class TaskResult(NamedTuple):
    """What became of a task."""

    card: ModelCard
    attacks: list[AttackRecord]


class Failure(NamedTuple):
    """A model that could not be trained or measured, and why."""

    name: str
    error: BenchError


def play_task(task: Task, progress: Progress) -> TaskResult:
    """Train and attack one model."""
    card = train(task.train, progress)
    progress.note(f"{card.model.name}: {card.accuracy:.2f} % after {card.model.iterations} iterations")
    return TaskResult(card, [record for spec in task.attacks for record in attack(spec, progress)])


def try_task(task: Task | Cell, progress: Progress) -> TaskResult | CellRecord | Failure:
    """Play a task or a cell; one that fails says why, on disk too, until it is played again."""
    root = task.train.root
    forget_failure(root, task.name)
    try:
        return play_cell(task, progress) if isinstance(task, Cell) else play_task(task, progress)
    except BenchError as error:
        keep_failure(root, task.name, str(error))
        progress.note(f"{task.name}: failed: {error}")
        return Failure(task.name, error)
