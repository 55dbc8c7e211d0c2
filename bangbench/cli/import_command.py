"""`bangbench import`."""

from __future__ import annotations

import typer

from bangbench.cli.before import check_card
from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.nets.spec import ImportSpec
from bangbench.store.layout import model_folder


def run_import(specs: list[ImportSpec], output: Output) -> None:
    """Make a model of a net that was trained elsewhere: its weights and its card under models/NAME.

    Every command then takes NAME. The accuracy on the test images is printed: where it is not the one you know, look
    at --mean and --std, and at the order of the classes.
    """
    for spec in specs:
        check_card(spec)
    from bangbench.nets.imported import import_model

    for spec in specs:
        card = import_model(spec, output.progress())
        if output.json:
            output.print_json(card.model_dump(mode="json", by_alias=True))
        output.say(
            f"{spec.name}: {card.accuracy:.2f} % of {card.train_data.images:,} test images; kept in "
            f"{model_folder(spec.root, spec.name)}; next: bangbench audit {spec.name}"
        )


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "import",
        ImportSpec,
        run_import,
        arguments=("name",),
        example="bangbench import mine --net mynet.py:build --weights best.pt --data cifar10 --norm cifar10",
    )
