"""`bangbench train`."""

from __future__ import annotations

import typer

from bangbench.cli.before import check_card
from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.store.layout import model_folder
from bangbench.training.spec import TrainSpec


def run_train(specs: list[TrainSpec], output: Output) -> None:
    """Train a model and keep its weights, its log and a snapshot of every stage.

    Interrupted, the same command goes on from the last snapshot and ends with the same weights.
    """
    for spec in specs:
        check_card(spec)
    from bangbench.training.run import train

    for spec in specs:
        card = train(spec, output.progress())
        if output.json:
            output.print_json(card.model_dump(mode="json", by_alias=True))
        output.say(
            f"{spec.name}: {card.accuracy:.2f} % test accuracy after {card.model.iterations} iterations in "
            f"{card.seconds:.0f} s; kept in {model_folder(spec.root, spec.name)}"
        )


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "train",
        TrainSpec,
        run_train,
        arguments=("name",),
        example="bangbench train B1 --net lenet --data mnist --method bang --beta 1.0 --epsilon 0.815",
    )
