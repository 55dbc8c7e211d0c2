"""`bangbench data`: list, fetch and verify the data, and what is decoded of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.cli.usage import Group
from bangbench.data.spec import CacheSpec, DataSpec, FileSpec

if TYPE_CHECKING:
    from bangbench.data.cache import Kept


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


def run_cache(specs: list[CacheSpec], output: Output) -> None:
    """List the decoded images that are kept on disk, for all processes, or clear them.

    They lie in BANGBENCH_CACHE, by default in the user's cache directory, and take 20 GB at most, or as many as
    BANGBENCH_CACHE_GB says (0: nothing is kept); what was used longest ago goes first.
    """
    from bangbench.data.cache import cache_bound, cache_folder, clear_cache, kept_images

    folder, bound = cache_folder(), cache_bound()
    removed, kept = clear_cache() if specs[0].clear else ([], kept_images())
    size, freed = sum(found.size for found in kept), sum(found.size for found in removed)
    if output.json:
        facts = {"folder": str(folder), "bound": bound, "size": size, "sets": [_facts(found) for found in kept]}
        output.print_json({"schema": 1, **facts, "removed": [_facts(found) for found in removed]})
    if output.json or output.quiet:
        return
    if specs[0].clear:
        output.say(f"removed {len(removed)} sets of decoded images, {_gigabytes(freed)}, from {folder}")
    elif not kept:
        output.say(f"no decoded images in {folder}")
    if kept:
        table = Table("source", "split", "images", "size", "last used", "path")
        for found in kept:
            used = found.used.isoformat(" ", "minutes")[:16]
            images = f"{found.images:,}" if found.images else "?"
            table.add_row(found.source, found.split, images, _gigabytes(found.size), used, str(found.path))
        output.console().print(table)
        left = "still in use: " if specs[0].clear else ""
        output.say(f"{left}{_gigabytes(size)} of {_gigabytes(bound)}")


def _facts(found: Kept) -> dict[str, Any]:
    return found._asdict() | {"used": found.used.isoformat(), "path": str(found.path)}


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def add(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(cls=Group, help="List, fetch and verify the data, or what is kept of it.", no_args_is_help=True)
    unused = ("root", "device", "overwrite", "wait")
    command(group, "list", DataSpec, run_list, without=unused, example="bangbench data list")
    for name, run in (("fetch", run_fetch), ("verify", run_verify)):
        command(group, name, FileSpec, run, arguments=("name",), without=unused, example=f"bangbench data {name} mnist")
    nowhere = (*unused, "data_dir")
    command(group, "cache", CacheSpec, run_cache, without=nowhere, example="bangbench data cache --clear")
    app.add_typer(group, name="data")
