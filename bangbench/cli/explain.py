"""`bangbench explain`."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import Field
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bangbench.auditing.reasons import REASONS, SOURCES, Reason
from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.core.errors import unknown_name
from bangbench.core.spec import Spec


class ExplainSpec(Spec):
    """A look at the reason codes of an audit."""

    code: tuple[str, ...] = Field((), description="Reason code of an audit; none lists them all.")


def run_explain(specs: list[ExplainSpec], output: Output) -> None:
    """Explain the reason codes of an audit: what was checked, what it means, what to do, and where it comes from."""
    known = {code.casefold(): code for code in REASONS}
    for code in specs[0].code:
        if code.casefold() not in known:
            raise unknown_name("reason code", code, REASONS)
    reasons = [REASONS[known[code.casefold()]] for code in specs[0].code]
    if output.json:
        output.print_json(
            {"schema": 1, "codes": {reason.code: _facts(reason) for reason in reasons or REASONS.values()}}
        )
    elif not output.quiet:
        console = output.console()
        for reason in reasons:
            console.print(_explained(reason))
        if not reasons:
            console.print(_all())


def _facts(reason: Reason) -> dict[str, Any]:
    return reason._asdict() | {"sources": [_source(key) for key in reason.sources]}


def _source(key: str) -> str:
    return SOURCES[key]


def _explained(reason: Reason) -> Table:
    table = Table(title=f"{reason.code} ({reason.group})", title_justify="left", box=None, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in (("checked", reason.check), ("means", reason.meaning), ("do", reason.advice)):
        table.add_row(name, Text(text))
    for place, key in enumerate(reason.sources):
        table.add_row("" if place else "from", Text(_source(key)))
    return table


def _all() -> Table:
    table = Table("code", "group", "checked", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for reason in REASONS.values():
        table.add_row(reason.code, reason.group, Text(reason.check))
    return table


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "explain",
        ExplainSpec,
        run_explain,
        arguments=("code",),
        without=tuple(Spec.model_fields),
        example="bangbench explain fgs-masked",
    )
