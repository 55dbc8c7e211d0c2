"""`bangbench status`."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer
from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table

from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.cli.streams import printable
from bangbench.core.spec import Spec

if TYPE_CHECKING:
    from bangbench.store.status import Work

_SECONDS_BETWEEN_LOOKS = 5.0

#: States of which every piece of work is shown, the others are counted.
_SHOWN = ("running", "failed", "interrupted")


class StatusSpec(Spec):
    """A look at a root."""

    watch: bool = Field(False, description="Look again every 5 seconds, until nothing is running.")


def run_status(specs: list[StatusSpec], output: Output) -> None:
    """Tell what a root holds: what is done, running (where, since when, how far), failed (why), interrupted, and left.

    What is left is known of recipes played with bangbench reproduce. Only files are read: any machine that sees the
    root can look, whatever runs elsewhere.
    """
    from bangbench.store.status import look

    spec = specs[0]
    while True:
        works = look(spec.root)
        if output.json:
            output.print_json(status_json(works))
        elif not output.quiet:
            console = output.console()
            if spec.watch and console.is_terminal:
                console.clear()
            console.print(_shown(works, str(spec.root)))
        if not spec.watch or not any(work.state == "running" for work in works):
            return
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def status_json(works: list[Work]) -> dict[str, Any]:
    """Return what ``--json`` prints: how many records are in which state, and each of them."""
    from bangbench.store.status import STATES

    counts = Counter(work.state for work in works)
    return {"schema": 1, "counts": {state: counts[state] for state in STATES}, "work": [_facts(work) for work in works]}


def _facts(work: Work) -> dict[str, Any]:
    holder = {name: value for name, value in (work.holder._asdict() if work.holder else {}).items() if value}
    facts = {"name": work.name, "what": work.what, "state": work.state, **holder}
    return facts | {name: value for name, value in (("fraction", work.fraction), ("why", work.why)) if value}


def _shown(works: list[Work], root: str) -> RenderableType:
    if not works:
        return f"{root}: nothing yet; begin with: bangbench reproduce demo"
    parts: list[RenderableType] = [_counts(works)]
    shown = [work for work in works if work.state in _SHOWN]
    if shown:
        parts.append(_details(shown))
    return Group(*parts)


def _counts(works: list[Work]) -> Table:
    """Return how many records of each experiment, or model of none, are in which state."""
    from bangbench.store.status import STATES

    table = Table("", *STATES, "", title="records", title_justify="left")
    for name in dict.fromkeys(work.name.partition("/")[0] for work in works):
        own = Counter(work.state for work in works if work.name.partition("/")[0] == name)
        done = f"{100 * own['done'] / own.total():.0f} %"
        table.add_row(name, *(str(own[state] or "-") for state in STATES), done)
    return table


def _details(works: list[Work]) -> Table:
    table = Table("", "", "", "where", "since", "how far, or why")
    for work in works:
        holder = work.holder
        where = "" if holder is None else f"{holder.host}, PID {holder.pid}" if holder.pid else holder.host
        far = printable(work.why) or ("" if work.fraction is None else f"{100 * work.fraction:.0f} %")
        table.add_row(
            printable(work.name), work.what, work.state, printable(where), _when(holder.since) if holder else "", far
        )
    return table


def _when(since: str) -> str:
    try:
        moment = datetime.fromisoformat(since).astimezone()
    except ValueError:
        return since
    today = moment.date() == datetime.now().astimezone().date()
    return moment.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "status",
        StatusSpec,
        run_status,
        arguments=("root",),
        without=("device", "data_dir", "overwrite", "wait"),
        example="bangbench status --watch",
    )
