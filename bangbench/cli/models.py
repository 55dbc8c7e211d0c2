"""`bangbench models`."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from bangbench.cli.options import command
from bangbench.cli.output import Output, complain
from bangbench.core.errors import BenchError
from bangbench.core.spec import Spec
from bangbench.store.layout import CARD, model_folder, trained_models
from bangbench.store.records import ModelCard, read_record


class ModelsSpec(Spec):
    """A look at models/."""


def run_models(specs: list[ModelsSpec], output: Output) -> None:
    """List the trained models with their net, data, method and test accuracy."""
    root, cards, problems = specs[0].root, {}, []
    for name in trained_models(root):
        try:
            cards[name] = read_record(model_folder(root, name) / CARD, ModelCard)
        except BenchError as error:
            problems.append(str(error))
    if output.json:
        output.print_json({"schema": 1, "models": {name: _facts(card) for name, card in cards.items()}})
    elif cards and not output.quiet:
        output.console().print(_table(cards))
    elif not problems:
        output.say(f"no models in {root / 'models'} yet; train one: bangbench train NAME --data digits")
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)


def _facts(card: ModelCard) -> dict[str, Any]:
    return card.model.model_dump(mode="json") | {"status": card.status, "accuracy": card.accuracy}


def _table(cards: dict[str, ModelCard]) -> Table:
    table = Table("model", "net", "data", "method", "settings", "iterations", "accuracy %")
    for name, card in cards.items():
        model = card.model
        settings = ", ".join(f"{key} {value}" for key, value in model.method_text().items())
        accuracy = f"{card.accuracy:.2f}" if card.accuracy is not None else "unfinished"
        table.add_row(name, model.net, model.data, model.method, settings, str(model.iterations or ""), accuracy)
    return table


def add(app: typer.Typer) -> None:
    """Add the command."""
    without = ("device", "data_dir", "overwrite", "wait")
    command(app, "models", ModelsSpec, run_models, without=without, example="bangbench models")
