"""What is to be under a root, for those who look at it: what recipes want, and what failed. Deciding rests on none."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bangbench.core.errors import BenchError
from bangbench.core.executor_remote import JOBS
from bangbench.core.provenance import command_line
from bangbench.store.files import write_json
from bangbench.store.layout import check_name
from bangbench.store.records import Name, read_json

Kind = TypeVar("Kind", bound=BaseModel)


class WantedModel(BaseModel):
    """A model that a recipe wants: its iterations if given, its attacks, whether its summaries alone are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    iterations: int | None
    attacks: tuple[Name, ...]
    audit: bool
    cell: bool


class Plan(BaseModel):
    """ROOT/.jobs/plans/RECIPE.json: what a recipe wants, by the command that was last given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    command: str
    host: str
    since: str
    models: tuple[WantedModel, ...]
    noise: Name | None


class FailureNote(BaseModel):
    """ROOT/.jobs/failed/MODEL.json: why a model could not be trained or measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    why: str
    host: Name
    since: Name


def keep_plan(root: Path, recipe: str, models: tuple[WantedModel, ...], noise: str | None) -> None:
    """Write what a recipe wants."""
    plan = Plan(
        recipe=recipe, command=command_line(sys.argv), host=platform.node(), since=_now(), models=models, noise=noise
    )
    write_json(root / JOBS / "plans" / f"{check_name(recipe)}.json", plan.model_dump(mode="json"))


def plans(root: Path) -> list[Plan]:
    """Return what recipes want, by name; files that say nothing of the kind are passed over."""
    return [plan for path in sorted((root / JOBS / "plans").glob("*.json")) if (plan := _read(path, Plan)) is not None]


def keep_failure(root: Path, name: str, why: str) -> None:
    """Write why a model failed."""
    note = FailureNote(name=name, why=why, host=platform.node(), since=_now())
    write_json(_failure(root, name), note.model_dump(mode="json"))


def forget_failure(root: Path, name: str) -> None:
    """Remove what is said of a model that is tried again."""
    with suppress(FileNotFoundError):
        _failure(root, name).unlink()


def failures(root: Path) -> dict[str, FailureNote]:
    """Return what failed, by model."""
    base = root / JOBS / "failed"
    notes = (_read(path, FailureNote) for path in sorted([*base.glob("*.json"), *base.glob("*/*.json")]))
    return {note.name: note for note in notes if note is not None}


def _failure(root: Path, name: str) -> Path:
    return root / JOBS / "failed" / f"{check_name(name)}.json"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return kind.model_validate(read_json(path))
    except (BenchError, ValidationError):
        return None
