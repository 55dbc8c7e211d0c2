"""`bangbench report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bangbench.cli.options import command
from bangbench.cli.output import Output, complain
from bangbench.reporting import ReportSpec

if TYPE_CHECKING:
    from bangbench.reporting.run import ReportResult


def run_report(specs: list[ReportSpec], output: Output) -> None:
    """Write the report: a page that answers first, tables with the paper's numbers under the measured ones, figures.

    Everything is made from the records under results/ alone, and what is drawn already is not drawn again. With
    --against nothing is written: the answer is printed.
    """
    from bangbench.reporting.run import report

    for spec in specs:
        if spec.against is not None:
            _show_claims(spec, output)
        else:
            show_report(report(spec, output.progress()), spec, output)


def _show_claims(spec: ReportSpec, output: Output) -> None:
    from bangbench.cli.tables import print_table
    from bangbench.reporting.document import table_document
    from bangbench.reporting.run import check_claims

    tables = check_claims(spec.root, spec.models)
    if output.json:
        claims = [table_document(table).model_dump(mode="json") for table in tables]
        output.print_json({"schema": 1, "claims": claims})
    elif not output.quiet:
        console = output.console()
        for table in tables:
            print_table(table, console)


def show_report(result: ReportResult, spec: ReportSpec, output: Output) -> None:
    """Print one line a model and where the report is; exit 1 where a record could not be used."""
    from bangbench.cli.tables import print_standings, print_table
    from bangbench.reporting.pairs import paragraph

    compared = None if result.comparison is None else paragraph(result.comparison)
    if output.json:
        written = {"schema": 1, "files": [path.as_posix() for path in result.files], "problems": result.problems}
        pair = {} if compared is None else {"compared": spec.compare, "text": compared}
        output.print_json(written | pair)
    elif not output.quiet:
        console = output.console()
        if compared is not None:
            output.say(compared)
        else:
            print_standings(result.standings, console)
        for table in result.tables if spec.details else ():
            print_table(table, console)
        page = next((path for path in result.files if path.suffix == ".html"), None)
        if page is not None:
            output.say(f"the page: {page}")
        output.say(f"{len(result.files)} files in {spec.folder()}" + ("" if spec.details else "; tables: --details"))
    for experiment, _ in result.standings:
        for found in experiment.fewer:
            complain(
                f"{found.name}: {found.record.attack} of {found.record.data.images:,} images is left "
                "out, since the same model was attacked on more"
            )
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
        without=("device", "data_dir", "overwrite", "wait"),
        example="bangbench report table1/R0 table1/B1 --format md --format tex",
    )
