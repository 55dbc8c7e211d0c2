"""The command line of bangbench: `main` is what the `bangbench` program runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bangbench import __version__
from bangbench.cli import (
    attack,
    audit,
    data,
    explain,
    import_command,
    methods,
    models,
    noise_eval,
    pass_command,
    report,
    reproduce,
    show,
    status,
    train,
)
from bangbench.cli.output import INTERRUPTED, TERMINATED, complain
from bangbench.cli.streams import Terminated, streams_prepared
from bangbench.cli.usage import Group

app = typer.Typer(
    name="bangbench",
    cls=Group,
    help="Measure how robust image classifiers are, and whether their gradients are still there.",
    epilog="Start with: bangbench reproduce demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    train,
    import_command,
    attack,
    audit,
    explain,
    show,
    noise_eval,
    report,
    reproduce,
    status,
    pass_command,
    data,
    models,
    methods,
)
for module in _COMMANDS:
    module.add(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bangbench {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    with streams_prepared():
        try:
            app()
        except Terminated:  # and below: before a command has begun, which ends itself and says so
            complain("terminated")
            sys.exit(TERMINATED)
        except KeyboardInterrupt:
            complain("interrupted")
            sys.exit(INTERRUPTED)
