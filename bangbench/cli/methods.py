"""`bangbench methods`."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import typer
from pydantic import Field
from pydantic.fields import FieldInfo
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bangbench.cli.options import command
from bangbench.cli.output import Output, complain
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.spec import Spec

if TYPE_CHECKING:
    from bangbench.training.methods.base import Method, MethodSettings


class MethodsSpec(Spec):
    """A look at the training methods."""

    name: str | None = Field(None, description="A method, to be told of its settings.")


def run_methods(specs: list[MethodsSpec], output: Output) -> None:
    """List the training methods with their papers, settings and costs, or tell of one of them.

    A method's settings are given to `bangbench train --method NAME` as --option SETTING=VALUE. The cost is how many
    steps of regular training one step takes, roughly, at the defaults.
    """
    from bangbench.training.methods.registry import METHODS

    names = METHODS.names() if specs[0].name is None else [specs[0].name]
    facts, problems = {}, []
    for name in names:
        try:
            facts[name] = _facts(METHODS.load(name))
        except UsageError:
            raise
        except BenchError as error:  # one that a package registers and cannot be imported hides no other
            problems.append(str(error))
    if output.json:
        output.print_json({"schema": 1, "methods": facts})
    elif not output.quiet:
        console = output.console()
        for part in [_all(facts)] if specs[0].name is None else [_one(name, fact) for name, fact in facts.items()]:
            console.print(part)
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)


def _facts(kind: type[Method]) -> dict[str, Any]:
    """Return what is told of a method, as JSON values."""
    needed = [name for name, field in kind.Settings.model_fields.items() if field.is_required()]
    method = None if needed else kind(kind.Settings())
    return {
        "summary": " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split()),
        "about": inspect.cleandoc(sys.modules[kind.__module__].__doc__ or ""),
        "paper": kind.paper or None,
        "inspired": kind.inspired,
        "trained_on": kind.trained_on,
        "cost": method and round(method.cost, 2),
        "draws": method and method.draws,
        "settings": _settings(kind.Settings),
    }


def _settings(kind: type[MethodSettings]) -> dict[str, Any]:
    return {
        name: {
            "type": _type(field),
            "default": None if field.is_required() else field.get_default(call_default_factory=True),
            "required": field.is_required(),
            "description": field.description or "",
        }
        for name, field in kind.model_fields.items()
    }


def _type(field: FieldInfo) -> str:
    """Return a setting's type and range, such as ``float > 0, <= 1``."""
    kind = field.annotation
    name = kind.__name__ if isinstance(kind, type) and "[" not in str(kind) else str(kind).replace("typing.", "")
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [
        f"{sign} {getattr(rule, key):g}" for rule in field.metadata for key, sign in signs.items() if hasattr(rule, key)
    ]
    return f"{name} {', '.join(limits)}" if limits else name


def _source(fact: dict[str, Any]) -> str:
    return f"inspired by {fact['paper']}" if fact["inspired"] else fact["paper"] or ""


def _cost(fact: dict[str, Any]) -> str:
    return "" if fact["cost"] is None else f"{fact['cost']:g}"


def _default(setting: dict[str, Any]) -> str:
    value = setting["default"]
    if setting["required"]:
        return "required"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _all(facts: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in ("method", "paper", "settings (defaults)"):
        table.add_column(header, overflow="fold")
    table.add_column("cost", justify="right")
    for name, fact in facts.items():
        settings = ", ".join(f"{setting} {_default(value)}" for setting, value in fact["settings"].items())
        table.add_row(name, _source(fact), settings, _cost(fact))
    return table


def _one(name: str, fact: dict[str, Any]) -> Group:
    text = f"{name}: {fact['summary']}\n{_source(fact)}"
    if fact["cost"] is not None:
        text += f"\na step costs about {_cost(fact)} regular ones"
    if fact["draws"] not in (None, 1):
        text += f"\na prediction averages {fact['draws']} passes"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in ("setting", "type", "default", "meaning"):
        table.add_column(header, overflow="fold")
    for setting, value in fact["settings"].items():
        table.add_row(setting, value["type"], _default(value), value["description"])
    parts = [Text(f"{text}\n"), Text(fact["about"])]
    return Group(*parts, table) if fact["settings"] else Group(*parts)


def add(app: typer.Typer) -> None:
    """Add the command."""
    without = tuple(Spec.model_fields)
    command(
        app,
        "methods",
        MethodsSpec,
        run_methods,
        arguments=("name",),
        without=without,
        example="bangbench methods trades",
    )
