"""`bangbench report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bangbench.cli.options import command
from bangbench.cli.output import Output, complain
from bangbench.report.spec import ReportSpec

if TYPE_CHECKING:
    from bangbench.report.run import ReportResult


def run_report(specs: list[ReportSpec], output: Output) -> None:
    """Tabulate the results, the paper's numbers under the measured ones, and draw the noise figures."""
    from bangbench.report.run import report

    for spec in specs:
        show_report(report(spec, output.progress()), spec, output)


def show_report(result: ReportResult, spec: ReportSpec, output: Output) -> None:
    """Print a report's tables and where its files are; exit 1 where a record could not be used."""
    from bangbench.cli.tables import print_table

    if output.json:
        output.print_json(
            {"schema": 1, "files": [path.as_posix() for path in result.files], "problems": result.problems}
        )
    elif not output.quiet:
        console = output.console()
        for table in result.tables:
            print_table(table, console)
        output.say(f"{len(result.files)} files in {spec.folder()}")
    for name in result.unfinished:
        complain(f"{name} is unfinished and left out; run it again to go on with it")
    for problem in result.problems:
        complain(problem)
    if result.problems:
        raise typer.Exit(1)


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "report",
        ReportSpec,
        run_report,
        arguments=("models",),
        without=("device", "data_dir", "overwrite"),
        example="bangbench report table1/R0 table1/B1 --format md --format tex",
    )
