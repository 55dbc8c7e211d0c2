"""`bangbench data`: list, fetch and verify the data."""

from __future__ import annotations

import typer
from rich.table import Table

from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.cli.usage import Group
from bangbench.data.spec import DataSpec, FileSpec


def run_list(specs: list[DataSpec], output: Output) -> None:
    """List the data sources: the registered ones, and the files found in the data directory."""
    from bangbench.data.fetch import describe_sources

    sources = describe_sources(specs[0].data_dir)
    if output.json:
        output.print_json({"schema": 1, "sources": [source._asdict() for source in sources]})
    if output.json or output.quiet:
        return
    table = Table("--data", "there", "where", "how to get it")
    for source in sources:
        table.add_row(source.name, "yes" if source.present else "no", source.where, source.how)
    output.console().print(table)


def run_fetch(specs: list[FileSpec], output: Output) -> None:
    """Download mnist or cifar10 into the data directory; only files with the right checksum get their name."""
    from bangbench.data.fetch import fetch

    paths = [path for spec in specs for path in fetch(spec.name, spec.data_dir, output.progress())]
    if output.json:
        output.print_json({"schema": 1, "files": [str(path) for path in paths]})
    for path in paths:
        output.say(str(path))


def run_verify(specs: list[FileSpec], output: Output) -> None:
    """Compare the files of mnist or cifar10 with the official checksums; exit status 1 where one differs."""
    from bangbench.data.fetch import verify

    results = [result for spec in specs for result in verify(spec.name, spec.data_dir)]
    if output.json:
        files = [{"file": str(result.path), "ok": result.ok, "message": result.message} for result in results]
        output.print_json({"schema": 1, "files": files})
    for result in results:
        output.say(f"{'ok   ' if result.ok else 'WRONG'} {result.path}: {result.message}")
    if not all(result.ok for result in results):
        raise typer.Exit(1)


def add(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(cls=Group, help="List, fetch and verify the data.", no_args_is_help=True)
    unused = ("root", "device", "overwrite", "wait")
    command(group, "list", DataSpec, run_list, without=unused, example="bangbench data list")
    for name, run in (("fetch", run_fetch), ("verify", run_verify)):
        command(group, name, FileSpec, run, arguments=("name",), without=unused, example=f"bangbench data {name} mnist")
    app.add_typer(group, name="data")
